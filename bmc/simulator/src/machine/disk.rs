//! What stands on the disks of a simulated machine: not the bytes, but what a firmware and an operating system would make
//! of them.

use rackwright_protocol::plan::ConfigDrive;
use serde::Serialize;

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name, for example `/dev/nvme0n1`.
    pub device: String,
    /// What stands on it.
    pub content: Content,
    /// The config drive on it.
    pub drive: Option<ConfigDrive>,
}

/// What stands on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "content")]
pub enum Content {
    /// Nothing, as it came from the factory.
    Empty,
    /// Part of an image, or an image that was broken on purpose: does not boot.
    Partial,
    /// A whole image: boots.
    Image(Image),
    /// Nothing: it was wiped.
    Wiped,
}

/// A whole image on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// `sha256:` and hex digits, of the bytes on the disk from its start to the last byte that was written.
    pub digest: String,
    /// Number of these bytes.
    pub size: u64,
}

impl Disk {
    /// A disk from the factory.
    pub fn empty(device: &str) -> Disk {
        Disk { device: device.into(), content: Content::Empty, drive: None }
    }

    /// True when a firmware would boot it.
    pub fn is_bootable(&self) -> bool {
        self.image().is_some()
    }

    /// The whole image on it.
    pub fn image(&self) -> Option<&Image> {
        match &self.content {
            Content::Image(image) => Some(image),
            _ => None,
        }
    }

    /// True when nothing of an image is on it.
    pub fn is_clean(&self) -> bool {
        matches!(self.content, Content::Empty | Content::Wiped)
    }

    /// The first bytes of an image arrive. What is being written already goes on, with the config drive it may have.
    pub(super) fn begin(&mut self) {
        if self.content != Content::Partial {
            self.break_up();
        }
    }

    /// Both ends are overwritten: no image, and no config drive (it stands at the end).
    pub(super) fn break_up(&mut self) {
        self.content = Content::Partial;
        self.drive = None;
    }

    pub(super) fn wipe(&mut self) {
        self.content = Content::Wiped;
        self.drive = None;
    }
}
