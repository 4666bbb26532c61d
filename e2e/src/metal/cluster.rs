//! A workload cluster over both kinds of machines: its control plane on a simulated one, its workers on real ones.

use super::bed::MetalBed;
use super::lan::CONTROL_PLANE;
use crate::cluster::Cluster;
use crate::objects;
use crate::programs::{KUBERNETES_VERSION, RACKWRIGHT_VERSION};
use crate::racks::{NAMESPACE, OS_IMAGE};
use anyhow::Result;
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// What the workers are.
#[derive(Clone, Debug)]
pub struct Workers {
    /// How many.
    pub count: u32,
    /// Their OSImage.
    pub image: String,
    /// How their disks are wiped when they go.
    pub wipe: String,
}

impl MetalBed {
    /// Makes a cluster from the `development` template with `workers` on real machines.
    pub async fn create_cluster(&self, name: &str, workers: &Workers) -> Result<Cluster> {
        let (endpoint, count) = (CONTROL_PLANE.to_string(), workers.count.to_string());
        let infrastructure = format!("rackwright:{RACKWRIGHT_VERSION}");
        let args = [
            &["generate", "cluster", name][..],
            &["--flavor", "development", "--infrastructure", &infrastructure, "--target-namespace", NAMESPACE],
            &["--kubernetes-version", KUBERNETES_VERSION, "--worker-machine-count", &count],
        ];
        let variables = [
            ("CONTROL_PLANE_ENDPOINT_HOST", endpoint.as_str()),
            ("OS_IMAGE", OS_IMAGE),
            ("NODE_MONITOR_GRACE_PERIOD", "40s"),
        ];
        let manifests = self.bed.clusterctl.run(&args.concat(), &variables).await?;
        for mut object in objects::parse(&manifests)? {
            if adapt(&mut object, workers) {
                objects::apply(&self.bed.client(), &object).await?;
            }
        }
        Ok(Cluster { name: name.into(), endpoint: format!("https://{endpoint}:6443") })
    }
}

/// Says which machines are for whom, and asks little of small ones; false for what is left out.
fn adapt(object: &mut DynamicObject, workers: &Workers) -> bool {
    let pool = |name: &str| json!({ "selector": { "matchLabels": { "pool": name } } });
    let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
    match kind.as_str() {
        "RackwrightMachine" => object.data["spec"]["host"] = pool("simulated"),
        "RackwrightMachineTemplate" => {
            let spec = &mut object.data["spec"]["template"]["spec"];
            spec["host"] = pool("metal");
            spec["image"]["name"] = workers.image.as_str().into();
            spec["wipe"] = json!({ "policy": workers.wipe });
        }
        "RackwrightConfigTemplate" => {
            let kubelet = &mut object.data["spec"]["template"]["spec"]["kubelet"];
            *kubelet = Value::Object(serde_json::Map::new());
            kubelet["systemReserved"] = json!({ "cpu": "100m", "memory": "128Mi" });
        }
        // Real machines take longer than its patience, and what heals is told elsewhere.
        "MachineHealthCheck" => return false,
        _ => {}
    }
    tracing::debug!(kind, name = object.name_any(), "applied");
    true
}
