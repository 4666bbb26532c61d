//! One machine: what it is made of, how libvirt is told, and what its disks hold when somebody looks from outside.

use super::console::Console;
use super::domain::{Files, domain, target};
use super::libvirt::virsh;
use super::run;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::sleep;

/// Between two keys that are typed.
const KEY: Duration = Duration::from_millis(20);

/// Firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// How a disk is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// As virtio-blk; firmware boots it.
    Virtio,
    /// As an NVMe controller with one namespace. Firmware is not told to boot it, and it cannot be pulled out.
    Nvme,
}

/// A disk to build in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// MiB.
    pub size_mib: u64,
    /// As the ramdisk will see it; at most 20 characters (virtio-blk).
    pub serial: String,
    /// Nothing can be written to it, as with a disk that has had too many errors.
    pub read_only: bool,
    /// How it is plugged in.
    pub bus: Bus,
    /// So much of it can be written, then writes fail, MiB; absent: all of it.
    pub room_mib: Option<u64>,
}

impl DiskSpec {
    /// A disk in order.
    pub fn new(size_mib: u64, serial: &str) -> DiskSpec {
        DiskSpec { size_mib, serial: serial.into(), read_only: false, bus: Bus::Virtio, room_mib: None }
    }
}

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the machine and of its Host.
    pub name: String,
    /// 1 to 250, its own in the lab: MAC address, UUID and BMC address come from it.
    pub number: u8,
    /// Its firmware.
    pub firmware: Firmware,
    /// Virtual processors.
    pub cpus: u8,
    /// MiB.
    pub memory_mib: u32,
    /// Its disks, all empty, in this order.
    pub disks: Vec<DiskSpec>,
    /// Where its clock stands when it is switched on, seconds since 1970; absent: it is right.
    pub clock: Option<i64>,
    /// Whether the network card brings iPXE in its ROM, which hides the firmware's own network boot.
    pub boot_rom: bool,
}

impl Spec {
    /// Two processors, 1.5 GiB, one empty disk of 8 GiB.
    pub fn new(name: &str, number: u8, firmware: Firmware) -> Spec {
        let disks = vec![DiskSpec::new(8 << 10, &format!("DISK{number:03}A"))];
        Spec { name: name.into(), number, firmware, cpus: 2, memory_mib: 1536, disks, clock: None, boot_rom: false }
    }

    /// SMBIOS system UUID.
    pub fn uuid(&self) -> String {
        format!("5241434b-5752-4947-8854-0000000000{:02x}", self.number)
    }

    /// MAC address of its network card.
    pub fn mac(&self) -> String {
        mac(self.number)
    }

    /// SMBIOS serial number.
    pub fn serial(&self) -> String {
        format!("RW{:05}", self.number)
    }
}

/// MAC address of the network card of machine `number`.
pub(super) fn mac(number: u8) -> String {
    format!("52:54:00:72:77:{number:02x}")
}

/// A machine that libvirt knows. It is off until its BMC is told otherwise.
pub struct Machine {
    /// What it is made of.
    pub spec: Spec,
    /// What it says on its serial console.
    pub console: Console,
    disks: Vec<PathBuf>,
    keyboard: PathBuf,
}

impl Machine {
    /// Makes the disks in `folder` and tells libvirt.
    pub fn define(spec: Spec, folder: &Path) -> Result<Machine> {
        let home = folder.join("metal").join(&spec.name);
        fs::create_dir_all(&home)?;
        let mut disks = Vec::new();
        for disk in &spec.disks {
            let home = match disk.room_mib {
                Some(room) => little_room(&home.join(&disk.serial), room)?,
                None => home.clone(),
            };
            let path = home.join(format!("{}.raw", disk.serial));
            File::create(&path)?.set_len(disk.size_mib << 20)?;
            disks.push(path);
        }
        let serial = folder.join("log").join(format!("{}.serial", spec.name));
        let (definition, keyboard) = (home.join("domain.xml"), home.join("serial"));
        let files =
            Files { disks: &disks, variables: &variables(folder, &spec.name), serial: &serial, keyboard: &keyboard };
        fs::write(&definition, domain(&spec, &files))?;
        virsh(&["define", &definition.display().to_string()])?;
        Ok(Machine { spec, console: Console::watch(serial)?, disks, keyboard })
    }

    /// Switches it on by hand: no BMC is asked.
    pub fn push_button(&self) -> Result<()> {
        virsh(&["start", &self.spec.name]).map(drop)
    }

    /// Pulls the plug: no BMC is asked.
    pub fn cut_power(&self) -> Result<()> {
        virsh(&["destroy", &self.spec.name]).map(drop)
    }

