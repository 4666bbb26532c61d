//! Unified kernel images (UAPI group, UKI specification): kernel, initial ramdisk and command line in one PE file.

use super::{Kernel, bls, failed};
use crate::MachineError;
use crate::linux::names;
use std::path::{Path, PathBuf};

/// Larger files are not read, bytes.
const LARGEST: u64 = 1 << 30;

/// The newest image on an EFI system partition, wherever that one is mounted.
pub fn newest(folder: &Path) -> Option<PathBuf> {
    for place in ["EFI/Linux", "boot/EFI/Linux", "boot/efi/EFI/Linux", "efi/EFI/Linux"] {
        let images = folder.join(place);
        let mut files: Vec<String> =
            names(&images).into_iter().filter(|name| name.to_ascii_lowercase().ends_with(".efi")).collect();
        files.sort_by_key(|name| bls::version_key(name));
        if let Some(file) = files.last() {
            return Some(images.join(file));
        }
    }
    None
}

/// Unpacks what is loaded into `scratch`.
pub fn unpack(image: &Path, scratch: &Path) -> Result<Kernel, MachineError> {
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let length = std::fs::metadata(image).map_err(failed(&name))?.len();
    if length > LARGEST {
        return Err(MachineError(format!("{name} has {length} bytes, which is too large for a kernel")));
    }
    let bytes = std::fs::read(image).map_err(failed(&name))?;
    let section = |wanted: &str| section(&bytes, wanted);
    let missing = |what: &str| MachineError(format!("{name} is no unified kernel image: it has no {what} section"));
    let kernel = section(".linux").ok_or_else(|| missing(".linux"))?;
    let command_line = section(".cmdline").ok_or_else(|| missing(".cmdline"))?;
    let write = |file: &str, bytes: &[u8]| {
        let path = scratch.join(file);
        std::fs::write(&path, bytes).map_err(failed(file)).map(|()| path)
    };
    let command_line = String::from_utf8_lossy(command_line);
    Ok(Kernel {
        image: write("kexec-kernel", kernel)?,
        initrd: section(".initrd").map(|initrd| write("kexec-initrd", initrd)).transpose()?,
        command_line: command_line.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned(),
    })
}

/// Content of a section (PE format, section table).
fn section<'a>(image: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?)));
    let head = word(0x3c)?;
    if image.get(head..head.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let (count, optional) = (half(head + 6)?, half(head + 20)?);
    let table = head + 24 + optional;
    (0..count).find_map(|index| {
        let at = table + index * 40;
        let name = image.get(at..at + 8)?;
        let name = name.split(|byte| *byte == 0).next()?;
        if name != wanted.as_bytes() {
            return None;
        }
        // What is in memory may be longer (zeros) or shorter (padding) than what is in the file.
        let length = word(at + 8)?.min(word(at + 16)?);
        let start = word(at + 20)?;
        image.get(start..start.checked_add(length)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut image = vec![0; 0x80];
        image[0x3c] = 0x80;
        image.extend(b"PE\0\0\x64\x86");
        image.extend(u16::try_from(sections.len()).expect("few").to_le_bytes());
        image.extend([0; 12]);
        image.extend([0; 4]);
        let mut start = image.len() + sections.len() * 40;
        for (name, data) in sections {
            let mut header = [0; 40];
            header[..name.len()].copy_from_slice(name.as_bytes());
            let words = [(8, data.len()), (16, data.len().next_multiple_of(512)), (20, start)];
            for (at, value) in words {
                header[at..at + 4].copy_from_slice(&u32::try_from(value).expect("small").to_le_bytes());
            }
            image.extend(header);
            start += data.len().next_multiple_of(512);
        }
        for (_, data) in sections {
            image.extend(*data);
            image.resize(image.len() + data.len().next_multiple_of(512) - data.len(), 0);
        }
        image
    }

    #[test]
    fn the_newest_image_is_unpacked() {
        let folder = tempfile::tempdir().expect("a folder");
        let images = folder.path().join("EFI/Linux");
        std::fs::create_dir_all(&images).expect("a folder");
        let new = image(&[(".cmdline", b"root=LABEL=root quiet\0"), (".linux", b"kernel"), (".initrd", b"initrd")]);
        std::fs::write(images.join("os-6.9.efi"), image(&[])).expect("written");
        std::fs::write(images.join("os-6.10.efi"), new).expect("written");
        let kernel = unpack(&newest(folder.path()).expect("found"), folder.path()).expect("unpacked");
        assert_eq!(kernel.command_line, "root=LABEL=root quiet");
        assert_eq!(std::fs::read(kernel.image).expect("there"), b"kernel");
        assert_eq!(std::fs::read(kernel.initrd.expect("has one")).expect("there"), b"initrd");
        let why = unpack(&images.join("os-6.9.efi"), folder.path()).expect_err("empty");
        assert!(why.0.contains("no .linux section"), "{why}");
    }

    proptest! {
        #[test]
        fn no_file_is_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..400) {
            let _ = section(&noise, ".linux");
            let mut whole = image(&[(".linux", b"kernel")]);
            whole.truncate(cut);
            whole.extend(noise);
            let _ = section(&whole, ".linux");
        }
    }
}
