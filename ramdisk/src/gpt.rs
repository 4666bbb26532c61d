//! Partition tables (UEFI 2.10 §5.3), written whole: the same layout gives the same bytes, identifiers too.
//!
//! The agent has code of its own for tables that it finds: those have sectors and entries of any size, and fields of
//! others that it keeps. The two have no more in common than the places of fields, so each can be a check of the other.

use anyhow::{Result, bail};

/// Size of a sector, bytes.
pub const SECTOR: u64 = 512;
/// Entries in a table, and the sectors that they take.
const ENTRIES: u32 = 128;
const ENTRY: usize = 128;
const TABLE_SECTORS: u64 = 32;

/// Types of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Where GRUB has its core on a BIOS.
    BiosBoot,
    /// What UEFI firmware reads.
    EfiSystem,
    /// Any file system.
    Linux,
    /// Root file system of a PC (Discoverable Partitions Specification).
    RootAmd64,
}

impl Kind {
    fn guid(self) -> u128 {
        match self {
            Kind::BiosBoot => 0x21686148_6449_6E6F_744E_656564454649,
            Kind::EfiSystem => 0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B,
            Kind::Linux => 0x0FC63DAF_8483_4772_8E79_3D69D8477DE4,
            Kind::RootAmd64 => 0x4F68BCE3_E8CD_4DB1_96E7_FBCAF984B709,
        }
    }
}

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// What it is.
    pub kind: Kind,
    /// Its label, at most 36 letters.
    pub name: &'static str,
    /// First sector.
    pub first: u64,
    /// Last sector, which belongs to it.
    pub last: u64,
}

/// What stands at the beginning and at the end of a disk.
pub struct Table {
    /// Protective MBR, header and entries: from sector 0. The first 440 bytes are a boot loader's.
    pub head: Vec<u8>,
    /// Entries and header once more: the last sectors of the disk.
    pub tail: Vec<u8>,
}

/// The last sector that a partition may use on a disk of `sectors`.
pub fn last_usable(sectors: u64) -> u64 {
    sectors - TABLE_SECTORS - 2
}

/// The table of a disk of `sectors`. `seed` makes identifiers: another seed, other identifiers.
pub fn table(sectors: u64, partitions: &[Partition], seed: u64) -> Result<Table> {
    let mut next = TABLE_SECTORS + 2;
    for partition in partitions {
        if partition.first < next || partition.last < partition.first || partition.last > last_usable(sectors) {
            bail!("partition {} does not fit where it shall be", partition.name);
        }
        next = partition.last + 1;
    }
    let mut entries = vec![0; (TABLE_SECTORS * SECTOR) as usize];
    for (index, (partition, entry)) in partitions.iter().zip(entries.chunks_exact_mut(ENTRY)).enumerate() {
        entry[..16].copy_from_slice(&mixed_endian(partition.kind.guid()));
        entry[16..32].copy_from_slice(&mixed_endian(identifier(seed, index as u64 + 1)));
        entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
        entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
        for (unit, at) in partition.name.encode_utf16().zip((56..ENTRY).step_by(2)) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let head = [protective_mbr(sectors), header(sectors, &entries, seed, true), entries.clone()].concat();
    let tail = [entries.clone(), header(sectors, &entries, seed, false)].concat();
    Ok(Table { head, tail })
}

fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR as usize];
    mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF]);
    mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
    mbr[458..462].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xAA]);
    mbr
}

fn header(sectors: u64, entries: &[u8], seed: u64, primary: bool) -> Vec<u8> {
    let (here, other) = if primary { (1, sectors - 1) } else { (sectors - 1, 1) };
    let table = if primary { 2 } else { sectors - 1 - TABLE_SECTORS };
    let mut header = b"EFI PART".to_vec();
    header.extend_from_slice(&0x0001_0000_u32.to_le_bytes());
    header.extend_from_slice(&92_u32.to_le_bytes());
    header.extend_from_slice(&[0; 8]); // its own checksum, for now, and a reserved field
    for number in [here, other, TABLE_SECTORS + 2, last_usable(sectors)] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header.extend_from_slice(&mixed_endian(identifier(seed, 0)));
    header.extend_from_slice(&table.to_le_bytes());
    for number in [ENTRIES, ENTRY as u32, crc32fast::hash(entries)] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    let checksum = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header.resize(SECTOR as usize, 0);
    header
}

/// A version 8 UUID (RFC 9562): ours to fill.
fn identifier(seed: u64, number: u64) -> u128 {
    let bits = u128::from(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64 | u128::from(number);
    bits & !(0xF << 76) & !(0b11 << 62) | 0x8 << 76 | 0b10 << 62
}

/// As GUIDs lie on disks: the first three fields little-endian.
fn mixed_endian(guid: u128) -> [u8; 16] {
    let mut bytes = guid.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(first: u64, last: u64) -> Partition {
        Partition { kind: Kind::Linux, name: "cidata", first, last }
    }

    #[test]
    fn both_headers_name_each_other_and_their_checksums_hold() {
        let made = table(10_000, &[partition(2048, 4095)], 7).expect("fits");
        let second = made.tail.len() - SECTOR as usize;
        for (header, here, other) in [(&made.head[512..1024], 1, 9999), (&made.tail[second..], 9999, 1)] {
            let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
            assert_eq!((number(24), number(32), number(40), number(48)), (here, other, 34, 9966));
            let mut without = header[..92].to_vec();
            without[16..20].fill(0);
            assert_eq!(header[16..20], crc32fast::hash(&without).to_le_bytes());
        }
        assert_eq!(made.head.len(), 34 * 512);
    }

    #[test]
    fn partitions_do_not_overlap_each_other_or_the_tables() {
        for wrong in
            [vec![partition(33, 4095)], vec![partition(2048, 9967)], vec![partition(2048, 4095), partition(4095, 5000)]]
        {
            assert!(table(10_000, &wrong, 7).is_err(), "{wrong:?}");
        }
    }
}
