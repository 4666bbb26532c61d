//! HostHardware: what the agent found in a host. Facts, apart from the Host so that the Host stays small.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
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
    printcolumn(
        name = "Memory-MiB",
        type_ = "integer",
        json_path = ".spec.facts.memoryMiB"
    ),
    printcolumn(
        name = "Serial",
        type_ = "string",
        json_path = ".spec.facts.serial",
        priority = 1
    ),
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

/// Hardware facts, as the agent reports them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// SMBIOS manufacturer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// SMBIOS product name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// SMBIOS serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// SMBIOS system UUID, lower case.
    #[serde(
        default,
        rename = "systemUUID",
        skip_serializing_if = "Option::is_none"
    )]
    pub system_uuid: Option<String>,
    /// `UEFI` or `BIOS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    /// Processors.
    pub cpu: Cpu,
    /// Memory, MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: i64,
    /// Disks, in the kernel's order.
    #[schemars(length(max = 128))]
    pub disks: Vec<Disk>,
    /// Network interfaces, in the kernel's order.
    #[schemars(length(max = 64))]
    pub nics: Vec<Nic>,
    /// GPUs and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub accelerators: Vec<Accelerator>,
}

/// Processors of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// Model name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Physical cores, all sockets.
    pub cores: i32,
    /// Hardware threads, all sockets.
    pub threads: i32,
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Kernel name, for example `/dev/nvme0n1`.
    pub device: String,
    /// Size, bytes.
    pub size_bytes: i64,
    /// Turning disk or not.
    pub rotational: bool,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World Wide Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// MAC address, lower case.
    pub mac: String,
    /// Link speed, Mbit/s, when there is a link.
    #[serde(default, rename = "speedMbps", skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<i64>,
    /// IP addresses it had in the ramdisk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// LLDP: name of the switch at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lldp_switch: Option<String>,
    /// LLDP: port of that switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lldp_port: Option<String>,
}

/// One accelerator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Lower-case vendor, for example `nvidia`.
    pub vendor: String,
    /// Model.
    pub model: String,
}
