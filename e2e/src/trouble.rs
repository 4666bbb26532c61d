//! Verbs of stories about bad input: what an object says of itself, hosts that are registered anew, and machines without
//! a control plane.

use crate::bed::Bed;
use crate::objects;
use crate::racks::NAMESPACE;
use crate::wait::Look;
use anyhow::{Context, Result};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use rackwright_api::conditions::find;
use serde_json::{Value, json};
use std::time::Duration;

/// Name of the Cluster that [`Bed::order_machine`]'s machines belong to.
const POOL: &str = "pool";

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
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
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

    pub(crate) fn api(&self, kind: Kind) -> Api<DynamicObject> {
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
