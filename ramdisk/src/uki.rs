//! A UEFI application that is kernel, initial ramdisk and command line in one: sections appended to systemd's EFI stub
//! (https://uapi-group.org/specifications/specs/unified_kernel_image).
//!
//! It only adds; a stub that has no room for more section headers, or that is signed already, is refused.

use anyhow::{Context, Result, bail};

/// Size of a section's header, bytes.
const SECTION: usize = 40;
/// Initialized data, readable.
const CHARACTERISTICS: u32 = 0x4000_0040;
/// Optional header of a 64-bit image.
const PE32_PLUS: u16 = 0x20b;
/// Offsets in the optional header.
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const IMAGE_SIZE: usize = 56;
const HEADERS_SIZE: usize = 60;
const CHECKSUM: usize = 64;
const SECURITY_DIRECTORY: usize = 112 + 4 * 8;

/// `stub` with `sections` (name, content) behind its own, in this order; each begins on a file block of the stub's
/// alignment (512 bytes). The kernel belongs last: some stubs unpack it where it lies.
pub fn assemble(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut file = stub.to_vec();
    let head = Head::read(&file).context("the EFI stub is no 64-bit PE file")?;
    if head.signed {
        bail!("the EFI stub is signed: what is appended would break the signature");
    }
    if head.table + (head.count + sections.len()) * SECTION > head.headers_size {
        bail!("the EFI stub has no room for {} more section headers", sections.len());
    }
    let mut address = head.end_address.next_multiple_of(head.section_alignment);
    for (index, (name, data)) in sections.iter().enumerate() {
        let begins = file.len().next_multiple_of(head.file_alignment);
        let size = data.len().next_multiple_of(head.file_alignment);
        file.resize(begins, 0);
        file.extend_from_slice(data);
        file.resize(begins + size, 0);
        let at = head.table + (head.count + index) * SECTION;
        let header = section_header(name, data.len(), address, size, begins)?;
        file[at..at + SECTION].copy_from_slice(&header);
        address = (address + data.len()).next_multiple_of(head.section_alignment);
    }
    put(&mut file, head.coff + 2, &(u16::try_from(head.count + sections.len())?).to_le_bytes());
    put(&mut file, head.optional + IMAGE_SIZE, &u32::try_from(address)?.to_le_bytes());
    put(&mut file, head.optional + CHECKSUM, &[0; 4]); // firmware does not look at it
    Ok(file)
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn section_header(name: &str, length: usize, address: usize, size: usize, begins: usize) -> Result<[u8; SECTION]> {
    let mut header = [0; SECTION];
    if name.len() > 8 {
        bail!("a section's name has at most 8 letters: {name}");
    }
    put(&mut header, 0, name.as_bytes());
    for (at, value) in [(8, length), (12, address), (16, size), (20, begins)] {
        put(&mut header, at, &u32::try_from(value).context("a UEFI application has less than 4 GiB")?.to_le_bytes());
    }
    put(&mut header, 36, &CHARACTERISTICS.to_le_bytes());
    Ok(header)
}

/// Where things are in a PE file.
struct Head {
    coff: usize,
    optional: usize,
    /// The table of sections, and how many there are.
    table: usize,
    count: usize,
    headers_size: usize,
    section_alignment: usize,
    file_alignment: usize,
    /// First address behind all sections.
    end_address: usize,
    signed: bool,
}

impl Head {
    fn read(file: &[u8]) -> Option<Head> {
        let coff = number(file, 0x3c)? + 4;
        let optional = coff + 20;
        if file.get(..2)? != b"MZ" || file.get(coff - 4..coff)? != b"PE\0\0" || short(file, optional)? != PE32_PLUS {
            return None;
        }
        let count = usize::from(short(file, coff + 2)?);
        let table = optional + usize::from(short(file, coff + 16)?);
        let mut end_address = 0;
        for index in 0..count {
            let at = table + index * SECTION;
            end_address = end_address.max(number(file, at + 12)?.checked_add(number(file, at + 8)?)?);
        }
        let (section_alignment, file_alignment) =
            (number(file, optional + SECTION_ALIGNMENT)?, number(file, optional + FILE_ALIGNMENT)?);
        let headers_size = number(file, optional + HEADERS_SIZE)?;
        let sound = section_alignment.is_power_of_two() && file_alignment.is_power_of_two();
        (sound && file_alignment >= 512 && headers_size <= file.len()).then_some(Head {
            coff,
            optional,
            table,
            count,
            headers_size,
            section_alignment,
            file_alignment,
            end_address,
            signed: number(file, optional + SECURITY_DIRECTORY)? != 0,
        })
    }
}

fn number(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes) as usize)
}

fn short(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stub with one section, `.text`, of `text` bytes.
    fn stub(headers_size: u32, text: u32) -> Vec<u8> {
        let mut file = vec![0; headers_size as usize + 512];
        put(&mut file, 0, b"MZ");
        put(&mut file, 0x3c, &0x40_u32.to_le_bytes());
        put(&mut file, 0x40, b"PE\0\0");
        put(&mut file, 0x46, &1_u16.to_le_bytes());
        put(&mut file, 0x54, &240_u16.to_le_bytes());
        put(&mut file, 0x58, &PE32_PLUS.to_le_bytes());
        put(&mut file, 0x58 + SECTION_ALIGNMENT, &4096_u32.to_le_bytes());
        put(&mut file, 0x58 + FILE_ALIGNMENT, &512_u32.to_le_bytes());
        put(&mut file, 0x58 + HEADERS_SIZE, &headers_size.to_le_bytes());
        let header = section_header(".text", text as usize, 4096, 512, headers_size as usize).expect("fits");
        put(&mut file, 0x58 + 240, &header);
        file
    }

    #[test]
    fn sections_lie_on_blocks_of_the_file_and_pages_of_memory_behind_the_stubs_own() {
        let made = assemble(&stub(1024, 5000), &[(".initrd", &[1; 700]), (".linux", &[2; 10])]).expect("has room");
        let head = Head::read(&made).expect("is a PE file");
        let section = |index: usize| {
            let at = head.table + index * SECTION;
            [8, 12, 16, 20].map(|field| number(&made, at + field).expect("inside"))
        };
        assert_eq!(head.count, 3);
        assert_eq!(section(1), [700, 3 * 4096, 1024, 1536]);
        assert_eq!(section(2), [10, 4 * 4096, 512, 2560]);
        assert_eq!(number(&made, head.optional + IMAGE_SIZE), Some(5 * 4096));
        assert_eq!(&made[1536..1536 + 700], [1; 700]);
        assert_eq!(&made[2560..2570], [2; 10]);
    }

    #[test]
    fn a_stub_without_room_or_with_a_signature_is_refused() {
        assert!(assemble(&stub(512, 10), &[(".a", &[]), (".b", &[]), (".c", &[]), (".d", &[]), (".e", &[])]).is_err());
        let mut signed = stub(1024, 10);
        put(&mut signed, 0x58 + SECURITY_DIRECTORY, &[1]);
        assert!(assemble(&signed, &[]).is_err());
        assert!(assemble(b"no program", &[]).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_stub_is_no_panic(at in 0_usize..1024, bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
            let mut stub = stub(1024, 10);
            let end = (at + bytes.len()).min(stub.len());
            stub[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = assemble(&stub, &[(".linux", &[1; 10])]);
        }
    }
}
