//! Unpacks a qcow2 image into what agents understand: raw, packed with Zstandard. The same image gives the same bytes on
//! every replica of the same version, so each can serve what another began to.

use super::Failure;
use super::cache::{Cache, Cached, Room};
use super::digest::Hasher;
use super::job::Done;
use super::qcow2::{Qcow2, Qcow2Error};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// Quick, and within a few percent of the next levels' size on systems of files.
const LEVEL: i32 = 3;
/// Room is made in steps of so many bytes.
const STEP: u64 = 64 << 20;

/// Unpacks `image`, which the claim knows by the digest `source`, into the cache. Waits for disk and processor.
pub fn unpack(image: &Cached, source: &str, cache: &Arc<Cache>, tell: impl Fn(u8)) -> Result<Done, Failure> {
    let own = |why: io::Error| Failure::unavailable(format!("the image cache: {why}"));
    let bad = |why: Qcow2Error| Failure::unreadable(why.to_string());
    let file = image.file.try_clone().map_err(own)?;
    let mut image = Qcow2::open(file).map_err(bad)?;
    let path = cache.unpacking(source);
    let out = Out { file: File::create(&path).map_err(own)?, hasher: Hasher::sha256(), room: cache.room(), length: 0 };
    let mut out = zstd::stream::write::Encoder::new(out, LEVEL).map_err(own)?;
    let (size, mut cluster, mut told) = (image.size(), vec![0; image.cluster_size()], 0);
    let clusters = size.div_ceil(cluster.len() as u64);
    for index in 0..clusters {
        image.read(index, &mut cluster).map_err(bad)?;
        let rest = size - index * cluster.len() as u64;
        let length = cluster.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        out.write_all(&cluster[..length]).map_err(own)?;
        let percent = u8::try_from((index + 1) * 100 / clusters).unwrap_or(100);
        if percent != told {
            tell(percent);
            told = percent;
        }
    }
    let Out { hasher, room, .. } = out.finish().map_err(own)?;
    let digest = hasher.finish();
    let name = name(source, &digest);
    cache.adopt(&path, &name, room).map_err(own)?;
    Ok(Done { name, digest })
}

/// Name in the cache of what was made of `source` and has `digest`.
pub fn name(source: &str, digest: &str) -> String {
    format!("{source}.{digest}.raw.zst")
}

/// The digest in the name of something that was made of `source`.
pub fn digest_of<'a>(name: &'a str, source: &str) -> Option<&'a str> {
    name.strip_prefix(source)?.strip_prefix('.')?.strip_suffix(".raw.zst")
}

/// Where the packed bytes go.
struct Out {
    file: File,
    hasher: Hasher,
    room: Room,
    length: u64,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        if !self.room.grow(self.length.next_multiple_of(STEP)) && !self.room.grow(self.length) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no room for the unpacked image"));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
