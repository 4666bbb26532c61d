//! An installer's kernel and initial ramdisk: fetched, checked, and given the files that answer its questions.
//!
//! The answers are an archive of their own behind the initial ramdisk, as the kernel takes it
//! (Documentation/driver-api/early-userspace/buffer-format.rst); they are on no disk and in no URL.

use crate::digest::Digester;
use crate::fetch::Download;
use crate::{Failure, Patience, Progress};
use rackwright_protocol::facts::{Disk, ImageFormat};
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::{DISK, Image, Install, InstallFile};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// An installer, ready to be loaded.
pub(crate) struct Installer {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub command_line: String,
}

/// Where things come from and go to.
pub(crate) struct Fetching<'a> {
    pub media: &'a MediaConfig,
    pub patience: &'a Patience,
    pub progress: &'a Progress,
    pub folder: &'a Path,
}

/// Fetches what `install` names; `disk` is the one to install to.
pub(crate) async fn fetch(install: &Install, disk: &Disk, by: &Fetching<'_>) -> Result<Installer, Failure> {
    let (kernel, initrd) = (by.folder.join("installer-kernel"), by.folder.join("installer-initrd"));
    by.file(&install.kernel, &kernel).await?.sync_all().await.map_err(unwritable)?;
    let mut file = by.file(&install.initrd, &initrd).await?;
    let path = stable_path(disk);
    let length = file.metadata().await.map_err(unwritable)?.len();
    // The kernel looks for an archive on a multiple of 4.
    file.write_all(&vec![0; (length.next_multiple_of(4) - length) as usize]).await.map_err(unwritable)?;
    file.write_all(&archive(&install.files, &path)?).await.map_err(unwritable)?;
    file.sync_all().await.map_err(unwritable)?;
    Ok(Installer { kernel, initrd, command_line: install.command_line.replace(DISK, &path) })
}

/// A name of the disk that another kernel knows it by, too.
fn stable_path(disk: &Disk) -> String {
    disk.by_path.as_ref().map_or_else(|| disk.device.clone(), |name| format!("/dev/disk/by-path/{name}"))
}

impl Fetching<'_> {
    async fn file(&self, image: &Image, path: &Path) -> Result<File, Failure> {
        if image.format != ImageFormat::Raw {
            return Err(Failure::new(
                "PlanUnsupported",
                "an installer's kernel and initial ramdisk are taken as served",
            ));
        }
        let mut digester = Digester::new(&image.digest)?;
        let mut download = Download::new(&image.url, self.media, self.patience)?;
        let mut file = File::create(path).await.map_err(unwritable)?;
        while let Some(bytes) = download.next().await? {
            digester.update(&bytes);
            file.write_all(&bytes).await.map_err(unwritable)?;
            self.progress.bytes("FetchingInstaller", download.received(), download.total().unwrap_or(0));
        }
        file.flush().await.map_err(unwritable)?;
        digester.check()?;
        Ok(file)
    }
}

fn unwritable(why: std::io::Error) -> Failure {
    Failure::new("InstallerUnloadable", format!("the installer does not fit into memory: {why}"))
}

/// `files` as a `newc` archive, each folder before what is in it.
fn archive(files: &[InstallFile], disk: &str) -> Result<Vec<u8>, Failure> {
    let mut archive = Vec::new();
    let mut folders: Vec<&str> = Vec::new();
    let mut inode = 0;
    for file in files {
        let path = file.path.trim_start_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Failure::new("PlanRejected", format!("{:?} is no path for an installer's file", file.path)));
        }
        for (at, _) in path.match_indices('/') {
            if !folders.contains(&&path[..at]) {
                folders.push(&path[..at]);
                inode += 1;
                entry(&mut archive, inode, 0o040_755, &path[..at], &[]);
            }
        }
        inode += 1;
        entry(&mut archive, inode, 0o100_600, path, file.content.replace(DISK, disk).as_bytes());
    }
    entry(&mut archive, 0, 0, "TRAILER!!!", &[]);
    Ok(archive)
}

fn entry(archive: &mut Vec<u8>, inode: usize, mode: u32, name: &str, data: &[u8]) {
    let mut header = String::from("070701");
    // inode, mode, uid, gid, links, time, size, device (2), special device (2), length of the name with its NUL, checksum
    for field in [inode, mode as usize, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0] {
        let _ = write!(header, "{field:08X}");
    }
    archive.extend(header.as_bytes());
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> InstallFile {
        InstallFile { path: path.into(), content: content.into() }
    }

    #[test]
    #[ignore = "needs cpio: cargo xtask test"]
    fn the_answers_are_an_archive_that_cpio_unpacks() {
        let files = [file("/ks.cfg", "clearpart --drives=@RACKWRIGHT_DISK@\n"), file("/etc/a/b", "x")];
        let archive = archive(&files, "/dev/disk/by-path/pci-0000:00:03.0").expect("an archive");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("archive"), &archive).expect("written");
        let unpacked =
            std::process::Command::new("sh").current_dir(folder.path()).args(["-c", "cpio -id < archive"]).output();
        assert!(unpacked.expect("cpio is there").status.success());
        let read = |path: &str| std::fs::read_to_string(folder.path().join(path)).expect("unpacked");
        assert_eq!(read("ks.cfg"), "clearpart --drives=/dev/disk/by-path/pci-0000:00:03.0\n");
        assert_eq!(read("etc/a/b"), "x");
    }

    #[test]
    fn a_path_that_leaves_the_ramdisk_is_refused() {
        for path in ["", "/", "/../x", "/a//b", "a/./b"] {
            let refused = archive(&[file(path, "")], "/dev/vda").map_err(|failure| failure.reason);
            assert_eq!(refused, Err("PlanRejected".into()), "{path}");
        }
    }

    #[test]
    fn a_disk_goes_by_where_it_is_plugged_in() {
        let mut disk = Disk { device: "/dev/sda".into(), ..Disk::default() };
        assert_eq!(stable_path(&disk), "/dev/sda");
        disk.by_path = Some("pci-0000:00:17.0-ata-1.0".into());
        assert_eq!(stable_path(&disk), "/dev/disk/by-path/pci-0000:00:17.0-ata-1.0");
    }
}
