//! Partition tables for tests, written from the specifications and not with the agent's own code.

const SECTOR: usize = 512;
pub const MIB: usize = 1 << 20;

/// One partition: name, first MiB, MiB behind its last.
pub type Part<'a> = (&'a str, usize, usize);

/// A disk image of `size` bytes with a GPT; every partition is filled with bytes that differ from place to place.
pub fn gpt(size: usize, parts: &[Part]) -> Vec<u8> {
    let mut image = filled(size, parts);
    let mut entries = vec![0; 128 * 128];
    for (index, (name, start, end)) in parts.iter().enumerate() {
        let entry = &mut entries[index * 128..][..128];
        entry[..16].fill(0x11);
        entry[16..32].fill(index as u8 + 1);
        entry[32..40].copy_from_slice(&((start * MIB / SECTOR) as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&((end * MIB / SECTOR - 1) as u64).to_le_bytes());
        for (at, unit) in name.encode_utf16().enumerate() {
            entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let last = (size / SECTOR - 1) as u64;
    for (here, other, entries_at) in [(1, last, 2), (last, 1, last - 32)] {
        let mut header = [0; SECTOR];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        for (at, value) in [(24, here), (32, other), (40, 34), (48, last - 33), (72, entries_at)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[56..72].fill(0xd1);
        header[80..88].copy_from_slice(&[128, 0, 0, 0, 128, 0, 0, 0]);
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let sum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        put(&mut image, here as usize * SECTOR, &header);
        put(&mut image, entries_at as usize * SECTOR, &entries);
    }
    put(&mut image, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    put(&mut image, 458, &(last as u32).to_le_bytes());
    put(&mut image, 510, &[0x55, 0xaa]);
    image
}

/// A disk image of `size` bytes with an MBR.
pub fn mbr(size: usize, parts: &[Part]) -> Vec<u8> {
    let mut image = filled(size, parts);
    for (index, (_, start, end)) in parts.iter().enumerate() {
        put(&mut image, 446 + 16 * index, &[if index == 0 { 0x80 } else { 0 }, 0, 2, 0, 0x83, 0xff, 0xff, 0xff]);
        put(&mut image, 454 + 16 * index, &((start * MIB / SECTOR) as u32).to_le_bytes());
        put(&mut image, 458 + 16 * index, &(((end - start) * MIB / SECTOR) as u32).to_le_bytes());
    }
    put(&mut image, 510, &[0x55, 0xaa]);
    image
}

fn filled(size: usize, parts: &[Part]) -> Vec<u8> {
    let mut image = vec![0; size];
    for (_, start, end) in parts {
        for (at, byte) in image.iter_mut().enumerate().take(end * MIB).skip(start * MIB) {
            *byte = (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1;
        }
    }
    image
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The partitions of a GPT, whose checksums at both ends of `disk` are checked: name, first byte, byte behind the last.
pub fn read_gpt(disk: &[u8]) -> Vec<(String, usize, usize)> {
    let last = disk.len() / SECTOR - 1;
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes")) as usize;
    let both = [1, last].map(|at| {
        let header = &disk[at * SECTOR..][..92];
        assert_eq!(&header[..8], b"EFI PART", "sector {at}");
        let mut zeroed = header.to_vec();
        zeroed[16..20].fill(0);
        assert_eq!(crc32fast::hash(&zeroed).to_le_bytes(), header[16..20], "header in sector {at}");
        assert_eq!((number(&header[24..32]), number(&header[32..40])), (at, if at == 1 { last } else { 1 }));
        assert_eq!(number(&header[48..56]), last - 33, "last usable sector");
        let entries = &disk[number(&header[72..80]) * SECTOR..][..128 * 128];
        assert_eq!(crc32fast::hash(entries).to_le_bytes(), header[88..92], "entries of sector {at}");
        entries.to_vec()
    });
    assert_eq!(both[0], both[1]);
    let used = both[0].chunks(128).filter(|entry| entry[..16] != [0; 16]);
    let units =
        |entry: &[u8]| entry[56..].chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect::<Vec<_>>();
    used.map(|entry| {
        let name = String::from_utf16(&units(entry)).expect("UTF-16").trim_end_matches('\0').to_string();
        (name, number(&entry[32..40]) * SECTOR, (number(&entry[40..48]) + 1) * SECTOR)
    })
    .collect()
}
