//! A machine that remembers what was done to it.

use async_trait::async_trait;
use bytes::Bytes;
use rackwright_agent::{BlockDevice, Failure, Machine, MachineError, Progress};
use rackwright_protocol::facts::{Disk, Facts, Nic, WipePolicy, WipedDisk};
use rackwright_protocol::plan::ConfigDrive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The MAC address of every fake machine.
pub const MAC: &str = "52:54:00:00:00:01";
/// Its first disk.
pub const DISK: &str = "/dev/vda";
/// Size of its disks, bytes.
pub const DISK_SIZE: usize = 8 << 20;

/// A machine that remembers what was done to it.
pub struct FakeMachine {
    pub facts: Facts,
    /// Content of the first disk; at first the remains of another system.
    pub disk: Arc<Mutex<Vec<u8>>>,
    /// What was done, in order.
    pub acts: Arc<Mutex<Vec<String>>>,
    /// The config drive, when there is one.
    pub drive: Option<ConfigDrive>,
    /// An act that fails.
    pub fails: Option<&'static str>,
    /// How long a wipe of a disk takes.
    pub slow: Duration,
    /// A disk that shows itself from the second look on.
    pub late: Option<Disk>,
}

impl FakeMachine {
    pub fn new() -> FakeMachine {
        let disk = Disk { device: DISK.into(), size_bytes: DISK_SIZE as i64, ..Disk::default() };
        let nic = Nic { name: "eth0".into(), mac: MAC.to_uppercase(), ..Nic::default() };
        FakeMachine {
            facts: Facts { disks: vec![disk], nics: vec![nic], memory_mib: 1024, ..Facts::default() },
            disk: Arc::new(Mutex::new(vec![0xee; DISK_SIZE])),
            acts: Arc::default(),
            drive: None,
            fails: None,
            slow: Duration::ZERO,
            late: None,
        }
    }

    /// What was done, in order.
    pub fn acts(&self) -> Vec<String> {
        self.acts.lock().expect("not poisoned").clone()
    }

    /// True when firmware finds nothing at the start of the disk.
    pub fn is_unbootable(&self) -> bool {
        self.disk.lock().expect("not poisoned")[..512].iter().all(|byte| *byte == 0)
    }

    /// The first bytes of the disk.
    pub fn content(&self, length: usize) -> Vec<u8> {
        self.disk.lock().expect("not poisoned")[..length].to_vec()
    }

    fn act(&self, act: String) -> Result<(), MachineError> {
        let fails = self.fails.is_some_and(|fails| act.starts_with(fails));
        self.acts.lock().expect("not poisoned").push(act.clone());
        if fails { Err(MachineError(format!("{act} does not work"))) } else { Ok(()) }
    }
}

#[async_trait]
impl Machine for FakeMachine {
    async fn facts(&mut self) -> Result<Facts, MachineError> {
        let found = self.facts.clone();
        self.facts.disks.extend(self.late.take());
        Ok(found)
    }

    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn BlockDevice>, MachineError> {
        self.act(format!("open {device}"))?;
        Ok(Box::new(FakeDisk { content: self.disk.clone(), acts: self.acts.clone(), fails: self.fails }))
    }

    async fn make_unbootable(&mut self, device: &str) -> Result<(), MachineError> {
        self.act(format!("make unbootable {device}"))?;
        self.disk.lock().expect("not poisoned")[..1 << 20].fill(0);
        Ok(())
    }

    async fn write_config_drive(
        &mut self,
        device: &str,
        disk: &mut dyn BlockDevice,
        drive: &ConfigDrive,
    ) -> Result<(), Failure> {
        assert_eq!(disk.size(), DISK_SIZE as u64);
        self.act(format!("config drive {device}")).map_err(|why| Failure::new("ConfigDriveFailed", why.to_string()))?;
        self.drive = Some(drive.clone());
        Ok(())
    }

    async fn wipe_disk(&self, disk: &Disk, policy: WipePolicy, _: &Progress) -> Result<WipedDisk, MachineError> {
        self.act(format!("wipe {} {policy:?}", disk.device))?;
        tokio::time::sleep(self.slow).await;
        Ok(WipedDisk { device: disk.device.clone(), method: "zeros".into(), ..WipedDisk::default() })
    }
}

struct FakeDisk {
    content: Arc<Mutex<Vec<u8>>>,
    acts: Arc<Mutex<Vec<String>>>,
    fails: Option<&'static str>,
}

#[async_trait]
impl BlockDevice for FakeDisk {
    fn size(&self) -> u64 {
        DISK_SIZE as u64
    }

    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError> {
        let start = usize::try_from(offset).expect("a small disk");
        Ok(Bytes::copy_from_slice(&self.content.lock().expect("not poisoned")[start..start + length]))
    }

    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError> {
        self.acts.lock().expect("not poisoned").push(format!("write {} at {offset}", bytes.len()));
        if self.fails == Some("write") {
            return Err(MachineError("the disk is read-only".into()));
        }
        let start = usize::try_from(offset).expect("a small disk");
        self.content.lock().expect("not poisoned")[start..start + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), MachineError> {
        self.acts.lock().expect("not poisoned").push("flush".into());
        Ok(())
    }
}
