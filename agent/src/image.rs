//! An image on its way to a disk, in one pass: served bytes -> digest -> unpack -> disk.
//!
//! The first MiB, where firmware looks for something to boot, is held back until the digest is right: a machine whose
//! power goes in between, or that got other bytes than the plan wants, has nothing to boot.

use crate::digest::Digester;
use crate::fetch::Download;
use crate::progress::Progress;
use crate::{BlockDevice, Failure};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use rackwright_protocol::facts::ImageFormat;
use std::io::Write;

/// What is held back of the start of the disk, and the unit that is written, bytes.
const BLOCK: usize = 1024 * 1024;
/// What is unpacked at a time, bytes. Gzip packs up to a thousand to one, so this bounds the memory that a bad image takes.
const PIECE: usize = 16 * 1024;

/// Writes the image that `download` brings to `disk`, which holds `size` bytes. Returns the digest of what was served.
/// After an error the start of the disk is as it was before.
pub(crate) async fn write(
    download: &mut Download<'_>,
    format: ImageFormat,
    mut digester: Digester,
    disk: &mut dyn BlockDevice,
    size: u64,
    progress: &Progress,
) -> Result<String, Failure> {
    let mut sink = Sink { disk, size, head: Vec::new(), body: Vec::new(), at: 0 };
    let mut unpacker = Unpacker::new(format);
    // A file that cannot be unpacked or does not fit is fetched to its end all the same: whether it is the wrong file or
    // a damaged download is what a person needs to know, and only the digest tells.
    let mut spoilt = Ok(());
    while let Some(bytes) = download.next().await? {
        digester.update(&bytes);
        if spoilt.is_ok() {
            if let Some(total) = download.total().filter(|total| format == ImageFormat::Raw && *total > size) {
                return Err(too_large(total, size));
            }
            spoilt = take(&mut unpacker, bytes, &mut sink).await;
        }
        progress.bytes("WritingImage", download.received(), download.total().unwrap_or(0));
    }
    let digest = digester.check()?;
    spoilt?;
    let rest = unpacker.finish()?;
    sink.push(&rest).await?;
    sink.commit().await?;
    Ok(digest)
}

async fn take(unpacker: &mut Unpacker, bytes: Bytes, sink: &mut Sink<'_>) -> Result<(), Failure> {
    for start in (0..bytes.len()).step_by(PIECE) {
        let piece = bytes.slice(start..bytes.len().min(start + PIECE));
        let unpacked = unpacker.feed(piece)?;
        sink.push(&unpacked).await?;
    }
    Ok(())
}

enum Unpacker {
    Raw,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Unpacker {
    fn new(format: ImageFormat) -> Unpacker {
        match format {
            ImageFormat::Raw => Unpacker::Raw,
            ImageFormat::RawGz => Unpacker::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            ImageFormat::RawZst | ImageFormat::RawXz | ImageFormat::Qcow2 => Unpacker::Raw, // not yet
        }
    }

    fn feed(&mut self, packed: Bytes) -> Result<Bytes, Failure> {
        match self {
            Unpacker::Raw => Ok(packed),
            Unpacker::Gzip(decoder) => {
                decoder.write_all(&packed).map_err(|why| unreadable(&why))?;
                Ok(std::mem::take(decoder.get_mut()).into())
            }
        }
    }

    fn finish(self) -> Result<Bytes, Failure> {
        match self {
            Unpacker::Raw => Ok(Bytes::new()),
            Unpacker::Gzip(decoder) => decoder.finish().map(Bytes::from).map_err(|why| unreadable(&why)),
        }
    }
}

/// The disk behind a held-back start.
struct Sink<'a> {
    disk: &'a mut dyn BlockDevice,
    size: u64,
    /// The first bytes of the image, up to [`BLOCK`].
    head: Vec<u8>,
    /// Bytes that wait until there are enough for a write.
    body: Vec<u8>,
    /// Where `body` goes, once `head` is full.
    at: u64,
}

impl Sink<'_> {
    async fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (head, mut rest) = bytes.split_at(bytes.len().min(BLOCK - self.head.len()));
        self.head.extend_from_slice(head);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.body.len()));
            self.body.extend_from_slice(now);
            rest = later;
            if self.body.len() == BLOCK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let at = self.at + BLOCK as u64;
        let end = at + self.body.len() as u64;
        if end > self.size {
            return Err(too_large(end, self.size));
        }
        self.disk.write_at(at, Bytes::copy_from_slice(&self.body)).await.map_err(write_failed)?;
        self.at += self.body.len() as u64;
        self.body.clear();
        Ok(())
    }

    /// Writes what is left, and the start of the disk last.
    async fn commit(mut self) -> Result<(), Failure> {
        if self.head.is_empty() {
            return Err(Failure::new("ImageUnreadable", "the image is empty"));
        }
        if self.head.len() as u64 > self.size {
            return Err(too_large(self.head.len() as u64, self.size));
        }
        if !self.body.is_empty() {
            self.flush().await?;
        }
        self.disk.finish().await.map_err(write_failed)?;
        self.disk.write_at(0, self.head.into()).await.map_err(write_failed)?;
        self.disk.finish().await.map_err(write_failed)
    }
}

fn write_failed(why: crate::MachineError) -> Failure {
    Failure::new("DiskWriteFailed", why.to_string())
}

fn unreadable(why: &std::io::Error) -> Failure {
    Failure::new("ImageUnreadable", format!("the image cannot be unpacked: {why}"))
}

fn too_large(image: u64, disk: u64) -> Failure {
    Failure::new("ImageTooLarge", format!("the image needs at least {image} bytes, the disk holds {disk}"))
}
