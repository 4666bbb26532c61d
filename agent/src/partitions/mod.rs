//! What divides a disk: a GPT (UEFI 2.10 chapter 5), an MBR, or nothing but a file system. Reads them, adds one partition
//! behind the last, and never moves or shrinks what is there.

mod gpt;
mod mbr;

use crate::{BlockDevice, Failure, MachineError};
use gpt::Gpt;
use mbr::Mbr;

/// Where a partition that is added begins and what its size is a multiple of, bytes.
pub(crate) const ALIGN: u64 = 1 << 20;
/// Read of the start of a disk or partition to tell what it is, bytes: ISO 9660's descriptor is within.
const START: u64 = 36 << 10;

/// What divides a disk.
#[derive(Debug)]
pub(crate) enum Table {
    /// A whole GPT.
    Gpt(Gpt),
    /// An MBR with partitions.
    Mbr(Mbr),
    /// No table, but something that is at home at the start of a disk: its name.
    Bare(&'static str),
}

/// One partition; places are bytes from the start of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its first byte.
    pub start: u64,
    /// The byte behind its last.
    pub end: u64,
    /// Its name, if its table has names.
    pub name: String,
}

/// What divides `disk`. Nothing at all, or a table that is damaged or does not fit, is `NoPartitionTable`.
pub(crate) async fn read(disk: &mut dyn BlockDevice) -> Result<Table, Failure> {
    let size = disk.size();
    let start = start_of(disk, 0, size).await?;
    if let Some(gpt) = Gpt::read(disk, &start).await? {
        return Ok(Table::Gpt(gpt));
    }
    if mbr::is_protective(&start) {
        return Err(none("its GPT is damaged"));
    }
    if let Some(mbr) = Mbr::read(&start, disk.size()) {
        return Ok(Table::Mbr(mbr));
    }
    match file_system(&start) {
        Some((kind, _)) => Ok(Table::Bare(kind)),
        None => Err(none("neither a partition table nor a file system or boot sector is at its start")),
    }
}

/// What divides `disk`, or did before its start was overwritten: a GPT's copy at the end tells, too.
pub(crate) async fn read_either(disk: &mut dyn BlockDevice) -> Result<Option<Table>, Failure> {
    let size = disk.size();
    let start = start_of(disk, 0, size).await?;
    if let Some(gpt) = Gpt::read_any(disk).await? {
        return Ok(Some(Table::Gpt(gpt)));
    }
    Ok(Mbr::read(&start, size).map(Table::Mbr))
}

impl Table {
    /// Its partitions, in the table's order.
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Table::Gpt(gpt) => gpt.partitions(),
            Table::Mbr(mbr) => mbr.partitions(),
            Table::Bare(_) => Vec::new(),
        }
    }

    /// Adds a partition of `length` bytes as near to the end of the disk as it goes, behind all others. `Err` says why
    /// there is no room. Nothing is written before [`Table::write`].
    pub fn append(&mut self, disk_size: u64, length: u64, name: &str) -> Result<Partition, String> {
        let used = self.partitions().iter().map(|partition| partition.end).max().unwrap_or(0).max(ALIGN);
        let (end, what) = match self {
            Table::Gpt(gpt) => (gpt.usable_end(disk_size), gpt.full()),
            Table::Mbr(mbr) => (mbr.usable_end(disk_size), mbr.full()),
            Table::Bare(kind) => return Err(format!("it holds {kind} and no partition table")),
        };
        if let Some(full) = what {
            return Err(full.into());
        }
        let length = length.next_multiple_of(ALIGN);
        let start = end.checked_sub(length).map_or(0, |start| start / ALIGN * ALIGN);
        if start < used {
            let free = end.saturating_sub(used);
            return Err(format!("{length} bytes are needed behind the last partition, {free} are free there"));
        }
        let partition = Partition { start, end: start + length, name: name.into() };
        match self {
            Table::Gpt(gpt) => gpt.add(&partition),
            Table::Mbr(mbr) => mbr.add(&partition),
            Table::Bare(_) => {}
        }
        Ok(partition)
    }

    /// Writes it. A GPT's copy goes to the end of the disk, where it belongs and where an image made for a smaller disk
    /// does not have it.
    pub async fn write(&mut self, disk: &mut dyn BlockDevice) -> Result<(), MachineError> {
        match self {
            Table::Gpt(gpt) => gpt.write(disk).await,
            Table::Mbr(mbr) => mbr.write(disk).await,
            Table::Bare(_) => Ok(()),
        }
    }
}

/// The label of the file system in `partition`.
pub(crate) async fn label(disk: &mut dyn BlockDevice, partition: &Partition) -> Result<Option<String>, Failure> {
    let start = start_of(disk, partition.start, partition.end).await?;
    Ok(file_system(&start).map(|(_, label)| label))
}

async fn start_of(disk: &mut dyn BlockDevice, start: u64, end: u64) -> Result<Vec<u8>, Failure> {
    let length = usize::try_from(START.min(end.saturating_sub(start))).unwrap_or(0);
    let read = disk.read_at(start, length).await;
    let mut bytes = read.map_err(|why| Failure::new("DiskReadFailed", why.to_string()))?.to_vec();
    bytes.resize(START as usize, 0);
    Ok(bytes)
}

/// Kind and label of what begins with `start`, which is [`START`] long.
fn file_system(start: &[u8]) -> Option<(&'static str, String)> {
    let label = |from: usize, length: usize| {
        let text = String::from_utf8_lossy(&start[from..from + length]);
        text.trim_end_matches(['\0', ' ']).to_owned()
    };
    if start[32_769..32_774] == *b"CD001" {
        return Some(("an ISO 9660 file system", label(32_808, 32)));
    }
    if start[1080..1082] == [0x53, 0xef] {
        return Some(("an ext file system", label(1144, 16)));
    }
    if start[..4] == *b"XFSB" {
        return Some(("an XFS file system", label(108, 12)));
    }
    if start[510..512] == [0x55, 0xaa] {
        let fat = [(38, 43), (66, 71)].into_iter().find(|(signature, _)| start[*signature] == 0x29);
        return Some(("a boot sector", fat.map(|(_, at)| label(at, 11)).unwrap_or_default()));
    }
    None
}

pub(super) fn none(why: &str) -> Failure {
    Failure::new("NoPartitionTable", format!("what the image put on the disk cannot be started: {why}"))
}

pub(super) fn too_large(partition: &Partition, disk: u64) -> Failure {
    let Partition { end, name, .. } = partition;
    let message = format!("partition {name:?} of the image ends at byte {end}, the disk holds {disk}");
    Failure::new("ImageTooLarge", message)
}

/// `N` bytes of `bytes` at `at`.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
