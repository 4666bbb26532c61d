//! The SMBIOS structure table (DSP0134): what is plugged into the memory slots, and what a platform's owner wrote into
//! it. The kernel shows the rest as text.

/// Type of a list of free text.
const OEM_STRINGS: u8 = 11;
/// Type of a memory device.
const MEMORY_DEVICE: u8 = 17;
const END_OF_TABLE: u8 = 127;

/// Sum of the memory devices, MiB; `None` when the table names none.
pub fn memory_mib(table: &[u8]) -> Option<i64> {
    let devices = Structures(table).filter(|(kind, ..)| *kind == MEMORY_DEVICE);
    let sum = devices.filter_map(|(_, body, _)| device_mib(body)).sum();
    (sum > 0).then_some(sum)
}

/// All OEM strings.
pub fn oem_strings(table: &[u8]) -> Vec<String> {
    let lists = Structures(table).filter(|(kind, ..)| *kind == OEM_STRINGS);
    let strings = lists.flat_map(|(.., strings)| strings.split(|byte| *byte == 0).filter(|text| !text.is_empty()));
    strings.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Size of a memory device (DSP0134 section 7.18), MiB.
fn device_mib(body: &[u8]) -> Option<i64> {
    let word = u16::from_le_bytes(body.get(0x0c..0x0e)?.try_into().ok()?);
    match word {
        0 | 0xffff => None,
        0x7fff => {
            let size = u32::from_le_bytes(body.get(0x1c..0x20)?.try_into().ok()?);
            Some(i64::from(size & 0x7fff_ffff))
        }
        kib if kib & 0x8000 != 0 => Some(i64::from(kib & 0x7fff) / 1024),
        mib => Some(i64::from(mib)),
    }
}

/// Type, formatted area and strings (each with a NUL behind it) of each structure. Ends where the table makes no sense any more.
struct Structures<'a>(&'a [u8]);

impl<'a> Iterator for Structures<'a> {
    type Item = (u8, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, length) = (*self.0.first()?, usize::from(*self.0.get(1)?));
        if kind == END_OF_TABLE || length < 4 {
            return None;
        }
        let (body, strings) = self.0.split_at_checked(length)?;
        let end = strings.windows(2).position(|pair| pair == [0, 0]).map_or(strings.len(), |at| at + 2);
        let (strings, rest) = strings.split_at(end);
        self.0 = rest;
        Some((kind, body, strings))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{memory_device, oem_strings as oem_strings_table};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_are_summed_in_all_three_notations() {
        let mut table = vec![0, 4, 0, 0, b'x', 0, 0];
        table.extend(memory_device(1536));
        table.extend(memory_device(0));
        table.extend(memory_device(64 * 1024));
        let mut small = memory_device(1);
        small[0x0c..0x0e].copy_from_slice(&(0x8000u16 | 2048).to_le_bytes());
        table.extend(small);
        table.extend([127, 4, 0, 0, 0, 0]);
        table.extend(memory_device(4096));
        assert_eq!(memory_mib(&table), Some(1536 + 64 * 1024 + 2));
    }

    #[test]
    fn strings_of_the_owner_are_listed() {
        let table = [memory_device(1), oem_strings_table(&["a", "b=c"])].concat();
        assert_eq!(oem_strings(&table), ["a", "b=c"]);
    }

    #[test]
    fn empty_slots_are_no_memory() {
        assert_eq!(memory_mib(&memory_device(0)), None);
        assert_eq!(memory_mib(&[]), None);
    }

    proptest! {
        #[test]
        fn a_damaged_table_is_never_a_panic(table in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (memory_mib(&table), oem_strings(&table));
        }
    }
}
