//! A machine with one disk in memory that is treated as the ramdisk treats one: only the device itself is not real.

use super::machine::{DISK, MAC};
use async_trait::async_trait;
use bytes::Bytes;
use rackwright_agent::{BlockDevice, Machine, MachineError, Progress};
use rackwright_protocol::facts::{Disk, Facts, Nic, WipePolicy, WipedDisk};
use std::sync::{Arc, Mutex, MutexGuard};

/// What is on the disk, and what is wrong with it.
pub struct Content {
    pub bytes: Vec<u8>,
    /// Writes that still work; then the power is gone.
    pub power: usize,
    /// Writes that touch this place are taken and lost.
    pub loses: Option<u64>,
    /// Whether it makes zeros itself, and how many bytes it made.
    pub zeroes: bool,
    pub zeroed: u64,
}

/// A machine with one disk.
pub struct DiskMachine {
    content: Arc<Mutex<Content>>,
    size: usize,
}

impl DiskMachine {
    /// Its disk holds `size` bytes, the remains of another system.
    pub fn new(size: usize) -> DiskMachine {
        DiskMachine::holding(vec![0xee; size])
    }

    /// Its disk holds `bytes`.
    pub fn holding(bytes: Vec<u8>) -> DiskMachine {
        let size = bytes.len();
        let content = Content { bytes, power: usize::MAX, loses: None, zeroes: true, zeroed: 0 };
        DiskMachine { content: Arc::new(Mutex::new(content)), size }
    }

    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("not poisoned")
    }
}

#[async_trait]
impl Machine for DiskMachine {
    async fn facts(&mut self) -> Result<Facts, MachineError> {
        let disk = Disk { device: DISK.into(), size_bytes: self.size as i64, ..Disk::default() };
        let nic = Nic { name: "eth0".into(), mac: MAC.into(), ..Nic::default() };
        Ok(Facts { disks: vec![disk], nics: vec![nic], memory_mib: 1024, ..Facts::default() })
    }

    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn BlockDevice>, MachineError> {
        assert_eq!(device, DISK);
        Ok(Box::new(MemoryDisk { content: self.content.clone(), size: self.size }))
    }

    async fn wipe_disk(&self, _: &Disk, _: WipePolicy, _: &Progress) -> Result<WipedDisk, MachineError> {
        Err(MachineError("no test wipes it".into()))
    }
}

struct MemoryDisk {
    content: Arc<Mutex<Content>>,
    size: usize,
}

impl MemoryDisk {
    fn write(&self, offset: u64, length: usize, bytes: impl FnOnce(&mut [u8])) -> Result<(), MachineError> {
        let mut content = self.content.lock().expect("not poisoned");
        content.power = content.power.checked_sub(1).ok_or_else(|| {
            // As soon as one write fails, so do all.
            MachineError("the power is gone".into())
        })?;
        let start = usize::try_from(offset).expect("a small disk");
        if !content.loses.is_some_and(|lost| (offset..offset + length as u64).contains(&lost)) {
            bytes(&mut content.bytes[start..start + length]);
        }
        Ok(())
    }
}

#[async_trait]
impl BlockDevice for MemoryDisk {
    fn size(&self) -> u64 {
        self.size as u64
    }

    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError> {
        let start = usize::try_from(offset).expect("a small disk");
        Ok(Bytes::copy_from_slice(&self.content.lock().expect("not poisoned").bytes[start..start + length]))
    }

    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError> {
        self.write(offset, bytes.len(), |disk| disk.copy_from_slice(&bytes))
    }

    async fn zero_at(&mut self, offset: u64, length: u64) -> Result<bool, MachineError> {
        assert_eq!((offset % 4096, length % 4096), (0, 0));
        if !self.content.lock().expect("not poisoned").zeroes {
            return Ok(false);
        }
        self.write(offset, usize::try_from(length).expect("small"), |disk| disk.fill(0))?;
        self.content.lock().expect("not poisoned").zeroed += length;
        Ok(true)
    }

    async fn finish(&mut self) -> Result<(), MachineError> {
        Ok(())
    }
}
