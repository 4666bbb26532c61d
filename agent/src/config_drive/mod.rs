//! The config drive: what the written operating system reads at its first boot, and where it stands on the disk.
//!
//! It goes into the partition that the image keeps for it: one that is named `cidata` or `config-2`, or whose file system
//! has that label. An image without one gets a partition at the very end of the disk; growing the root file system stops
//! before it. What is there is never moved or overlapped: no room is a failure.

pub(crate) mod iso;

use crate::image::differs;
use crate::partitions::{self, ALIGN, Partition, Table};
use crate::{BlockDevice, Failure, MachineError};
use bytes::Bytes;
use rackwright_protocol::facts::ConfigDriveKind;
use rackwright_protocol::plan::ConfigDrive;

/// Names of partitions and labels of file systems that are config drives.
const LABELS: [&str; 2] = ["cidata", "config-2"];
/// Searched for config drives that no table tells of, bytes: where images keep their own, and where we add one.
const SCANNED_FIRST: u64 = 4 << 30;
const SCANNED_LAST: u64 = 128 << 20;
/// Zeros that are written at a time, bytes.
const ZEROS: usize = 1 << 20;

/// Puts `drive` on `disk`, in the place of an earlier one, and reads it back. A GPT's copy moves to the end of the disk
/// on this occasion.
pub(crate) async fn place(disk: &mut dyn BlockDevice, drive: &ConfigDrive) -> Result<(), Failure> {
    let image = Bytes::from(iso::image(drive));
    let mut table = partitions::read(disk).await?;
    let length = image.len() as u64;
    let place = match find(disk, &table, drive.kind).await? {
        Some(place) => place,
        None => {
            let name = iso::label(drive.kind);
            table.append(disk.size(), length, name).map_err(|why| no_room(&format!("the disk has none: {why}")))?
        }
    };
    let room = place.end - place.start;
    if length > room {
        return Err(no_room(&format!("it needs {length} bytes, the partition that the image keeps for it has {room}")));
    }
    // First where it is, then what it is: a wipe after a power cut must find it.
    table.write(disk).await.map_err(failed)?;
    disk.finish().await.map_err(failed)?;
    disk.write_at(place.start, image.clone()).await.map_err(failed)?;
    zero(disk, place.start + length, place.end).await.map_err(failed)?;
    disk.finish().await.map_err(failed)?;
    if disk.read_at(place.start, image.len()).await.map_err(failed)? != image {
        return Err(differs(place.start, image.len()));
    }
    Ok(())
}

/// Overwrites every config drive that a partition table on `disk` tells of with zeros, wholly.
pub(crate) async fn erase(disk: &mut dyn BlockDevice) -> Result<(), Failure> {
    let Some(table) = partitions::read_either(disk).await? else { return Ok(()) };
    for drive in all(disk, &table).await? {
        let end = drive.end.min(disk.size());
        zero(disk, drive.start, end).await.map_err(failed)?;
    }
    Ok(())
}

/// Config drives where no partition table tells of them: an earlier deployment may have been cut off before its table was
/// written. Looks at the first 4 GiB and the last 128 MiB.
pub(crate) async fn scan(disk: &mut dyn BlockDevice) -> Result<Vec<Partition>, Failure> {
    let size = disk.size();
    let near = (0..size.min(SCANNED_FIRST)).step_by(ALIGN as usize);
    let last = (size.saturating_sub(SCANNED_LAST) / ALIGN * ALIGN).max(SCANNED_FIRST);
    let mut drives = Vec::new();
    for start in near.chain((last..size).step_by(ALIGN as usize)) {
        if start + iso::HEADER > size {
            break;
        }
        let bytes = disk.read_at(start + iso::DESCRIPTOR_AT, iso::DESCRIPTOR).await.map_err(failed)?;
        if let Some((name, length)) = iso::describe(&bytes)
            && LABELS.contains(&name.as_str())
        {
            drives.push(Partition { start, end: start.saturating_add(length).min(size), name });
        }
    }
    Ok(drives)
}

/// The partition that is meant for a config drive, rather one of the wanted kind.
async fn find(disk: &mut dyn BlockDevice, table: &Table, kind: ConfigDriveKind) -> Result<Option<Partition>, Failure> {
    let mut drives = all(disk, table).await?;
    let wanted = iso::label(kind);
    drives.sort_by_key(|drive| !drive.name.eq_ignore_ascii_case(wanted));
    Ok(drives.into_iter().next())
}

/// All partitions that are config drives; `name` is what shows it.
pub(crate) async fn all(disk: &mut dyn BlockDevice, table: &Table) -> Result<Vec<Partition>, Failure> {
    let is_one = |text: &str| LABELS.iter().any(|label| label.eq_ignore_ascii_case(text));
    let mut drives = Vec::new();
    for mut partition in table.partitions() {
        if !is_one(&partition.name) {
            match partitions::label(disk, &partition).await? {
                Some(label) if is_one(&label) => partition.name = label,
                _ => continue,
            }
        }
        drives.push(partition);
    }
    Ok(drives)
}

async fn zero(disk: &mut dyn BlockDevice, start: u64, end: u64) -> Result<(), MachineError> {
    let zeros = Bytes::from(vec![0; ZEROS]);
    let mut at = start;
    while at < end {
        let length = zeros.len().min(usize::try_from(end - at).unwrap_or(zeros.len()));
        disk.write_at(at, zeros.slice(..length)).await?;
        at += length as u64;
    }
    Ok(())
}

fn no_room(why: &str) -> Failure {
    Failure::new("ConfigDriveNoRoom", format!("there is no room for the config drive: {why}"))
}

fn failed(why: MachineError) -> Failure {
    Failure::new("ConfigDriveFailed", why.to_string())
}
