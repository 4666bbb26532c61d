//! What can happen to a machine, what follows from it, and what it refuses.

use super::{Image, Override, Run};
use crate::faults::Fault;
use rackwright_protocol::plan::ConfigDrive;
use serde::{Deserialize, Serialize};

/// Something that happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The BMC was told to do something.
    Order(Order),
    /// What runs on the machine since that power-on did something.
    Guest(Run, Guest),
    /// Time went by.
    Tick,
    /// Something breaks.
    Break(Fault),
    /// Somebody mended every fault of that kind.
    Heal(Fault),
}

/// An order to the BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Power.
    Reset(Reset),
    /// Puts this URL into the virtual CD drive, in place of what is there.
    Insert(String),
    /// Empties the drive.
    Eject,
    /// Sets the boot override.
    SetBoot(Override),
    /// Sets the URL that [`Target::UefiHttp`](super::Target) fetches.
    SetHttpUri(Option<String>),
    /// Switches the locator light.
    SetLocator(bool),
}

/// `ResetType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reset {
    /// On; does nothing on a machine that is on.
    On,
    /// Off at once.
    ForceOff,
    /// The operating system shuts down and switches off; without one nothing happens.
    GracefulShutdown,
    /// Off at once and on again; a machine that is off is switched on.
    ForceRestart,
}

impl Reset {
    /// All of them, as a BMC lists them.
    pub const ALL: [Reset; 4] = [Reset::On, Reset::ForceOff, Reset::GracefulShutdown, Reset::ForceRestart];
}

/// What firmware, agent or operating system did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guest {
    /// The firmware found a ramdisk on the virtual CD.
    MediaLoaded,
    /// It did not.
    MediaFailed,
    /// The first bytes of an image are on a disk.
    DiskWriting {
        /// Which disk.
        device: String,
    },
    /// A disk was made unbootable.
    DiskBroken {
        /// Which disk.
        device: String,
    },
    /// A whole image is on a disk.
    ImageWritten {
        /// The operation that asked for it.
        operation: String,
        /// Which disk.
        device: String,
        /// What it is.
        image: Image,
    },
    /// A config drive is on a disk.
    DriveWritten {
        /// Which disk.
        device: String,
        /// What it holds.
        drive: ConfigDrive,
    },
    /// All disks are wiped.
    Wiped {
        /// The operation that asked for it.
        operation: String,
    },
    /// It switches the machine off.
    PowerOff,
    /// It starts the system on the disk itself, without a power cycle.
    Kexec,
    /// It dies and leaves the machine on.
    Panic,
}

/// What follows, for whoever drives the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the boot media, from the drive or the network; then say [`Guest::MediaLoaded`] or [`Guest::MediaFailed`].
    LoadMedia {
        /// For this power-on.
        run: Run,
        /// Where it is.
        url: String,
    },
    /// Run the agent of the media that was loaded.
    RunRamdisk {
        /// For this power-on.
        run: Run,
    },
    /// Run the operating system.
    RunSystem {
        /// For this power-on.
        run: Run,
        /// Disk that it booted from.
        device: String,
        /// The config drive on that disk.
        drive: Option<ConfigDrive>,
    },
    /// Stop everything of this power-on, at once.
    PowerCut {
        /// This power-on.
        run: Run,
    },
}

/// Why something did not happen; the machine is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The machine is between on and off.
    #[error("the machine is being switched off")]
    Busy,
    /// The drive is not let go while the machine is on.
    #[error("the drive is in use while the machine is on")]
    DriveInUse,
    /// There is no power to switch on.
    #[error("the power supply does not deliver")]
    NoPower,
    /// That run is over, or is not at this point.
    #[error("the power is gone, or something else runs now")]
    Gone,
    /// The kernel that was loaded does not start.
    #[error("the loaded kernel does not start")]
    DoesNotStart,
    /// No disk of that name.
    #[error("no such disk")]
    NoSuchDisk,
}
