//! Bytes of a file, on their way to a socket: a fixed number of buffers that are used again, one per reader.
//!
//! What is in the page cache is read at once, the rest on a thread that may wait for the disk.

use bytes::Bytes;
use futures::{Stream, stream};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Size of a buffer, bytes: many TLS records, and small beside a processor's cache.
pub const BUFFER: usize = 256 * 1024;
/// How many unused buffers are kept.
const KEPT: usize = 64;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that goes back to the pool when its last reader has dropped it.
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    fn take() -> Buffer {
        let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: kept.unwrap_or_else(|| vec![0; BUFFER]), filled: 0 }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

/// The bytes of `file` in `range`. An error when the file ends before.
pub fn read(file: Arc<File>, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, range), async |(file, range)| {
        if range.is_empty() {
            return Ok(None);
        }
        let bytes = chunk(&file, range.clone()).await?;
        let next = range.start + bytes.len() as u64..range.end;
        Ok(Some((bytes, (file, next))))
    })
}

/// The first bytes of `range`, at most one buffer of them and at least one.
pub async fn chunk(file: &Arc<File>, range: Range<u64>) -> io::Result<Bytes> {
    let wanted = usize::try_from(range.end - range.start).unwrap_or(BUFFER).min(BUFFER);
    let mut buffer = Buffer::take();
    match cached(file, &mut buffer.bytes[..wanted], range.start) {
        Some(read) if read > 0 => {
            buffer.filled = read;
            return Ok(Bytes::from_owner(buffer));
        }
        _ => {}
    }
    let file = file.clone();
    let waiting = tokio::task::spawn_blocking(move || {
        buffer.filled = loop {
            match file.read_at(&mut buffer.bytes[..wanted], range.start) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file is shorter than it was")),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        Ok(Bytes::from_owner(buffer))
    });
    waiting.await.map_err(io::Error::other)?
}

/// Reads what is in memory already; `None` when nothing is, or this cannot be told.
fn cached(file: &File, buffer: &mut [u8], at: u64) -> Option<usize> {
    loop {
        match preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT) {
            Ok(read) => return Some(read),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    fn file(content: &[u8]) -> Arc<File> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("writable");
        Arc::new(File::open(file.path()).expect("there"))
    }

    #[tokio::test]
    async fn any_range_comes_as_it_stands_in_the_file() {
        let content: Vec<u8> = (0..3 * BUFFER + 7).map(|at| (at % 251) as u8).collect();
        let file = file(&content);
        for range in [0..0, 0..1, 5..BUFFER + 5, BUFFER..2 * BUFFER, 1..content.len()] {
            let wanted = range.start as u64..range.end as u64;
            let chunks: Vec<Bytes> = read(file.clone(), wanted).try_collect().await.expect("readable");
            assert!(chunks.iter().all(|chunk| chunk.len() <= BUFFER));
            assert_eq!(chunks.concat(), content[range]);
        }
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_is_an_error() {
        let read: io::Result<Vec<Bytes>> = read(file(b"short"), 0..10).try_collect().await;
        assert_eq!(read.expect_err("ends early").kind(), ErrorKind::UnexpectedEof);
    }
}
