//! FAT file systems that firmware reads its loaders from. No times are in them, and the serial number is given: the
//! same files give the same bytes.

use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};

/// Room beside the files for tables, folders and rounding, bytes.
const MARGIN: usize = 512 * 1024;
const MIB: usize = 1024 * 1024;

/// A file system with `files` (path and content), as small as whole MiB allow and no smaller than `least` bytes.
pub fn image(label: &str, serial: u32, files: &BTreeMap<String, Vec<u8>>, least: usize) -> Result<Vec<u8>> {
    let content: usize = files.values().map(|data| data.len().next_multiple_of(4096)).sum();
    let size = (content + MARGIN).next_multiple_of(MIB).max(least);
    let mut disk = Cursor::new(vec![0; size]);
    let mut name = [b' '; 11];
    for (to, from) in name.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    fatfs::format_volume(&mut disk, FormatVolumeOptions::new().volume_id(serial).volume_label(name))
        .context("an EFI file system cannot be made")?;
    fill(&mut disk, files).context("an EFI file system cannot be filled")?;
    Ok(disk.into_inner())
}

fn fill(disk: &mut Cursor<Vec<u8>>, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let system = FileSystem::new(disk, FsOptions::new())?;
    for (path, data) in files {
        for (at, _) in path.match_indices('/') {
            system.root_dir().create_dir(&path[..at])?; // gives the one that is there
        }
        let mut file = system.root_dir().create_file(path)?;
        file.write_all(data)?;
        file.flush()?;
    }
    system.unmount()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_are_read_back_and_two_images_are_the_same() {
        let files = BTreeMap::from([
            ("EFI/BOOT/BOOTX64.EFI".to_string(), vec![1; 900_000]),
            ("EFI/BOOT/grubx64.efi".to_string(), vec![2; 3]),
        ]);
        let made = image("RACKWRIGHT", 7, &files, 0).expect("fits");
        assert_eq!(made, image("RACKWRIGHT", 7, &files, 0).expect("fits"));
        assert_eq!(made.len(), 2 * MIB);
        let system = FileSystem::new(Cursor::new(made), FsOptions::new()).expect("a FAT file system");
        assert_eq!(system.volume_id(), 7);
        for (path, data) in &files {
            let mut found = Vec::new();
            system.root_dir().open_file(path).expect("is there").read_to_end(&mut found).expect("is whole");
            assert!(found == *data, "{path}");
        }
    }
}
