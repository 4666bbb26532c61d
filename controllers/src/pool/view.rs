//! What one pass knows of one pool. Plain data.

use jiff::Timestamp;
use rackwright_api::pool::{HostLife, NodePoolSpec, NodePoolStatus};
use rackwright_placement::Refusal;
use std::collections::HashSet;

/// What one pass knows of one pool.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Name.
    pub name: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// What is wanted.
    pub spec: NodePoolSpec,
    /// What was recorded last; output only.
    pub status: NodePoolStatus,
    /// It is being deleted.
    pub deleting: bool,
    /// Our finalizer is on it.
    pub held: bool,
    /// Nobody may touch it.
    pub paused: bool,
    /// The Cluster's infrastructure is there; `None`: no such Cluster.
    pub cluster_ready: Option<bool>,
    /// Name of the revision that the spec describes.
    pub revision: String,
    /// Digest of the image that is written to warm hosts ahead, `None` within when an installer writes it; `None`: there
    /// is no such OSImage.
    pub image_digest: Option<Option<String>>,
    /// Revisions that were recorded.
    pub revisions: Vec<RevisionSeen>,
    /// Every host of the namespace, by name.
    pub hosts: Vec<HostSeen>,
    /// The pool's Machines, by name.
    pub machines: Vec<MachineSeen>,
    /// Names of its RackwrightMachines that have no Machine.
    pub infra: Vec<String>,
}

/// A recorded revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionSeen {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Counted up.
    pub number: i64,
    /// Why it is not to be used, once that is known.
    pub failed: Option<String>,
}

/// A host of the pool's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSeen {
    /// Name.
    pub name: String,
    /// What it fails together with: its rack, or the feeds or switches of its rack, as `spread.over` says.
    pub domains: Vec<String>,
    /// Why the pool cannot take it now; `None`: it is spare.
    pub refusal: Option<Refusal>,
    /// Why it would not do even if it were free.
    pub unfit: Option<Refusal>,
    /// What it has more than is asked for: small hosts are taken first.
    pub surplus: i64,
    /// The pool's hold on it.
    pub life: Option<LifeSeen>,
    /// The order to keep it warm.
    pub warm: Option<WarmSeen>,
}

/// An order to keep a host warm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmSeen {
    /// It is this pool's.
    pub mine: bool,
    /// Digest of the image that is written ahead; `None`: none is.
    pub digest: Option<String>,
    /// Until when, for a host that is kept only for a while.
    pub until: Option<Timestamp>,
    /// Its agent waits.
    pub ready: bool,
}

/// A pool's hold on a host.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeSeen {
    /// Identifier of the reservation.
    pub id: String,
    /// Since when.
    pub at: Timestamp,
    /// What its machine is called: [`machine_name`].
    pub machine: String,
    /// The machine of this life claims the host.
    pub claimed: bool,
    /// The machine of this life gave the host back.
    pub ended: bool,
    /// Why no machine of this life could claim the host now.
    pub unclaimable: Option<Refusal>,
    /// The RackwrightMachine of this life exists.
    pub infra_exists: bool,
}

/// A Machine of the pool.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineSeen {
    /// Name: [`machine_name`] of its life.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The revision that it was made from.
    pub revision: String,
    /// It is being deleted.
    pub deleting: bool,
    /// It has a Node.
    pub has_node: bool,
    /// It is Ready.
    pub ready: bool,
    /// It is Available, and since when.
    pub available: Option<Timestamp>,
    /// A MachineHealthCheck found it unhealthy.
    pub unhealthy: bool,
    /// What its `OwnerRemediated` condition says, when that is False: whose turn it is.
    pub remediation: Option<String>,
    /// A person or the autoscaler marked it to go first.
    pub marked: bool,
    /// What its `UpToDate` condition says.
    pub up_to_date: Option<bool>,
    /// Labels, annotations and timeouts are as the pool says.
    pub propagated: bool,
}

impl PoolView {
    /// Hosts that the pool holds, with their lives.
    pub fn lives(&self) -> impl Iterator<Item = (&HostSeen, &LifeSeen)> {
        self.hosts.iter().filter_map(|host| Some((host, host.life.as_ref()?)))
    }

    /// The Machine of a life.
    pub fn machine_of(&self, life: &LifeSeen) -> Option<&MachineSeen> {
        self.machines
            .binary_search_by(|machine| machine.name.cmp(&life.machine))
            .ok()
            .map(|place| &self.machines[place])
    }
}

/// The lives that a pool is giving up: thousands, when a large pool is emptied.
pub struct Released<'a>(HashSet<(&'a str, &'a str)>);

impl<'a> Released<'a> {
    /// Those of `spec.release`.
    pub fn of(spec: &'a NodePoolSpec) -> Released<'a> {
        Released(spec.release.iter().map(|life| (life.host.as_str(), life.id.as_str())).collect())
    }

    /// True when `life` of `host` is to be given up.
    pub fn has(&self, host: &HostSeen, life: &LifeSeen) -> bool {
        self.0.contains(&(host.name.as_str(), life.id.as_str()))
    }
}

impl HostSeen {
    /// How gladly the pool takes it: its own warm hosts first, those that another pool keeps warm last.
    pub fn coldness(&self) -> u8 {
        match &self.warm {
            _ if self.is_warm() => 0,
            Some(warm) if !warm.mine => 2,
            _ => 1,
        }
    }

    /// True when the pool has ordered that it be kept warm.
    pub fn is_kept_warm(&self) -> bool {
        self.warm.as_ref().is_some_and(|warm| warm.mine)
    }

    /// True when it waits for the pool to claim it.
    pub fn is_warm(&self) -> bool {
        self.warm.as_ref().is_some_and(|warm| warm.mine && warm.ready)
    }

    /// True when the pool could take it now.
    pub fn is_spare(&self) -> bool {
        self.refusal.is_none() && self.life.is_none()
    }
}

impl LifeSeen {
    /// As `spec.release` names it.
    pub fn of(&self, host: &HostSeen) -> HostLife {
        HostLife { host: host.name.clone(), id: self.id.clone() }
    }
}

/// Name of the Machine, RackwrightMachine and bootstrap config of one life: the same for the same life, so that making
/// them twice makes one. At most 63 characters, for it becomes the node's name.
pub fn machine_name(pool: &str, host: &str, id: &str) -> String {
    let short = |text: &str, length: usize| text.chars().take(length).collect::<String>();
    let tail: String = id.chars().filter(|letter| *letter != '-').take(6).collect();
    format!("{}-{}-{tail}", short(pool, 24).trim_end_matches(['-', '.']), short(host, 30).trim_end_matches(['-', '.']))
}
