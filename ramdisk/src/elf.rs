//! The two things we need to know of an ELF file: which libraries a program wants, what a kernel module says of
//! itself. 64 bit, little-endian; anything else, or anything cut short, is `None`.

use std::collections::BTreeMap;

const SHT_DYNAMIC: u32 = 6;
const DT_NEEDED: u64 = 1;

struct Section<'a> {
    name: u32,
    kind: u32,
    link: u32,
    data: &'a [u8],
}

/// Names of the shared libraries that this program or library needs; none for a static one.
pub fn needed(file: &[u8]) -> Option<Vec<String>> {
    let (sections, _) = sections(file)?;
    let Some(dynamic) = sections.iter().find(|section| section.kind == SHT_DYNAMIC) else { return Some(Vec::new()) };
    let names = sections.get(dynamic.link as usize)?.data;
    let entries = dynamic.data.chunks_exact(16).filter(|entry| u64_at(entry, 0) == Some(DT_NEEDED));
    entries.map(|entry| text(names, u64_at(entry, 8)? as usize)).collect()
}

/// What a kernel module says of itself: key and values in the order that they stand there.
pub fn module_info(file: &[u8]) -> Option<BTreeMap<String, Vec<String>>> {
    let (sections, names) = sections(file)?;
    let is_info = |section: &&Section| text(names, section.name as usize).as_deref() == Some(".modinfo");
    let info = sections.iter().find(is_info)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in info.data.split(|byte| *byte == 0) {
        if let Some((key, value)) = String::from_utf8_lossy(line).split_once('=') {
            found.entry(key.to_string()).or_default().push(value.to_string());
        }
    }
    Some(found)
}

/// All sections and the table of their names.
fn sections(file: &[u8]) -> Option<(Vec<Section<'_>>, &[u8])> {
    let is_ours = file.get(..6)? == b"\x7fELF\x02\x01";
    let (table, size) = (u64_at(file, 0x28)? as usize, usize::from(u16_at(file, 0x3a)?));
    let (count, names) = (usize::from(u16_at(file, 0x3c)?), usize::from(u16_at(file, 0x3e)?));
    if !is_ours || size < 64 {
        return None;
    }
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        let header = file.get(table.checked_add(index * size)?..)?.get(..size)?;
        let kind = u32_at(header, 4)?;
        let (at, length) = (u64_at(header, 0x18)? as usize, u64_at(header, 0x20)? as usize);
        let has_data = kind != 0 && kind != 8; // neither SHT_NULL nor SHT_NOBITS
        let data = if has_data { file.get(at..at.checked_add(length)?)? } else { &[] };
        found.push(Section { name: u32_at(header, 0)?, kind, link: u32_at(header, 0x28)?, data });
    }
    let names = found.get(names)?.data;
    Some((found, names))
}

fn text(table: &[u8], at: usize) -> Option<String> {
    let rest = table.get(at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn this_test_needs_the_c_library() {
        let this = std::fs::read(std::env::current_exe().expect("it runs")).expect("is there");
        let libraries = needed(&this).expect("an ELF file");
        assert!(libraries.iter().any(|name| name == "libc.so.6"), "{libraries:?}");
        assert_eq!(module_info(&this), None);
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut file = b"\x7fELF\x02\x01".to_vec();
            file.extend(noise);
            let _ = needed(&file);
            let _ = module_info(&file);
        }
    }
}
