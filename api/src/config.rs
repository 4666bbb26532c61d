//! RackwrightConfig: how a worker's operating system is set up and joins its cluster
//! (contract "BootstrapConfig", v1beta2).

use crate::common::TemplateMeta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a worker's operating system is set up and joins its cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bootstrap.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "RackwrightConfig",
    plural = "rackwrightconfigs",
    namespaced,
    status = "RackwrightConfigStatus",
    derive = "PartialEq",
    category = "cluster-api",
    doc = "How a worker's operating system is set up and joins its cluster.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = r#".metadata.labels['cluster\.x-k8s\.io/cluster-name']"#
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightConfigSpec {
    /// How the node joins.
    #[serde(default)]
    pub join: Join,
    /// Settings of the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletSettings>,
    /// Kernel parameters, for example `vm.max_map_count: "262144"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = ("self.all(k, k.matches('^[a-z0-9_][a-zA-Z0-9_./-]*$'))", "sysctls: a key is a kernel parameter such as vm.max_map_count"))]
    #[x_kube(validation = ("self.all(k, !self[k].contains('\\n'))", "sysctls: a value is one line"))]
    #[schemars(extend("maxProperties" = 128, "additionalProperties" = short_text()))]
    pub sysctls: BTreeMap<String, ShortText>,
    /// Labels that the node registers with. Only labels that a kubelet may set itself: others are refused by the
    /// NodeRestriction admission of the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = ("self.all(k, !k.contains('kubernetes.io/') || k.startsWith('node.kubernetes.io/') || k.startsWith('kubelet.kubernetes.io/') || k.startsWith('topology.kubernetes.io/'))", "nodeLabels: a kubelet may not set labels under kubernetes.io; put it on the Machine as node-restriction.kubernetes.io/… or node.cluster.x-k8s.io/…"))]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = short_text()))]
    pub node_labels: BTreeMap<String, ShortText>,
    /// Taints that the node registers with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub node_taints: Vec<NodeTaint>,
    /// Files written before the node joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub files: Vec<File>,
    /// Shell commands run before the node joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub before_join: Vec<String>,
    /// Shell commands run after the node joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub after_join: Vec<String>,
    /// Public keys that may log in as root, for break-fix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ssh_authorized_keys: Vec<String>,
    /// Static addresses. Absent: DHCP or router advertisements, as the image has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<StaticNetwork>,
}

/// A value of at most 253 characters. The bound stands in the definition ([`short_text`]): without it the API server
/// takes rules over such values to be too costly and refuses the definition.
pub type ShortText = String;

fn short_text() -> serde_json::Value {
    serde_json::json!({ "type": "string", "maxLength": 253 })
}

/// How a node joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Join {
    /// The kubelet itself, by TLS bootstrap.
    #[default]
    Kubelet,
    /// `kubeadm join`.
    Kubeadm,
}

/// Settings of the kubelet; quantities as Kubernetes writes them (`500m`, `4Gi`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletSettings {
    /// Kept for Kubernetes' own daemons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kube_reserved: BTreeMap<String, String>,
    /// Kept for the operating system's daemons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_reserved: BTreeMap<String, String>,
    /// Hard eviction thresholds, for example `memory.available: 1Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eviction_hard: BTreeMap<String, String>,
    /// Soft eviction thresholds; each needs a grace period.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eviction_soft: BTreeMap<String, String>,
    /// Grace periods of the soft thresholds, for example `memory.available: 90s`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    /// Processes that one pod may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pod_pids_limit: Option<i64>,
    /// Pods that the node may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_pods: Option<i32>,
    /// Size at which a container's log is rotated, for example `50Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_log_max_size: Option<String>,
    /// Rotated logs kept per container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub container_log_max_files: Option<i32>,
    /// Name server addresses of pods; absent: the cluster's default, 10 in the service network.
    #[serde(default, rename = "clusterDNS", skip_serializing_if = "Vec::is_empty")]
    pub cluster_dns: Vec<String>,
    /// More flags, without dashes, for example `v: "4"`. They win over what Rackwright sets, except `provider-id`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = ("!('provider-id' in self)", "kubelet.extraArgs: provider-id is set by Rackwright; without it the Machine never finds its Node"))]
    pub extra_args: BTreeMap<String, String>,
}

/// A taint that the node registers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTaint {
    /// Key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// Not scheduled.
    NoSchedule,
    /// Scheduled only when nothing else is left.
    PreferNoSchedule,
    /// Not scheduled, and evicted.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        }
    }
}

/// A file written before the node joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Absolute path.
    #[x_kube(validation = ("self.startsWith('/')", "files: path must be absolute"))]
    #[schemars(length(min = 2, max = 4096))]
    pub path: String,
    /// Content.
    pub content: String,
    /// `user:group`; root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Octal mode as text, for example `"0600"`; `0644` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.matches('^0?[0-7]{3,4}$')", "files: permissions are octal digits in quotes, for example \"0600\""))]
    #[schemars(length(max = 5))]
    pub permissions: Option<String>,
}

/// Static addresses of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticNetwork {
    /// Interfaces, named by MAC address or name.
    #[schemars(length(min = 1, max = 16))]
    pub interfaces: Vec<StaticInterface>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub name_servers: Vec<String>,
}

/// One interface with static addresses. Jinja is allowed in every field, for example
/// `"10.0.0.{{ ds.meta_data.unit }}/24"`: one config serves many hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticInterface {
    /// Kernel name, for example `eth0`.
    #[schemars(length(min = 1, max = 15))]
    pub name: String,
    /// Addresses with prefix length, for example `10.0.0.7/24`.
    #[schemars(length(min = 1, max = 16))]
    pub addresses: Vec<String>,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Largest packet, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<i32>,
    /// VLAN tag on that interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<i32>,
}

/// How far the bootstrap data is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightConfigStatus {
    /// Contract: what has happened once and stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<ConfigInitialization>,
    /// Contract: Secret with the user-data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub data_secret_name: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `DataSecretAvailable`, `Ready`, `Paused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What has happened once and stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigInitialization {
    /// The Secret is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_secret_created: Option<bool>,
}

/// What RackwrightConfigs are made from.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bootstrap.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "RackwrightConfigTemplate",
    plural = "rackwrightconfigtemplates",
    namespaced,
    derive = "PartialEq",
    category = "cluster-api",
    doc = "What RackwrightConfigs are made from.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightConfigTemplateSpec {
    /// The config to make.
    pub template: RackwrightConfigTemplateResource,
}

/// The config that a template makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightConfigTemplateResource {
    /// Labels and annotations of the config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Spec of the config.
    pub spec: RackwrightConfigSpec,
}
