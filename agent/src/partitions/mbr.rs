//! MBR with up to four primary partitions, in sectors of 512 bytes and places of 32 bits.

use super::{Partition, field};
use crate::{BlockDevice, MachineError};
use bytes::Bytes;

const SECTOR: u64 = 512;
/// Where the four entries stand.
const ENTRIES: [usize; 4] = [446, 462, 478, 494];
/// What guards a GPT.
const PROTECTIVE: u8 = 0xee;
/// "Linux".
const LINUX: u8 = 0x83;

/// The first sector of a disk.
#[derive(Debug)]
pub(crate) struct Mbr {
    sector: Vec<u8>,
    /// False as long as it is as it was read.
    changed: bool,
}

/// True when `start` says that the disk has a GPT.
pub(super) fn is_protective(start: &[u8]) -> bool {
    has_signature(start) && ENTRIES.iter().any(|at| start[at + 4] == PROTECTIVE)
}

fn has_signature(start: &[u8]) -> bool {
    start[510..512] == [0x55, 0xaa]
}

impl Mbr {
    /// The MBR in `start`, if it has one with partitions that make sense on a disk of `size` bytes.
    pub fn read(start: &[u8], size: u64) -> Option<Mbr> {
        let mbr = Mbr { sector: start[..512].to_vec(), changed: false };
        let partitions = mbr.partitions();
        let sound = ENTRIES.iter().all(|at| start[*at] & 0x7f == 0) && partitions.iter().all(|one| one.end <= size);
        (has_signature(start) && sound && !partitions.is_empty()).then_some(mbr)
    }

    pub fn partitions(&self) -> Vec<Partition> {
        ENTRIES.iter().filter_map(|at| self.partition(*at)).collect()
    }

    fn partition(&self, at: usize) -> Option<Partition> {
        let place = |at| u64::from(u32::from_le_bytes(field(&self.sector, at))) * SECTOR;
        let (kind, start, length) = (self.sector[at + 4], place(at + 8), place(at + 12));
        (kind != 0 && length != 0).then(|| Partition { start, end: start + length, name: String::new() })
    }

    fn free(&self) -> Option<usize> {
        ENTRIES.into_iter().find(|at| self.partition(*at).is_none())
    }

    /// Why no partition can be added, whatever room there is.
    pub fn full(&self) -> Option<&'static str> {
        self.free().is_none().then_some("its MBR has four partitions and cannot have a fifth")
    }

    /// Behind the last byte that it can speak of.
    pub fn usable_end(&self, disk_size: u64) -> u64 {
        disk_size.min(u64::from(u32::MAX) * SECTOR)
    }

    /// Takes a free entry for `partition`; without a free one nothing happens.
    pub fn add(&mut self, partition: &Partition) {
        let Some(at) = self.free() else { return };
        let place = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX).to_le_bytes();
        let entry = &mut self.sector[at..at + 16];
        // Cylinder, head and sector: "see the 32-bit place".
        entry.copy_from_slice(&[0, 0xfe, 0xff, 0xff, LINUX, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        entry[8..12].copy_from_slice(&place(partition.start));
        entry[12..].copy_from_slice(&place(partition.end - partition.start));
        self.changed = true;
    }

    pub async fn write(&mut self, disk: &mut dyn BlockDevice) -> Result<(), MachineError> {
        if std::mem::take(&mut self.changed) {
            disk.write_at(0, Bytes::from(self.sector.clone())).await?;
        }
        Ok(())
    }
}
