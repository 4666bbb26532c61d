//! What one pass knows of one config. Plain data, no secret: what may not be printed is in `observe::Handles`.

use super::grants::Grant;
use jiff::Timestamp;
use rackwright_api::config::RackwrightConfigStatus;

/// What one pass knows of one config.
#[derive(Clone, Debug)]
pub struct ConfigView {
    /// Name of the config, and of the Secret it gives.
    pub name: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// What was recorded last; input is only what is latched: that the data is there, its name, its generation.
    pub status: RackwrightConfigStatus,
    /// When it was made.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// Nobody may touch it.
    pub paused: bool,
    /// The Machine that owns it.
    pub machine: Option<MachineView>,
    /// The Cluster it belongs to.
    pub cluster: Option<ClusterView>,
    /// End of the token's life, if this process has seen it and it is not over.
    pub token_seen_until: Option<Timestamp>,
    /// What costs requests to read; `None` as long as `decide::gate` has an answer without it.
    pub further: Option<Further>,
}

impl ConfigView {
    /// The Secret that was published, which never changes again.
    pub fn published(&self) -> Option<&str> {
        let created = self.status.initialization.as_ref().and_then(|once| once.data_secret_created);
        self.status.data_secret_name.as_deref().filter(|_| created == Some(true))
    }
}

/// What matters of a Machine.
#[derive(Clone, Debug, Default)]
pub struct MachineView {
    /// It runs a control plane.
    pub control_plane: bool,
    /// The Secret it took its data from.
    pub data_secret_name: Option<String>,
    /// Its Node is there.
    pub joined: bool,
    /// It is being deleted.
    pub deleting: bool,
}

/// What matters of a Cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Its infrastructure is there.
    pub infrastructure_provisioned: bool,
    /// Its first control-plane node is there.
    pub control_plane_initialized: bool,
    /// Where its API server answers is known.
    pub endpoint_known: bool,
}

/// What was read of the workload cluster and of the Secret.
#[derive(Clone, Debug)]
pub struct Further {
    /// Rights that nodes still lack in the workload cluster, or why that cluster could not be asked.
    pub workload: Result<Vec<&'static Grant>, Problem>,
    /// The Secret with the data.
    pub data: Data,
    /// The token in the workload cluster.
    pub token: Token,
}

/// The Secret with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none.
    Absent,
    /// Ours, with the token that its node proves itself with.
    Ours,
    /// Ours, but the token was taken out of it.
    Spoiled,
    /// A Secret of that name that is not this config's.
    Foreign,
}

/// The token in the workload cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// There is none (or nobody looked, because there is no data yet).
    Absent,
    /// The one that is in our Secret, good until then.
    Until(Timestamp),
    /// Its public half is taken by a token with another secret half.
    Taken,
}

/// What keeps something from being done, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// CamelCase fact.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}
