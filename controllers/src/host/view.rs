//! What one pass knows of one host. Plain data, no secret in it.

use jiff::Timestamp;
use rackwright_api::host::{HostSpec, HostStatus};
use rackwright_bmc::System;

/// What one pass knows of one host.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// What people and machines want of it, and what was done to its disks.
    pub spec: HostSpec,
    /// What was recorded last. Only `operation` and `agent` are input: they are recorded intents and reports.
    pub status: HostStatus,
    /// Somebody asked for it to be forgotten.
    pub deleting: bool,
    /// Our finalizer is on it.
    pub held: bool,
    /// Nobody may touch it.
    pub paused: bool,
    /// A person mended it; what they wrote.
    pub repaired: Option<String>,
    /// A person wants it inspected again.
    pub inspect: bool,
    /// Where it stands, or why that cannot be told.
    pub place: Result<Place, Problem>,
    /// A host with the same BMC or boot MAC that goes first.
    pub twin: Option<Twin>,
    /// What its BMC says, or why it says nothing.
    pub bmc: Observed,
    /// Since when it is on although its drive does not hold what it should, as far as this process has seen.
    pub drive_wrong_since: Option<Timestamp>,
    /// What was found in it.
    pub hardware: Option<HardwareSeen>,
    /// Whether the machine that claims it is there.
    pub consumer: Consumer,
    /// The pool whose order keeps it warm is there.
    pub warm_wanted: bool,
    /// For an operation that begins in this pass.
    pub fresh_id: String,
}

/// Where a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of its Datacenter.
    pub datacenter: String,
    /// Name of its Region.
    pub region: String,
    /// Base URL of the boot service.
    pub boot_url: String,
    /// Where firmware fetches media for HTTPBoot, when that is elsewhere.
    pub firmware_url: Option<String>,
}

/// Something a person must put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// CamelCase fact.
    pub reason: &'static str,
    /// One sentence that names the field.
    pub message: String,
}

/// Another host that says it is the same machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its name.
    pub name: String,
    /// What they share, for example `bmc.address`.
    pub field: &'static str,
    /// Why it goes first: `in use`, or `older`.
    pub rank: &'static str,
}

/// What the BMC said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It answered.
    Seen {
        /// Power, boot device, identity.
        system: System,
        /// What is in the drive; read only while an operation runs or is about to begin.
        media: MediaSeen,
    },
    /// It did not, or could not be asked: power is unknown.
    Silent(Problem),
}

impl Observed {
    /// True when the BMC answered.
    pub fn is_seen(&self) -> bool {
        matches!(self, Observed::Seen { .. })
    }
}

/// What is in the virtual drive, compared with what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaSeen {
    /// Not looked at.
    Unread,
    /// There is no drive.
    NoDrive,
    /// Nothing.
    Empty,
    /// The media of the operation that runs.
    Ours,
    /// Something else.
    Other,
}

/// Whether the machine that claims a host is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// Nobody claims it.
    None,
    /// It is there and has chosen this host.
    Present,
    /// It is there and has chosen another host, or none.
    Elsewhere,
    /// It is gone without having released the host.
    Gone,
}

/// What was found in a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareSeen {
    /// The operation that found it.
    pub operation_id: String,
    /// When.
    pub at: Timestamp,
    /// SMBIOS UUID of the machine.
    pub system_uuid: Option<String>,
    /// `UEFI` or `BIOS`.
    pub boot_mode: Option<String>,
    /// What its largest disk holds, bytes.
    pub largest_disk: i64,
}

impl MediaSeen {
    /// True when something is in the drive.
    pub fn is_held(self) -> bool {
        matches!(self, MediaSeen::Ours | MediaSeen::Other)
    }
}
