//! RackwrightMachine: a Cluster API Machine's wish for one host (contract "InfraMachine", v1beta2).

use crate::common::{LocalReference, TemplateMeta};
use crate::host::WipePolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Cluster API Machine's wish for one host.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "RackwrightMachine",
    plural = "rackwrightmachines",
    namespaced,
    status = "RackwrightMachineStatus",
    derive = "PartialEq",
    category = "cluster-api",
    shortname = "rwm",
    doc = "A Cluster API Machine's wish for one host.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = r#".metadata.labels['cluster\.x-k8s\.io/cluster-name']"#
    ),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
    printcolumn(name = "Failure-Domain", type_ = "string", json_path = ".status.failureDomain"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Waiting-For", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "Provider-ID", type_ = "string", json_path = ".spec.providerID", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.image == oldSelf.image && has(self.host) == has(oldSelf.host) && (!has(self.host) || self.host == oldSelf.host)").message("image and host cannot change once the machine exists: make a new template and roll it out"))]
pub struct RackwrightMachineSpec {
    /// Set by Rackwright: `rackwright://NAMESPACE/HOST/UID-OF-THIS-MACHINE`, the same as on the Node.
    #[serde(default, rename = "providerID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub provider_id: Option<String>,
    /// OSImage in this namespace.
    pub image: LocalReference,
    /// Which hosts will do. Absent: any available host of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostNeeds>,
    /// How machines of one owner are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// What becomes of the disks when the host is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<WipeWish>,
}

/// What a host must have to be taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostNeeds {
    /// Labels of the Host. An empty selector selects no host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Inspected facts of the Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<HardwareNeeds>,
}

/// Inspected facts that a host must have, at least.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HardwareNeeds {
    /// Physical cores.
    #[serde(default, rename = "minCPUCores", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_cpu_cores: Option<i32>,
    /// Memory, GiB.
    #[serde(default, rename = "minMemoryGiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_memory_gib: Option<i64>,
    /// Number of disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_disks: Option<i32>,
    /// Disks of some kind; each entry must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub disks: Vec<DiskNeed>,
    /// Network interfaces of some speed; each entry must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub nics: Vec<NicNeed>,
    /// Accelerators, per vendor or model; each entry must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub accelerators: Vec<AcceleratorNeed>,
    /// Firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareNeed>,
}

/// Disks of one kind that a host must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskNeed {
    /// How many, at least.
    #[schemars(range(min = 1))]
    pub min: i32,
    /// Size of each, GiB, at least.
    #[serde(default, rename = "minSizeGiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_size_gib: Option<i64>,
    /// Whether they turn. Absent: either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
}

/// Network interfaces that a host must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NicNeed {
    /// How many, at least.
    #[schemars(range(min = 1))]
    pub min: i32,
    /// Speed of each as it was found, Gbit/s, at least. One without a link has no speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_speed_gbps: Option<i64>,
}

/// Firmware that a host must have: every field that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareNeed {
    /// Its vendor, as inspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub vendor: Option<String>,
    /// Versions that will do, as inspected. Absent: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub versions: Vec<String>,
    /// Whether Secure Boot must be on, or off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
}

/// Accelerators of one vendor that a host must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorNeed {
    /// Lower-case vendor, for example `nvidia`.
    #[schemars(length(min = 1, max = 63))]
    pub vendor: String,
    /// Model as inspected, for example `H100 SXM5 80GB`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub model: Option<String>,
    /// How many, at least.
    #[schemars(range(min = 1))]
    pub min: i32,
}

/// How the machines of one owner (MachineSet, control plane) are spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Over what.
    #[serde(default)]
    pub over: SpreadOver,
    /// How many more machines one place may hold than the place with the fewest. Absent: spread as well as the hosts
    /// allow, and never refuse a host for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_skew: Option<i32>,
}

/// What machines are spread over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SpreadOver {
    /// Racks.
    #[default]
    Rack,
    /// Datacenters.
    Datacenter,
}

/// What becomes of the disks when the host is released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WipeWish {
    /// How they are wiped.
    #[serde(default)]
    pub policy: WipePolicy,
}

/// How far the machine is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightMachineStatus {
    /// Contract: what has happened once and stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<MachineInitialization>,
    /// Name of the Host it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Contract: where it runs: the failure domain of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub failure_domain: Option<String>,
    /// Contract: addresses of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub addresses: Vec<MachineAddress>,
    /// What it waits for and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// `HostClaimed`, `BootstrapDataReady`, `Provisioned`, `Ready`, `Paused`, `Deleting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What has happened once and stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineInitialization {
    /// The image is on the disk and the host was started from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<bool>,
}

/// An address of a machine, as Cluster API wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineAddress {
    /// `Hostname`, `InternalIP`, `ExternalIP`, `InternalDNS` or `ExternalDNS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    #[schemars(length(min = 1, max = 256))]
    pub address: String,
}

/// What RackwrightMachines are made from.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "RackwrightMachineTemplate",
    plural = "rackwrightmachinetemplates",
    namespaced,
    derive = "PartialEq",
    category = "cluster-api",
    doc = "What RackwrightMachines are made from.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.template.spec.image.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightMachineTemplateSpec {
    /// The machine to make.
    pub template: RackwrightMachineTemplateResource,
}

/// The machine that a template makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightMachineTemplateResource {
    /// Labels and annotations of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Spec of the machine.
    pub spec: RackwrightMachineSpec,
}

/// A provider ID taken apart: `rackwright://NAMESPACE/HOST/UID`, so that a host's next life never looks like its last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProviderId {
    /// Namespace of the Host.
    pub namespace: String,
    /// Name of the Host.
    pub host: String,
    /// UID of the RackwrightMachine; of a node pool's machine, the identifier of the pool's reservation.
    pub machine_uid: String,
}

impl ProviderId {
    /// Takes `text` apart; `None` when it is not one of ours.
    pub fn parse(text: &str) -> Option<ProviderId> {
        let mut parts = text.strip_prefix("rackwright://")?.split('/');
        let id = ProviderId {
            namespace: parts.next()?.into(),
            host: parts.next()?.into(),
            machine_uid: parts.next()?.into(),
        };
        let whole =
            parts.next().is_none() && ![&id.namespace, &id.host, &id.machine_uid].iter().any(|part| part.is_empty());
        whole.then_some(id)
    }
}

impl std::fmt::Display for ProviderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rackwright://{}/{}/{}", self.namespace, self.host, self.machine_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_id_survives_being_written_and_read() {
        let id = ProviderId { namespace: "metal".into(), host: "a01-u07".into(), machine_uid: "1-2-3".into() };
        assert_eq!(ProviderId::parse(&id.to_string()), Some(id));
        for foreign in ["", "aws:///eu/i-1", "rackwright://a/b", "rackwright://a/b/c/d", "rackwright://a//c"] {
            assert_eq!(ProviderId::parse(foreign), None, "{foreign}");
        }
    }
}
