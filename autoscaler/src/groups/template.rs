//! The Node that a host of a group would become, as the raw protobuf that the autoscaler decodes.
//!
//! Without the `k8s` envelope, and complete: capacity, allocatable, labels, taints, Ready. Kubelet's hostname label is
//! the autoscaler's own.

use super::hardware;
use super::inventory::{HostEntry, PoolEntry};
use k8s_pb::api::core::v1::{Node, NodeCondition, NodeSpec, NodeStatus, Taint};
use k8s_pb::apimachinery::pkg::api::resource::Quantity;
use k8s_pb::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prost::Message;
use rackwright_api::POOL_LABEL;
use std::collections::BTreeMap;

/// Annotation of a template: the group's id.
pub const NODE_GROUP: &str = "rackwright.dev/node-group";
/// What a node has, or what its kubelet keeps back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of ephemeral storage.
    pub storage: u64,
    /// Accelerators by resource name, for example `nvidia.com/gpu`.
    pub accelerators: BTreeMap<String, u32>,
}

impl Capacity {
    fn without(&self, reserved: &Capacity) -> Capacity {
        Capacity {
            cpu_milli: self.cpu_milli.saturating_sub(reserved.cpu_milli),
            memory: self.memory.saturating_sub(reserved.memory),
            storage: self.storage.saturating_sub(reserved.storage),
            accelerators: self.accelerators.clone(),
        }
    }

    fn quantities(&self, pods: i32) -> BTreeMap<String, Quantity> {
        let mut all: Vec<(String, String)> = vec![
            ("cpu".into(), format!("{}m", self.cpu_milli)),
            ("memory".into(), self.memory.to_string()),
            ("ephemeral-storage".into(), self.storage.to_string()),
            ("pods".into(), pods.to_string()),
        ];
        all.extend(self.accelerators.iter().map(|(name, count)| (name.clone(), count.to_string())));
        all.into_iter().map(|(name, text)| (name, Quantity { string: Some(text) })).collect()
    }
}

/// The bytes of the Node that `host` would become in `pool`.
pub(super) fn encode(pool: &PoolEntry, group: &str, host: &HostEntry) -> Vec<u8> {
    let mut labels = host.labels.clone();
    labels.extend([("kubernetes.io/arch".into(), host.arch.clone()), ("kubernetes.io/os".into(), "linux".into())]);
    labels.insert(POOL_LABEL.into(), pool.name.clone());
    labels.extend(pool.labels.clone());
    let (pods, reserved) =
        (hardware::pods(pool.kubelet.as_ref()), hardware::reserved(pool.kubelet.as_ref(), &host.capacity));
    let taint = |(key, value, effect): &(String, String, String)| Taint {
        key: Some(key.clone()),
        value: Some(value.clone()),
        effect: Some(effect.clone()),
        ..Taint::default()
    };
    let ready = NodeCondition { r#type: Some("Ready".into()), status: Some("True".into()), ..NodeCondition::default() };
    Node {
        metadata: Some(ObjectMeta {
            name: Some(format!("template-{}", pool.name)),
            labels: labels.into_iter().collect(),
            annotations: [(NODE_GROUP.to_owned(), group.to_owned())].into_iter().collect(),
            ..ObjectMeta::default()
        }),
        spec: Some(NodeSpec { taints: pool.taints.iter().map(taint).collect(), ..NodeSpec::default() }),
        status: Some(NodeStatus {
            capacity: host.capacity.quantities(pods).into_iter().collect(),
            allocatable: host.capacity.without(&reserved).quantities(pods).into_iter().collect(),
            conditions: vec![ready],
            ..NodeStatus::default()
        }),
    }
    .encode_to_vec()
}
