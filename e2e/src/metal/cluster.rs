//! A workload cluster over both kinds of machines: its control plane on a simulated one, workers on real ones.

use super::bed::MetalBed;
use super::lan::CONTROL_PLANE;
use crate::cluster::Cluster;
use crate::objects;
use crate::programs::{KUBERNETES_VERSION, RACKWRIGHT_VERSION};
use crate::racks::{NAMESPACE, OS_IMAGE};
use anyhow::Result;
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// OSImage of the workers on real machines.
pub const NODE_IMAGE: &str = "metal-node";

/// What runs beside the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Real machines only, none at first.
    Real,
    /// So many simulated machines, watched by a MachineHealthCheck, and so many real ones.
    Both {
        /// Simulated ones.
        simulated: u32,
        /// Real ones.
        real: u32,
    },
}

impl MetalBed {
    /// Makes a cluster from the `development` template. The MachineDeployment of its real machines is called `NAME-metal`.
    pub async fn create_cluster(&self, name: &str, workers: Workers) -> Result<Cluster> {
        let (simulated, real) = match workers {
            Workers::Real => (None, 0),
            Workers::Both { simulated, real } => (Some(simulated), real),
        };
        for mut object in objects::parse(&self.template(name, simulated.unwrap_or(0)).await?)? {
            if let Some(copy) = for_real_machines(&object, name, real)? {
                objects::apply(&self.bed.client(), &copy).await?;
            }
            keep_to_simulated_machines(&mut object);
            if simulated.is_some() || is_control_plane(&object, name) {
                objects::apply(&self.bed.client(), &object).await?;
            }
        }
        Ok(Cluster { name: name.into(), endpoint: format!("https://{CONTROL_PLANE}:6443") })
    }

    /// Asks for so many workers on real machines.
    pub async fn scale(&self, cluster: &Cluster, workers: u32) -> Result<()> {
        let deployment = format!("machinedeployment/{}-metal", cluster.name);
        self.bed.kubectl(&["scale", &deployment, &format!("--replicas={workers}")]).await.map(drop)
    }

    /// A pool of no nodes that keeps so many of the free machines warm with the node image.
    pub async fn keep_warm(&self, cluster: &Cluster, name: &str, warm: i32) -> Result<()> {
        let pool = serde_json::json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "NodePool",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "clusterName": cluster.name, "version": KUBERNETES_VERSION, "replicas": 0,
                "image": { "name": NODE_IMAGE }, "bootstrap": { "config": { "join": "Kubelet" } }, "idle": { "warm": warm },
            },
        });
        self.apply_json(pool).await
    }

    async fn template(&self, name: &str, workers: u32) -> Result<String> {
        let (endpoint, count) = (CONTROL_PLANE.to_string(), workers.to_string());
        let infrastructure = format!("rackwright:{RACKWRIGHT_VERSION}");
        let args = [
            &["generate", "cluster", name][..],
            &["--flavor", "development", "--infrastructure", &infrastructure, "--target-namespace", NAMESPACE],
            &["--kubernetes-version", KUBERNETES_VERSION, "--worker-machine-count", &count],
        ];
        let variables = [
            ("CONTROL_PLANE_ENDPOINT_HOST", endpoint.as_str()),
            ("OS_IMAGE", OS_IMAGE),
            // Real machines without hardware virtualization have their moments.
            ("NODE_MONITOR_GRACE_PERIOD", "40s"),
        ];
        self.bed.clusterctl.run(&args.concat(), &variables).await
    }
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

fn pool(name: &str) -> Value {
    json!({ "selector": { "matchLabels": { "pool": name } } })
}

/// Whether it belongs to the cluster itself or its control plane, and not to the template's workers.
fn is_control_plane(object: &DynamicObject, name: &str) -> bool {
    object.metadata.name.as_deref() != Some(&format!("{name}-workers"))
}

fn keep_to_simulated_machines(object: &mut DynamicObject) {
    match kind(object) {
        "RackwrightMachine" => object.data["spec"]["host"] = pool("simulated"),
        "RackwrightMachineTemplate" => object.data["spec"]["template"]["spec"]["host"] = pool("simulated"),
        _ => {}
    }
}

/// The same for real machines, when it is one of the three things that workers are made of. They have little memory, and
/// what lies on their disks is discarded when they go.
fn for_real_machines(object: &DynamicObject, name: &str, replicas: u32) -> Result<Option<DynamicObject>> {
    if !["MachineDeployment", "RackwrightMachineTemplate", "RackwrightConfigTemplate"].contains(&kind(object)) {
        return Ok(None);
    }
    let text = serde_json::to_string(object)?.replace(&format!("{name}-workers"), &format!("{name}-metal"));
    let mut copy: DynamicObject = serde_json::from_str(&text)?;
    match kind(&copy) {
        "MachineDeployment" => copy.data["spec"]["replicas"] = replicas.into(),
        "RackwrightMachineTemplate" => {
            let spec = &mut copy.data["spec"]["template"]["spec"];
            spec["host"] = pool("metal");
            spec["image"]["name"] = NODE_IMAGE.into();
            spec["wipe"] = json!({ "policy": "Discard" });
        }
        _ => {
            let kubelet = json!({ "systemReserved": { "cpu": "100m", "memory": "128Mi" } });
            copy.data["spec"]["template"]["spec"]["kubelet"] = kubelet;
        }
    }
    Ok(Some(copy))
}
