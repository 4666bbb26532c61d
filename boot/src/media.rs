//! The media that hosts boot: the same files for all, with one host's own area laid over them while they are read.

use crate::entity::Entity;
use crate::pump;
use anyhow::{Context, bail};
use aws_lc_rs::digest::{self, SHA256};
use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use rackwright_protocol::media::{AREA_SIZE, MediaKind, find};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What the kernel is told when no `boot.ipxe` beside it says something else.
const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200 panic=30 quiet";

/// Generic media.
#[derive(Clone, Debug, Default)]
pub enum Media {
    /// Nothing but the area: for machines that need no kernel to run an agent.
    #[default]
    Bare,
    /// Files of the ramdisk.
    Files {
        /// By what they are.
        files: HashMap<MediaKind, Arc<MediaFile>>,
        /// What an iPXE script tells the kernel.
        command_line: String,
    },
}

/// One file of the ramdisk. It is kept open, so a new one of that name does not mix with it.
#[derive(Debug)]
pub struct MediaFile {
    file: Arc<File>,
    length: u64,
    /// Where the area begins, bytes; a kernel has none.
    area: Option<u64>,
    /// SHA-256 of the content: equal on every replica that has the same ramdisk.
    digest: Vec<u8>,
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
    /// The folder that `cargo xtask ramdisk` made, or one ISO or UEFI image of it.
    pub fn open(path: &Path) -> anyhow::Result<Media> {
        if !path.is_dir() {
            let file = Arc::new(MediaFile::open(path, true)?);
            let files = HashMap::from([(MediaKind::Iso, file.clone()), (MediaKind::Efi, file)]);
            return Ok(Media::Files { files, command_line: COMMAND_LINE.into() });
        }
        let mut files = HashMap::new();
        for (kind, stem, ending) in [
            (MediaKind::Iso, "rackwright", ".iso"),
            (MediaKind::Efi, "rackwright", ".efi"),
            (MediaKind::Kernel, "vmlinuz", ""),
            (MediaKind::Initrd, "initrd", ""),
        ] {
            let names = ["amd64", "arm64"].map(|machine| path.join(format!("{stem}-{machine}{ending}")));
            if let Some(found) = names.iter().find(|name| name.exists()) {
                files.insert(kind, Arc::new(MediaFile::open(found, kind != MediaKind::Kernel)?));
            }
        }
        if files.is_empty() {
            bail!("{} holds no ramdisk: rackwright-amd64.iso and its like", path.display());
        }
        let script = std::fs::read_to_string(path.join("boot.ipxe")).unwrap_or_default();
        let command_line = command_line(&script).unwrap_or_else(|| COMMAND_LINE.into());
        Ok(Media::Files { files, command_line })
    }

    /// True when media of this kind can be had.
    pub fn has(&self, kind: MediaKind) -> bool {
        match self {
            Media::Bare => matches!(kind, MediaKind::Iso | MediaKind::Efi),
            Media::Files { files, .. } if kind == MediaKind::Ipxe => {
                files.contains_key(&MediaKind::Kernel) && files.contains_key(&MediaKind::Initrd)
            }
            Media::Files { files, .. } => files.contains_key(&kind),
        }
    }

    /// One host's media of this kind, if there is any. `path` gives the path of its media of another kind.
    pub fn of_host(&self, kind: MediaKind, area: Vec<u8>, path: impl Fn(MediaKind) -> String) -> Option<HostMedia> {
        match self {
            _ if !self.has(kind) => None,
            Media::Bare => Some(HostMedia { file: None, area: area.into() }),
            Media::Files { command_line, .. } if kind == MediaKind::Ipxe => {
                let script = script(&path(MediaKind::Kernel), &path(MediaKind::Initrd), command_line);
                Some(HostMedia { file: None, area: script.into() })
            }
            Media::Files { files, .. } => {
                files.get(&kind).map(|file| HostMedia { file: Some(file.clone()), area: area.into() })
            }
        }
    }
}

