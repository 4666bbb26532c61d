//! The bytes of a config drive: an ISO 9660 file system (ECMA-119) with Joliet names.
//!
//! The same content gives the same bytes: there is no clock and no chance in them. What is written is what these drives
//! need and no more: one chain of folders, files in the last. Readers without Joliet see the names in upper case, which
//! Linux shows in lower case, so either way they are found.

use rackwright_protocol::facts::ConfigDriveKind;
use rackwright_protocol::plan::ConfigDrive;

/// What everything in the file system is aligned to, bytes.
const SECTOR: usize = 2048;
/// Sectors before the folders: 16 unused ones, three descriptors, four path tables.
const FOLDERS_AT: usize = 23;
/// Year since 1900, month, day, hour, minute, second, zone: 1980 began, as good a constant as any.
const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];

/// Where the first volume descriptor stands, bytes from the start, its length, and what a file system has at least.
pub(crate) const DESCRIPTOR_AT: u64 = 16 * SECTOR as u64;
pub(crate) const DESCRIPTOR: usize = SECTOR;
pub(crate) const HEADER: u64 = DESCRIPTOR_AT + SECTOR as u64;

/// Label and length (bytes) of the file system whose first volume descriptor is `bytes`.
pub(crate) fn describe(bytes: &[u8]) -> Option<(String, u64)> {
    let (label, blocks) = (bytes.get(40..72)?, bytes.get(80..84)?);
    let blocks = blocks.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let label = String::from_utf8_lossy(label).trim_end().to_owned();
    (bytes[1..6] == *b"CD001").then_some((label, blocks * SECTOR as u64))
}

/// The label that cloud-init looks for.
pub(crate) fn label(kind: ConfigDriveKind) -> &'static str {
    match kind {
        ConfigDriveKind::NoCloud => "cidata",
        ConfigDriveKind::OpenStack => "config-2",
    }
}

/// The file system with the files of `drive`.
pub(crate) fn image(drive: &ConfigDrive) -> Vec<u8> {
    // Sorted by name, as a directory must be.
    let (folders, meta, user): (&[&str], _, _) = match drive.kind {
        ConfigDriveKind::NoCloud => (&[], "meta-data", "user-data"),
        ConfigDriveKind::OpenStack => (&["openstack", "latest"], "meta_data.json", "user_data"),
    };
    build(label(drive.kind), folders, &[(meta, drive.meta_data.as_bytes()), (user, drive.user_data.as_bytes())])
}

/// One set of names: ISO 9660's own, or Joliet's.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Plain,
    Joliet,
}

/// Where things are, sectors.
struct Layout<'a> {
    folders: &'a [&'a str],
    files: &'a [(&'a str, &'a [u8])],
    files_at: usize,
    end: usize,
}

