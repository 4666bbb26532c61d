//! Disks: block devices with hardware behind them that an operating system could be put on.
//!
//! Left out: what the kernel makes up (loop, ram, zram, md, dm, nbd), CD drives, removable and read-only devices, empty
//! slots, the paths behind a multipath NVMe namespace, and media of our own.

use super::by_path::by_path;
use crate::linux::{Roots, names, number, text};
use rackwright_protocol::facts::Disk;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `queue` of /sys counts sectors of this size, whatever the disk's are, bytes.
const SECTOR: i64 = 512;
/// SCSI type of a CD drive, and of a disk (SPC-6 table 151).
const SCSI_CD: i64 = 5;

/// All disks, those with shorter names first: `sda`, `sdb`, …, `sdaa`, `nvme0n1`.
pub fn disks(roots: &Roots) -> Vec<Disk> {
    let mut names = names(roots.sys.join("block"));
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let mut disks = Vec::new();
    for name in names {
        match unfit(roots, &name) {
            Some(why) => tracing::debug!(name, why, "not a disk of this machine"),
            None => disks.push(describe(roots, &name)),
        }
    }
    disks
}

/// Why a block device is not a disk of the machine.
fn unfit(roots: &Roots, name: &str) -> Option<&'static str> {
    let block = roots.sys.join("block").join(name);
    let is = |file: &str| number(block.join(file)) == Some(1);
    if !block.join("device").exists() {
        Some("nothing is behind it")
    } else if is("hidden") {
        Some("it is a path of another one")
    } else if name.starts_with("sr") || name.starts_with("fd") || number(block.join("device/type")) == Some(SCSI_CD) {
        Some("it is a CD or floppy drive")
    } else if is("removable") {
        Some("it is removable")
    } else if name.starts_with("mmcblk") && is("ro") {
        Some("it is a boot partition of a memory card")
    } else if number(block.join("size")).unwrap_or(0) == 0 {
        Some("it is empty")
    } else if is_our_media(&roots.dev.join(name)) {
        Some("it is our own media")
    } else {
        None
    }
}

/// True for a device with our ISO on it: ISO 9660 puts the volume's label 40 bytes into sector 16 (ECMA-119 8.4).
fn is_our_media(device: &Path) -> bool {
    let mut volume = [0; 72];
    let read = File::open(device).and_then(|file| file.read_exact_at(&mut volume, 16 * 2048));
    read.is_ok() && &volume[1..6] == b"CD001" && volume[40..].starts_with(super::MEDIA_LABEL.as_bytes())
}

fn describe(roots: &Roots, name: &str) -> Disk {
    let block = roots.sys.join("block").join(name);
    let device = block.join("device");
    let identify = identify(&device);
    let serial = [block.join("serial"), device.join("serial")].iter().find_map(text);
    Disk {
        device: format!("/dev/{name}"),
        size_bytes: number(block.join("size")).unwrap_or(0).saturating_mul(SECTOR),
        rotational: number(block.join("queue/rotational")) == Some(1),
        read_only: number(block.join("ro")) == Some(1),
        model: identify.as_deref().and_then(|data| ata_text(data, 27..47)).or_else(|| text(device.join("model"))),
        serial: serial.or_else(|| unit_serial(&device)),
        wwn: [block.join("wwid"), device.join("wwid")].iter().find_map(text).and_then(|wwid| wwn(&wwid)),
        by_path: by_path(roots, name),
    }
}

/// The unit serial number of a SCSI disk (SPC-6 section 7.7.19).
fn unit_serial(device: &Path) -> Option<String> {
    let page = std::fs::read(device.join("vpd_pg80")).ok()?;
    printable(page.get(4..)?)
}

/// IDENTIFY DEVICE data of an ATA disk behind SCSI (SAT-4 section 12.4.2): SCSI's own model field cuts names at 16.
fn identify(device: &Path) -> Option<Vec<u8>> {
    let page = std::fs::read(device.join("vpd_pg89")).ok()?;
    page.get(60..60 + 512).map(<[u8]>::to_vec)
}

