//! Reads QEMU's copy-on-write images, version 2 and 3 (QEMU's docs/interop/qcow2.rst): as much as a finished disk image
//! needs. Backing files, encryption, external data files and sub-clusters are refused by name. Every number of the file
//! is checked before it is used: the file is a stranger's, right digest or not.

use flate2::{Decompress, FlushDecompress};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Largest disk that is unpacked, bytes: 4 TiB. A header can promise more zeros than anybody has time for.
const LARGEST: u64 = 4 << 40;
/// Largest L1 table, entries (QEMU's own limit is 32 MiB).
const LARGEST_L1: u32 = 4 << 20;
/// Bits 9 to 55 of a table's entry: an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// A cluster of zeros (version 3).
const ZEROS: u64 = 1;

/// Why an image is not read.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// It is something else, or broken.
    #[error("this is no whole qcow2 image: {0}")]
    Damaged(String),
    /// It is one, of a kind that is not unpacked.
    #[error("this qcow2 image {0}")]
    Unsupported(String),
    /// The file cannot be read.
    #[error("the qcow2 image cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Deflate,
    Zstd,
}

/// An open image.
#[derive(Debug)]
pub struct Qcow2 {
    file: File,
    length: u64,
    size: u64,
    cluster_bits: u32,
    compression: Compression,
    l1: Vec<u64>,
    /// The L2 table that was used last, and which one it is.
    l2: Option<(usize, Vec<u64>)>,
    packed: Vec<u8>,
}

