//! GUID partition table: header and entries with their checksums, and a copy of both at the end of the disk
//! (UEFI 2.10 section 5.3).

use super::{Partition, field, none, too_large};
use crate::{BlockDevice, Failure, MachineError};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Length of the header's defined part, bytes.
const HEADER: usize = 92;
/// Largest table that is read, bytes: 32 times the usual.
const LARGEST: u64 = 512 << 10;
/// Type "Linux filesystem data", 0FC63DAF-8483-4772-8E79-3D69D8477DE4, as it stands on a disk.
const LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// A whole GPT.
#[derive(Debug)]
pub(crate) struct Gpt {
    /// Size of a sector, bytes.
    sector: u64,
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_size: usize,
}

impl Gpt {
    /// The GPT of `disk`, whose first bytes are `start`; `None` when there is none or its checksums are wrong.
    pub async fn read(disk: &mut dyn BlockDevice, start: &[u8]) -> Result<Option<Gpt>, Failure> {
        for sector in [512, 4096] {
            let at = sector as usize;
            if let Some(gpt) = Gpt::load(disk, &start[at..at + HEADER], sector, 1).await? {
                return gpt.fits(disk).map(Some);
            }
        }
        Ok(None)
    }

    /// The GPT of `disk`, or else its copy, wherever its partitions end.
    pub async fn read_any(disk: &mut dyn BlockDevice) -> Result<Option<Gpt>, Failure> {
        for sector in [512, 4096] {
            for at in [1, (disk.size() / sector).saturating_sub(1)] {
                if (at + 1) * sector > disk.size() {
                    continue;
                }
                let header = disk.read_at(at * sector, HEADER).await.map_err(unreadable)?;
                if let Some(gpt) = Gpt::load(disk, &header, sector, at).await? {
                    return Ok(Some(gpt));
                }
            }
        }
        Ok(None)
    }

    async fn load(disk: &mut dyn BlockDevice, header: &[u8], sector: u64, at: u64) -> Result<Option<Gpt>, Failure> {
        let Some((entries_at, entry_size, count)) = check_header(header, at) else { return Ok(None) };
        let (from, length) = (entries_at.saturating_mul(sector), entry_size * count);
        if length > LARGEST || from.saturating_add(length) > disk.size() {
            return Ok(None);
        }
        let entries = disk.read_at(from, usize::try_from(length).unwrap_or(0)).await.map_err(unreadable)?.to_vec();
        if crc32fast::hash(&entries) != u32::from_le_bytes(field(header, 88)) {
            return Ok(None);
        }
        let entry_size = usize::try_from(entry_size).unwrap_or(128);
        Ok(Some(Gpt { sector, header: header.to_vec(), entries, entry_size }))
    }

    fn fits(self, disk: &dyn BlockDevice) -> Result<Gpt, Failure> {
        if self.sector != disk.sector() {
            let (gpt, disk) = (self.sector, disk.sector());
            return Err(none(&format!("its GPT counts sectors of {gpt} bytes, the disk's have {disk}")));
        }
        match self.partitions().into_iter().find(|partition| partition.end > self.usable_end(disk.size())) {
            Some(partition) => Err(too_large(&partition, disk.size())),
            None => Ok(self),
        }
    }

    pub fn partitions(&self) -> Vec<Partition> {
        let used = self.entries.chunks_exact(self.entry_size).filter(|entry| entry[..16] != [0; 16]);
        let partition = |entry: &[u8]| {
            let place = |at| u64::from_le_bytes(field(entry, at));
            let units: Vec<u16> = entry[56..128].chunks_exact(2).map(|two| u16::from_le_bytes(field(two, 0))).collect();
            let name = String::from_utf16_lossy(&units).trim_end_matches('\0').into();
            let end = place(40).saturating_add(1).saturating_mul(self.sector);
            Partition { start: place(32).saturating_mul(self.sector), end, name }
        };
        used.map(partition).collect()
    }

    fn free(&self) -> Option<usize> {
        self.entries.chunks_exact(self.entry_size).position(|entry| entry[..16] == [0; 16])
    }

