//! Where a disk is plugged in, as udev's `path_id` builtin names it: people know these names from `/dev/disk/by-path`.
//!
//! Walks from the disk to the root of the device tree and puts one word for each bus in front. A disk behind a bus that
//! is not known here has no such name.

use crate::linux::{Roots, names, text};
use std::path::{Path, PathBuf};

/// Name of the disk's link in `/dev/disk/by-path`.
pub fn by_path(roots: &Roots, name: &str) -> Option<String> {
    let top = roots.sys.join("devices").canonicalize().ok()?;
    let disk = roots.sys.join("block").join(name).canonicalize().ok()?;
    let mut words: Vec<String> = Vec::new();
    // What attaches the disk, and what that is attached to: with only one of them the name would not be unique.
    let (mut transport, mut root) = (false, false);
    let mut at = disk.clone();
    while at.starts_with(&top) && at != top {
        let label = at.file_name()?.to_str()?.to_owned();
        match subsystem(&at).as_deref() {
            Some("scsi") if hctl(&label).is_some() => {
                words.push(scsi(&top, &at, &label)?);
                (transport, root) = (true, root || is_named_by_transport(&at));
                at = ancestor(&top, &at, "host")?;
            }
            Some("usb") => {
                words.push(format!("usb-0:{}", label.split_once('-')?.1));
                transport = true;
                at = skip(&top, &at, "usb");
            }
            Some("nvme-subsystem") => {
                at = controller(&at)?;
                continue;
            }
            Some("nvme") => {
                words.push(format!("nvme-{}", text(disk.join("nsid"))?));
                (transport, root) = (true, true);
                at = skip(&top, &at, "nvme");
            }
            Some("virtio") => {
                transport = true;
                at = skip(&top, &at, "virtio");
            }
            Some("pci") => {
                words.push(format!("pci-{label}"));
                root = true;
                at = skip(&top, &at, "pci");
            }
            Some("platform") => {
                words.push(format!("platform-{label}"));
                (transport, root) = (true, true);
                at = skip(&top, &at, "platform");
            }
            _ => {}
        }
        at = at.parent()?.to_owned();
    }
    words.reverse();
    (transport && root && !words.is_empty()).then(|| words.join("-"))
}

