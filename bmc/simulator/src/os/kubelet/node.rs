//! How a Node looks: from the host's hardware and the kubelet's settings, as the kubelet fills it in.
//!
//! Pure: no client, no clock; `now` is handed in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use rackwright_protocol::facts::Facts;

use super::quantity;
use super::settings::{Settings, Threshold};

/// The version of the kubelet that simulated images carry: that of the bed's programs.
pub const KUBELET_VERSION: &str = "v1.36.3";

/// The Node as the kubelet makes it.
pub fn node(settings: &Settings, facts: &Facts, address: IpAddr, boot_id: &str, now: Timestamp) -> Node {
    let mut labels = settings.labels.clone();
    labels.extend(default_labels(settings, facts));
    Node {
        metadata: ObjectMeta {
            name: Some(settings.node_name.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(
                "volumes.kubernetes.io/controller-managed-attach-detach".to_string(),
                "true".to_string(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: settings.provider_id.clone(),
            taints: Some(settings.taints.clone()).filter(|taints| !taints.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status(settings, facts, address, boot_id, &[], now)),
    }
}

/// Labels that every kubelet gives its node, and sets right when a Node of its name is there already.
pub fn default_labels(settings: &Settings, facts: &Facts) -> BTreeMap<String, String> {
    let architecture = architecture(facts);
    [
        ("kubernetes.io/hostname", settings.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into()
}

/// The whole status; `before` are the conditions that the Node has.
pub fn status(
    settings: &Settings,
    facts: &Facts,
    address: IpAddr,
    boot_id: &str,
    before: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    let internal = settings.node_ip.clone().unwrap_or_else(|| address.to_string());
    let addresses = [("InternalIP", internal), ("Hostname", settings.node_name.clone())]
        .map(|(kind, address)| NodeAddress { type_: kind.into(), address })
        .into();
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(allocatable(settings, facts)),
        capacity: Some(capacity(settings, facts)),
        conditions: Some(conditions(before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: 10250 }) }),
        node_info: Some(system_info(facts, boot_id)),
        ..NodeStatus::default()
    }
}

/// The conditions of a healthy node. A time of transition stays as long as the status does.
pub fn conditions(before: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let same = before.iter().find(|before| before.type_ == kind && before.status == status);
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: same.and_then(|same| same.last_transition_time.clone()).or(Some(Time(now))),
        }
    };
    vec![
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
}

/// Whether the kubelet writes its conditions now: when they differ, or when the last heartbeat is too long ago.
pub fn must_report(node: &Node, report_interval: Duration, now: Timestamp) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let wanted = self::conditions(conditions, now);
    let differs = wanted.iter().any(|wanted| {
        !conditions
            .iter()
            .any(|is| is.type_ == wanted.type_ && is.status == wanted.status && is.reason == wanted.reason)
    });
    let oldest =
        conditions.iter().filter_map(|condition| condition.last_heartbeat_time.as_ref()).map(|time| time.0).min();
    let late = oldest.is_none_or(|oldest| now.duration_since(oldest).unsigned_abs() >= report_interval);
    differs || late
}

fn capacity(settings: &Settings, facts: &Facts) -> BTreeMap<String, Quantity> {
    resources(
        i128::from(facts.cpu.threads) * 1000,
        memory_milli(facts),
        quantity::memory(disk_milli(facts)),
        settings.max_pods,
    )
}

fn allocatable(settings: &Settings, facts: &Facts) -> BTreeMap<String, Quantity> {
    let evicted = |threshold: Threshold, capacity: i128| match threshold {
        Threshold::Milli(milli) => milli,
        // Whole bytes, rounded as the kubelet does.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "capacities are far below 2^52"
        )]
        Threshold::Part(part) => (((capacity / 1000) as f64 * part) as i128) * 1000,
    };
    let (memory, disk) = (memory_milli(facts), disk_milli(facts));
    let left = |capacity: i128, taken: i128| (capacity - taken).max(0);
    resources(
        left(i128::from(facts.cpu.threads) * 1000, settings.reserved.cpu),
        left(memory, settings.reserved.memory + evicted(settings.evict_memory, memory)),
        (left(disk, settings.reserved.ephemeral_storage + evicted(settings.evict_disk, disk)) / 1000).to_string(),
        settings.max_pods,
    )
}

