//! The slice of Cluster API (v1beta2) that we read: lean, so that a cache of ten thousand stays small.
//!
//! Every field is optional here: what core does not say, we do not know. Owners are matched by group, kind and UID,
//! never by apiVersion (core rewrites it on upgrades).

use crate::common::ApiEndpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Cluster API's own group.
pub const CLUSTER_API_GROUP: &str = "cluster.x-k8s.io";
/// Label that names the Cluster an object belongs to.
pub const CLUSTER_NAME_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// Label that picks the objects of one manager (`--watch-filter`).
pub const WATCH_LABEL: &str = "cluster.x-k8s.io/watch-filter";
/// Annotation that stops every controller from touching an object.
pub const PAUSED_ANNOTATION: &str = "cluster.x-k8s.io/paused";
/// Annotation that says somebody else manages the infrastructure.
pub const MANAGED_BY_ANNOTATION: &str = "cluster.x-k8s.io/managed-by";
/// Label of Machines that run a control plane.
pub const CONTROL_PLANE_LABEL: &str = "cluster.x-k8s.io/control-plane";
/// Type of Secrets that Cluster API reads.
pub const SECRET_TYPE: &str = "cluster.x-k8s.io/secret";

/// What we read of a Cluster's spec.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta2",
    kind = "Cluster",
    plural = "clusters",
    namespaced,
    status = "ClusterStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Nobody may touch anything of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Where its API server answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<LooseEndpoint>,
    /// Addresses of pods and services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_network: Option<ClusterNetwork>,
}

/// An endpoint that may not be filled yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LooseEndpoint {
    /// Host, empty when unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Port, 0 when unknown.
    #[serde(default)]
    pub port: i32,
}

impl LooseEndpoint {
    /// The endpoint, once it is known.
    pub fn known(&self) -> Option<ApiEndpoint> {
        (!self.host.is_empty() && self.port > 0).then(|| ApiEndpoint { host: self.host.clone(), port: self.port })
    }
}

/// Addresses of pods and services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    /// Service addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<CidrBlocks>,
    /// DNS domain of services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_domain: Option<String>,
}

/// Blocks of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CidrBlocks {
    /// For example `10.128.0.0/12`.
    #[serde(default)]
    pub cidr_blocks: Vec<String>,
}

/// What we read of a Cluster's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What has happened once and stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<ClusterInitialization>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What has happened once and stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInitialization {
    /// The infrastructure is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_provisioned: Option<bool>,
    /// The first control-plane node is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_initialized: Option<bool>,
}

/// What we read of a Machine's spec.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta2",
    kind = "Machine",
    plural = "machines",
    namespaced,
    status = "MachineStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct MachineSpec {
    /// Name of the Cluster.
    #[serde(default)]
    pub cluster_name: String,
    /// Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Bootstrap data.
    #[serde(default)]
    pub bootstrap: MachineBootstrap,
    /// Its infrastructure machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_ref: Option<KindReference>,
    /// Where it must run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// Provider ID.
    #[serde(default, rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// How long it must be Ready to be Available, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i32>,
    /// How it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<MachineDeletion>,
}

/// How a Machine is deleted; seconds, 0 is without end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineDeletion {
    /// To drain its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_drain_timeout_seconds: Option<i32>,
    /// To detach its volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_volume_detach_timeout_seconds: Option<i32>,
    /// To delete its Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_deletion_timeout_seconds: Option<i32>,
}

/// Names an object of some kind in the same namespace (Cluster API's `ContractVersionedObjectReference`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindReference {
    /// Kind.
    #[serde(default)]
    pub kind: String,
    /// Name.
    #[serde(default)]
    pub name: String,
}

/// A Machine's bootstrap data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineBootstrap {
    /// Its bootstrap config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_ref: Option<KindReference>,
    /// Secret with the user-data, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_secret_name: Option<String>,
}

/// What we read of a Machine's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Its Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<NodeReference>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Names a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReference {
    /// Name of the Node.
    #[serde(default)]
    pub name: String,
}

/// The owner of `kind` in Cluster API's group, whatever version its reference names.
pub fn owner<'a>(meta: &'a ObjectMeta, kind: &str) -> Option<&'a OwnerReference> {
    meta.owner_references
        .as_deref()
        .unwrap_or_default()
        .iter()
        .find(|owner| owner.kind == kind && owner.api_version.split('/').next() == Some(CLUSTER_API_GROUP))
}

/// The owner that controls an object, whatever its kind.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_deref().unwrap_or_default().iter().find(|owner| owner.controller == Some(true))
}

impl Cluster {
    /// True once its infrastructure is there.
    pub fn infrastructure_provisioned(&self) -> bool {
        let initialization = self.status.as_ref().and_then(|status| status.initialization.as_ref());
        initialization.and_then(|initialization| initialization.infrastructure_provisioned).unwrap_or_default()
    }
}

/// True when an object, or the Cluster it belongs to, is paused.
pub fn is_paused(meta: &ObjectMeta, cluster: Option<&Cluster>) -> bool {
    let annotated = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(PAUSED_ANNOTATION));
    annotated || cluster.is_some_and(|cluster| cluster.spec.paused == Some(true))
}
