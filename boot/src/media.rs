//! The media that hosts boot: the same file for all, with one host's own area laid over it while it is read.

use anyhow::{Context, bail};
use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use rackwright_protocol::media::{AREA_SIZE, find};
use std::io::{Read, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Generic media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// Nothing but the area: for machines that need no kernel to run an agent.
    Bare,
    /// A file with an area somewhere in it. It must not change while the service runs.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its size, bytes.
        length: u64,
        /// Where the area begins, bytes.
        area: u64,
    },
}

/// A piece of what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// These bytes of the file.
    File(Range<u64>),
    /// These bytes of the area.
    Area(Range<usize>),
}

impl Media {
    /// The file at `path`, after a search for its area.
    pub fn open(path: &Path) -> anyhow::Result<Media> {
        let name = path.display();
        let mut file = std::fs::File::open(path).with_context(|| format!("ramdisk {name}"))?;
        let length = file.metadata().with_context(|| format!("ramdisk {name}"))?.len();
        let mut block = vec![0; AREA_SIZE];
        let mut at = 0;
        loop {
            let read = read_full(&mut file, &mut block).with_context(|| format!("ramdisk {name}"))?;
            if read == 0 {
                bail!("ramdisk {name} has no reserved area for a host's own part");
            }
            if let Some(found) = find(&block[..read]) {
                let area = at + found as u64;
                if area + AREA_SIZE as u64 > length {
                    bail!("the reserved area of ramdisk {name} is cut short");
                }
                return Ok(Media::File { path: path.into(), length, area });
            }
            at += read as u64;
        }
    }

    /// Size, bytes.
    pub fn length(&self) -> u64 {
        match self {
            Media::Bare => AREA_SIZE as u64,
            Media::File { length, .. } => *length,
        }
    }

    /// The bytes of `range`, with `area` where the host's own part belongs.
    pub fn body(&self, area: Vec<u8>, range: Range<u64>) -> Body {
        let area = Bytes::from(area);
        let path = match self {
            Media::Bare => PathBuf::new(),
            Media::File { path, .. } => path.clone(),
        };
        let pieces = self.pieces(range).into_iter().map(move |piece| match piece {
            Piece::Area(range) => stream::once(std::future::ready(Ok(area.slice(range)))).boxed(),
            Piece::File(range) => read_file(path.clone(), range).boxed(),
        });
        Body::from_stream(stream::iter(pieces).flatten())
    }

    /// `range`, cut where the area begins and ends.
    fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        let start = match self {
            Media::Bare => 0,
            Media::File { area, .. } => *area,
        };
        let end = start + AREA_SIZE as u64;
        let before = Piece::File(range.start..range.end.min(start));
        let within = range.start.clamp(start, end)..range.end.clamp(start, end);
        let within = Piece::Area((within.start - start) as usize..(within.end - start) as usize);
        let after = Piece::File(range.start.max(end)..range.end);
        [before, within, after].into_iter().filter(|piece| !piece.is_empty()).collect()
    }
}

impl Piece {
    fn is_empty(&self) -> bool {
        match self {
            Piece::File(range) => range.is_empty(),
            Piece::Area(range) => range.is_empty(),
        }
    }
}

fn read_file(path: PathBuf, range: Range<u64>) -> impl Stream<Item = std::io::Result<Bytes>> {
    let opened = async move {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        Ok(ReaderStream::with_capacity(file.take(range.end - range.start), AREA_SIZE))
    };
    stream::once(opened).flat_map(|opened: std::io::Result<_>| match opened {
        Ok(bytes) => bytes.boxed(),
        Err(why) => stream::once(std::future::ready(Err(why))).boxed(),
    })
}

/// Fills `block` as far as the file goes.
fn read_full(file: &mut std::fs::File, block: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rackwright_protocol::media::MAGIC;

    const AREA: u64 = AREA_SIZE as u64;

    /// A file of `before` bytes 1, an area, and `after` bytes 2.
    fn ramdisk(before: usize, after: usize) -> (tempfile::NamedTempFile, Media) {
        let mut bytes = vec![1; before];
        bytes.extend_from_slice(MAGIC);
        bytes.resize(before + AREA_SIZE, 0);
        bytes.resize(before + AREA_SIZE + after, 2);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("writable");
        let media = Media::open(file.path()).expect("has an area");
        (file, media)
    }

    #[test]
    fn the_area_is_found_wherever_it_is_in_the_file() {
        for before in [0, 512, AREA_SIZE - 512, AREA_SIZE, 3 * AREA_SIZE + 1024] {
            let (file, media) = ramdisk(before, 100);
            let (area, length) = (before as u64, before as u64 + AREA + 100);
            assert_eq!(media, Media::File { path: file.path().into(), length, area });
        }
    }

    #[test]
    fn a_file_without_a_whole_area_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), vec![0; 1000]).expect("writable");
        assert!(Media::open(file.path()).is_err());
        std::fs::write(file.path(), MAGIC).expect("writable");
        assert!(Media::open(file.path()).is_err());
    }

    #[tokio::test]
    async fn every_range_is_the_file_with_the_area_laid_over() {
        let (_file, media) = ramdisk(1024, 300);
        let whole = [vec![1; 1024], vec![9; AREA_SIZE], vec![2; 300]].concat();
        let length = media.length();
        for range in [
            0..length,
            0..1,
            0..1024,
            1000..1030,
            1024..1024 + AREA,
            1024 + AREA - 1..1024 + AREA + 1,
            1024 + AREA..length,
            500..length - 1,
        ] {
            let body = media.body(vec![9; AREA_SIZE], range.clone());
            let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("readable");
            assert_eq!(bytes, whole[range.start as usize..range.end as usize], "{range:?}");
        }
    }

    #[test]
    fn bare_media_is_the_area() {
        assert_eq!(Media::Bare.pieces(10..AREA), [Piece::Area(10..AREA_SIZE)]);
    }
}
