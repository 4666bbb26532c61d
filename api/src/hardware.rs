//! HostHardware: what the agent found in a host. Facts, apart from the Host so that the Host stays small.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
pub use rackwright_protocol::facts::{Accelerator, Cpu, Disk, Facts, Nic};
use serde::{Deserialize, Serialize};

/// What was found in the Host of the same name.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "HostHardware",
    plural = "hosthardwares",
    namespaced,
    derive = "PartialEq",
    category = "rackwright",
    doc = "What the agent found in the Host of the same name.",
    label("clusterctl.cluster.x-k8s.io/move", ""),
    printcolumn(name = "Vendor", type_ = "string", json_path = ".spec.facts.vendor"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.facts.model"),
    printcolumn(name = "Cores", type_ = "integer", json_path = ".spec.facts.cpu.cores"),
    printcolumn(name = "Memory-MiB", type_ = "integer", json_path = ".spec.facts.memoryMiB"),
    printcolumn(name = "Serial", type_ = "string", json_path = ".spec.facts.serial", priority = 1),
    printcolumn(name = "Inspected", type_ = "date", json_path = ".spec.inspectedAt")
)]
#[serde(rename_all = "camelCase")]
pub struct HostHardwareSpec {
    /// The operation that found this.
    #[serde(rename = "operationID")]
    pub operation_id: String,
    /// When it was found.
    pub inspected_at: Timestamp,
    /// What was found.
    pub facts: Facts,
}
