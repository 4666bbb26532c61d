//! A workload cluster as a story speaks of it: made, scaled, looked at, deleted.

use crate::bed::Bed;
use crate::kubeconfig;
use crate::objects;
use crate::programs::{KUBERNETES_VERSION, RACKWRIGHT_VERSION};
use crate::racks::{NAMESPACE, OS_IMAGE};
use crate::wait::Look;
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use rackwright_api::machine::ProviderId;
use std::time::Duration;

const CLUSTER_LABEL: &str = "cluster.x-k8s.io/cluster-name";
const CONTROL_PLANE_LABEL: &str = "cluster.x-k8s.io/control-plane";

/// A cluster made from the `development` template.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Name of the Cluster.
    pub name: String,
    /// Where its API server answers.
    pub endpoint: String,
}

/// What Cluster API says of one Machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSeen {
    /// Name of the Machine.
    pub name: String,
    /// `Running` when its node is there.
    pub phase: String,
    /// Whether it is part of the control plane.
    pub control_plane: bool,
    /// As Cluster API knows it.
    pub provider_id: Option<String>,
    /// Its Node.
    pub node: Option<String>,
    /// Where it runs.
    pub failure_domain: Option<String>,
    /// True once it is being deleted.
    pub deleting: bool,
}

impl MachineSeen {
    /// Name of the Host it runs on.
    pub fn host(&self) -> Option<String> {
        Some(ProviderId::parse(self.provider_id.as_deref()?)?.host)
    }

    fn of(object: &DynamicObject) -> MachineSeen {
        let text = |pointer: &str| object.data.pointer(pointer).and_then(|v| v.as_str()).map(str::to_string);
        MachineSeen {
            name: object.name_any(),
            phase: text("/status/phase").unwrap_or_default(),
            control_plane: object.labels().contains_key(CONTROL_PLANE_LABEL),
            provider_id: text("/spec/providerID"),
            node: text("/status/nodeRef/name"),
            failure_domain: text("/status/failureDomain"),
            deleting: object.metadata.deletion_timestamp.is_some(),
        }
    }
}

impl Bed {
    /// Makes a cluster with `clusterctl generate cluster --flavor development`; gives it when it is asked for, not when
    /// it is there. `number` tells the clusters of one bed apart.
    pub async fn create_cluster(&self, name: &str, number: u8, workers: u32) -> Result<Cluster> {
        let (endpoint, workers) = (self.network.cluster_endpoint(number).to_string(), workers.to_string());
        let layout = self.racks.as_ref().context("this bed has no racks")?.layout;
        let grace_period = format!("{}s", layout.grace_period().as_secs());
        let infrastructure = format!("rackwright:{RACKWRIGHT_VERSION}");
        let args = [
            &["generate", "cluster", name][..],
            &["--flavor", "development", "--infrastructure", &infrastructure, "--target-namespace", NAMESPACE],
            &["--kubernetes-version", KUBERNETES_VERSION, "--worker-machine-count", &workers],
        ];
        let variables = [
            ("CONTROL_PLANE_ENDPOINT_HOST", endpoint.as_str()),
            ("OS_IMAGE", OS_IMAGE),
            ("NODE_MONITOR_GRACE_PERIOD", &grace_period),
        ];
        let manifests = self.clusterctl.run(&args.concat(), &variables).await?;
        objects::apply_all(&self.client(), &manifests).await?;
        Ok(Cluster { name: name.into(), endpoint: format!("https://{endpoint}:6443") })
    }

