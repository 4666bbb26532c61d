//! Taking a disk's content away by writing to it, and looking afterwards.
//!
//! Knows where things stand that tell systems what a disk holds, and where a config drive may stand. The drive's own ways
//! (discard, sanitize, secure erase) are the machine's.

use crate::partitions::{self, Partition};
use crate::{BlockDevice, Failure, MachineError, Progress, config_drive};
use bytes::Bytes;

/// Zeroed at the start of the disk and of each partition, bytes: boot loaders, LVM's label and metadata, mdraid 1.1 and
/// 1.2, ZFS' first two labels, both LUKS2 headers, file systems' first superblocks.
const START: u64 = 8 << 20;
/// Zeroed at their ends, bytes: a GPT's copy, mdraid 0.90 and 1.0, ZFS' last two labels, DDF.
const END: u64 = 1 << 20;
/// Where btrfs keeps copies of its superblock, bytes from the start of its disk or partition, and their length.
const BTRFS: [u64; 2] = [64 << 20, 256 << 30];
const BTRFS_LENGTH: u64 = 4096;
/// Zeros are written in pieces of this, bytes.
const PIECE: usize = 4 << 20;
/// Looked at when not all is, bytes each, and how many.
const SAMPLE: usize = 64 << 10;
const SAMPLES: u64 = 1024;

/// A range of the disk, bytes.
type Range = std::ops::Range<u64>;

/// Zeroes everything that tells a system what is on the disk, and every config drive wholly, and reads that back.
pub(crate) async fn metadata(disk: &mut dyn BlockDevice) -> Result<(), MachineError> {
    let (partitions, drives) = find(disk).await.map_err(|failure| MachineError(failure.message))?;
    let mut ranges = Vec::new();
    for partition in &partitions {
        ranges.extend(signatures(partition.start, partition.end.min(disk.size())));
    }
    ranges.extend(drives.into_iter().map(|drive| drive.start..drive.end.min(disk.size())));
    // The disk's own last: until then a wipe that was cut off finds the partitions again.
    ranges.extend(signatures(0, disk.size()));
    for range in &ranges {
        zero(disk, range.clone(), |_| ()).await?;
    }
    disk.finish().await?;
    for range in ranges {
        for at in range.clone().step_by(PIECE) {
            let length = usize::try_from((range.end - at).min(PIECE as u64)).unwrap_or(PIECE);
            if !is_zero(&disk.read_at(at, length).await?) {
                return Err(MachineError(format!("zeros were written at byte {at}, but something else is read there")));
            }
        }
    }
    Ok(())
}

async fn find(disk: &mut dyn BlockDevice) -> Result<(Vec<Partition>, Vec<Partition>), Failure> {
    let table = partitions::read_either(disk).await?;
    let partitions = table.as_ref().map(|table| table.partitions()).unwrap_or_default();
    let mut drives = match &table {
        Some(table) => config_drive::all(disk, table).await?,
        None => Vec::new(),
    };
    if drives.is_empty() {
        drives = config_drive::scan(disk).await?;
    }
    Ok((partitions, drives))
}

/// Where the disk or partition from `start` to `end` says what it is.
fn signatures(start: u64, end: u64) -> Vec<Range> {
    let length = end.saturating_sub(start);
    let head = start..start + START.min(length);
    let tail = (end - END.min(length)).max(head.end)..end;
    let copies = BTRFS.iter().map(|at| start + at..start + at + BTRFS_LENGTH).filter(|copy| copy.end <= end);
    [head, tail].into_iter().filter(|range| range.start < range.end).chain(copies).collect()
}

/// Writes zeros from the start of the disk to its end, and looks at samples of them.
pub(crate) async fn overwrite(disk: &mut dyn BlockDevice, progress: &Progress) -> Result<(), MachineError> {
    let size = disk.size();
    zero(disk, 0..size, |done| progress.bytes("Wiping", done, size)).await?;
    disk.finish().await?;
    match first_not_zero(disk).await? {
        None => Ok(()),
        Some(at) => {
            Err(MachineError(format!("zeros were written to all of it, but something else is read at byte {at}")))
        }
    }
}

/// What [`first_not_zero`] looks at, for the record.
pub(crate) const LOOKED_AT: &str = "both ends and 1024 places between read zero";

/// A place that does not read zero, of both ends and samples from all over the disk.
pub(crate) async fn first_not_zero(disk: &mut dyn BlockDevice) -> Result<Option<u64>, MachineError> {
    for (at, length) in places(disk.size()) {
        if !is_zero(&disk.read_at(at, length).await?) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Content of places that hold something, to see later that it is gone.
pub(crate) async fn prints(disk: &mut dyn BlockDevice) -> Result<Vec<(u64, Bytes)>, MachineError> {
    let mut prints = Vec::new();
    for (at, _) in places(disk.size()) {
        let bytes = disk.read_at(at / 512 * 512, 512).await?;
        if !is_zero(&bytes) {
            prints.push((at / 512 * 512, bytes));
        }
    }
    Ok(prints)
}

/// How many of `prints` are still there.
pub(crate) async fn still_there(disk: &mut dyn BlockDevice, prints: &[(u64, Bytes)]) -> Result<usize, MachineError> {
    let mut found = 0;
    for (at, bytes) in prints {
        // An erased drive may refuse to read what was never written since; then nothing is there.
        found += usize::from(disk.read_at(*at, bytes.len()).await.is_ok_and(|now| now == *bytes));
    }
    Ok(found)
}

fn places(size: u64) -> Vec<(u64, usize)> {
    let length = usize::try_from((SAMPLE as u64).min(size)).unwrap_or(SAMPLE);
    let room = size - length as u64;
    (0..=SAMPLES).map(|index| (u128::from(room) * u128::from(index) / u128::from(SAMPLES)) as u64).fold(
        Vec::new(),
        |mut places, at| {
            if places.last().is_none_or(|(last, _)| *last != at) {
                places.push((at, length));
            }
            places
        },
    )
}

async fn zero(disk: &mut dyn BlockDevice, range: Range, done: impl Fn(u64) + Send) -> Result<(), MachineError> {
    let zeros = Bytes::from(vec![0; PIECE.min(usize::try_from(range.end - range.start).unwrap_or(PIECE))]);
    let mut at = range.start;
    while at < range.end {
        let length = zeros.len().min(usize::try_from(range.end - at).unwrap_or(PIECE));
        disk.write_at(at, zeros.slice(..length)).await?;
        at += length as u64;
        done(at - range.start);
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| page == &[0; 4096][..page.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_cover_both_ends_once_and_what_lies_between_stays() {
        const GIB: u64 = 1 << 30;
        assert_eq!(
            signatures(GIB, 2 * GIB),
            [GIB..GIB + START, 2 * GIB - END..2 * GIB, GIB + (64 << 20)..GIB + (64 << 20) + 4096]
        );
        let small = 8 * START;
        assert_eq!(signatures(0, small - 1), [0..START, small - 1 - END..small - 1]);
        assert_eq!(signatures(100, 200).first(), Some(&(100..200)));
        assert_eq!(signatures(100, 200).len(), 1);
        assert_eq!(signatures(5, 5), []);
    }

    #[test]
    fn places_reach_from_the_first_byte_to_the_last() {
        let all = places(1 << 30);
        assert_eq!((all.len(), all[0]), (1025, (0, SAMPLE)));
        assert_eq!(all[1024].0 + SAMPLE as u64, 1 << 30);
        assert_eq!(places(1000), [(0, 1000)]);
    }
}
