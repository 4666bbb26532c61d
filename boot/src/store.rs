//! What the service reads and writes: the interface to the Kubernetes API, so that tests can stand in for it.

use crate::session::Place;
use async_trait::async_trait;
use jiff::Timestamp;
use rackwright_api::hardware::{Disk, HostHardwareSpec};
use rackwright_api::host::{AgentStatus, ClaimedImage, Deployed, Host, Wiped};
use std::sync::Arc;

/// Hosts, and what belongs to them.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// True when every cache has been filled once.
    fn is_ready(&self) -> bool;

    /// The host as last seen. May lag behind.
    fn seen(&self, namespace: &str, name: &str) -> Option<Arc<Host>>;

    /// The host as it is now.
    async fn read(&self, namespace: &str, name: &str) -> Result<Option<Arc<Host>>, StoreError>;

    /// Where the host stands.
    fn place(&self, host: &Host) -> Place;

    /// The host with this boot MAC address, as last seen.
    fn by_mac(&self, mac: &str) -> Option<Arc<Host>>;

    /// The image with this digest that some host that was seen is claimed or kept warm for.
    fn claimed_image(&self, digest: &str) -> Option<ClaimedImage>;

    /// Key `value` of a Secret; `None` when there is no such Secret or key.
    async fn user_data(&self, namespace: &str, secret: &str) -> Result<Option<String>, StoreError>;

    /// Writes `status.agent`, unless `host` changed since it was read.
    async fn write_agent(&self, host: &Host, agent: &AgentStatus) -> Result<(), StoreError>;

    /// Writes `spec.deployed` and `spec.wiped`, unless `host` changed since it was read.
    async fn write_results(
        &self,
        host: &Host,
        deployed: Option<&Deployed>,
        wiped: Option<&Wiped>,
    ) -> Result<(), StoreError>;

    /// The disks that the HostHardware of `host` lists; none when there is no HostHardware.
    async fn disks(&self, host: &Host) -> Result<Vec<Disk>, StoreError>;

    /// Writes the HostHardware of `host`.
    async fn write_hardware(&self, host: &Host, hardware: &HostHardwareSpec) -> Result<(), StoreError>;

    /// Writes the log of `host`, in the place of the one before.
    async fn write_log(&self, host: &Host, log: &KeptLog) -> Result<(), StoreError>;
}

/// What an agent said in an operation that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLog {
    /// The operation.
    pub operation_id: String,
    /// What it was, when that is known.
    pub operation_type: Option<String>,
    /// `Done`, `Replaced`, or why it failed.
    pub outcome: String,
    /// When it was over.
    pub at: Timestamp,
    /// Lines.
    pub text: String,
}

/// Why something was not read or written, by what comes next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The object changed since it was read: read it again.
    #[error("the object changed since it was read")]
    Conflict,
    /// The API server does not accept the content: saying it again is of no use.
    #[error("the API server does not accept it: {0}")]
    Invalid(String),
    /// The API server refuses or does not answer: try later.
    #[error("the API server does not answer: {0}")]
    Unavailable(String),
}
