//! The initial ramdisk: an archive with the reserved area, as it is, and then everything else, compressed.
//!
//! The kernel unpacks both into one tree. The area's data begins on a 512-byte boundary of the file, so that the boot
//! service can lay a host's own over it while it sends the file (`rackwright_protocol::media`); the agent reads it as
//! `/rackwright/area`.

use crate::cpio::Tree;
use anyhow::{Context, Result};
use rackwright_protocol::media::{AREA_SIZE, MAGIC};
use std::io::Write;

/// Boundary on which the area begins, bytes.
const BLOCK: usize = 512;
/// Path of the area in the ramdisk.
const AREA: &str = "rackwright/area";
/// Compression level: the slowest that needs no more memory to unpack than any machine has.
const LEVEL: i32 = 19;

/// An area that belongs to no host: reading it is an error.
pub fn empty_area() -> Vec<u8> {
    let mut area = MAGIC.to_vec();
    area.extend_from_slice(b"00000000\n");
    area.resize(AREA_SIZE, 0);
    area
}

/// The file that boot loaders load.
pub fn assemble(main: &Tree) -> Result<Vec<u8>> {
    let mut first = Tree::new();
    first.file(AREA, 0o400, empty_area());
    let mut file = first.archive(BLOCK);
    file.extend(compress(&main.archive(4))?);
    // Boot loaders put initial ramdisks behind each other; the kernel wants each to begin on a multiple of 4.
    file.resize(file.len().next_multiple_of(BLOCK), 0);
    Ok(file)
}

/// `archive` as the kernel unpacks it.
pub fn compress(archive: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    encoder.write_all(archive)?;
    encoder.finish().context("the initial ramdisk cannot be compressed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rackwright_protocol::Subject;
    use rackwright_protocol::media::{self, MediaConfig};

    fn ramdisk() -> Vec<u8> {
        let mut main = Tree::new();
        // The agent has the magic in it, as any program that looks for it.
        main.file("init", 0o755, [&MAGIC[..], &[7; 9000], &MAGIC[..]].concat());
        assemble(&main).expect("fits")
    }

    #[test]
    fn there_is_one_area_and_it_begins_on_a_block() {
        let file = ramdisk();
        let at = media::find(&file).expect("has an area");
        let anywhere: Vec<_> = (0..file.len()).filter(|&at| file[at..].starts_with(MAGIC)).collect();
        assert_eq!(anywhere, [at]);
    }

    #[test]
    fn an_area_that_no_host_owns_is_an_error_to_read() {
        assert!(media::read(&ramdisk()).is_err());
    }

    #[test]
    fn a_hosts_own_area_fits_where_the_empty_one_was() {
        let config = MediaConfig {
            boot_url: "https://127.0.0.1:8443".into(),
            subject: Subject { host: "a01-u07".into(), ..Subject::default() },
            ..MediaConfig::default()
        };
        let mut file = ramdisk();
        let at = media::find(&file).expect("has an area");
        file[at..at + AREA_SIZE].copy_from_slice(&media::write(&config).expect("fits"));
        assert_eq!(media::read(&file), Ok(config));
    }
}
