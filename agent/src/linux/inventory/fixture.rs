//! Machines as trees of files.

use crate::linux::Roots;
use tempfile::TempDir;

/// What this test was built for.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// `sys`, `proc` and `dev` in a temporary folder.
pub struct Tree(TempDir);

impl Tree {
    pub fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().expect("a temporary folder"));
        for folder in ["sys/devices", "proc", "dev"] {
            std::fs::create_dir_all(tree.0.path().join(folder)).expect("a folder");
        }
        tree
    }

    pub fn roots(&self) -> Roots {
        let path = self.0.path();
        Roots { sys: path.join("sys"), proc: path.join("proc"), dev: path.join("dev") }
    }

    pub fn bytes(&self, path: &str, content: &[u8]) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    pub fn file(&self, path: &str, content: &str) {
        self.bytes(path, content.as_bytes());
    }

    pub fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(target, path).expect("a link");
    }

    /// A device below /sys/devices.
    pub fn device(&self, path: &str, subsystem: &str) {
        self.file(&format!("sys/devices/{path}/uevent"), "");
        self.link(&format!("sys/devices/{path}/subsystem"), &format!("/sys/bus/{subsystem}"));
    }

    /// A block device and its link in /sys/block. `up`: from there to the device that it is a disk of.
    fn disk(&self, path: &str, up: &str, sectors: u64, rotational: bool) {
        let name = path.rsplit('/').next().expect("a name");
        self.device(path, "block");
        self.link(&format!("sys/block/{name}"), &format!("../devices/{path}"));
        self.link(&format!("sys/devices/{path}/device"), up);
        self.file(&format!("sys/block/{name}/size"), &format!("{sectors}\n"));
        self.file(&format!("sys/block/{name}/ro"), "0\n");
        self.file(&format!("sys/block/{name}/removable"), "0\n");
        self.file(&format!("sys/block/{name}/queue/rotational"), &format!("{}\n", u8::from(rotational)));
    }

    fn nic(&self, name: &str, path: &str, mac: &str, speed: &str) {
        self.device(path, "pci");
        let nic = format!("devices/{path}/net/{name}");
        self.link(&format!("sys/class/net/{name}"), &format!("../../{nic}"));
        self.file(&format!("sys/{nic}/address"), &format!("{mac}\n"));
        self.file(&format!("sys/{nic}/type"), "1\n");
        self.file(&format!("sys/{nic}/speed"), speed);
        self.link(&format!("sys/{nic}/device"), "../..");
    }

    fn core(&self, cpu: u32, package: u32, core: u32) {
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        self.file(&format!("{topology}/physical_package_id"), &format!("{package}\n"));
        self.file(&format!("{topology}/core_id"), &format!("{core}\n"));
    }

    fn dmi(&self, values: &[(&str, &str)]) {
        for (file, value) in values {
            self.file(&format!("sys/class/dmi/id/{file}"), &format!("{value}\n"));
        }
    }
}

/// An SMBIOS memory device of that size, MiB.
pub fn memory_device(mib: u32) -> Vec<u8> {
    let mut device = vec![0; 0x28];
    (device[0], device[1]) = (17, 0x28);
    let word = u16::try_from(mib).ok().filter(|mib| *mib < 0x7fff).unwrap_or(0x7fff);
    device[0x0c..0x0e].copy_from_slice(&word.to_le_bytes());
    if word == 0x7fff {
        device[0x1c..0x20].copy_from_slice(&mib.to_le_bytes());
    }
    device.extend(b"DIMM 0\0QEMU\0\0");
    device
}

/// An SMBIOS list of OEM strings.
pub fn oem_strings(strings: &[&str]) -> Vec<u8> {
    let mut list = vec![11, 5, 0, 0, u8::try_from(strings.len()).expect("few")];
    strings.iter().for_each(|text| list.extend([text.as_bytes(), b"\0"].concat()));
    list.push(0);
    list
}

/// The start of an ISO 9660 volume.
pub fn iso_with_label(label: &str) -> Vec<u8> {
    let mut iso = vec![0; 17 * 2048];
    iso[16 * 2048..][..6].copy_from_slice(b"\x01CD001");
    iso[16 * 2048 + 40..][..32].fill(b' ');
    iso[16 * 2048 + 40..][..label.len()].copy_from_slice(label.as_bytes());
    iso
}