fn damaged<T>(what: impl Into<String>) -> Result<T, Qcow2Error> {
    Err(Qcow2Error::Damaged(what.into()))
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, Qcow2Error> {
    Err(Qcow2Error::Unsupported(what.into()))
}

impl Qcow2 {
    /// Reads the header and the first table.
    pub fn open(file: File) -> Result<Qcow2, Qcow2Error> {
        let length = file.metadata()?.len();
        let mut header = [0; 112];
        let read = read_up_to(&file, &mut header, 0)?;
        if read < 72 || header[..4] != MAGIC {
            return damaged("it does not begin as one");
        }
        let u32_at = |at: usize| u32::from_be_bytes(bytes(&header, at));
        let u64_at = |at: usize| u64::from_be_bytes(bytes(&header, at));
        let compression = match u32_at(4) {
            2 => Compression::Deflate,
            3 if read < 104 => return damaged("its header is cut short"),
            3 => features(u64_at(72), u32_at(100), header[104])?,
            version => return unsupported(format!("is of version {version}; 2 and 3 are unpacked")),
        };
        if u64_at(8) != 0 {
            return unsupported("has a backing file: flatten it with `qemu-img convert`");
        }
        if u32_at(32) != 0 {
            return unsupported("is encrypted");
        }
        let (cluster_bits, size, l1_size, l1_offset) = (u32_at(20), u64_at(24), u32_at(36), u64_at(40));
        if !(9..=21).contains(&cluster_bits) {
            return damaged(format!("clusters of 2^{cluster_bits} bytes"));
        }
        if size > LARGEST {
            return unsupported(format!("is a disk of {size} bytes; the largest that is unpacked has {LARGEST}"));
        }
        let per_l1_entry = 1_u64 << (2 * cluster_bits - 3);
        if l1_size > LARGEST_L1 || u64::from(l1_size) < size.div_ceil(per_l1_entry) {
            return damaged(format!("a first table of {l1_size} entries for {size} bytes"));
        }
        let mut image = Qcow2 { file, length, size, cluster_bits, compression, l1: vec![], l2: None, packed: vec![] };
        image.l1 = image.table(l1_offset, l1_size as usize)?;
        Ok(image)
    }

    /// Size of the disk, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Size of a cluster, bytes.
    pub fn cluster_size(&self) -> usize {
        1 << self.cluster_bits
    }

    /// Reads the cluster `index` into `cluster`, which is [`Qcow2::cluster_size`] long.
    pub fn read(&mut self, index: u64, cluster: &mut [u8]) -> Result<(), Qcow2Error> {
        let entry = self.entry(index)?;
        if entry & COMPRESSED != 0 {
            return self.unpack(entry, cluster);
        }
        let offset = entry & OFFSET;
        if offset == 0 || entry & ZEROS != 0 {
            cluster.fill(0);
            return Ok(());
        }
        if offset >= self.length {
            return damaged(format!("cluster {index} is behind its end"));
        }
        let read = read_up_to(&self.file, cluster, offset)?;
        cluster[read..].fill(0); // the last cluster of a file need not be whole
        Ok(())
    }

    /// The entry of cluster `index` in its L2 table.
    fn entry(&mut self, index: u64) -> Result<u64, Qcow2Error> {
        let entries = self.cluster_size() / 8;
        let (which, at) = ((index / entries as u64) as usize, (index % entries as u64) as usize);
        let Some(l1) = self.l1.get(which) else { return damaged(format!("no table for cluster {index}")) };
        let offset = l1 & OFFSET;
        if offset == 0 {
            return Ok(0);
        }
        if self.l2.as_ref().is_none_or(|(loaded, _)| *loaded != which) {
            self.l2 = Some((which, self.table(offset, entries)?));
        }
        Ok(self.l2.as_ref().and_then(|(_, table)| table.get(at)).copied().unwrap_or(0))
    }

    fn table(&self, offset: u64, entries: usize) -> Result<Vec<u64>, Qcow2Error> {
        let end = offset.checked_add(entries as u64 * 8);
        if end.is_none_or(|end| end > self.length) {
            return damaged(format!("a table at byte {offset} is behind its end"));
        }
        let mut raw = vec![0; entries * 8];
        self.file.read_exact_at(&mut raw, offset)?;
        Ok(raw.chunks_exact(8).map(|entry| u64::from_be_bytes(bytes(entry, 0))).collect())
    }

    /// Unpacks the compressed cluster behind `entry`.
    fn unpack(&mut self, entry: u64, cluster: &mut [u8]) -> Result<(), Qcow2Error> {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
        let length = sectors * 512 - offset % 512;
        if offset >= self.length {
            return damaged("a compressed cluster is behind its end");
        }
        let length = length.min(self.length - offset) as usize;
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(length, 0);
        self.file.read_exact_at(&mut packed, offset)?;
        let unpacked = match self.compression {
            Compression::Deflate => inflate(&packed, cluster),
            Compression::Zstd => unzstd(&packed, cluster),
        };
        self.packed = packed;
        match unpacked {
            Some(unpacked) if unpacked == cluster.len() => Ok(()),
            _ => damaged("a compressed cluster cannot be unpacked"),
        }
    }
}

/// What version 3 may ask of a reader; how clusters are compressed.
fn features(incompatible: u64, header_length: u32, compression: u8) -> Result<Compression, Qcow2Error> {
    const DIRTY: u64 = 1; // reference counts are not up to date; a reader needs none
    const CORRUPT: u64 = 1 << 1;
    const EXTERNAL: u64 = 1 << 2;
    const COMPRESSION: u64 = 1 << 3;
    const EXTENDED: u64 = 1 << 4;
    match incompatible {
        bits if bits & CORRUPT != 0 => damaged("it is marked as corrupt"),
        bits if bits & EXTERNAL != 0 => unsupported("keeps its data in another file"),
        bits if bits & EXTENDED != 0 => unsupported("has sub-clusters (extended_l2)"),
        bits if bits & !(DIRTY | COMPRESSION) != 0 => unsupported(format!("needs features {bits:#x}")),
        bits if bits & COMPRESSION == 0 || header_length <= 104 => Ok(Compression::Deflate),
        _ if compression == 0 => Ok(Compression::Deflate),
        _ if compression == 1 => Ok(Compression::Zstd),
        _ => unsupported(format!("is compressed by method {compression}")),
    }
}

fn inflate(packed: &[u8], cluster: &mut [u8]) -> Option<usize> {
    let mut inflater = Decompress::new(false);
    inflater.decompress(packed, cluster, FlushDecompress::Finish).ok()?;
    usize::try_from(inflater.total_out()).ok()
}

/// Behind the frame there may be padding up to the next sector.
fn unzstd(packed: &[u8], cluster: &mut [u8]) -> Option<usize> {
    let mut frame = zstd::stream::read::Decoder::with_buffer(packed).ok()?.single_frame();
    let mut filled = 0;
    while filled < cluster.len() {
        match io::Read::read(&mut frame, &mut cluster[filled..]).ok()? {
            0 => break,
            read => filled += read,
        }
    }
    Some(filled)
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(filled)
}

/// `N` bytes of `from`; zeros where it ends before, which callers have ruled out.
fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;
