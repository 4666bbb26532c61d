//! Wiping one disk by policy, with the drive's own means where it has any, and with evidence of what was done.
//!
//! Nothing here believes a drive: what discards is read afterwards, what erased itself is looked at for what it held. A
//! way that a drive does not have ends in zeros on every block, and the record says so.

mod ata;
mod nvme;

use super::disk::{FileDisk, Turn};
use super::programs::Programs;
use crate::{BlockDevice, MachineError, Progress, wipe};
use rackwright_protocol::facts::{Disk, WipePolicy, WipedDisk};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time for discarding all blocks of a disk; some drives take minutes.
const DISCARD: Duration = Duration::from_secs(3600);

/// What a wipe works with.
struct Wipe<'a> {
    /// The device, for programs.
    path: &'a str,
    /// The name of the device alone, for example `nvme0n1`.
    name: &'a str,
    disk: FileDisk,
    programs: &'a Programs,
    progress: &'a Progress,
}

/// How it went: method and what was verified.
type Done = (String, String);

/// Wipes the device at `path`, which `facts` describe. Success means that nothing the policy speaks of is left.
pub async fn wipe_disk(
    path: &Path,
    facts: &Disk,
    sector: u64,
    turn: Turn,
    policy: WipePolicy,
    programs: &Programs,
    progress: &Progress,
) -> Result<WipedDisk, MachineError> {
    let begun = Instant::now();
    let disk = FileDisk::open(path, sector, turn).await?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let path = path.to_string_lossy();
    let mut wipe = Wipe { path: &path, name: &name, disk, programs, progress };
    let (method, verified) = wipe.run(policy).await?;
    Ok(WipedDisk {
        device: facts.device.clone(),
        serial: facts.serial.clone(),
        method,
        size_bytes: Some(i64::try_from(wipe.disk.size()).unwrap_or(i64::MAX)),
        verified: Some(verified),
        seconds: Some(i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX)),
    })
}

impl Wipe<'_> {
    async fn run(&mut self, policy: WipePolicy) -> Result<Done, MachineError> {
        self.progress.bytes("Wiping", 0, self.disk.size());
        match policy {
            WipePolicy::Metadata => {
                wipe::metadata(&mut self.disk).await?;
                Ok(("metadata".into(), "partition tables, signatures and config drives read zero".into()))
            }
            WipePolicy::Discard => self.discard().await,
            WipePolicy::SecureErase => self.secure_erase().await,
            WipePolicy::Overwrite => self.overwrite(None).await,
        }
    }

    async fn discard(&mut self) -> Result<Done, MachineError> {
        // Whatever the drive makes of it, what counts most is gone by our own hand.
        wipe::metadata(&mut self.disk).await?;
        let discarded = self.programs.run("blkdiscard", &["-f", self.path], DISCARD).await;
        if let Err(why) = discarded {
            return self.overwrite(Some(&format!("not discarded: {why}"))).await;
        }
        self.disk.finish().await?;
        if let Some(at) = wipe::first_not_zero(&mut self.disk).await? {
            return self.overwrite(Some(&format!("byte {at} does not read zero after discarding"))).await;
        }
        Ok(("discard".into(), wipe::LOOKED_AT.into()))
    }

    async fn secure_erase(&mut self) -> Result<Done, MachineError> {
        let before = wipe::prints(&mut self.disk).await?;
        let erased = match self.name {
            name if name.starts_with("nvme") => nvme::erase(self.programs, self.path, self.progress).await,
            name if name.starts_with("sd") => ata::erase(self.programs, self.path).await,
            name => Err(format!("{name} is neither NVMe nor ATA")),
        };
        let method = match erased {
            Ok(method) => method,
            Err(why) => return self.overwrite(Some(&why)).await,
        };
        self.disk.finish().await?;
        let left = wipe::still_there(&mut self.disk, &before).await?;
        if left > 0 {
            let why = format!(
                "after {method}, which the drive says is done, {left} of {} places are as before",
                before.len()
            );
            return self.overwrite(Some(&why)).await;
        }
        // An erased drive may read as anything; ends that read zero are what the next system expects.
        wipe::metadata(&mut self.disk).await?;
        Ok((method, format!("the drive says done; of {} places that held data none does any more", before.len())))
    }

    async fn overwrite(&mut self, instead: Option<&str>) -> Result<Done, MachineError> {
        if let Some(why) = instead {
            tracing::warn!(disk = self.name, why, "overwriting with zeros instead");
        }
        wipe::overwrite(&mut self.disk, self.progress).await?;
        let method = instead.map_or_else(|| "overwrite".into(), |why| format!("overwrite; {why}"));
        Ok((method, wipe::LOOKED_AT.into()))
    }
}

#[cfg(test)]
mod tests;
