//! Verbs of stories about bad input: what an object says of itself, machines without a control plane, and the proof that
//! a wrong object costs nothing and harms nobody else.

use crate::bed::Bed;
use crate::hosts::phase;
use crate::network::Port;
use crate::objects;
use crate::racks::NAMESPACE;
use crate::wait::Look;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};
use rackwright_api::conditions::find;
use rackwright_api::host::Phase;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the Cluster that [`Bed::order_machine`]'s machines belong to.
const POOL: &str = "pool";
/// The most often that the bed's manager may look at a host on which nothing is being done (services.rs: 5 s).
const LOOK: Duration = Duration::from_secs(5);

/// Kinds whose objects a story asks what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its kind")]
pub enum Kind {
    Datacenter,
    Host,
    Machine,
    Rack,
    RackwrightMachine,
}

impl Kind {
    /// The object of this kind and `name`.
    pub fn named(self, name: impl Into<String>) -> Named {
        Named { kind: self, name: name.into() }
    }

    fn resource(self) -> ApiResource {
        let (group, version, plural) = match self {
            Kind::Datacenter => ("rackwright.dev", "v1alpha1", "datacenters"),
            Kind::Host => ("rackwright.dev", "v1alpha1", "hosts"),
            Kind::Machine => ("cluster.x-k8s.io", "v1beta2", "machines"),
            Kind::Rack => ("rackwright.dev", "v1alpha1", "racks"),
            Kind::RackwrightMachine => ("infrastructure.cluster.x-k8s.io", "v1alpha1", "rackwrightmachines"),
        };
        let kind = GroupVersionKind::gvk(group, version, &format!("{self:?}"));
        ApiResource::from_gvk_with_plural(&kind, plural)
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    kind: Kind,
    name: String,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// What the infrastructure manager has done so far.
#[derive(Clone, Copy, Debug)]
struct Work {
    host_passes: u64,
    machine_passes: u64,
    failed_passes: u64,
    writes: u64,
}

/// Hosts that a story leaves alone, as they were when it began.
pub struct Bystanders(BTreeMap<String, Bystander>);

#[derive(Debug, PartialEq)]
struct Bystander {
    uid: Option<String>,
    available_since: Option<String>,
    power_ons: u64,
}

impl Bed {
    /// Applies an object made of JSON, as a person would.
    pub async fn apply(&self, object: Value) -> Result<()> {
        objects::apply(&self.client(), &serde_json::from_value(object)?).await.map(drop)
    }

    /// Deletes `object` and does not wait for it to go.
    pub async fn delete(&self, object: &Named) -> Result<()> {
        let deleted = self.api(object.kind).delete(&object.name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("{object} cannot be deleted")).map(drop)
    }

    /// Merges `change` into `object`.
    pub async fn change(&self, object: &Named, change: Value) -> Result<()> {
        let changed = self.api(object.kind).patch(&object.name, &PatchParams::default(), &Patch::Merge(change)).await;
        changed.with_context(|| format!("{object} cannot be changed")).map(drop)
    }

    /// Waits until `object` is gone.
    pub async fn wait_until_gone(&self, object: &Named, within: Duration) -> Result<()> {
        let api = self.api(object.kind);
        self.wait(&format!("{object} gone"), within, async || {
            Ok(Look::when(api.get_opt(&object.name).await?.is_none(), "it is there"))
        })
        .await
    }

    /// Waits until `object`'s condition of this type is False, for this reason; gives its message.
    pub async fn wait_until_says(
        &self,
        object: &Named,
        condition: &str,
        reason: &str,
        within: Duration,
    ) -> Result<String> {
        self.wait_for_condition(object, condition, &format!("False, {reason}"), within, |said| {
            said.status == "False" && said.reason == reason
        })
        .await
        .map(|said| said.message)
    }

    /// Waits until `object`'s condition of this type is True.
    pub async fn wait_until_true(&self, object: &Named, condition: &str, within: Duration) -> Result<()> {
        self.wait_for_condition(object, condition, "True", within, |said| said.status == "True").await.map(drop)
    }

    async fn wait_for_condition(
        &self,
        object: &Named,
        condition: &str,
        wanted: &str,
        within: Duration,
        holds: impl Fn(&Condition) -> bool,
    ) -> Result<Condition> {
        let api = self.api(object.kind);
        self.wait(&format!("{object}: {condition} {wanted}"), within, async || {
            let found = find(&conditions(&api.get(&object.name).await?), condition).cloned();
            Ok(match found {
                Some(said) if holds(&said) => Look::Seen(said),
                Some(said) => Look::NotYet(format!("{}, {}: {}", said.status, said.reason, said.message)),
                None => Look::NotYet("no such condition".into()),
            })
        })
        .await
    }

    /// The note of the newest event about `object` with this reason.
    pub async fn event(&self, object: &Named, reason: &str) -> Result<String> {
        let events = Api::<Event>::namespaced(self.client(), NAMESPACE).list(&ListParams::default()).await?;
        let about = |event: &&Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().is_some_and(|regarding| {
                    regarding.name.as_ref() == Some(&object.name)
                        && regarding.kind.as_deref() == Some(&format!("{:?}", object.kind))
                })
        };
        let found = events.items.iter().filter(about).max_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        found.and_then(|event| event.note.clone()).with_context(|| format!("{object} has no event {reason}"))
    }

    /// Forgets the Host `name`, which nobody uses, and registers its machine anew as `new_name` with `change` merged into
    /// the spec that a person wrote.
    pub async fn register_anew(&self, name: &str, new_name: &str, change: Value) -> Result<()> {
        let spec = self.host(name).await?.spec;
        let old = Kind::Host.named(name);
        self.delete(&old).await?;
        self.wait_until_gone(&old, Duration::from_secs(60)).await?;
        let mut host = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "metadata": { "name": new_name },
            "spec": {
                "rack": spec.rack, "unit": spec.unit, "bmc": spec.bmc,
                "bootMACAddress": spec.boot_mac_address, "rootDevice": spec.root_device,
            },
        });
        merge(&mut host["spec"], change);
        self.apply(host).await
    }

    /// Makes a Cluster that has infrastructure and no control plane: enough for machines, which get their user-data from
    /// hand-made Secrets.
    pub async fn create_pool(&self) -> Result<()> {
        self.apply(json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1", "kind": "RackwrightCluster",
            "metadata": { "name": POOL },
            "spec": { "controlPlaneEndpoint": { "host": self.network.cluster_endpoint(1), "port": 6443 } },
        }))
        .await?;
        self.apply(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": { "name": POOL },
            "spec": {
                "clusterNetwork": { "pods": { "cidrBlocks": ["10.244.0.0/16"] } },
                "infrastructureRef": {
                    "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "RackwrightCluster", "name": POOL,
                },
            },
        }))
        .await
    }

    /// Makes the Secret with user-data of an operating system that has nothing to do.
    pub async fn put_user_data(&self, secret: &str) -> Result<()> {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret },
            "type": "cluster.x-k8s.io/secret",
            "stringData": { "value": "#cloud-config\nwrite_files: [{path: /etc/motd, content: alone}]\n" },
        }))
        .await
    }

    /// Asks for one machine of the pool, with `spec` of the RackwrightMachine. Its user-data is in the Secret
    /// `user_data`, if that exists.
    pub async fn order_machine(&self, name: &str, user_data: &str, spec: Value) -> Result<()> {
        let labels = json!({ "cluster.x-k8s.io/cluster-name": POOL });
        self.apply(json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1", "kind": "RackwrightMachine",
            "metadata": { "name": name, "labels": labels },
            "spec": spec,
        }))
        .await?;
        self.apply(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "clusterName": POOL,
                "bootstrap": { "dataSecretName": user_data },
                "infrastructureRef": {
                    "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "RackwrightMachine", "name": name,
                },
            },
        }))
        .await
    }

    /// Waits until the machine `name` is provisioned; gives the name of its host.
    pub async fn wait_until_provisioned(&self, name: &str, within: Duration) -> Result<String> {
        let machine = Kind::RackwrightMachine.named(name);
        self.wait_until_true(&machine, "Ready", within).await?;
        self.wait_until_true(&Kind::Machine.named(name), "InfrastructureReady", within).await?;
        self.host_of(name).await
    }

    /// Waits until the machine `name` has claimed a host; gives that host's name.
    pub async fn wait_until_claimed(&self, name: &str, within: Duration) -> Result<String> {
        self.wait_until_true(&Kind::RackwrightMachine.named(name), "HostClaimed", within).await?;
        self.host_of(name).await
    }

    async fn host_of(&self, machine: &str) -> Result<String> {
        let object = self.api(Kind::RackwrightMachine).get(machine).await?;
        object.data["status"]["host"].as_str().map(Into::into).with_context(|| format!("{machine} has no host"))
    }

    /// Waits until the manager writes nothing: what was started is told, what is wrong is told.
    pub async fn wait_until_quiet(&self, within: Duration) -> Result<()> {
        self.wait("nothing is written", within, async || {
            let before = self.work().await?.writes;
            tokio::time::sleep(Duration::from_secs(6)).await; // longer than changes of a place are gathered
            let written = self.work().await?.writes - before;
            Ok(Look::when(written == 0, format!("{written} writes in 6 s")))
        })
        .await
    }

    /// Watches `objects` for `window` and fails when one of them is written, when the manager writes anything at all,
    /// when a pass fails, or when it looks at its hosts and machines more often than at idle ones.
    pub async fn stands_still(&self, objects: &[Named], window: Duration) -> Result<()> {
        let begun = tokio::time::Instant::now();
        let (work, before) = (self.work().await?, self.versions(objects).await?);
        while begun.elapsed() < window {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for ((object, before), now) in objects.iter().zip(&before).zip(self.versions(objects).await?) {
                if before.metadata.resource_version != now.metadata.resource_version {
                    let (before, now) = (&before.data["status"], &now.data["status"]);
                    bail!("{object} is written although nothing changes:\n{before:#}\n{now:#}");
                }
            }
        }
        let now = self.work().await?;
        let looks = begun.elapsed().as_secs() / LOOK.as_secs() + 2;
        let hosts = self.hosts().await?.len() as u64;
        let machines =
            self.api(Kind::RackwrightMachine).list_metadata(&ListParams::default()).await?.items.len() as u64;
        let (host_passes, machine_passes) =
            (now.host_passes - work.host_passes, now.machine_passes - work.machine_passes);
        let (written, failed) = (now.writes - work.writes, now.failed_passes - work.failed_passes);
        self.narrator.more(format!(
            "nothing written in {} s; {host_passes} looks at {hosts} hosts, {machine_passes} at {machines} machines",
            begun.elapsed().as_secs()
        ));
        ensure!(written == 0, "{written} writes although nothing changes");
        ensure!(failed == 0, "{failed} passes failed");
        ensure!(host_passes <= hosts * looks, "{host_passes} passes over {hosts} hosts: more than {looks} each");
        ensure!(machine_passes <= machines * looks, "{machine_passes} passes over {machines} machines");
        Ok(())
    }

    async fn versions(&self, objects: &[Named]) -> Result<Vec<DynamicObject>> {
        let mut found = Vec::new();
        for object in objects {
            found.push(self.api(object.kind).get(&object.name).await.with_context(|| object.to_string())?);
        }
        Ok(found)
    }

    async fn work(&self) -> Result<Work> {
        let url = format!("http://{}/metrics", self.network.at(Port::InfrastructureMetrics));
        let text = reqwest::get(url).await?.error_for_status()?.text().await?;
        let sum = |parts: &[&str]| -> u64 {
            let of = |line: &&str| parts.iter().all(|part| line.contains(part));
            let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
            text.lines().filter(of).filter_map(value).sum()
        };
        let writes = ["create", "update", "patch", "delete"];
        Ok(Work {
            host_passes: sum(&["rackwright_passes_total{", r#"kind="Host""#]),
            machine_passes: sum(&["rackwright_passes_total{", r#"kind="RackwrightMachine""#]),
            failed_passes: sum(&["rackwright_passes_total{", r#"result="error""#]),
            writes: writes.iter().map(|verb| sum(&["rackwright_api_requests_total{", &format!("\"{verb}\"")])).sum(),
        })
    }

    /// Every Available host but those in `touched`.
    pub async fn bystanders(&self, touched: &[&str]) -> Result<Bystanders> {
        let mut seen = BTreeMap::new();
        for host in self.hosts().await?.into_iter().filter(|host| !touched.contains(&host.name_any().as_str())) {
            ensure!(phase(&host) == Some(Phase::Available), "{} is not Available", host.name_any());
            seen.insert(host.name_any(), self.bystander(&host)?);
        }
        ensure!(!seen.is_empty(), "nobody stands by");
        Ok(Bystanders(seen))
    }

    fn bystander(&self, host: &rackwright_api::Host) -> Result<Bystander> {
        let conditions = host.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let available = find(conditions, "Available").filter(|condition| condition.status == "True");
        Ok(Bystander {
            uid: host.uid(),
            available_since: available.map(|condition| condition.last_transition_time.0.to_string()),
            power_ons: self.fleet()?.snapshot(&host.name_any())?.history.power_ons,
        })
    }

    /// Fails unless `bystanders` were Available all the time, were never switched on, and their disks were never written.
    pub async fn are_unharmed(&self, bystanders: &Bystanders) -> Result<()> {
        for (name, before) in &bystanders.0 {
            let now = self.bystander(&self.host(name).await?)?;
            ensure!(now == *before, "host {name} was {before:?} and is {now:?}");
            let machine = self.fleet()?.snapshot(name)?;
            let (images, wipes) = (&machine.history.images, &machine.history.wipes);
            ensure!(machine.is_clean() && images.is_empty() && wipes.is_empty(), "its disks: {machine:#?}");
        }
        self.narrator.more(format!("{} other hosts Available all the time, their disks untouched", bystanders.0.len()));
        Ok(())
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), NAMESPACE, &kind.resource())
    }
}

fn conditions(object: &DynamicObject) -> Vec<Condition> {
    serde_json::from_value(object.data["status"]["conditions"].clone()).unwrap_or_default()
}

/// RFC 7396, as `kubectl patch --type=merge` does it.
fn merge(target: &mut Value, change: Value) {
    match change {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Null => drop(target.as_object_mut().map(|target| target.remove(&name))),
                    field => merge(&mut target[name], field),
                }
            }
        }
        other => *target = other,
    }
}
