//! What a host's inspected hardware amounts to as a node, and what its kubelet keeps back. Pure.

use super::template::Capacity;
use crate::quantity::amount;
use rackwright_api::config::KubeletSettings;
use rackwright_api::hardware::Facts;
use rackwright_api::host::RootDevice;
use std::collections::BTreeMap;

/// Kubelet's default (KubeletConfiguration v1beta1, `maxPods`).
const PODS: i32 = 110;
/// Kubelet's default `evictionHard` on Linux: `memory.available<100Mi`, `nodefs.available<10%`.
const EVICTION: [(&str, &str); 2] = [("memory.available", "100Mi"), ("nodefs.available", "10%")];

/// Capacity of the node that a host with `facts` becomes.
///
/// Firmware tables tell the memory that is plugged in; the kernel keeps a page descriptor of 64 bytes for each 4 KiB of
/// it, and its own. A template that promised more than the node has would make pods wait for ever, so it promises a 48th
/// less.
pub fn capacity(facts: &Facts, root: Option<&RootDevice>) -> Capacity {
    let memory = u64::try_from(facts.memory_mib).unwrap_or_default() << 20;
    let mut accelerators = BTreeMap::new();
    for found in &facts.accelerators {
        *accelerators.entry(resource(&found.vendor)).or_default() += 1;
    }
    Capacity {
        cpu_milli: u64::try_from(facts.cpu.threads).unwrap_or_default() * 1000,
        memory: memory - memory / 48,
        storage: root_disk(facts, root),
        accelerators,
    }
}

/// The resource by which a vendor's device plugin offers its devices.
fn resource(vendor: &str) -> String {
    match vendor {
        "intel" => "gpu.intel.com/xe".into(),
        other => format!("{other}.com/gpu"),
    }
}

/// Bytes of the smallest disk that the image may go to.
fn root_disk(facts: &Facts, root: Option<&RootDevice>) -> u64 {
    let smallest = facts.disks.iter().filter(|disk| disk.misfit(root).is_none()).map(|disk| disk.size_bytes).min();
    u64::try_from(smallest.unwrap_or_default()).unwrap_or_default()
}

/// Pods on a node whose kubelet has `settings`.
pub fn pods(settings: Option<&KubeletSettings>) -> i32 {
    settings.and_then(|settings| settings.max_pods).unwrap_or(PODS)
}

/// What a kubelet with `settings` keeps back of a node with `capacity` (Kubernetes, "Reserve Compute Resources for
/// System Daemons": reservations and hard eviction thresholds).
pub fn reserved(settings: Option<&KubeletSettings>, capacity: &Capacity) -> Capacity {
    let none = KubeletSettings::default();
    let settings = settings.unwrap_or(&none);
    let of = |name: &str, all: u64| -> u64 {
        let held = [&settings.kube_reserved, &settings.system_reserved];
        held.into_iter().filter_map(|map| map.get(name)).map(|text| bytes(text, all)).sum()
    };
    let evicted = |signal: &str, all: u64| -> u64 {
        // Thresholds that a person sets replace all of kubelet's own.
        let own = EVICTION.iter().find(|(name, _)| *name == signal).map(|(_, text)| (*text).to_owned());
        let set = &settings.eviction_hard;
        let text = if set.is_empty() { own } else { set.get(signal).cloned() };
        text.map_or(0, |text| bytes(&text, all))
    };
    let cpu = [&settings.kube_reserved, &settings.system_reserved].into_iter().filter_map(|map| map.get("cpu"));
    Capacity {
        cpu_milli: cpu.filter_map(|text| amount(text)).map(|cores| (cores * 1000.0) as u64).sum(),
        memory: of("memory", capacity.memory) + evicted("memory.available", capacity.memory),
        storage: of("ephemeral-storage", capacity.storage) + evicted("nodefs.available", capacity.storage),
        accelerators: BTreeMap::new(),
    }
}

/// A quantity, or a percentage of `all`.
fn bytes(text: &str, all: u64) -> u64 {
    match text.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) {
        Some(percent) => (all as f64 * percent / 100.0) as u64,
        None => amount(text).unwrap_or_default() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rackwright_api::hardware::{Accelerator, Cpu, Disk};

    fn facts() -> Facts {
        let disk = |device: &str, gib: i64, rotational| Disk {
            device: device.into(),
            size_bytes: gib << 30,
            rotational,
            ..Disk::default()
        };
        Facts {
            cpu: Cpu { architecture: "amd64".into(), cores: 32, threads: 64, ..Cpu::default() },
            memory_mib: 48 * 1024,
            disks: vec![disk("/dev/sda", 4000, true), disk("/dev/nvme0n1", 100, false)],
            accelerators: vec![Accelerator { vendor: "nvidia".into(), model: "L4".into() }; 2],
            ..Facts::default()
        }
    }

    #[test]
    fn a_node_has_what_was_found_less_what_the_kernel_keeps() {
        let found = capacity(&facts(), None);
        assert_eq!((found.cpu_milli, found.memory, found.storage), (64_000, 47 << 30, 100 << 30));
        assert_eq!(found.accelerators["nvidia.com/gpu"], 2);
        let turning = RootDevice { rotational: Some(true), ..RootDevice::default() };
        assert_eq!(capacity(&facts(), Some(&turning)).storage, 4000 << 30);
    }

    #[test]
    fn the_disk_is_the_one_that_the_agent_would_choose() {
        let mut facts = facts();
        facts.disks[1].model = Some("Example NVMe 100".into());
        let by_model = RootDevice { model: Some("NVMe".into()), ..RootDevice::default() };
        assert_eq!(capacity(&facts, Some(&by_model)).storage, 100 << 30);
        facts.disks[1].read_only = true;
        assert_eq!(capacity(&facts, None).storage, 4000 << 30);
    }

    #[test]
    fn a_kubelet_keeps_back_reservations_and_eviction_thresholds() {
        let all = capacity(&facts(), None);
        let stock = reserved(None, &all);
        assert_eq!((stock.cpu_milli, stock.memory, stock.storage), (0, 100 << 20, 10 << 30));
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let settings = KubeletSettings {
            kube_reserved: map(&[("cpu", "500m"), ("memory", "1Gi")]),
            system_reserved: map(&[("cpu", "1"), ("memory", "4Gi")]),
            eviction_hard: map(&[("memory.available", "5%")]),
            ..KubeletSettings::default()
        };
        let kept = reserved(Some(&settings), &all);
        assert_eq!((kept.cpu_milli, kept.storage), (1500, 0));
        assert_eq!(kept.memory, (5 << 30) + all.memory / 20);
    }
}