/// An iPXE script. iPXE takes a path to be of the server that the script came from.
fn script(kernel: &str, initrd: &str, command_line: &str) -> String {
    format!("#!ipxe\nkernel {kernel} initrd=initrd.img {command_line}\ninitrd --name initrd.img {initrd}\nboot\n")
}

/// What the `kernel` line of an iPXE script tells the kernel.
fn command_line(script: &str) -> Option<String> {
    let line = script.lines().find_map(|line| line.trim().strip_prefix("kernel "))?;
    let words: Vec<_> = line.split_whitespace().skip(1).filter(|word| !word.starts_with("initrd=")).collect();
    Some(words.join(" "))
}

impl MediaFile {
    /// The file at `path`, read through once: for its digest and, if it must have one, its area.
    fn open(path: &Path, has_area: bool) -> anyhow::Result<MediaFile> {
        let name = path.display();
        let mut file = File::open(path).with_context(|| format!("ramdisk {name}"))?;
        let (mut hash, mut area, mut at) = (digest::Context::new(&SHA256), None, 0);
        let mut block = vec![0; AREA_SIZE];
        loop {
            let read = read_full(&mut file, &mut block).with_context(|| format!("ramdisk {name}"))?;
            if read == 0 {
                break;
            }
            hash.update(&block[..read]);
            if has_area && area.is_none() {
                area = find(&block[..read]).map(|found| at + found as u64);
            }
            at += read as u64;
        }
        match area {
            None if has_area => bail!("ramdisk {name} has no reserved area for a host's own part"),
            Some(start) if start + AREA_SIZE as u64 > at => bail!("the reserved area of ramdisk {name} is cut short"),
            _ => {}
        }
        Ok(MediaFile { file: Arc::new(file), length: at, area, digest: hash.finish().as_ref().to_vec() })
    }
}

/// Media as one host gets it.
#[derive(Clone, Debug)]
pub struct HostMedia {
    /// The file that all get; absent when there is nothing but the host's own.
    file: Option<Arc<MediaFile>>,
    /// The host's own.
    area: Bytes,
}

impl HostMedia {
    /// What HTTP says of it. The tag holds for as long as the bytes do, on every replica.
    pub fn entity(&self) -> Entity {
        let mut hash = digest::Context::new(&SHA256);
        let mut length = self.area.len() as u64;
        if let Some(file) = &self.file {
            hash.update(&file.digest);
            length = file.length;
        }
        if self.area_range().is_some() {
            hash.update(&self.area);
        }
        let tag = hash.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Entity { length, tag, media_type: "application/octet-stream", secret: true }
    }

    /// True when what is in `range` is the host's own.
    pub fn is_own(&self, range: &Range<u64>) -> bool {
        self.area_range().is_some_and(|area| area.start < range.end && range.start < area.end)
    }

    /// The bytes of `range`.
    pub fn body(&self, range: Range<u64>) -> Body {
        Body::from_stream(self.stream(range))
    }

    /// The bytes of `range`.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let this = self.clone();
        stream::iter(this.pieces(range)).flat_map(move |piece| match (piece, &this.file) {
            (Piece::File(range), Some(file)) => pump::read(file.file.clone(), range).boxed(),
            (Piece::File(_), None) => stream::empty().boxed(),
            (Piece::Area(range), _) => stream::once(std::future::ready(Ok(this.area.slice(range)))).boxed(),
        })
    }

    /// Where the host's own stands in the whole.
    fn area_range(&self) -> Option<Range<u64>> {
        let start = match &self.file {
            None => 0,
            Some(file) => file.area?,
        };
        Some(start..start + self.area.len() as u64)
    }

    /// `range`, cut where the area begins and ends.
    fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        let Some(Range { start, end }) = self.area_range() else { return vec![Piece::File(range)] };
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

/// Fills `block` as far as the file goes.
fn read_full(file: &mut File, block: &mut [u8]) -> std::io::Result<usize> {
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
#[path = "media_tests.rs"]
mod tests;
