//! A disk image that boots on BIOS and on UEFI and says so on the serial port, and nothing else: for stories that end
//! when the disk's own system runs. It is made here, byte for byte the same every time.

use anyhow::{Context, Result};
use rackwright_ramdisk::fat;
use std::collections::BTreeMap;

/// What the system says.
pub const GREETING: &str = "the toy system runs from the disk";
/// Something that stands in its last partition and nowhere else.
pub const MARK: &[u8] = b"rackwright toy image: the end of the last partition";

const SECTOR: usize = 512;
/// Size of the image, bytes.
pub const SIZE: usize = 64 << 20;
const EFI_FIRST: usize = 2048;
const EFI_SIZE: usize = 4 << 20;
const DATA_FIRST: usize = EFI_FIRST + EFI_SIZE / SECTOR;
/// Header and partition entries at the end of a disk take this many sectors (UEFI 2.10, 5.3).
const BACKUP: usize = 33;

/// EFI system partition, and Linux filesystem data, as GPT writes GUIDs.
const EFI_TYPE: [u8; 16] = guid(0xc12a_7328, 0xf81f, 0x11d2, 0xba4b_00a0_c93e_c93b);
const DATA_TYPE: [u8; 16] = guid(0x0fc6_3daf, 0x8483, 0x4772, 0x8e79_3d69_d847_7de4);

/// The image.
pub fn image() -> Result<Vec<u8>> {
    let mut disk = vec![0; SIZE];
    let (sectors, last) = (SIZE / SECTOR, SIZE / SECTOR - BACKUP - 1);
    noise(&mut disk[DATA_FIRST * SECTOR..(last + 1) * SECTOR]);
    let end = (last + 1) * SECTOR;
    disk[end - MARK.len()..end].copy_from_slice(MARK);

    let files = BTreeMap::from([("EFI/BOOT/BOOTX64.EFI".to_owned(), efi_program())]);
    let system = fat::image("TOY", 0x0070_7954, &files, EFI_SIZE)?;
    let efi = disk.get_mut(EFI_FIRST * SECTOR..).and_then(|rest| rest.get_mut(..system.len()));
    efi.context("the EFI partition is too small")?.copy_from_slice(&system);

    disk[..SECTOR].copy_from_slice(&master_boot_record(sectors));
    let entries = entries(&[(EFI_TYPE, EFI_FIRST, DATA_FIRST - 1), (DATA_TYPE, DATA_FIRST, last)]);
    disk[2 * SECTOR..2 * SECTOR + entries.len()].copy_from_slice(&entries);
    disk[SECTOR..2 * SECTOR].copy_from_slice(&header(1, sectors - 1, 2, &entries, sectors));
    let backup = sectors - BACKUP;
    disk[backup * SECTOR..backup * SECTOR + entries.len()].copy_from_slice(&entries);
    disk[SIZE - SECTOR..].copy_from_slice(&header(sectors - 1, 1, backup, &entries, sectors));
    Ok(disk)
}

/// Bytes that no packer makes small (xorshift64).
fn noise(into: &mut [u8]) {
    let mut state = 0x746f_795f_696d_6167_u64;
    for word in into.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

/// Real mode: writes the text after it to the first serial port, then halts.
const BIOS_CODE: [u8; 34] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x22, 0x7c, // cli; xor ax, ax; mov ds, ax; mov si, 0x7c00 + 34
    0xac, 0x84, 0xc0, 0x74, 0x12, 0x88, 0xc4, // next: lodsb; test al, al; jz done; mov ah, al
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // mov dx, 0x3fd; wait: in al, dx; test al, 0x20; jz wait
    0x88, 0xe0, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xe9, // mov al, ah; mov dx, 0x3f8; out dx, al; jmp next
    0xf4, 0xeb, 0xfd, // done: hlt; jmp done
];

/// The same in long mode.
const EFI_CODE: [u8; 36] = [
    0xfa, 0x48, 0x8d, 0x35, 0x1c, 0, 0, 0, // cli; lea rsi, [rip + 28]
    0xac, 0x84, 0xc0, 0x74, 0x14, 0x88, 0xc4, // next: lodsb; test al, al; jz done; mov ah, al
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74,
    0xfb, // mov dx, 0x3fd; wait: in al, dx; test al, 0x20; jz wait
    0x88, 0xe0, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xe7, // mov al, ah; mov dx, 0x3f8; out dx, al; jmp next
    0xf4, 0xeb, 0xfd, // done: hlt; jmp done
];

