//! What the machine is made of, read from /sys, /proc and SMBIOS. Touches no disk but for its first blocks, read-only.
//!
//! What cannot be read is left out; an inspection never fails because a vendor's firmware left a field empty.

mod block;
mod by_path;
mod firmware;
#[cfg(test)]
pub(crate) mod fixture;
mod nics;
mod pci;
mod processor;
mod smbios;

use super::{Roots, text};
use rackwright_protocol::facts::{Facts, Nic};

/// Label of our own ISO: media that we run from is never a disk of the machine.
pub const MEDIA_LABEL: &str = "RACKWRIGHT";

/// Everything but what needs the network: addresses and LLDP neighbours.
pub fn read(roots: &Roots) -> Facts {
    let (memory_mib, source) = memory(roots);
    tracing::debug!(memory_mib, source, "memory");
    Facts {
        cpu: processor::read(roots),
        memory_mib,
        disks: block::disks(roots),
        nics: nics::read(roots),
        accelerators: pci::accelerators(roots),
        ..firmware::read(roots)
    }
}

/// Network interfaces alone.
pub fn nics(roots: &Roots) -> Vec<Nic> {
    nics::read(roots)
}

/// What the platform's owner wrote into SMBIOS.
pub fn oem_strings(roots: &Roots) -> Vec<String> {
    smbios::oem_strings(&std::fs::read(roots.sys.join("firmware/dmi/tables/DMI")).unwrap_or_default())
}

/// MiB of memory, and who says so: SMBIOS knows what is plugged in, the kernel only what firmware left over.
fn memory(roots: &Roots) -> (i64, &'static str) {
    let table = std::fs::read(roots.sys.join("firmware/dmi/tables/DMI")).unwrap_or_default();
    if let Some(mib) = smbios::memory_mib(&table) {
        return (mib, "SMBIOS type 17");
    }
    let info = text(roots.proc.join("meminfo")).unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    let mib = total.and_then(|kib| kib.trim().parse::<i64>().ok()).unwrap_or(0) / 1024;
    // Firmware and kernel keep up to a few per cent for themselves: the next multiple is what was plugged in.
    let unit = if mib >= 16 * 1024 { 1024 } else { 128 };
    ((mib + unit - 1) / unit * unit, "MemTotal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rackwright_protocol::facts::{Cpu, Disk, Firmware};

    #[test]
    fn a_qemu_machine_is_what_qemu_was_told() {
        let tree = fixture::qemu();
        let facts = read(&tree.roots());
        let expected = Facts {
            vendor: Some("QEMU".into()),
            model: Some("Standard PC (Q35 + ICH9, 2009)".into()),
            serial: Some("bm1".into()),
            system_uuid: Some("11111111-2222-3333-4444-5555aaaabbbb".into()),
            firmware: Some(Firmware {
                vendor: Some("SeaBIOS".into()),
                version: Some("1.16.2-debian-1.16.2-1".into()),
                date: Some("04/01/2014".into()),
            }),
            boot_mode: Some("BIOS".into()),
            cpu: Cpu {
                architecture: fixture::ARCHITECTURE.into(),
                model: Some("QEMU Virtual CPU version 2.5+".into()),
                cores: 2,
                threads: 2,
            },
            memory_mib: 1536,
            disks: vec![Disk {
                device: "/dev/vda".into(),
                size_bytes: 8 << 30,
                serial: Some("root-1".into()),
                by_path: Some("pci-0000:00:03.0".into()),
                ..Disk::default()
            }],
            nics: vec![Nic { name: "eth0".into(), mac: "52:54:00:00:00:01".into(), ..Nic::default() }],
            ..Facts::default()
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_server_with_two_sockets_shows_its_disks_firmware_and_accelerators() {
        let tree = fixture::server();
        let facts = read(&tree.roots());
        assert_eq!((facts.cpu.cores, facts.cpu.threads), (4, 8));
        assert_eq!(facts.memory_mib, 96 * 1024);
        assert_eq!(facts.boot_mode.as_deref(), Some("UEFI"));
        assert_eq!(facts.secure_boot, Some(true));
        assert_eq!(facts.tpm_version.as_deref(), Some("2.0"));
        assert_eq!(facts.serial, None, "a placeholder is no serial number");
        let devices: Vec<&str> = facts.disks.iter().map(|disk| disk.device.as_str()).collect();
        assert_eq!(devices, ["/dev/sda", "/dev/nvme0n1"]);
        let disk = &facts.disks[0];
        assert!(disk.rotational);
        assert_eq!(disk.model.as_deref(), Some("TOSHIBA MG08ACA16TE and its long name"));
        assert_eq!(disk.serial.as_deref(), Some("Y9S0A0BCFVGG"));
        assert_eq!(disk.wwn.as_deref(), Some("0x5000039b38c0e3d1"));
        assert_eq!(disk.by_path.as_deref(), Some("pci-0000:00:17.0-ata-3.0"));
        let disk = &facts.disks[1];
        assert_eq!(disk.size_bytes, 960_197_124_096);
        assert_eq!(disk.model.as_deref(), Some("SAMSUNG MZQL2960HCJR-00A07"));
        assert_eq!(disk.wwn.as_deref(), Some("eui.36344830526001480025384500000001"));
        assert_eq!(disk.by_path.as_deref(), Some("pci-0000:65:00.0-nvme-1"));
        let nics: Vec<_> = facts.nics.iter().map(|nic| (nic.name.as_str(), nic.mac.as_str(), nic.speed_mbps)).collect();
        assert_eq!(nics, [("eth0", "04:3f:72:aa:00:01", Some(25_000)), ("eth1", "04:3f:72:aa:00:02", None)]);
        let found: Vec<_> = facts.accelerators.iter().map(|a| (a.vendor.as_str(), a.model.as_str())).collect();
        assert_eq!(found, [("nvidia", "A100 PCIe 80GB"), ("amd", "1002:ffff")]);
    }

    #[test]
    fn without_smbios_memory_is_what_the_kernel_has_rounded_up() {
        let tree = fixture::Tree::new();
        tree.file("proc/meminfo", "MemTotal:        1498760 kB\nMemFree: 1 kB\n");
        assert_eq!(memory(&tree.roots()), (1536, "MemTotal"));
        tree.file("proc/meminfo", "MemTotal:       131891052 kB\n");
        assert_eq!(memory(&tree.roots()), (126 * 1024, "MemTotal"));
    }

    #[test]
    fn a_machine_that_shows_nothing_is_an_empty_one() {
        let facts = read(&fixture::Tree::new().roots());
        assert!(facts.disks.is_empty() && facts.nics.is_empty() && facts.system_uuid.is_none());
    }
}
