//! The config drive: what the written operating system reads at its first boot, and where it stands on the disk.
//!
//! It goes into the partition that the image keeps for it: one that is named `cidata` or `config-2`, or whose file system
//! has that label. An image without one gets a partition at the very end of the disk; growing the root file system stops
//! before it. What is there is never moved or overlapped: no room is a failure.

mod iso;

use crate::image::differs;
use crate::partitions::{self, Partition, Table};
use crate::{BlockDevice, Failure, MachineError};
use bytes::Bytes;
use rackwright_protocol::facts::ConfigDriveKind;
use rackwright_protocol::plan::ConfigDrive;

/// Names of partitions and labels of file systems that are config drives.
const LABELS: [&str; 2] = ["cidata", "config-2"];
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
    disk.write_at(place.start, image.clone()).await.map_err(failed)?;
    zero(disk, place.start + length, place.end).await.map_err(failed)?;
    table.write(disk).await.map_err(failed)?;
    disk.finish().await.map_err(failed)?;
    if disk.read_at(place.start, image.len()).await.map_err(failed)? != image {
        return Err(differs(place.start, image.len()));
    }
    Ok(())
}

/// The partition that is meant for a config drive, rather one of the wanted kind.
async fn find(disk: &mut dyn BlockDevice, table: &Table, kind: ConfigDriveKind) -> Result<Option<Partition>, Failure> {
    let mut drives = all(disk, table).await?;
    let wanted = iso::label(kind);
    drives.sort_by_key(|drive| !drive.name.eq_ignore_ascii_case(wanted));
    Ok(drives.into_iter().next())
}

/// All partitions that are config drives; `name` is what shows it.
async fn all(disk: &mut dyn BlockDevice, table: &Table) -> Result<Vec<Partition>, Failure> {
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