fn with_text(code: &[u8]) -> Vec<u8> {
    [code, b"\r\n", GREETING.as_bytes(), b"\r\n\0"].concat()
}

/// The boot code, and a protective partition over the whole disk.
fn master_boot_record(sectors: usize) -> [u8; SECTOR] {
    let mut record = [0; SECTOR];
    let code = with_text(&BIOS_CODE);
    record[..code.len()].copy_from_slice(&code);
    record[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    record[454..458].copy_from_slice(&1u32.to_le_bytes());
    record[458..462].copy_from_slice(&(sectors as u32 - 1).to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

fn entries(partitions: &[([u8; 16], usize, usize)]) -> Vec<u8> {
    let mut table = vec![0; 128 * 128];
    for (at, (kind, first, last)) in partitions.iter().enumerate() {
        let entry = &mut table[at * 128..(at + 1) * 128];
        entry[..16].copy_from_slice(kind);
        entry[16..32].copy_from_slice(&guid(0x7257_0000 + at as u32, 0x746f, 0x4079, 0x8000_0000_0000_0000));
        entry[32..40].copy_from_slice(&(*first as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&(*last as u64).to_le_bytes());
    }
    table
}

/// A GPT header at sector `own` (UEFI 2.10, table 5-5).
fn header(own: usize, other: usize, table: usize, entries: &[u8], sectors: usize) -> [u8; SECTOR] {
    let mut header = [0; SECTOR];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"EFI PART");
    [0x0001_0000u32, 92, 0, 0].iter().for_each(|value| put(&value.to_le_bytes()));
    let usable = [BACKUP + 1, sectors - BACKUP - 1];
    [own, other, usable[0], usable[1]].iter().for_each(|value| put(&(*value as u64).to_le_bytes()));
    put(&guid(0x7257_746f, 0x7900, 0x4079, 0x8000_0000_0000_0001));
    put(&(table as u64).to_le_bytes());
    [128u32, 128, crc32(entries)].iter().for_each(|value| put(&value.to_le_bytes()));
    let sum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// A UEFI program (PE32+) with one section that is [`EFI_CODE`].
fn efi_program() -> Vec<u8> {
    let mut head = Vec::new();
    head.extend_from_slice(b"MZ");
    head.resize(0x3c, 0);
    head.extend_from_slice(&0x40u32.to_le_bytes());
    head.extend_from_slice(b"PE\0\0");
    let mut words = |values: &[u16]| values.iter().for_each(|value| head.extend_from_slice(&value.to_le_bytes()));
    // x86-64, one section, no date, no symbols, 240 bytes of optional header, executable image.
    words(&[0x8664, 1, 0, 0, 0, 0, 0, 0, 240, 0x0022]);
    words(&[0x020b, 0, 0x200, 0, 0, 0, 0, 0, 0x1000, 0, 0x1000, 0]); // sizes; entry and code at 0x1000
    words(&[0, 0, 0, 0]); // image base: anywhere
    words(&[0x1000, 0, 0x200, 0]); // alignment in memory and in the file
    words(&[0, 0, 0, 0, 0, 0, 0, 0]); // versions
    words(&[0x2000, 0, 0x200, 0, 0, 0, 10, 0]); // size of image and of headers; subsystem: EFI application
    words(&[0; 16]); // stack and heap
    words(&[0, 0, 16, 0]); // 16 data directories,
    words(&[0; 64]); // all empty
    head.extend_from_slice(b".text\0\0\0");
    let mut longs = |values: &[u32]| values.iter().for_each(|value| head.extend_from_slice(&value.to_le_bytes()));
    longs(&[0x200, 0x1000, 0x200, 0x200, 0, 0, 0, 0x6000_0020]);
    head.resize(0x200, 0);
    head.extend_from_slice(&with_text(&EFI_CODE));
    head.resize(0x400, 0);
    head
}

/// A GUID as it lies on disks: the first three fields little-endian, the rest as written.
const fn guid(a: u32, b: u16, c: u16, rest: u64) -> [u8; 16] {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), rest.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// CRC-32 as GPT wants it (ISO 3309).
fn crc32(data: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !data.iter().fold(!0, |sum: u32, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_one_that_the_standard_gives_as_an_example() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_texts_begin_where_the_code_looks_for_them() {
        assert_eq!(usize::from(BIOS_CODE[6]), BIOS_CODE.len());
        assert_eq!(usize::from(EFI_CODE[4]) + 8, EFI_CODE.len());
        assert_eq!(efi_program().len(), 0x400);
    }
}
