//! What one pass knows of one machine. Plain data.

use jiff::Timestamp;
use rackwright_api::OSImage;
use rackwright_api::host::{Broken, Claim, Phase, WipeOrder};
use rackwright_api::machine::{MachineAddress, ProviderId, RackwrightMachineSpec, RackwrightMachineStatus};
use rackwright_placement::Candidate;
use std::sync::Arc;

/// What one pass knows of one machine.
#[derive(Clone, Debug)]
pub struct MachineView {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// What it wants.
    pub spec: RackwrightMachineSpec,
    /// What was recorded last; output only.
    pub status: RackwrightMachineStatus,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// Our finalizer is on it.
    pub held: bool,
    /// Nobody may touch it.
    pub paused: bool,
    /// A NodePool made it, and chooses its host.
    pub pooled: bool,
    /// The Machine that owns it.
    pub owner: Option<OwnerSeen>,
    /// The Cluster it belongs to.
    pub cluster: Option<ClusterSeen>,
    /// The image it wants, when that exists.
    pub image: Option<Arc<OSImage>>,
    /// What the image's installer is told by a person; looked for only while no host is claimed.
    pub answers: AnswersSeen,
    /// The host it has chosen, as that host is now.
    pub host: HostSeen,
    /// Hosts it could choose; looked for only when it has chosen none and is ready to.
    pub candidates: Vec<Candidate>,
}

/// A person's own answers for an installer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AnswersSeen {
    /// The image names none.
    #[default]
    None,
    /// This is what the ConfigMap says.
    Text(String),
    /// There are none where the image says; why not.
    Missing(String),
}

/// The Machine that owns a RackwrightMachine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerSeen {
    /// Secret with the user-data, once it is there.
    pub data_secret: Option<String>,
    /// Where it must run.
    pub failure_domain: Option<String>,
    /// Its Node.
    pub node: Option<String>,
}

/// The Cluster a machine belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSeen {
    /// Name.
    pub name: String,
    /// Its infrastructure is there.
    pub infrastructure_provisioned: bool,
}

/// The host that a machine has chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum HostSeen {
    /// None.
    NotChosen,
    /// The provider ID is not one of this machine's.
    Foreign(String),
    /// Chosen, but the host does not exist (any more).
    Missing(ProviderId),
    /// Chosen, and there.
    There(Box<Chosen>),
}

impl MachineView {
    /// True when `claim` is this machine's.
    pub fn holds(&self, claim: Option<&Claim>) -> bool {
        let id = self.spec.provider_id.as_deref().unwrap_or_default();
        claim.is_some_and(|claim| claim.is_held_by(&self.namespace, &self.name, id))
    }
}

/// A chosen host, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Where it is and whose.
    pub id: ProviderId,
    /// Who claims it.
    pub claim: Option<Claim>,
    /// The order to wipe it after this machine, when that stands.
    pub wipe: Option<WipeOrder>,
    /// That order is fulfilled.
    pub wiped: bool,
    /// The machine's image is on the disk.
    pub deployed: bool,
    /// It can be claimed now; why not otherwise.
    pub claimable: Result<(), String>,
    /// It waits for a person.
    pub broken: Option<Broken>,
    /// Where it is in its life.
    pub phase: Option<Phase>,
    /// Its `Ready` condition's reason and message, when not ready.
    pub troubles: Option<(String, String)>,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// Failure domain: its rack, or its datacenter where the cluster says so.
    pub failure_domain: String,
    /// Addresses.
    pub addresses: Vec<MachineAddress>,
}
