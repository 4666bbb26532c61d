//! The file systems of a written system, read-only, for as long as they are looked at.

use crate::MachineError;
use crate::linux::{Roots, names};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long partitions may take to show themselves after their table was read.
const PARTITIONS: Duration = Duration::from_secs(5);

/// File systems that boot loaders and kernels are on, with options that leave a journal alone.
const KINDS: [(&str, &CStr); 4] = [("ext4", c"noload"), ("vfat", c""), ("xfs", c"norecovery"), ("btrfs", c"")];

/// Mounted file systems; unmounted when dropped.
pub struct Mounts(Vec<PathBuf>);

impl Mounts {
    /// Mounts every partition of `device` that has a file system of a known kind, below `folder`.
    pub async fn attach(roots: &Roots, device: &str, folder: &Path) -> Result<Mounts, MachineError> {
        let disk = device.rsplit('/').next().unwrap_or(device);
        let block = roots.sys.join("block").join(disk);
        let until = Instant::now() + PARTITIONS;
        let partitions = loop {
            let found: Vec<String> =
                names(&block).into_iter().filter(|name| block.join(name).join("partition").exists()).collect();
            if !found.is_empty() || Instant::now() >= until {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut mounts = Mounts(Vec::new());
        for name in &partitions {
            let (source, target) = (roots.dev.join(name), folder.join(name));
            std::fs::create_dir_all(&target).map_err(super::failed(target.display()))?;
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let is_mounted = |(kind, options): &(&str, &CStr)| mount(&source, &target, *kind, flags, *options).is_ok();
            if KINDS.iter().any(is_mounted) {
                mounts.0.push(target);
            }
        }
        if mounts.0.is_empty() {
            let count = partitions.len();
            return Err(MachineError(format!(
                "none of the {count} partitions of {device} has a file system that we know"
            )));
        }
        Ok(mounts)
    }

    /// Where they are mounted.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for folder in &self.0 {
            if let Err(why) = unmount(folder, UnmountFlags::DETACH) {
                tracing::warn!("{} stays mounted, read-only: {why}", folder.display());
            }
        }
    }
}