    /// Stops its processors, as a kernel that hangs would: it stays on, and nothing on it answers any more.
    pub fn hang(&self) -> Result<()> {
        virsh(&["suspend", &self.spec.name]).map(drop)
    }

    /// Types a line on its serial console while it runs, as a person in front of it.
    pub async fn type_line(&self, line: &str) -> Result<()> {
        let port = UnixStream::connect(&self.keyboard).await;
        let mut port = port.context("nobody listens at the serial port: is it on?")?;
        // A port takes 16 bytes ahead of whoever reads it, and what it has not taken goes with the line.
        for key in line.bytes().chain(*b"\n") {
            port.write_all(&[key]).await?;
            sleep(KEY).await;
        }
        Ok(())
    }

    /// Takes disk `index` out; it is gone from the next start on.
    pub fn pull_disk(&self, index: usize) -> Result<()> {
        virsh(&["detach-disk", &self.spec.name, &target(index), "--config"]).map(drop)
    }

    /// Takes the CD out of its drive while it runs: no BMC is asked.
    pub fn take_cd_out(&self) -> Result<()> {
        let drives = virsh(&["domblklist", &self.spec.name, "--details"])?;
        let cd = drives
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|line| line.get(1) == Some(&"cdrom"));
        let drive = cd.and_then(|line| line.get(2).copied()).with_context(|| format!("no CD drive in {drives}"))?;
        virsh(&["change-media", &self.spec.name, drive, "--eject", "--force", "--live"]).map(drop)
    }

    /// Puts `content` at the start of disk `index` while the machine is off.
    pub fn fill_disk(&self, index: usize, content: &[u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        Ok(fs::OpenOptions::new().write(true).open(self.disk(index)?)?.write_all_at(content, 0)?)
    }

    /// Whether QEMU runs.
    pub fn is_on(&self) -> bool {
        // libvirt keeps this file as long as it does; asking libvirt takes much longer.
        Path::new(&format!("/run/libvirt/qemu/{}.pid", self.spec.name)).exists()
    }

    /// The file that is its disk `index`.
    pub fn disk(&self, index: usize) -> Result<&Path> {
        self.disks.get(index).map(PathBuf::as_path).with_context(|| format!("{} has no disk {index}", self.spec.name))
    }

    /// Whether any byte of disk `index` is not zero.
    pub fn disk_holds_anything(&self, index: usize) -> Result<bool> {
        self.scan(index, &mut |block| block.iter().any(|byte| *byte != 0))
    }

    /// Whether `needle` stands anywhere on disk `index`, allocated or not.
    pub fn disk_holds(&self, index: usize, needle: &[u8]) -> Result<bool> {
        let mut tail = Vec::new();
        self.scan(index, &mut |block| {
            tail.extend_from_slice(block);
            let found = find(&tail, needle);
            tail.drain(..tail.len().saturating_sub(needle.len()));
            found
        })
    }

    /// Blocks that disk `index` takes on the lab's own disk, MiB.
    pub fn disk_used_mib(&self, index: usize) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok((fs::metadata(self.disk(index)?)?.blocks() * 512) >> 20)
    }

    /// Looks at the data of a disk block by block until `found`; holes of the file are left out, they are zeros.
    fn scan(&self, index: usize, found: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool> {
        let path = self.disk(index)?;
        let map = run("qemu-img", &["map", "--output=json", "-f", "raw", &path.display().to_string()])?;
        let extents: Vec<Extent> = serde_json::from_str(&map)?;
        let mut file = File::open(path)?;
        let mut block = vec![0; 1 << 20];
        for extent in extents.iter().filter(|extent| extent.data) {
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(extent.start))?;
            let mut left = extent.length;
            while left > 0 {
                let length = left.min(block.len() as u64) as usize;
                file.read_exact(&mut block[..length])?;
                if found(&block[..length]) {
                    return Ok(true);
                }
                left -= length as u64;
            }
        }
        Ok(false)
    }
}

/// A stretch of a disk, as `qemu-img map` tells it.
#[derive(serde::Deserialize)]
struct Extent {
    start: u64,
    length: u64,
    data: bool,
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Where the firmware of machine `name` keeps its variables.
pub(super) fn variables(folder: &Path, name: &str) -> PathBuf {
    folder.join("metal").join(name).join("nvram.fd")
}

/// A place that takes `mib` MiB and no more.
fn little_room(folder: &Path, mib: u64) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "rackwright", &folder.display().to_string()])?;
    Ok(folder.into())
}
