//! What one pass knows of one cluster. Plain data.

use rackwright_api::cluster::{FailureDomain, RackwrightClusterSpec, RackwrightClusterStatus};
use rackwright_api::common::ApiEndpoint;

/// What one pass knows of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// What it wants.
    pub spec: RackwrightClusterSpec,
    /// What was recorded last; only the latched `provisioned` is input.
    pub status: RackwrightClusterStatus,
    /// It is being deleted.
    pub deleting: bool,
    /// Our finalizer is on it.
    pub held: bool,
    /// Nobody may touch it.
    pub paused: bool,
    /// Somebody else manages it (`cluster.x-k8s.io/managed-by`).
    pub managed_elsewhere: bool,
    /// A Cluster owns it.
    pub owned: bool,
    /// The endpoint on that Cluster.
    pub cluster_endpoint: Option<ApiEndpoint>,
    /// Places that its selector selects, sorted by name.
    pub places: Vec<FailureDomain>,
    /// RackwrightMachines of it that still exist.
    pub machines: usize,
}
