//! NodePool: so many nodes of one kind, on hosts chosen over racks, rolled out carefully.
//!
//! A pool holds hosts by `Host.spec.reservation` and owns the Machines on them directly, as KubeadmControlPlane does,
//! because it decides which host, in which order, and whether in place. `replicas` is written by people and by
//! `rackwright autoscaler`, never by the pool's own controller.

use crate::common::LocalReference;
use crate::config::{NodeTaint, RackwrightConfigSpec};
use crate::machine::{HardwareNeeds, WipeWish};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many nodes of one kind, on hosts chosen over racks.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "NodePool",
    plural = "nodepools",
    shortname = "np",
    namespaced,
    status = "NodePoolStatus",
    derive = "PartialEq",
    category = "rackwright",
    category = "cluster-api",
    doc = "So many nodes of one kind, on hosts chosen over racks, rolled out carefully.",
    label("clusterctl.cluster.x-k8s.io/move", ""),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Up-To-Date", type_ = "integer", json_path = ".status.upToDateReplicas"),
    printcolumn(name = "Spare", type_ = "integer", json_path = ".status.spare"),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout"),
    printcolumn(name = "Waiting-For", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image.name", priority = 1),
    printcolumn(name = "Warm", type_ = "integer", json_path = ".status.warm", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.clusterName == oldSelf.clusterName").message("clusterName cannot change: make a new pool"))]
#[x_kube(validation = Rule::new("!has(self.autoscaling) || (self.replicas >= self.autoscaling.min && self.replicas <= self.autoscaling.max)").message("replicas must lie between autoscaling.min and autoscaling.max"))]
pub struct NodePoolSpec {
    /// Name of the Cluster.
    #[schemars(length(min = 1, max = 63))]
    pub cluster_name: String,
    /// Kubernetes version of its nodes, for example `v1.36.3`.
    #[x_kube(validation = ("self.matches('^v[0-9]+[.][0-9]+[.][0-9]+([-+][0-9A-Za-z.+-]+)?$')", "version must be a Kubernetes version such as v1.36.3"))]
    #[schemars(length(max = 64))]
    pub version: String,
    /// How many nodes.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: i32,
    /// Bounds within which `rackwright autoscaler` may change `replicas`. Absent: it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Where its hosts may stand. Absent: anywhere in this namespace.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<Where>,
    /// Inspected facts that its hosts must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<HardwareNeeds>,
    /// How its nodes are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<PoolSpread>,
    /// OSImage in this namespace.
    pub image: LocalReference,
    /// What becomes of the disks when a host is given back or reimaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<WipeWish>,
    /// How its nodes are set up and join.
    pub bootstrap: PoolBootstrap,
    /// Labels, annotations and taints of its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<PoolNode>,
    /// How its Machines are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// How long a node must be Ready before it counts as available, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_ready_seconds: Option<i32>,
    /// Nothing is rolled out, made or deleted while this is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// How a change of version, image or bootstrap reaches the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How many old revisions are kept that no Machine has, for `kubectl rackwright rollout undo`. Absent: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub revision_history_limit: Option<i32>,
    /// What becomes of its free hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// How many unhealthy Machines may be replaced at once: a count or a percentage of `replicas`. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_remediating: Option<IntOrString>,
    /// Set by Rackwright: lives of hosts that the pool gives up. The autoscaler adds to it in the write that lowers
    /// `replicas`; the pool's controller adds what it replaces or does not need, and takes out what is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub release: Vec<HostLife>,
}

fn one() -> i32 {
    1
}

/// Bounds for the autoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("autoscaling.min must not be above autoscaling.max"))]
pub struct Autoscaling {
    /// Fewest nodes.
    #[schemars(range(min = 0, max = 10_000))]
    pub min: i32,
    /// Most nodes.
    #[schemars(range(min = 0, max = 10_000))]
    pub max: i32,
    /// What makes a node group of its own within the pool. The autoscaler takes all nodes of a group for alike.
    #[serde(default = "class_and_rack")]
    #[schemars(length(max = 2))]
    pub group_by: Vec<GroupBy>,
}

fn class_and_rack() -> Vec<GroupBy> {
    vec![GroupBy::HardwareClass, GroupBy::Rack]
}

/// What makes a node group of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GroupBy {
    /// Hosts of the same processor, memory and accelerators.
    HardwareClass,
    /// Hosts in the same rack.
    Rack,
}

/// Where hosts may stand: every field that is set must hold. An empty selector selects nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Where {
    /// Names of Regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub regions: Vec<String>,
    /// Names of Datacenters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub datacenters: Vec<String>,
    /// Labels of Racks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub racks: Option<LabelSelector>,
    /// Labels of Hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<LabelSelector>,
}

/// How a pool's nodes are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSpread {
    /// Over what.
    #[serde(default)]
    pub over: Domain,
    /// How many more nodes one place may hold than the place with the fewest. Absent: as even as the hosts allow, and
    /// no host is refused for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_skew: Option<i32>,
}

