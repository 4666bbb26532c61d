//! What a machine is doing, what its BMC holds and shows, and what has happened to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long firmware and loaders take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Timing {
    /// From power-on until the firmware looks for something to boot.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub post: Duration,
    /// From the first byte of the boot media until the agent runs.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub ramdisk_boot: Duration,
    /// From the boot loader on the disk until the operating system runs.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub disk_boot: Duration,
    /// From "off" until the BMC shows it. What runs on the machine stops at once.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub power_off: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            post: Duration::from_secs(3),
            ramdisk_boot: Duration::from_secs(2),
            disk_boot: Duration::from_secs(3),
            power_off: Duration::from_millis(500),
        }
    }
}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub enum Phase {
    /// Off.
    Off,
    /// Off for everything that ran; the BMC shows it from `until` on.
    PoweringOff {
        /// When.
        until: Timestamp,
    },
    /// Power-on self-test; `None`: it hangs there.
    Post {
        /// Its end.
        until: Option<Timestamp>,
    },
    /// The firmware reads the virtual CD.
    LoadingMedia,
    /// The ramdisk's kernel starts.
    BootingRamdisk {
        /// When the agent runs.
        until: Timestamp,
    },
    /// The agent runs.
    Ramdisk,
    /// The disk's kernel starts.
    BootingDisk {
        /// When the operating system runs.
        until: Timestamp,
        /// Which of the disks.
        disk: usize,
    },
    /// The operating system runs.
    Running {
        /// From which of the disks.
        disk: usize,
    },
    /// On, and nothing will happen any more.
    Stuck {
        /// What stands on its screen.
        why: Stuck,
    },
}

/// Why a machine is on and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stuck {
    /// "No bootable device".
    NoBootDevice,
    /// "Kernel panic".
    KernelPanic,
}

/// Power as a BMC shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Shown {
    /// `On`.
    On,
    /// `Off`.
    Off,
    /// `PoweringOff`.
    PoweringOff,
}

/// `BootSourceOverrideEnabled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enabled {
    /// The machine boots as its own order says.
    #[default]
    Disabled,
    /// At the next start only.
    Once,
    /// At every start.
    Continuous,
}

/// `BootSourceOverrideTarget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// As its own order says.
    #[default]
    None,
    /// The virtual CD.
    Cd,
    /// The disks.
    Hdd,
    /// The network; nothing answers there.
    Pxe,
    /// What is at the URL in `HttpBootUri`.
    UefiHttp,
}

/// What the BMC will have the machine boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// For how long.
    pub enabled: Enabled,
    /// What.
    pub target: Target,
}

/// What has happened so far, for tests: nothing here steers anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How often it was switched on.
    pub power_ons: u64,
    /// How often a ramdisk was booted, from the virtual CD or a URL.
    pub media_boots: u64,
    /// How often the firmware went to fetch a URL, instead of reading the virtual CD.
    pub http_boots: u64,
    /// How often the ramdisk started the written system itself.
    pub kexecs: u64,
    /// How often a disk was booted.
    pub disk_boots: u64,
    /// Every wipe, in order: the operation that asked for it.
    pub wipes: Vec<String>,
    /// Every image that was written whole, in order.
    pub images: Vec<WrittenImage>,
}

/// One image that was written whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenImage {
    /// The operation that asked for it.
    pub operation: String,
    /// Which disk.
    pub device: String,
    /// `sha256:` and hex digits, of the bytes on the disk.
    pub digest: String,
}
