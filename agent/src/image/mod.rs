//! An image on its way to a disk, in one pass: served bytes -> digest, and at the same time -> unpack -> disk.
//!
//! Each of the four runs while the others do; what lies between them is bounded. Nothing of the machine's start is on
//! the disk before all is right: both ends of the disk, where firmware looks for something to boot, are held back
//! ([`Ends`]) until the digest is the wanted one, what was written was read back, and the config drive is in its place.

mod ends;
mod read_back;
mod store;
mod unpack;

pub(crate) use ends::Ends;
pub(crate) use read_back::{Samples, differs, read_back};

use crate::digest::Digester;
use crate::fetch::Download;
use crate::{BlockDevice, Failure, Progress};
use bytes::Bytes;
use futures::future::try_join4;
use rackwright_protocol::facts::{ImageFormat, ReadBack};
use tokio::sync::mpsc;
use unpack::Unpacker;

/// What is unpacked and written at a time, bytes.
const BLOCK: usize = 4 << 20;
/// What is hashed and handed to unpacking at a time, bytes.
const CHUNK: usize = 1 << 20;
/// Chunks and blocks that may wait for the next stage.
const WAITING: usize = 3;
/// Work on fewer bytes than this is done where it stands: a thread would take longer to wake, bytes.
const SMALL: usize = 128 << 10;

/// Served bytes, at least [`CHUNK`] of them but at the end.
type Chunk = Vec<Bytes>;

/// An error that is told only when the digest is right: whether it is the wrong file or a damaged one is what a person
/// needs to know, and only the digest tells.
type Later<T> = Result<T, Failure>;

/// Writes the image that `download` brings to `disk`, and gives the digest of what was served and samples of what was
/// written. Both ends are still held back by `disk`.
pub(crate) async fn write(
    download: &mut Download<'_>,
    format: ImageFormat,
    digester: Digester,
    disk: &mut Ends<'_>,
    extent: ReadBack,
    progress: &Progress,
) -> Result<(String, Samples), Failure> {
    let unpacker = Unpacker::new(format)?;
    let (to_hash, hashing) = mpsc::channel(WAITING);
    let (to_unpack, unpacking) = mpsc::channel(WAITING);
    let (to_disk, storing) = mpsc::channel(WAITING);
    let (back, returned) = mpsc::channel(WAITING + 2);
    // Only a packed image may be larger than the file.
    let limit = (format == ImageFormat::Raw).then(|| disk.size());
    let ((), digester, unpacked, stored) = try_join4(
        fetch(download, limit, to_hash, to_unpack, progress),
        hash(digester, hashing),
        unpack(unpacker, unpacking, to_disk, returned),
        store::store(disk, extent, storing, back),
    )
    .await?;
    let digest = digester.check()?;
    unpacked?;
    Ok((digest, stored?))
}

/// Refuses what cannot be unpacked here, before anything is touched.
pub(crate) fn check_format(format: ImageFormat) -> Result<(), Failure> {
    Unpacker::new(format).map(drop)
}

/// Fetches to the end even when nobody unpacks any more.
async fn fetch(
    download: &mut Download<'_>,
    limit: Option<u64>,
    to_hash: mpsc::Sender<Chunk>,
    to_unpack: mpsc::Sender<Chunk>,
    progress: &Progress,
) -> Result<(), Failure> {
    let (mut chunk, mut length) = (Chunk::new(), 0);
    loop {
        let bytes = download.next().await?;
        if let (Some(total), Some(limit)) = (download.total(), limit)
            && total > limit
        {
            return Err(too_large(total, limit));
        }
        progress.bytes("WritingImage", download.received(), download.total().unwrap_or(0));
        let ended = bytes.is_none();
        if let Some(bytes) = bytes {
            length += bytes.len();
            chunk.push(bytes);
        }
        if ended || length >= CHUNK {
            // A receiver that is gone has said why.
            let _gone = to_hash.send(chunk.clone()).await;
            let _gone = to_unpack.send(std::mem::take(&mut chunk)).await;
            length = 0;
        }
        if ended {
            return Ok(());
        }
    }
}

async fn hash(mut digester: Digester, mut chunks: mpsc::Receiver<Chunk>) -> Result<Digester, Failure> {
    while let Some(chunk) = chunks.recv().await {
        digester = aside(chunk.iter().map(Bytes::len).sum(), move || {
            chunk.iter().for_each(|bytes| digester.update(bytes));
            digester
        })
        .await?;
    }
    Ok(digester)
}

async fn unpack(
    mut unpacker: Unpacker,
    mut chunks: mpsc::Receiver<Chunk>,
    to_disk: mpsc::Sender<Bytes>,
    mut returned: mpsc::Receiver<Bytes>,
) -> Result<Later<()>, Failure> {
    while let Some(mut chunk) = chunks.recv().await {
        chunk.reverse(); // the next one is the last
        while !chunk.is_empty() {
            if let Ok(block) = returned.try_recv() {
                unpacker.reuse(block);
            }
            let full;
            (unpacker, chunk, full) = aside(chunk.iter().map(Bytes::len).sum(), move || {
                let full = feed(&mut unpacker, &mut chunk);
                (unpacker, chunk, full)
            })
            .await?;
            match full {
                Ok(Some(block)) => {
                    if to_disk.send(block).await.is_err() {
                        return Ok(Ok(())); // the disk has said why
                    }
                }
                Ok(None) => {}
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }
    loop {
        match unpacker.finish() {
            Ok(Some(block)) => {
                if to_disk.send(block).await.is_err() {
                    return Ok(Ok(()));
                }
            }
            Ok(None) => return Ok(Ok(())),
            Err(failure) => return Ok(Err(failure)),
        }
    }
}

/// Takes from the end of `chunk` until a block is full or nothing is left.
fn feed(unpacker: &mut Unpacker, chunk: &mut Chunk) -> Result<Option<Bytes>, Failure> {
    while let Some(mut packed) = chunk.pop() {
        let full = unpacker.feed(&mut packed)?;
        if !packed.is_empty() {
            chunk.push(packed);
        }
        if full.is_some() {
            return Ok(full);
        }
    }
    Ok(None)
}

/// Does `work` on so many bytes, on a thread for it unless they are few.
pub(crate) async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes < SMALL {
        return Ok(work());
    }
    let died = |why: tokio::task::JoinError| Failure::new("AgentFailed", format!("a thread of the agent died: {why}"));
    tokio::task::spawn_blocking(work).await.map_err(died)
}

fn write_failed(why: crate::MachineError) -> Failure {
    Failure::new("DiskWriteFailed", why.to_string())
}

fn too_large(image: u64, disk: u64) -> Failure {
    Failure::new("ImageTooLarge", format!("the image needs at least {image} bytes, the disk holds {disk}"))
}