fn resources(cpu: i128, memory: i128, ephemeral_storage: String, pods: i64) -> BTreeMap<String, Quantity> {
    [
        ("cpu", quantity::cpu(cpu)),
        ("memory", quantity::memory(memory)),
        ("ephemeral-storage", ephemeral_storage),
        ("pods", pods.to_string()),
        ("hugepages-1Gi", "0".into()),
        ("hugepages-2Mi", "0".into()),
    ]
    .map(|(name, value)| (name.to_string(), Quantity(value)))
    .into()
}

fn memory_milli(facts: &Facts) -> i128 {
    i128::from(facts.memory_mib) * 1000 * (1 << 20)
}

/// The kubelet sees one file system: that of the first disk, where the simulated image lies.
fn disk_milli(facts: &Facts) -> i128 {
    i128::from(facts.disks.first().map_or(0, |disk| disk.size_bytes)) * 1000
}

fn architecture(facts: &Facts) -> &str {
    if facts.cpu.architecture.is_empty() { "amd64" } else { &facts.cpu.architecture }
}

fn system_info(facts: &Facts, boot_id: &str) -> NodeSystemInfo {
    let uuid = facts.system_uuid.clone().unwrap_or_default();
    NodeSystemInfo {
        architecture: architecture(facts).into(),
        boot_id: boot_id.into(),
        container_runtime_version: "containerd://2.4.2".into(),
        kernel_version: "6.1.0-56-cloud-amd64".into(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.into(),
        machine_id: uuid.replace('-', ""),
        operating_system: "linux".into(),
        os_image: "Rackwright simulated Linux".into(),
        system_uuid: uuid,
        ..NodeSystemInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use rackwright_protocol::facts::{Cpu, Disk};

    use super::super::settings::Flags;
    use super::*;

    fn facts() -> Facts {
        Facts {
            cpu: Cpu { architecture: "amd64".into(), model: None, cores: 16, threads: 32 },
            memory_mib: 65536,
            disks: vec![Disk {
                by_path: None,
                device: "/dev/nvme0n1".into(),
                size_bytes: 1_000_000_000_000,
                rotational: false,
                read_only: false,
                model: None,
                serial: None,
                wwn: None,
            }],
            ..Facts::default()
        }
    }

    fn settings(flags: &[&str]) -> Settings {
        let words: Vec<String> = flags.iter().map(ToString::to_string).collect();
        Settings::read(&Flags::parse(&words).expect("flags"), None, "node-1").expect("settings")
    }

    fn build(settings: &Settings) -> Node {
        node(settings, &facts(), IpAddr::from([127, 1, 2, 3]), "boot", Timestamp::UNIX_EPOCH)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a small number of seconds")
    }

    #[test]
    fn a_node_looks_as_its_kubelet_is_told() {
        let node = build(&settings(&[
            "--provider-id=rackwright://a/b/c",
            "--node-labels=tier=web",
            "--register-with-taints=dedicated=search:NoSchedule",
            "--kube-reserved=cpu=500m,memory=1Gi",
            "--system-reserved=cpu=1",
            "--eviction-hard=memory.available<1Gi",
        ]));
        insta::assert_yaml_snapshot!(node);
    }

    #[test]
    fn what_is_reserved_beyond_the_capacity_leaves_nothing() {
        let node = build(&settings(&["--kube-reserved=cpu=64,memory=1Ti"]));
        let allocatable = node.status.and_then(|status| status.allocatable).expect("allocatable");
        assert_eq!((allocatable["cpu"].0.as_str(), allocatable["memory"].0.as_str()), ("0", "0Ki"));
    }

    #[test]
    fn a_transition_time_stays_while_the_status_does() {
        let mut before = conditions(&[], at(10));
        before[3].status = "Unknown".into();
        let after = conditions(&before, at(20));
        let times: Vec<_> =
            after.iter().map(|condition| condition.last_transition_time.as_ref().map(|time| time.0)).collect();
        assert_eq!(times, [Some(at(10)), Some(at(10)), Some(at(10)), Some(at(20))]);
    }

    #[test]
    fn conditions_are_reported_when_they_differ_or_are_old() {
        let interval = Duration::from_secs(300);
        let mut node = build(&settings(&[]));
        assert!(!must_report(&node, interval, at(299)), "fresh and right");
        assert!(must_report(&node, interval, at(300)), "old");
        if let Some(conditions) = node.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            conditions[3].status = "Unknown".into();
        }
        assert!(must_report(&node, interval, at(1)), "written over by the node controller");
    }
}
