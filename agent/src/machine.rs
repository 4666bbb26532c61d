//! The machine under the agent: what the agent asks of hardware, and nothing else.
//!
//! Implemented by simulated machines and by the ramdisk. An implementation decides nothing: which disk, which bytes and
//! in which order is the agent's. Every verb may be repeated after a failure.

use async_trait::async_trait;
use rackwright_protocol::facts::{Facts, WipePolicy, WipedDisk};
use rackwright_protocol::plan::ConfigDrive;

/// The machine that the agent runs on.
#[async_trait]
pub trait Machine: Send {
    /// What the machine is made of. Disks that must never be touched (the ramdisk's own media) are not in it.
    async fn facts(&mut self) -> Result<Facts, MachineError>;

    /// Opens one of the disks in [`Facts::disks`] for writing. Changes nothing yet.
    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn DiskWriter>, MachineError>;

    /// Leaves nothing on the disk that firmware would boot: overwrites both ends, where partition tables and boot
    /// sectors stand.
    async fn make_unbootable(&mut self, device: &str) -> Result<(), MachineError>;

    /// Puts a NoCloud config drive (label `cidata`) on a disk that now holds an image, where the image's operating
    /// system finds it at its first boot. Replaces an earlier one.
    async fn write_config_drive(&mut self, device: &str, drive: &ConfigDrive) -> Result<(), MachineError>;

    /// Wipes all disks of [`Facts::disks`]. Success means every one of them was wiped, and says how.
    async fn wipe(&mut self, policy: WipePolicy) -> Result<Vec<WipedDisk>, MachineError>;
}

/// One disk, open for writing.
#[async_trait]
pub trait DiskWriter: Send {
    /// Writes `bytes` at `offset`, bytes from the start of the disk. Offsets grow from call to call, except that the
    /// very start of the disk comes last. What lies in between keeps what it held.
    async fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MachineError>;

    /// When it returns without an error, everything that was written survives a power cut.
    async fn finish(&mut self) -> Result<(), MachineError>;
}

/// The machine could not do it. One sentence for a person, without secrets; the agent gives up and reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);