fn subsystem(device: &Path) -> Option<String> {
    let target = std::fs::read_link(device.join("subsystem")).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The outermost of the devices of one subsystem that follow each other on the way up.
fn skip(top: &Path, from: &Path, wanted: &str) -> PathBuf {
    let (mut last, mut at) = (from, from);
    while let Some(parent) = at.parent().filter(|parent| parent.starts_with(top)) {
        match subsystem(parent) {
            Some(found) if found == wanted => last = parent,
            None if !parent.join("uevent").exists() => {}
            _ => break,
        }
        at = parent;
    }
    last.to_owned()
}

/// The nearest folder above that is named `prefix` and a number.
fn ancestor(top: &Path, from: &Path, prefix: &str) -> Option<PathBuf> {
    let mut above = from.ancestors().skip(1).take_while(|path| path.starts_with(top));
    above.find(|path| path.file_name().and_then(|name| counted(name.to_str()?, prefix)).is_some()).map(Path::to_owned)
}

/// N of `prefixN`.
fn counted(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// Host, channel, target and unit of a SCSI device's name.
fn hctl(name: &str) -> Option<[u32; 4]> {
    let numbers: Vec<u32> = name.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// With several paths in multipath NVMe the first controller's is the name.
fn controller(nvme_subsystem: &Path) -> Option<PathBuf> {
    let name = names(nvme_subsystem).into_iter().find(|name| counted(name, "nvme").is_some())?;
    nvme_subsystem.join(name).canonicalize().ok()
}

fn is_named_by_transport(device: &Path) -> bool {
    let path = device.to_string_lossy();
    ["/rport-", "/end_device-"].iter().any(|mark| path.contains(mark))
}

/// The word for a SCSI device: what its transport calls it.
fn scsi(top: &Path, device: &Path, name: &str) -> Option<String> {
    let [host, channel, target, unit] = hctl(name)?;
    let path = device.to_string_lossy();
    let sys = top.parent()?;
    if path.contains("/rport-") {
        let port = text(sys.join(format!("class/fc_transport/target{host}:{channel}:{target}/port_name")))?;
        return Some(format!("fc-{port}-lun-{unit}"));
    }
    if path.contains("/end_device-") {
        return sas(sys, device, unit);
    }
    if path.contains("/session") {
        return None;
    }
    if let Some(port) = ancestor(top, device, "ata").filter(|_| path.contains("/ata")) {
        let number = text(sys.join("class/ata_port").join(port.file_name()?).join("port_no"))?;
        let place = if channel != 0 { format!("{channel}.0") } else { target.to_string() };
        return Some(format!("ata-{number}.{place}"));
    }
    // Host numbers depend on who was found first; counted from the adapter's own first host they do not.
    let adapter = ancestor(top, device, "host")?.parent()?.to_owned();
    let first = names(adapter).iter().filter_map(|name| counted(name, "host")).min()?;
    Some(format!("scsi-{}:{channel}:{target}:{unit}", host.checked_sub(first)?))
}

/// A SAS disk is named by the phy it hangs on, behind an expander with that one's address; on a wide port by its own.
fn sas(sys: &Path, device: &Path, unit: u32) -> Option<String> {
    let end = device.ancestors().find(|path| path.file_name().is_some_and(|name| starts(name, "end_device-")))?;
    let port = end.parent()?;
    let facts = |device: &Path| Some(sys.join("class/sas_device").join(device.file_name()?));
    let phys = names(port).iter().filter(|name| name.starts_with("phy-")).count();
    if phys > 1 {
        return Some(format!("sas-{}-lun-{unit}", text(facts(end)?.join("sas_address"))?));
    }
    let phy = text(facts(end)?.join("phy_identifier"))?;
    let expander = port.parent().filter(|above| above.file_name().is_some_and(|name| starts(name, "expander-")));
    Some(match expander {
        Some(expander) => format!("sas-exp{}-phy{phy}-lun-{unit}", text(facts(expander)?.join("sas_address"))?),
        None => format!("sas-phy{phy}-lun-{unit}"),
    })
}

fn starts(name: &std::ffi::OsStr, prefix: &str) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    /// Devices by path below /sys/devices, each with its subsystem; the last is the disk.
    fn named(devices: &[(&str, &str)], files: &[(&str, &str)]) -> Option<String> {
        let tree = Tree::new();
        for (path, subsystem) in devices {
            tree.device(path, subsystem);
        }
        for (path, content) in files {
            tree.file(path, content);
        }
        let (disk, _) = devices.last().expect("a disk");
        let name = disk.rsplit('/').next().expect("a name");
        tree.link(&format!("sys/block/{name}"), &format!("../devices/{disk}"));
        by_path(&tree.roots(), name)
    }

    #[test]
    fn a_virtio_disk_is_named_by_its_pci_slot_behind_a_bridge() {
        let name = named(
            &[
                ("pci0000:00/0000:00:1e.0", "pci"),
                ("pci0000:00/0000:00:1e.0/0000:05:01.0", "pci"),
                ("pci0000:00/0000:00:1e.0/0000:05:01.0/virtio2", "virtio"),
                ("pci0000:00/0000:00:1e.0/0000:05:01.0/virtio2/block/vda", "block"),
            ],
            &[],
        );
        assert_eq!(name.as_deref(), Some("pci-0000:05:01.0"));
    }

    #[test]
    fn a_virtio_scsi_disk_counts_hosts_from_the_adapters_first() {
        let adapter = "pci0000:00/0000:00:05.0/virtio3";
        let device = format!("{adapter}/host2/target2:0:1/2:0:1:4");
        let name = named(
            &[
                ("pci0000:00/0000:00:05.0", "pci"),
                (adapter, "virtio"),
                (&format!("{adapter}/host2"), "scsi"),
                (&device, "scsi"),
                (&format!("{device}/block/sdb"), "block"),
            ],
            &[],
        );
        assert_eq!(name.as_deref(), Some("pci-0000:00:05.0-scsi-0:0:1:4"));
    }

    #[test]
    fn a_sas_disk_is_named_by_its_phy_and_expander() {
        let port = "pci0000:80/0000:81:00.0/host1/port-1:0/expander-1:0/port-1:0:3";
        let device = format!("{port}/end_device-1:0:3/target1:0:3/1:0:3:0");
        let name = named(
            &[
                ("pci0000:80/0000:81:00.0", "pci"),
                (&format!("{port}/phy-1:0:3"), "sas_phy"),
                (&device, "scsi"),
                (&format!("{device}/block/sdc"), "block"),
            ],
            &[
                ("sys/class/sas_device/end_device-1:0:3/phy_identifier", "3\n"),
                ("sys/class/sas_device/expander-1:0/sas_address", "0x500304801f2a3b7f\n"),
            ],
        );
        assert_eq!(name.as_deref(), Some("pci-0000:81:00.0-sas-exp0x500304801f2a3b7f-phy3-lun-0"));
    }

    #[test]
    fn a_usb_disk_is_named_by_port_and_unit() {
        let device = "pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0";
        let unit = format!("{device}/host6/target6:0:0/6:0:0:0");
        let name = named(
            &[
                ("pci0000:00/0000:00:14.0", "pci"),
                ("pci0000:00/0000:00:14.0/usb1", "usb"),
                ("pci0000:00/0000:00:14.0/usb1/1-3", "usb"),
                (device, "usb"),
                (&unit, "scsi"),
                (&format!("{unit}/block/sdd"), "block"),
            ],
            &[],
        );
        assert_eq!(name.as_deref(), Some("pci-0000:00:14.0-usb-0:3:1.0-scsi-0:0:0:0"));
    }

    #[test]
    fn a_multipath_nvme_disk_is_named_by_its_first_controller() {
        let tree = Tree::new();
        let controller = "pci0000:00/0000:00:01.0/0000:02:00.0/nvme/nvme0";
        tree.device("pci0000:00/0000:00:01.0", "pci");
        tree.device("pci0000:00/0000:00:01.0/0000:02:00.0", "pci");
        tree.device(controller, "nvme");
        tree.device("virtual/nvme-subsystem/nvme-subsys0", "nvme-subsystem");
        tree.device("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "block");
        tree.link("sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0", &format!("../../../{controller}"));
        tree.file("sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nsid", "1\n");
        tree.link("sys/block/nvme0n1", "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
        assert_eq!(by_path(&tree.roots(), "nvme0n1").as_deref(), Some("pci-0000:02:00.0-nvme-1"));
    }

    #[test]
    fn a_disk_behind_an_unknown_bus_has_no_name() {
        assert_eq!(named(&[("virtual/thing0", "thing"), ("virtual/thing0/block/tda", "block")], &[]), None);
        assert_eq!(by_path(&Tree::new().roots(), "vda"), None);
    }
}
