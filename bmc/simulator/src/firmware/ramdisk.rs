//! The hardware as the agent in the ramdisk meets it. Bytes really arrive at a disk and are really hashed there; what is
//! kept is their digest and number, and the config drive.

use crate::faults::Fault;
use crate::host::{Host, folder};
use crate::machine::{Guest, Image, Run};
use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use rackwright_agent::{BlockDevice, Failure, Machine, MachineError, Progress};
use rackwright_protocol::facts::{Disk, Facts, WipePolicy, WipedDisk};
use rackwright_protocol::plan::ConfigDrive;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Read at a time when a disk is hashed, bytes.
const PIECE: usize = 256 * 1024;

/// One machine during one run of the ramdisk.
pub struct Ramdisk {
    host: Arc<Host>,
    run: Run,
    operation: String,
    loaded: bool,
}

impl Ramdisk {
    pub fn new(host: Arc<Host>, run: Run, operation: &str) -> Ramdisk {
        Ramdisk { host, run, operation: operation.into(), loaded: false }
    }

    /// True when the written system's kernel is loaded, to be started once the agent is done.
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    fn tell(&self, guest: Guest) -> Result<(), MachineError> {
        tell(&self.host, self.run, guest)
    }
}

#[async_trait]
impl Machine for Ramdisk {
    async fn facts(&mut self) -> Result<Facts, MachineError> {
        Ok(self.host.spec.facts.clone())
    }

    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn BlockDevice>, MachineError> {
        let facts = self.host.spec.facts.disks.iter().find(|disk| disk.device == device);
        let size = facts.ok_or_else(|| MachineError(format!("there is no {device}")))?.size_bytes;
        let folder = folder(&self.host.site.config.state_dir, &self.host.spec.name);
        // Without a name: whatever ends this run, the bytes are gone with it.
        let file = std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder)).map_err(failed)?;
        let (host, run, operation) = (self.host.clone(), self.run, self.operation.clone());
        let size = u64::try_from(size).unwrap_or(0);
        Ok(Box::new(Writer { host, run, operation, device: device.into(), file, size, end: 0, has_start: false }))
    }

    async fn make_unbootable(&mut self, device: &str) -> Result<(), MachineError> {
        self.tell(Guest::DiskBroken { device: device.into() })?;
        self.host.forget_root(self.run);
        Ok(())
    }

    /// What an operating system would make of it is what counts here: the bytes are the agent's own tests' to check.
    async fn write_config_drive(
        &mut self,
        device: &str,
        _disk: &mut dyn BlockDevice,
        drive: &ConfigDrive,
    ) -> Result<(), Failure> {
        self.tell(Guest::DriveWritten { device: device.into(), drive: drive.clone() })
            .map_err(|why| Failure::new("ConfigDriveFailed", format!("{device}: {why}")))
    }

    /// A simulated machine is wiped as a whole, with its last disk.
    async fn load_written(&mut self, _device: &str) -> Result<(), MachineError> {
        self.loaded = true;
        Ok(())
    }

    async fn wipe_disk(
        &self,
        disk: &Disk,
        policy: WipePolicy,
        _progress: &Progress,
    ) -> Result<WipedDisk, MachineError> {
        if self.host.spec.facts.disks.last().is_none_or(|last| last.device == disk.device) {
            self.tell(Guest::Wiped { operation: self.operation.clone() })?;
            self.host.forget_root(self.run);
        }
        let method = match policy {
            WipePolicy::Metadata => "metadata",
            WipePolicy::Discard => "discard",
            WipePolicy::SecureErase => "secure-erase",
            WipePolicy::Overwrite => "overwrite",
        };
        Ok(WipedDisk {
            device: disk.device.clone(),
            serial: disk.serial.clone(),
            method: method.into(),
            size_bytes: Some(disk.size_bytes),
            ..WipedDisk::default()
        })
    }
}

/// One disk, open for writing.
struct Writer {
    host: Arc<Host>,
    run: Run,
    operation: String,
    device: String,
    file: File,
    /// What the disk holds, bytes.
    size: u64,
    /// Behind the last byte that was written.
    end: u64,
    /// True when the very start was written: it comes last, and makes the disk bootable.
    has_start: bool,
}

impl Writer {
    /// The end of that many bytes at `offset`, if the disk has it.
    fn check(&self, offset: u64, length: u64) -> Result<u64, MachineError> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        end.ok_or_else(|| MachineError(format!("{} holds {} bytes", self.device, self.size)))
    }
}

#[async_trait]
impl BlockDevice for Writer {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError> {
        self.check(offset, length as u64)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        // Behind the end of the file the disk holds zeros.
        while filled < length {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(failed)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(bytes.into())
    }

    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError> {
        let end = self.check(offset, bytes.len() as u64)?;
        tell(&self.host, self.run, Guest::DiskWriting { device: self.device.clone() })?;
        if self.host.faults().has(Fault::AgentDies) {
            tell(&self.host, self.run, Guest::Panic)?;
            // The kernel is dead: nothing goes on until the power is cut.
            std::future::pending::<()>().await;
        }
        // Into the page cache, a MiB at a time: quicker than handing it to another thread.
        self.file.write_all_at(&bytes, offset).map_err(failed)?;
        self.end = self.end.max(end);
        self.has_start |= offset == 0 && !bytes.is_empty();
        Ok(())
    }

    /// The file is new: what was not written holds zeros.
    async fn zero_at(&mut self, offset: u64, length: u64) -> Result<bool, MachineError> {
        self.end = self.end.max(self.check(offset, length)?);
        Ok(true)
    }

    async fn finish(&mut self) -> Result<(), MachineError> {
        if !self.has_start {
            return Ok(());
        }
        let file = self.file.try_clone().map_err(failed)?;
        let digest = tokio::task::spawn_blocking(move || sha256(file)).await.map_err(failed)?.map_err(failed)?;
        let image = Image { digest, size: self.end };
        let (operation, device) = (self.operation.clone(), self.device.clone());
        tell(&self.host, self.run, Guest::ImageWritten { operation, device, image })
    }
}

fn tell(host: &Arc<Host>, run: Run, guest: Guest) -> Result<(), MachineError> {
    if host.guest(run, guest) { Ok(()) } else { Err(MachineError("the power is gone".into())) }
}

fn failed(why: impl std::fmt::Display) -> MachineError {
    MachineError(why.to_string())
}

/// Digest of everything in `file`; places that were never written count as zeros, as on a new disk.
fn sha256(mut file: File) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut piece) = (Context::new(&SHA256), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finish()))),
            read => hash.update(&piece[..read]),
        }
    }
}
