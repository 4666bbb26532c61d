//! The trait [`Machine`], on Linux.

use super::disk::{FileDisk, Turn};
use super::kexec;
use super::lldp::Neighbours;
use super::modules::Devices;
use super::net::Links;
use super::programs::Programs;
use super::wipe::wipe_disk;
use super::{Roots, inventory, number, text};
use crate::{BlockDevice, Logs, Machine, MachineError, Progress};
use async_trait::async_trait;
use rackwright_protocol::facts::{Disk, Facts, Nic, WipePolicy, WipedDisk};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long disks may take to show themselves: a shelf that spins up one after the other.
const DISKS: Duration = Duration::from_secs(60);
/// How long a switch may take to say who it is (IEEE 802.1AB: every 30 s by default).
const LLDP: Duration = Duration::from_secs(31);

/// The machine that the ramdisk runs on.
pub struct LinuxMachine {
    roots: Roots,
    devices: Devices,
    links: Links,
    neighbours: Neighbours,
    logs: Logs,
    started: Instant,
    turns: Mutex<HashMap<PathBuf, Turn>>,
    programs: Programs,
    loaded: bool,
}

impl LinuxMachine {
    /// From what watches and listens already.
    pub fn new(roots: Roots, devices: Devices, links: Links, neighbours: Neighbours, logs: Logs) -> LinuxMachine {
        let (started, turns, programs) = (Instant::now(), Mutex::default(), Programs::default());
        LinuxMachine { roots, devices, links, neighbours, logs, started, turns, programs, loaded: false }
    }

    /// True when another kernel waits to be started.
    pub fn has_loaded_kernel(&self) -> bool {
        self.loaded
    }

    async fn look(&self) -> Facts {
        let mut facts = inventory::read(&self.roots);
        let addresses = self.links.addresses().await.unwrap_or_default();
        for nic in &mut facts.nics {
            let Ok(index) = self.links.index(&nic.name) else { continue };
            nic.addresses = addresses.get(&index).cloned().unwrap_or_default();
            self.neighbours.note(index, nic);
        }
        facts
    }

    /// Whose turn it is on the disk at `path`: one for all who ever open it.
    fn turn(&self, path: &Path) -> Turn {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(path.into()).or_default().clone()
    }

    /// Path and logical sectors, bytes, of a disk.
    fn place(&self, device: &str) -> (PathBuf, u64) {
        let name = device.strip_prefix("/dev/").unwrap_or(device);
        let sector = number(self.roots.sys.join("block").join(name).join("queue/logical_block_size"));
        (self.roots.dev.join(name), sector.and_then(|sector| u64::try_from(sector).ok()).unwrap_or(512))
    }

    /// True when a neighbour may still be heard: there is a cable, and what is at its end is no hypervisor's bridge.
    fn awaits_neighbour(&self, nic: &Nic) -> bool {
        let folder = self.roots.sys.join("class/net").join(&nic.name);
        let driver = std::fs::read_link(folder.join("device/driver")).unwrap_or_default();
        let is_virtual = driver.file_name().is_some_and(|name| name == "virtio_net" || name == "hv_netvsc");
        nic.lldp_switch.is_none() && !is_virtual && text(folder.join("carrier")).as_deref() == Some("1")
    }
}

#[async_trait]
impl Machine for LinuxMachine {
    async fn facts(&mut self) -> Result<Facts, MachineError> {
        self.devices.settle(DISKS).await;
        Ok(self.look().await)
    }

    async fn inspect(&mut self) -> Result<Facts, MachineError> {
        loop {
            let facts = self.look().await;
            if self.started.elapsed() >= LLDP || !facts.nics.iter().any(|nic| self.awaits_neighbour(nic)) {
                return Ok(facts);
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn BlockDevice>, MachineError> {
        let (path, sector) = self.place(device);
        Ok(Box::new(FileDisk::open(&path, sector, self.turn(&path)).await?))
    }

    async fn wipe_disk(&self, disk: &Disk, policy: WipePolicy, progress: &Progress) -> Result<WipedDisk, MachineError> {
        let (path, sector) = self.place(&disk.device);
        wipe_disk(&path, disk, sector, self.turn(&path), policy, &self.programs, progress).await
    }

    async fn load_written(&mut self, device: &str) -> Result<(), MachineError> {
        kexec::load_written(&self.roots, &self.programs, device).await?;
        self.loaded = true;
        Ok(())
    }

    fn installer_folder(&self) -> Option<PathBuf> {
        Some("/tmp".into())
    }

    async fn load_installer(&mut self, kernel: &Path, initrd: &Path, command_line: &str) -> Result<(), MachineError> {
        kexec::load(&self.programs, kernel, Some(initrd), command_line).await?;
        self.loaded = true;
        Ok(())
    }

    fn logs(&self) -> Option<Logs> {
        Some(self.logs.clone())
    }
}