/// What fails together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Domain {
    /// A rack.
    #[default]
    Rack,
    /// A datacenter.
    Datacenter,
    /// All racks on the same power feeds.
    PowerFeed,
    /// All racks on the same switches.
    Switch,
}

/// How nodes are set up and join: set exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.config) != has(self.configTemplateRef)").message("set exactly one of bootstrap.config and bootstrap.configTemplateRef"))]
pub struct PoolBootstrap {
    /// A RackwrightConfig, written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RackwrightConfigSpec>,
    /// A template in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_template_ref: Option<ConfigTemplateReference>,
}

/// Names a template of bootstrap configs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigTemplateReference {
    /// Kind.
    #[serde(default)]
    pub kind: ConfigTemplateKind,
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Templates of bootstrap configs that a pool can use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigTemplateKind {
    /// Ours.
    #[default]
    RackwrightConfigTemplate,
    /// Cluster API's, for kubeadm.
    KubeadmConfigTemplate,
}

/// What a pool's nodes carry. A change reaches the Machines in place; the labels and taints with which a node registers
/// come with its next life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolNode {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Taints that a node registers with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub taints: Vec<NodeTaint>,
}

/// How Machines are deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Which go first when the pool shrinks, after those marked for deletion and the unhealthy, and keeping the spread.
    #[serde(default)]
    pub order: DeletionOrder,
    /// How long a node may be drained, seconds; 0: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub node_drain_timeout_seconds: Option<i32>,
    /// How long volumes may take to be detached, seconds; 0: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub node_volume_detach_timeout_seconds: Option<i32>,
    /// How long the Node may take to be deleted, seconds; 0: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub node_deletion_timeout_seconds: Option<i32>,
}

/// Which Machines go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionOrder {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

/// How a change of version, image or bootstrap reaches the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many nodes may be missing: a count or a percentage of `replicas`, rounded down. Absent: 1 in place, else 0.
    /// When it and maxSurge both come to 0, it is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// How many spare hosts may be used on top: a count or a percentage of `replicas`, rounded up. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Few nodes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What is done when a new revision fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// The rollout stands still; scaling and replacing go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// What becomes of free hosts that the pool could take. Without it they are off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// How many are kept warm: on, with the pool's image on the disk, waiting for what only a claim can tell. They stay
    /// free for everybody and are the first that the pool takes.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub warm: i32,
    /// How long a host that the pool has given back is kept warm, too, before it is switched off, seconds. Absent or 0:
    /// it is off at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub power_off_after_seconds: Option<i64>,
}

/// How a rollout replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The same host is drained, wiped and imaged anew; the pool keeps it all the while.
    #[default]
    InPlace,
    /// A spare host first, then the old one is given back. Without spares: as in place, one by one.
    Surge,
    /// Only when a person deletes a Machine.
    OnDelete,
}

/// Few nodes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The steps, in order; after the last come all the rest.
    #[schemars(length(min = 1, max = 16))]
    pub steps: Vec<CanaryStep>,
    /// How many Machines of the new revision may fail.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_failures: i32,
    /// How long a Machine of the new revision may take to become available, seconds; then it has failed.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 30))]
    pub timeout_seconds: i64,
}

fn an_hour() -> i64 {
    3600
}

/// One step of a canary: so many nodes of the new revision in all. Set one of `count` and `percent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.count) != has(self.percent)").message("a canary step has exactly one of count and percent"))]
pub struct CanaryStep {
    /// Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<i32>,
    /// Percent of `replicas`, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<i32>,
    /// How long they must all have been available before the next step, seconds.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub soak_seconds: i64,
}

/// What is done when a new revision fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// The nodes of the new revision go back to the one before, and the rest are never touched.
    #[default]
    Rollback,
    /// The rollout stands still for a person.
    Pause,
}

/// One life of a host with a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostLife {
    /// Name of the Host.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Identifier of the reservation.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// What Rackwright last saw of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolStatus {
    /// Machines, also those being deleted.
    #[serde(default)]
    pub replicas: i32,
    /// Selects its Machines, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Machines that are Ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Machines that are Available.
    #[serde(default)]
    pub available_replicas: i32,
    /// Machines of the wanted revision.
    #[serde(default)]
    pub up_to_date_replicas: i32,
    /// Replicas without a host.
    #[serde(default)]
    pub unplaced_replicas: i32,
    /// Free hosts that would do.
    #[serde(default)]
    pub spare: i32,
    /// Of these, the ones that are warm: on, with the image on the disk.
    #[serde(default)]
    pub warm: i32,
    /// Where the rollout stands; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// What it waits for; absent when it waits for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Name of the revision that its nodes are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Available`, `RollingOut`, `ScalingUp`, `ScalingDown`, `MachinesReady`, `MachinesUpToDate`, `Remediating`,
    /// `Deleting`, `Paused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
