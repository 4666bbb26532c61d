//! A block device of Linux, or a file in its place.
//!
//! Each call runs on a thread for blocking work and holds its disk's [`Turn`] there: a call whose future was dropped is
//! over before the next one on the same disk begins, so that nothing is written behind the back of who cleans up.

use crate::{BlockDevice, MachineError};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What is written in pieces of at least this size is sent to the disk without waiting for the end, bytes.
const EARLY: usize = 1 << 20;

/// Whose turn it is to use a disk: one for each disk of a machine.
pub type Turn = Arc<Mutex<()>>;

/// A disk that is open for reading and writing.
pub struct FileDisk {
    file: Arc<File>,
    turn: Turn,
    size: u64,
    sector: u64,
}

impl FileDisk {
    /// Opens the device, or the file in its place, at `path`. `sector`: its logical sectors, bytes.
    pub async fn open(path: &Path, sector: u64, turn: Turn) -> Result<FileDisk, MachineError> {
        let (shown, path) = (path.display().to_string(), path.to_owned());
        let open = move || {
            let mut file = OpenOptions::new().read(true).write(true).open(path)?;
            let size = file.seek(SeekFrom::End(0))?;
            Ok((file, size))
        };
        let (file, size) = in_turn(&turn, open).await.map_err(|why| MachineError(format!("{shown}: {why}")))?;
        Ok(FileDisk { file: Arc::new(file), turn, size, sector })
    }

    async fn run<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&File) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, MachineError> {
        let file = self.file.clone();
        in_turn(&self.turn, move || work(&file)).await.map_err(|why| MachineError(format!("{what}: {why}")))
    }
}

async fn in_turn<T: Send + 'static>(
    turn: &Turn,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let turn = turn.clone().lock_owned().await;
    let work = move || {
        let _until_it_is_done = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|why| Err(std::io::Error::other(why)))
}

#[async_trait]
impl BlockDevice for FileDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u64 {
        self.sector
    }

    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError> {
        let read = move |file: &File| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes.into())
        };
        self.run(&format!("{length} bytes at byte {offset} cannot be read"), read).await
    }

    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError> {
        let length = bytes.len();
        // A file would grow; a device would not, and says so late.
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(MachineError(format!("{length} bytes at byte {offset} are behind its end at {}", self.size)));
        }
        let write = move |file: &File| {
            file.write_all_at(&bytes, offset)?;
            // The disk begins at once: a kernel with much memory would keep gigabytes for the end, when nothing else is
            // left to do (posix_fadvise(2): pages that are not written yet are on their way then).
            if length >= EARLY {
                let _advice = fadvise(file, offset, NonZeroU64::new(length as u64), Advice::DontNeed);
            }
            Ok(())
        };
        self.run(&format!("{length} bytes at byte {offset} cannot be written"), write).await
    }

    /// "Punching a hole" into a block device is how Linux is asked for zeros that the device itself makes; where it
    /// cannot, the kernel says so instead of writing them.
    async fn zero_at(&mut self, offset: u64, length: u64) -> Result<bool, MachineError> {
        let punch = move |file: &File| match fallocate(
            file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            offset,
            length,
        ) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::IO | Errno::REMOTEIO) => Ok(false),
            Err(why) => Err(why.into()),
        };
        self.run(&format!("{length} bytes at byte {offset} cannot be zeroed"), punch).await
    }

    async fn finish(&mut self) -> Result<(), MachineError> {
        let sync = |file: &File| {
            file.sync_data()?;
            // Not a promise, but what is clean and not in use goes: the next read comes from the disk.
            let _advice = fadvise(file, 0, None, Advice::DontNeed);
            Ok(())
        };
        self.run("what was written cannot be brought to the disk", sync).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn disk(content: &[u8]) -> (tempfile::NamedTempFile, FileDisk) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("writes");
        let disk = FileDisk::open(file.path(), 512, Turn::default()).await.expect("opens");
        (file, disk)
    }

    #[tokio::test]
    async fn what_was_written_or_zeroed_is_read_and_the_rest_keeps_what_it_held() {
        let (file, mut disk) = disk(&[7; 16384]).await;
        disk.write_at(100, Bytes::from_static(b"abc")).await.expect("writes");
        let zeroed = disk.zero_at(4096, 8192).await.expect("zeroes");
        disk.finish().await.expect("syncs");
        assert_eq!(&disk.read_at(99, 5).await.expect("reads")[..], b"\x07abc\x07");
        let bytes = std::fs::read(file.path()).expect("reads");
        assert_eq!(bytes.len(), 16384);
        let expected = if zeroed { 0 } else { 7 };
        assert!(bytes[4096..12288].iter().all(|byte| *byte == expected));
        assert!(bytes[12288..].iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn what_is_behind_the_end_is_neither_read_nor_written() {
        let (file, mut disk) = disk(&[7; 1000]).await;
        assert!(disk.write_at(998, Bytes::from_static(b"abc")).await.is_err());
        assert!(disk.write_at(u64::MAX, Bytes::from_static(b"abc")).await.is_err());
        assert!(disk.read_at(998, 3).await.is_err());
        assert_eq!(std::fs::read(file.path()).expect("reads"), [7; 1000]);
        assert!(FileDisk::open(Path::new("/nonexistent/disk"), 512, Turn::default()).await.is_err());
    }

    #[tokio::test]
    async fn a_write_that_was_given_up_is_over_before_the_next_one() {
        let (file, mut disk) = disk(&vec![7; 8 << 20]).await;
        let write = disk.write_at(0, vec![1; 8 << 20].into());
        let _given_up = tokio::time::timeout(std::time::Duration::ZERO, write).await;
        disk.write_at(0, vec![2; 8 << 20].into()).await.expect("writes");
        assert!(std::fs::read(file.path()).expect("reads").iter().all(|byte| *byte == 2));
    }
}
