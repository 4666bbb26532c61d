//! The machine under the ramdisk: Linux, seen through /sys, /proc, netlink and a few programs.
//!
//! `init` is pid 1 and does as little as it can; `agent` is its one child and does everything else. Nothing here listens
//! on the network, and nothing decides what becomes of a disk: that is the library's.

pub mod agent;
mod clock;
mod console;
pub mod disk;
pub mod init;
pub mod inventory;
mod kexec;
pub mod lldp;
mod machine;
mod media;
mod modules;
pub mod net;
pub mod programs;
pub mod sockets;
pub mod wipe;

use std::path::{Path, PathBuf};

/// Where the kernel shows itself. Tests put a tree of files there.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

/// Content of a small text file without the blanks and NULs around it; `None` when there is none.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number in such a file.
pub(crate) fn number(path: impl AsRef<Path>) -> Option<i64> {
    text(path)?.parse().ok()
}

/// The names in a folder, sorted; none when it cannot be read.
pub(crate) fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}
