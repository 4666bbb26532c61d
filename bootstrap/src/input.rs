//! What user-data is made from. Field names are those of RackwrightConfig, so that an error can name them.
//!
//! Nothing here prints itself: files and commands may hold secrets.

use crate::BootstrapToken;
use std::collections::BTreeMap;

/// Everything that the user-data of one node depends on.
#[derive(Clone)]
pub struct BootstrapInput {
    /// Name of the cluster, for the names inside the kubeconfig.
    pub cluster_name: String,
    /// Where the cluster's API server answers.
    pub api_server: ApiServer,
    /// Certificate(s) of the cluster's CA, PEM.
    pub ca_pem: String,
    /// What the node proves itself with until it has a certificate.
    pub token: BootstrapToken,
    /// Version the node runs, for example `v1.36.3`; absent when the Machine names none.
    pub kubernetes_version: Option<String>,
    /// How it joins.
    pub join: Join,
    /// Service network, for example `10.96.0.0/12`; absent: kubeadm's default, which is that one.
    pub service_cidr: Option<String>,
    /// DNS domain of services; absent: `cluster.local`.
    pub cluster_domain: Option<String>,
    /// Settings of the kubelet.
    pub kubelet: Kubelet,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Labels the node registers with.
    pub node_labels: BTreeMap<String, String>,
    /// Taints the node registers with.
    pub node_taints: Vec<Taint>,
    /// Files written before the node joins.
    pub files: Vec<File>,
    /// Shell commands run before the node joins; each in a shell of its own, the first that fails ends it all.
    pub before_join: Vec<String>,
    /// Shell commands run after the node joined, likewise.
    pub after_join: Vec<String>,
    /// Public keys that may log in as root.
    pub ssh_authorized_keys: Vec<String>,
    /// Static addresses; absent: as the image has it.
    pub network: Option<Network>,
}

/// Where an API server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// DNS name or IP address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl ApiServer {
    /// `host:port`, with brackets round an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How a node joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Join {
    /// The kubelet itself, by TLS bootstrap.
    #[default]
    Kubelet,
    /// `kubeadm join`.
    Kubeadm,
}

/// Settings of the kubelet; quantities and durations as Kubernetes writes them.
#[derive(Clone, Default)]
pub struct Kubelet {
    /// Kept for Kubernetes' own daemons.
    pub kube_reserved: BTreeMap<String, String>,
    /// Kept for the operating system's daemons.
    pub system_reserved: BTreeMap<String, String>,
    /// Hard eviction thresholds.
    pub eviction_hard: BTreeMap<String, String>,
    /// Soft eviction thresholds.
    pub eviction_soft: BTreeMap<String, String>,
    /// Grace periods of the soft thresholds.
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    /// Processes that one pod may have.
    pub pod_pids_limit: Option<i64>,
    /// Pods that the node may run.
    pub max_pods: Option<i32>,
    /// Size at which a container's log is rotated.
    pub container_log_max_size: Option<String>,
    /// Rotated logs kept per container.
    pub container_log_max_files: Option<i32>,
    /// Name servers of pods; empty: address 10 of the service network.
    pub cluster_dns: Vec<String>,
    /// More flags, without dashes; they win over ours, except `provider-id`.
    pub extra_args: BTreeMap<String, String>,
}

/// A taint that a node registers with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value; empty when it has none.
    pub value: String,
    /// Effect.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Clone)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Content, taken to the node unchanged.
    pub content: String,
    /// `user:group`; root when absent.
    pub owner: Option<String>,
    /// Octal mode; `0644` when absent.
    pub permissions: Option<String>,
}

/// Static addresses of a node.
#[derive(Clone, Default)]
pub struct Network {
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Name servers. Jinja is allowed.
    pub name_servers: Vec<String>,
}

/// One interface with static addresses. Jinja expressions on the host's metadata are allowed in addresses and
/// gateway, for example `10.0.0.{{ ds.meta_data.unit }}/24`; jinja statements are not.
#[derive(Clone, Default)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Default gateway.
    pub gateway: Option<String>,
    /// Largest packet, bytes.
    pub mtu: Option<i32>,
    /// VLAN tag on that interface: the addresses then belong to `NAME.TAG`.
    pub vlan: Option<i32>,
}