    /// Why no partition can be added, whatever room there is.
    pub fn full(&self) -> Option<&'static str> {
        self.free().is_none().then_some("all entries of its GPT are in use")
    }

    /// Behind the last byte that partitions may have on a disk of that size: the copy of the table is behind.
    pub fn usable_end(&self, disk_size: u64) -> u64 {
        (disk_size / self.sector).saturating_sub(1 + self.entry_sectors()) * self.sector
    }

    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector)
    }

    /// Takes a free entry for `partition`; without a free one nothing happens.
    pub fn add(&mut self, partition: &Partition) {
        let Some(index) = self.free() else { return };
        let id = self.new_id(partition);
        let entry = &mut self.entries[index * self.entry_size..][..self.entry_size];
        entry[..16].copy_from_slice(&LINUX);
        entry[16..32].copy_from_slice(&id);
        entry[32..40].copy_from_slice(&(partition.start / self.sector).to_le_bytes());
        entry[40..48].copy_from_slice(&(partition.end / self.sector - 1).to_le_bytes());
        for (two, unit) in entry[56..128].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
            two.copy_from_slice(&unit.to_le_bytes());
        }
    }

    /// A GUID (version 8, RFC 9562) that follows from the disk's and the partition, so that there is no chance in it.
    fn new_id(&self, partition: &Partition) -> [u8; 16] {
        let seed = [&self.header[56..72], &partition.start.to_le_bytes(), partition.name.as_bytes()].concat();
        let mut id: [u8; 16] = field(digest(&SHA256, &seed).as_ref(), 0);
        id[7] = id[7] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        id
    }

    /// Writes the copy to the end of the disk, then the table at its start, then what the protective MBR says of its size.
    pub async fn write(&mut self, disk: &mut dyn BlockDevice) -> Result<(), MachineError> {
        let (last, length) = (disk.size() / self.sector - 1, self.entry_sectors());
        let mut entries = self.entries.clone();
        entries.resize(usize::try_from(length * self.sector).unwrap_or(0), 0);
        let entries = Bytes::from(entries);
        let first_entries = u64::from_le_bytes(field(&self.header, 72));

        self.header[48..56].copy_from_slice(&(last - length - 1).to_le_bytes()); // last usable
        let copy = self.sealed(last, 1, last - length);
        disk.write_at((last - length) * self.sector, entries.clone()).await?;
        disk.write_at(last * self.sector, copy).await?;
        let main = self.sealed(1, last, first_entries);
        disk.write_at(first_entries * self.sector, entries).await?;
        disk.write_at(self.sector, main).await?;

        let mut mbr = disk.read_at(0, 512).await?.to_vec();
        if let Some(at) = [446, 462, 478, 494].into_iter().find(|at| mbr[at + 4] == 0xee) {
            let first = u64::from(u32::from_le_bytes(field(&mbr, at + 8)));
            let sectors = u32::try_from(last + 1 - first.min(last)).unwrap_or(u32::MAX);
            // A hybrid MBR guards only part of the disk, on purpose.
            if first == 1 && [446, 462, 478, 494].iter().filter(|at| mbr[**at + 4] != 0).count() == 1 {
                mbr[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
                disk.write_at(0, mbr.into()).await?;
            }
        }
        Ok(())
    }

    /// The header for one of its two places, a sector long.
    fn sealed(&self, here: u64, other: u64, entries_at: u64) -> Bytes {
        let mut header = self.header.clone();
        header[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        header[16..20].copy_from_slice(&[0; 4]);
        header[24..32].copy_from_slice(&here.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&entries_at.to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&self.entries).to_le_bytes());
        let sum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header.resize(usize::try_from(self.sector).unwrap_or(512), 0);
        header.into()
    }
}

fn unreadable(why: MachineError) -> Failure {
    Failure::new("DiskReadFailed", why.to_string())
}

/// Where the entries stand (sector), their size (bytes) and number, if `header` is a GPT's that belongs to sector `at`.
fn check_header(header: &[u8], at: u64) -> Option<(u64, u64, u64)> {
    let number = |at| u32::from_le_bytes(field(header, at));
    // A longer header has fields that nobody has defined yet; all that make one write 92.
    if header[..8] != SIGNATURE[..] || number(12) as usize != HEADER || u64::from_le_bytes(field(header, 24)) != at {
        return None;
    }
    let mut zeroed = header.to_vec();
    zeroed[16..20].copy_from_slice(&[0; 4]);
    let (entry_size, count) = (number(84), number(80));
    let sound = crc32fast::hash(&zeroed) == number(16) && entry_size.is_power_of_two() && entry_size >= 128;
    sound.then(|| (u64::from_le_bytes(field(header, 72)), entry_size.into(), count.into()))
}
