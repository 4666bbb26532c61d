//! The machine under the agent: what the agent asks of hardware, and nothing else.
//!
//! Implemented by simulated machines and by the ramdisk. An implementation decides nothing: which disk, which bytes and
//! in which order is the agent's. Every verb may be repeated after a failure.

use crate::{Failure, Logs, Progress, config_drive};
use async_trait::async_trait;
use bytes::Bytes;
use rackwright_protocol::facts::{Disk, Facts, WipePolicy, WipedDisk};
use rackwright_protocol::plan::ConfigDrive;
use std::path::{Path, PathBuf};

/// What is overwritten at both ends of a disk to make it unbootable, bytes.
const END: u64 = 1 << 20;

/// The machine that the agent runs on.
#[async_trait]
pub trait Machine: Send + Sync {
    /// What the machine is made of. Disks that must never be touched (the ramdisk's own media) are not in it.
    async fn facts(&mut self) -> Result<Facts, MachineError>;

    /// Opens one of the disks in [`Facts::disks`] for reading and writing. Changes nothing yet.
    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn BlockDevice>, MachineError>;

    /// Leaves nothing on the disk that firmware would boot: overwrites both ends, where partition tables and boot
    /// sectors stand. What config drives held goes, too.
    async fn make_unbootable(&mut self, device: &str) -> Result<(), MachineError> {
        let mut disk = self.open_disk(device).await?;
        let erased = config_drive::erase(disk.as_mut()).await;
        let (size, end) = (disk.size(), END.min(disk.size()));
        let zeros = Bytes::from(vec![0; usize::try_from(end).unwrap_or_default()]);
        disk.write_at(0, zeros.clone()).await?;
        disk.write_at(size - end, zeros).await?;
        disk.finish().await?;
        erased.map_err(|failure| MachineError(failure.message))
    }

    /// Puts a config drive on `device`, which now holds an image, where the image's operating system finds it at its
    /// first boot. `disk` is that device with its ends held back: what goes there is not on it before all is right.
    async fn write_config_drive(
        &mut self,
        device: &str,
        disk: &mut dyn BlockDevice,
        drive: &ConfigDrive,
    ) -> Result<(), Failure> {
        let _ = device;
        config_drive::place(disk, drive).await
    }

    /// Wipes one of the disks in [`Facts::disks`], while others are being wiped. Success means that it is wiped, and says how
    /// and what was checked.
    async fn wipe_disk(&self, disk: &Disk, policy: WipePolicy, progress: &Progress) -> Result<WipedDisk, MachineError>;

    /// [`Machine::facts`] for a plan that wants nothing else: may take half a minute more, for what only shows with time.
    async fn inspect(&mut self) -> Result<Facts, MachineError> {
        self.facts().await
    }

    /// Loads the kernel of the system that was written to `device`, so that whoever called the agent can start it after
    /// [`Outcome::Done`](crate::Outcome::Done). After an error the machine is switched off instead.
    async fn load_written(&mut self, device: &str) -> Result<(), MachineError> {
        let _ = device;
        Err(MachineError("this machine starts no kernel from a running one".into()))
    }

    /// Folder for an installer's files; `None` when this machine cannot start one.
    fn installer_folder(&self) -> Option<PathBuf> {
        None
    }

    /// Loads an installer, as [`Machine::load_written`] does a system.
    async fn load_installer(&mut self, kernel: &Path, initrd: &Path, command_line: &str) -> Result<(), MachineError> {
        let _ = (kernel, initrd, command_line);
        Err(MachineError("this machine starts no kernel from a running one".into()))
    }

    /// Lines that go to the boot service along with the reports. Simulated machines have none.
    fn logs(&self) -> Option<Logs> {
        None
    }
}

/// One disk, open for reading and writing. A call whose future was dropped is over, done or not, before a later call on
/// the same disk of the machine does anything, also on another `BlockDevice`.
#[async_trait]
pub trait BlockDevice: Send {
    /// What the disk holds, bytes.
    fn size(&self) -> u64;

    /// Its logical sectors, bytes: what partition tables on it count in.
    fn sector(&self) -> u64 {
        512
    }

    /// `length` bytes from `offset`, bytes from the start of the disk. Fewer are an error.
    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError>;

    /// Writes `bytes` at `offset`. An image comes in growing offsets, but for the very start of the disk, which comes
    /// last. What lies in between keeps what it held.
    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError>;

    /// Makes `length` bytes from `offset` read as zeros without sending zeros, on disks that do so for certain; `false`
    /// when this one does not, and then nothing is promised of these bytes. Both are multiples of 4096.
    async fn zero_at(&mut self, offset: u64, length: u64) -> Result<bool, MachineError> {
        let _ = (offset, length);
        Ok(false)
    }

    /// When it returns without an error, everything that was written survives a power cut, and what is read from here on
    /// comes from the disk.
    async fn finish(&mut self) -> Result<(), MachineError>;
}

#[async_trait]
impl<D: BlockDevice + ?Sized> BlockDevice for &mut D {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn sector(&self) -> u64 {
        (**self).sector()
    }

    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError> {
        (**self).read_at(offset, length).await
    }

    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError> {
        (**self).write_at(offset, bytes).await
    }

    async fn zero_at(&mut self, offset: u64, length: u64) -> Result<bool, MachineError> {
        (**self).zero_at(offset, length).await
    }

    async fn finish(&mut self) -> Result<(), MachineError> {
        (**self).finish().await
    }
}

/// The machine could not do it. One sentence for a person, without secrets; the agent gives up and reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);