/// A QEMU machine: one virtio disk, one NIC, a CD drive with our media in it.
pub fn qemu() -> Tree {
    let tree = Tree::new();
    tree.dmi(&[
        ("sys_vendor", "QEMU"),
        ("product_name", "Standard PC (Q35 + ICH9, 2009)"),
        ("product_serial", "bm1"),
        ("product_uuid", "11111111-2222-3333-4444-5555AAAABBBB"),
        ("bios_vendor", "SeaBIOS"),
        ("bios_version", "1.16.2-debian-1.16.2-1"),
        ("bios_date", "04/01/2014"),
    ]);
    tree.bytes("sys/firmware/dmi/tables/DMI", &memory_device(1536));
    tree.file("proc/meminfo", "MemTotal:        1498760 kB\n");
    tree.file("proc/cpuinfo", "processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\nflags\t: fpu\n");
    tree.core(0, 0, 0);
    tree.core(1, 1, 0);
    tree.device("pci0000:00/0000:00:03.0", "pci");
    tree.device("pci0000:00/0000:00:03.0/virtio1", "virtio");
    tree.disk("pci0000:00/0000:00:03.0/virtio1/block/vda", "../..", 16 << 20, false);
    tree.file("sys/block/vda/serial", "root-1");
    tree.device("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "scsi");
    tree.disk("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sr0", "../..", 80_000, true);
    tree.file("sys/block/loop0/size", "0\n");
    tree.nic("eth0", "pci0000:00/0000:00:02.0/virtio0", "52:54:00:00:00:01", "-1\n");
    tree.file("sys/class/net/lo/address", "00:00:00:00:00:00\n");
    tree.file("sys/bus/pci/devices/0000:00:01.0/class", "0x030000\n");
    tree.file("sys/bus/pci/devices/0000:00:01.0/vendor", "0x1234\n");
    tree.file("sys/bus/pci/devices/0000:00:01.0/device", "0x1111\n");
    tree
}

/// A server with two sockets, a turning SATA disk, an NVMe disk, a USB stick, two ports and two accelerators.
pub fn server() -> Tree {
    let tree = Tree::new();
    tree.dmi(&[("sys_vendor", "Supermicro"), ("product_name", "SYS-620U"), ("product_serial", "Default string")]);
    let memory: Vec<u8> = [64 * 1024, 0, 32 * 1024].into_iter().flat_map(memory_device).collect();
    tree.bytes("sys/firmware/dmi/tables/DMI", &memory);
    for cpu in 0..8 {
        tree.core(cpu, cpu % 2, (cpu / 2) % 2);
    }
    tree.bytes("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", &[6, 0, 0, 0, 1]);
    tree.file("sys/firmware/acpi/tables/TPM2", "");

    let sata = "pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0";
    tree.device("pci0000:00/0000:00:17.0", "pci");
    tree.device(sata, "scsi");
    tree.disk(&format!("{sata}/block/sda"), "../..", 31_251_759_104, true);
    tree.file("sys/class/ata_port/ata3/port_no", "3\n");
    tree.file(&format!("sys/devices/{sata}/model"), "TOSHIBA MG08ACA1\n");
    tree.file(&format!("sys/devices/{sata}/wwid"), "naa.5000039b38c0e3d1\n");
    tree.bytes(&format!("sys/devices/{sata}/vpd_pg80"), b"\x00\x80\x00\x14        Y9S0A0BCFVGG");
    let mut identify = vec![0; 60 + 512];
    let model = format!("{:40}", "TOSHIBA MG08ACA16TE and its long name");
    for (word, pair) in identify[60 + 54..60 + 94].chunks_mut(2).zip(model.as_bytes().chunks(2)) {
        (word[0], word[1]) = (pair[1], pair[0]);
    }
    tree.bytes(&format!("sys/devices/{sata}/vpd_pg89"), &identify);

    let nvme = "pci0000:64/0000:64:02.0/0000:65:00.0/nvme/nvme0";
    tree.device("pci0000:64/0000:64:02.0", "pci");
    tree.device("pci0000:64/0000:64:02.0/0000:65:00.0", "pci");
    tree.device(nvme, "nvme");
    tree.disk(&format!("{nvme}/nvme0n1"), "..", 1_875_385_008, false);
    tree.file("sys/block/nvme0n1/nsid", "1\n");
    tree.file("sys/block/nvme0n1/wwid", "eui.36344830526001480025384500000001\n");
    tree.file(&format!("sys/devices/{nvme}/model"), "SAMSUNG MZQL2960HCJR-00A07              \n");
    tree.file(&format!("sys/devices/{nvme}/serial"), "S64HNE0R600148      \n");

    let stick = "pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/host6/target6:0:0/6:0:0:0";
    tree.device(stick, "scsi");
    tree.disk(&format!("{stick}/block/sdb"), "../..", 60_000_000, false);
    tree.file("sys/block/sdb/removable", "1\n");

    tree.nic("eth0", "pci0000:30/0000:31:00.0", "04:3F:72:AA:00:01", "25000\n");
    tree.nic("eth1", "pci0000:30/0000:31:00.1", "04:3f:72:aa:00:02", "-1\n");
    tree.nic("eth2", "pci0000:30/0000:31:01.0", "04:3f:72:aa:00:03", "25000\n");
    tree.link("sys/class/net/eth2/device/physfn", "../0000:31:00.0");
    for (address, class, vendor, device) in [
        ("0000:17:00.0", "0x030200", "0x10de", "0x20b5"),
        ("0000:18:00.0", "0x120000", "0x1002", "0xffff"),
        ("0000:19:00.0", "0x020000", "0x8086", "0x1592"),
        ("0000:02:00.0", "0x030000", "0x1a03", "0x2000"),
    ] {
        tree.file(&format!("sys/bus/pci/devices/{address}/class"), &format!("{class}\n"));
        tree.file(&format!("sys/bus/pci/devices/{address}/vendor"), &format!("{vendor}\n"));
        tree.file(&format!("sys/bus/pci/devices/{address}/device"), &format!("{device}\n"));
    }
    tree
}
