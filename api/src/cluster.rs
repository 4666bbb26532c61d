//! RackwrightCluster: where a cluster's API server answers and over which places it is spread
//! (contract "InfraCluster", v1beta2).

use crate::common::{ApiEndpoint, TemplateMeta};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a cluster's API server answers and over which places it is spread.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "RackwrightCluster",
    plural = "rackwrightclusters",
    namespaced,
    status = "RackwrightClusterStatus",
    derive = "PartialEq",
    category = "cluster-api",
    shortname = "rwc",
    doc = "Where a cluster's API server answers and over which places it is spread.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = r#".metadata.labels['cluster\.x-k8s\.io/cluster-name']"#
    ),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.controlPlaneEndpoint.host"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightClusterSpec {
    /// A virtual address or load balancer in front of the control plane. Absent: the Cluster's own
    /// `spec.controlPlaneEndpoint` is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<ApiEndpoint>,
    /// Places that machines are spread over. Absent: no failure domains are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domains: Option<FailureDomains>,
}

/// Which places are failure domains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureDomains {
    /// Racks or datacenters.
    #[serde(default)]
    pub from: FailureDomainKind,
    /// Labels of the racks or datacenters. An empty selector selects none.
    pub selector: LabelSelector,
}

/// What a failure domain is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FailureDomainKind {
    /// A rack.
    #[default]
    Rack,
    /// A datacenter.
    Datacenter,
}

/// How far the cluster's infrastructure is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightClusterStatus {
    /// Contract: what has happened once and stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialization: Option<ClusterInitialization>,
    /// Contract: places that machines are spread over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub failure_domains: Vec<FailureDomain>,
    /// `EndpointSet`, `FailureDomainsReady`, `Ready`, `Paused`, `Deleting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What has happened once and stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInitialization {
    /// The endpoint is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<bool>,
}

/// One place that machines are spread over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureDomain {
    /// Name of the Rack or Datacenter.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Whether control-plane machines may be placed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<bool>,
    /// What else is known of it, for example its datacenter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What RackwrightClusters are made from.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha1",
    kind = "RackwrightClusterTemplate",
    plural = "rackwrightclustertemplates",
    namespaced,
    derive = "PartialEq",
    category = "cluster-api",
    doc = "What RackwrightClusters are made from.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightClusterTemplateSpec {
    /// The cluster to make.
    pub template: RackwrightClusterTemplateResource,
}

/// The cluster that a template makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RackwrightClusterTemplateResource {
    /// Labels and annotations of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Spec of the cluster.
    pub spec: RackwrightClusterSpec,
}
