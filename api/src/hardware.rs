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

/// A short stable name for hosts that a scheduler cannot tell apart: architecture, processors as a kubelet counts them,
/// memory, accelerators; for example `amd64-64c-256g-8xnvidia-h100-sxm5-80gb`. At most 63 characters, fit for a label.
///
/// What firmware keeps for itself differs from host to host, so memory is rounded up to a sixteenth of its power of two.
pub fn hardware_class(facts: &Facts) -> String {
    let mut name = format!("{}-{}c-{}g", facts.cpu.architecture, facts.cpu.threads, memory_gib(facts.memory_mib));
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for found in &facts.accelerators {
        *kinds.entry(slug(&format!("{}-{}", found.vendor, found.model))).or_default() += 1;
    }
    for (kind, count) in kinds {
        name.push_str(&format!("-{count}x{kind}"));
    }
    name.truncate(63);
    name.trim_end_matches('-').into()
}

fn memory_gib(mib: i64) -> i64 {
    let gib = (mib + 1023) / 1024;
    let step = if gib >= 16 { (1 << gib.ilog2()) / 16 } else { 1 };
    (gib + step - 1) / step * step
}

fn slug(text: &str) -> String {
    let letters = text.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    letters.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(threads: i32, memory_mib: i64, accelerators: &[(&str, &str)]) -> Facts {
        let accelerators = accelerators
            .iter()
            .map(|(vendor, model)| Accelerator { vendor: (*vendor).into(), model: (*model).into() })
            .collect();
        let cpu = Cpu { architecture: "amd64".into(), threads, ..Cpu::default() };
        Facts { cpu, memory_mib, accelerators, ..Facts::default() }
    }

    #[test]
    fn hosts_of_the_same_make_are_of_one_class_whatever_their_firmware_keeps() {
        for mib in [257_000, 257_650, 262_144] {
            assert_eq!(hardware_class(&facts(64, mib, &[])), "amd64-64c-256g");
        }
        assert_eq!(hardware_class(&facts(4, 1900, &[])), "amd64-4c-2g");
        assert_eq!(hardware_class(&facts(96, 386_000, &[])), "amd64-96c-384g");
    }

    #[test]
    fn accelerators_are_told_apart_and_the_name_stays_a_label() {
        let two = [("nvidia", "L4"), ("nvidia", "L4"), ("amd", "MI300X")];
        assert_eq!(hardware_class(&facts(64, 262_144, &two)), "amd64-64c-256g-1xamd-mi300x-2xnvidia-l4");
        let many = [("nvidia", "Some Device With A Very Long Name Indeed 9000 Super Edition Plus")];
        let name = hardware_class(&facts(64, 262_144, &many));
        assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
    }
}