/// Text in words of IDENTIFY DEVICE data, whose bytes are swapped (ACS-4 section 3.4.9).
fn ata_text(data: &[u8], words: std::ops::Range<usize>) -> Option<String> {
    let swapped: Vec<u8> = data.get(words.start * 2..words.end * 2)?.chunks(2).flat_map(|w| [w[1], w[0]]).collect();
    printable(&swapped)
}

fn printable(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The World Wide Name as udev's `ID_WWN` tells it, from the kernel's `wwid`.
fn wwn(wwid: &str) -> Option<String> {
    let wwid = wwid.to_ascii_lowercase();
    match wwid.split_once('.')? {
        ("naa", digits) => Some(format!("0x{digits}")),
        ("eui" | "uuid", _) => Some(wwid),
        // `t10.` and `nvme.` are vendor, model and serial in a row, which are told anyway.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tree, iso_with_label};
    use super::*;

    /// A tree with one more or less fit disk, `sdx`.
    fn tree(files: &[(&str, &str)]) -> Tree {
        let tree = Tree::new();
        tree.device("pci0000:00/0000:00:01.0", "pci");
        tree.device("pci0000:00/0000:00:01.0/virtio0", "virtio");
        tree.device("pci0000:00/0000:00:01.0/virtio0/block/sdx", "block");
        tree.link("sys/block/sdx", "../devices/pci0000:00/0000:00:01.0/virtio0/block/sdx");
        tree.link("sys/devices/pci0000:00/0000:00:01.0/virtio0/block/sdx/device", "../..");
        tree.file("sys/block/sdx/size", "2048\n");
        for (path, content) in files {
            tree.file(&format!("sys/block/sdx/{path}"), content);
        }
        tree
    }

    #[test]
    fn what_no_system_could_be_put_on_is_left_out() {
        assert_eq!(disks(&tree(&[]).roots()).len(), 1);
        for (path, content) in [("removable", "1"), ("size", "0"), ("hidden", "1"), ("device/type", "5"), ("size", "")]
        {
            assert_eq!(disks(&tree(&[(path, content)]).roots()), [], "{path} {content}");
        }
        let virtual_one = Tree::new();
        virtual_one.file("sys/block/loop0/size", "2048");
        assert_eq!(disks(&virtual_one.roots()), []);
    }

    #[test]
    fn a_disk_that_has_become_read_only_is_told_because_something_is_left_on_it() {
        let found = disks(&tree(&[("ro", "1")]).roots());
        assert!(found.len() == 1 && found[0].read_only, "{found:?}");
    }

    #[test]
    fn our_own_media_is_left_out_and_other_media_is_not() {
        let tree = tree(&[]);
        tree.bytes("dev/sdx", &iso_with_label("RACKWRIGHT"));
        assert_eq!(disks(&tree.roots()), []);
        tree.bytes("dev/sdx", &iso_with_label("DEBIAN"));
        assert_eq!(disks(&tree.roots()).len(), 1);
    }

    #[test]
    fn names_are_told_as_udev_tells_them() {
        assert_eq!(wwn("naa.5000c500a1b2c3d4").as_deref(), Some("0x5000c500a1b2c3d4"));
        assert_eq!(wwn("eui.0025385B01234567").as_deref(), Some("eui.0025385b01234567"));
        assert_eq!(wwn("t10.ATA     QEMU HARDDISK   QM00001"), None);
        assert_eq!(wwn(""), None);
    }

    #[test]
    fn damaged_pages_of_a_disk_are_passed_over() {
        let tree = tree(&[]);
        tree.bytes("sys/block/sdx/device/vpd_pg80", &[0, 0x80]);
        tree.bytes("sys/block/sdx/device/vpd_pg89", &[0; 100]);
        tree.file("sys/block/sdx/device/model", "QEMU HARDDISK   ");
        let disk = disks(&tree.roots()).remove(0);
        assert_eq!((disk.serial, disk.model.as_deref()), (None, Some("QEMU HARDDISK")));
    }
}
