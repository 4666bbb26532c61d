//! What a pass may use besides the object it is about.

use crate::bootstrap_config::Workloads;
use crate::caches::Caches;
use crate::events::Events;
use crate::host::credentials::Credentials;
use crate::host::pace::{PowerOrders, Since};
use crate::infra::machine::reserve::Reservations;
use crate::kubeio::OwnWrites;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use rackwright_bmc::Connect;
use rackwright_protocol::token::BootKey;
use std::sync::Arc;

/// Tells the time. Deciding functions are handed its answer, never the clock itself.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// A new random identifier.
    fn fresh_id(&self) -> String;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fresh_id(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// What every pass of every kind may use.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What was last seen of every kind that is watched.
    pub caches: Caches,
    /// Writes of this process that a cache may not show yet.
    pub own_writes: OwnWrites,
    /// The time, and identifiers.
    pub clock: Arc<dyn Clock>,
    /// How long things may take.
    pub limits: Limits,
    /// Events for people.
    pub events: Events,
    /// How BMCs are reached.
    pub bmcs: Arc<dyn Connect>,
    /// Credentials and authorities of BMCs, held for a short while.
    pub credentials: Credentials,
    /// The key that media and tokens are made with.
    pub boot_key: BootKey,
    /// Power orders given a moment ago.
    pub power_orders: PowerOrders,
    /// Drives that do not hold what they should.
    pub wrong_drives: Since,
    /// Progress told a moment ago.
    pub progress_told: Since,
    /// Hosts that a machine has chosen a moment ago.
    pub reservations: Reservations,
    /// Workload clusters, and the join tokens seen there.
    pub workloads: Workloads,
}

impl Context {
    /// A context of a process that has just begun: it remembers nothing.
    pub fn new(
        client: Client,
        caches: Caches,
        clock: Arc<dyn Clock>,
        limits: Limits,
        bmcs: Arc<dyn Connect>,
        boot_key: BootKey,
    ) -> Context {
        Context {
            events: Events::new(client.clone(), "rackwright"),
            client,
            caches,
            own_writes: Default::default(),
            clock,
            limits,
            bmcs,
            credentials: Default::default(),
            boot_key,
            power_orders: Default::default(),
            wrong_drives: Default::default(),
            progress_told: Default::default(),
            reservations: Default::default(),
            workloads: Default::default(),
        }
    }
}

/// How long things may take, and how often they are looked at.
#[derive(Clone, Debug)]
pub struct Limits {
    /// One try of an inspection, deployment or wipe, from the first act to the last; beside the time that disks take for a wipe.
    pub operation: SignedDuration,
    /// From "switch on" (or off) until the BMC shows it.
    pub power: SignedDuration,
    /// From the start of a host until its ramdisk must have called home: the longest power-on self-test, and some more.
    pub call_home: SignedDuration,
    /// How long nothing may be heard of an agent before its host is begun anew. Installers say nothing, and are not meant.
    pub agent_silence: SignedDuration,
    /// From a claim of a warm host until its agent must have taken the deployment over.
    pub hand_over: SignedDuration,
    /// How long a host is warm before it is prepared anew: that an agent still waits is not asked in between, and its
    /// ramdisk and its authorities grow old.
    pub warm: SignedDuration,
    /// Between two power orders to the same effect.
    pub power_repeat: SignedDuration,
    /// Tries of an operation before the host is given to a person.
    pub attempts: i32,
    /// Pause before an operation is tried again that failed for a reason a person must mend (image, user-data).
    pub retry: SignedDuration,
    /// Between two looks at a host on which nothing is being done.
    pub poll_idle: SignedDuration,
    /// Between two looks at a host on which something is being done.
    pub poll_busy: SignedDuration,
    /// Between two tries to reach a BMC that does not answer.
    pub poll_unreachable: SignedDuration,
    /// How long an operation's inner steps are not told in the status.
    pub quiet: SignedDuration,
    /// Between two writes of how far an agent is.
    pub progress: SignedDuration,
    /// How long an empty drive may be seen under a host whose ramdisk has not called home yet: it may run from memory.
    /// And how long a drive is told to let go of its media under a host that runs its system already.
    pub drive: SignedDuration,
    /// From the release of a machine's host until the machine may go although the host is not wiped.
    pub release: SignedDuration,
    /// Life of a join token; it is renewed when half of it is over, as long as its machine has no node.
    pub join_token: SignedDuration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            operation: SignedDuration::from_mins(30),
            power: SignedDuration::from_mins(3),
            call_home: SignedDuration::from_mins(15),
            agent_silence: SignedDuration::from_mins(10),
            hand_over: SignedDuration::from_secs(30),
            warm: SignedDuration::from_hours(24),
            power_repeat: SignedDuration::from_secs(10),
            attempts: 3,
            retry: SignedDuration::from_mins(5),
            poll_idle: SignedDuration::from_secs(60),
            poll_busy: SignedDuration::from_secs(2),
            poll_unreachable: SignedDuration::from_secs(30),
            quiet: SignedDuration::from_secs(60),
            progress: SignedDuration::from_secs(30),
            drive: SignedDuration::from_secs(60),
            release: SignedDuration::from_hours(2),
            join_token: SignedDuration::from_mins(30),
        }
    }
}