fn build(label: &str, folders: &[&str], files: &[(&str, &[u8])]) -> Vec<u8> {
    let files_at = FOLDERS_AT + 2 * (folders.len() + 1);
    let end = files.iter().fold(files_at, |at, (_, bytes)| at + bytes.len().div_ceil(SECTOR));
    let layout = Layout { folders, files, files_at, end };
    let mut image = vec![0; end * SECTOR];
    let mut put = |sector: usize, bytes: &[u8]| image[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    put(16, &layout.descriptor(Names::Plain, label));
    put(17, &layout.descriptor(Names::Joliet, label));
    put(18, b"\xffCD001\x01");
    for (names, table_at) in [(Names::Plain, 19), (Names::Joliet, 21)] {
        put(table_at, &layout.path_table(names, u32::to_le_bytes, u16::to_le_bytes));
        put(table_at + 1, &layout.path_table(names, u32::to_be_bytes, u16::to_be_bytes));
        for depth in 0..=folders.len() {
            put(layout.folder_at(names, depth), &layout.folder(names, depth));
        }
    }
    let mut at = files_at;
    for (_, bytes) in files {
        put(at, bytes);
        at += bytes.len().div_ceil(SECTOR);
    }
    image
}

impl Layout<'_> {
    fn folder_at(&self, names: Names, depth: usize) -> usize {
        let first = if names == Names::Plain { FOLDERS_AT } else { FOLDERS_AT + self.folders.len() + 1 };
        first + depth
    }

    /// Volume descriptor (section 8.4, and 8.5 for Joliet's).
    fn descriptor(&self, names: Names, label: &str) -> Vec<u8> {
        let table_at = if names == Names::Plain { 19 } else { 21 };
        let table_size = self.path_table(names, u32::to_le_bytes, u16::to_le_bytes).len();
        let text = |value: &str, length: usize| names.padded(value, length);
        let mut d = vec![if names == Names::Plain { 1 } else { 2 }];
        d.extend(b"CD001\x01\0");
        d.extend(text("", 32)); // system
        d.extend(text(label, 32));
        d.extend([0; 8]);
        d.extend(both32(self.end));
        let escapes: &[u8] = if names == Names::Plain { b"" } else { b"%/E" };
        d.extend(escapes);
        d.resize(120, 0);
        d.extend([both16(1), both16(1), both16(SECTOR)].concat()); // one volume, the first; size of a block
        d.extend(both32(table_size));
        d.extend(number(table_at).to_le_bytes());
        d.extend([0; 4]);
        d.extend(number(table_at + 1).to_be_bytes());
        d.extend([0; 4]);
        d.extend(record(&[0], self.folder_at(names, 0), SECTOR, true));
        for length in [128, 128, 128, 128, 37, 37, 37] {
            d.extend(text("", length)); // set, publisher, preparer, application, copyright, abstract, bibliography
        }
        for _ in 0..4 {
            d.extend(b"0000000000000000\0"); // no date given
        }
        d.push(1);
        d.resize(SECTOR, 0);
        d
    }

    /// All folders with their parents (section 9.4).
    fn path_table(&self, names: Names, four: fn(u32) -> [u8; 4], two: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut table = Vec::new();
        for depth in 0..=self.folders.len() {
            let name = if depth == 0 { vec![0] } else { names.folder(self.folders[depth - 1]) };
            table.push(name.len() as u8);
            table.push(0);
            table.extend(four(number(self.folder_at(names, depth))));
            table.extend(two(u16::try_from(depth.max(1)).unwrap_or(1))); // its parent's number, counted from 1
            table.extend(&name);
            table.resize(table.len().next_multiple_of(2), 0);
        }
        table
    }

    /// What is in a folder: itself, its parent, and the next folder or the files (section 9.1).
    fn folder(&self, names: Names, depth: usize) -> Vec<u8> {
        let mut folder = record(&[0], self.folder_at(names, depth), SECTOR, true);
        folder.extend(record(&[1], self.folder_at(names, depth.saturating_sub(1)), SECTOR, true));
        if let Some(name) = self.folders.get(depth) {
            folder.extend(record(&names.folder(name), self.folder_at(names, depth + 1), SECTOR, true));
            return folder;
        }
        let mut at = self.files_at;
        for (name, bytes) in self.files {
            folder.extend(record(&names.file(name), at, bytes.len(), false));
            at += bytes.len().div_ceil(SECTOR);
        }
        folder
    }
}

impl Names {
    fn folder(self, name: &str) -> Vec<u8> {
        match self {
            Names::Plain => name.to_ascii_uppercase().into_bytes(),
            Names::Joliet => ucs2(name),
        }
    }

    fn file(self, name: &str) -> Vec<u8> {
        match self {
            Names::Plain if name.contains('.') => format!("{};1", name.to_ascii_uppercase()).into_bytes(),
            Names::Plain => format!("{}.;1", name.to_ascii_uppercase()).into_bytes(),
            Names::Joliet => ucs2(name),
        }
    }

    /// `value` with blanks behind, as long as `length` bytes.
    fn padded(self, value: &str, length: usize) -> Vec<u8> {
        match self {
            Names::Plain => format!("{value:length$}").into_bytes(),
            Names::Joliet => {
                let mut text = ucs2(&format!("{value:0$}", length / 2));
                text.resize(length, 0); // fields of odd length end in a zero
                text
            }
        }
    }
}

/// Directory record (section 9.1).
fn record(name: &[u8], at: usize, size: usize, is_folder: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![length as u8, 0];
    record.extend([both32(at), both32(size)].concat());
    record.extend(DATE);
    record.extend([if is_folder { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    record.resize(length, 0);
    record
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// In both byte orders (section 7.3.3).
fn both32(value: usize) -> [u8; 8] {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&number(value).to_le_bytes());
    both[4..].copy_from_slice(&number(value).to_be_bytes());
    both
}

/// In both byte orders (section 7.2.3).
fn both16(value: usize) -> [u8; 4] {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}