    /// The Machines of `cluster`, by name.
    pub async fn machines(&self, cluster: &Cluster) -> Result<Vec<MachineSeen>> {
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("cluster.x-k8s.io", "v1beta2", "Machine"),
            "machines",
        );
        let api = Api::<DynamicObject>::namespaced_with(self.client(), NAMESPACE, &resource);
        let labelled = ListParams::default().labels(&format!("{CLUSTER_LABEL}={}", cluster.name));
        let mut machines: Vec<_> = api.list(&labelled).await?.iter().map(MachineSeen::of).collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(machines)
    }

    /// The machines of `cluster` that are not part of its control plane.
    pub async fn workers(&self, cluster: &Cluster) -> Result<Vec<MachineSeen>> {
        Ok(self.machines(cluster).await?.into_iter().filter(|machine| !machine.control_plane).collect())
    }

    /// A client of `cluster`'s own API server, as its administrator.
    pub async fn workload(&self, cluster: &Cluster) -> Result<Client> {
        let name = format!("{}-kubeconfig", cluster.name);
        let secret = Api::<Secret>::namespaced(self.client(), NAMESPACE).get(&name).await?;
        let value = secret.data.unwrap_or_default().remove("value").with_context(|| format!("{name} has no value"))?;
        kubeconfig::client(&String::from_utf8(value.0)?).await
    }

    /// The Nodes of `cluster`.
    pub async fn nodes(&self, cluster: &Cluster) -> Result<Vec<Node>> {
        Ok(Api::<Node>::all(self.workload(cluster).await?).list(&ListParams::default()).await?.items)
    }

    /// Waits until the control plane and exactly `workers` workers are `Running`, their Nodes Ready, no Node without a
    /// Machine, and Machine and Node tell the same provider ID; gives the workers.
    pub async fn wait_until_running(
        &self,
        cluster: &Cluster,
        workers: usize,
        within: Duration,
    ) -> Result<Vec<MachineSeen>> {
        let what = format!("control plane and {workers} workers of {} Running, their nodes Ready", cluster.name);
        self.wait(&what, within, async || {
            let machines = self.machines(cluster).await?;
            let running = machines.iter().filter(|machine| machine.phase == "Running" && !machine.deleting).count();
            if machines.len() != workers + 1 || running != workers + 1 {
                let phases: Vec<_> =
                    machines.iter().map(|machine| format!("{} {}", machine.name, machine.phase)).collect();
                return Ok(Look::NotYet(format!("{running} running of {}: {}", machines.len(), phases.join(", "))));
            }
            let nodes = self.nodes(cluster).await?;
            if nodes.len() != machines.len() {
                return Ok(Look::NotYet(format!("{} nodes for {} machines", nodes.len(), machines.len())));
            }
            for machine in &machines {
                let twin = nodes.iter().find(|node| machine.node.as_deref() == Some(&node.name_any()));
                let Some(node) = twin else { return Ok(Look::NotYet(format!("{} has no node", machine.name))) };
                if !is_ready(node) || provider_id(node) != machine.provider_id.as_deref() {
                    let ready = is_ready(node);
                    let (ours, theirs) = (&machine.provider_id, provider_id(node));
                    return Ok(Look::NotYet(format!("{}: Ready {ready}, {ours:?}, node {theirs:?}", machine.name)));
                }
            }
            Ok(Look::Seen(machines.into_iter().filter(|machine| !machine.control_plane).collect()))
        })
        .await
    }

    /// Asks for so many workers.
    pub async fn scale(&self, cluster: &Cluster, workers: u32) -> Result<()> {
        let deployment = format!("machinedeployment/{}-workers", cluster.name);
        self.kubectl(&["scale", &deployment, &format!("--replicas={workers}")]).await?;
        Ok(())
    }

    /// Deletes the Cluster and waits until nothing of it is left: no Machine, no infrastructure, no finalizer.
    pub async fn delete_cluster(&self, cluster: &Cluster, within: Duration) -> Result<()> {
        self.kubectl(&["delete", "cluster", &cluster.name, "--wait=false"]).await?;
        self.wait(&format!("nothing left of cluster {}", cluster.name), within, async || {
            let kinds = "clusters,machines,machinedeployments,rackwrightclusters,rackwrightmachines,rackwrightconfigs,kubeadmconfigs";
            let left = self.kubectl(&["get", kinds, "--output=name", "--ignore-not-found"]).await?;
            let left = left.lines().collect::<Vec<_>>().join(" ");
            Ok(Look::when(left.is_empty(), left))
        })
        .await
    }
}

/// Whether a Node says that it is Ready.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn provider_id(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.provider_id.as_deref()
}
