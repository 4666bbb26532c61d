//! The disk: partition table, boot loaders and file systems, without a loop device or a mount.

use super::IMAGE;
use crate::command;
use anyhow::{Context, Result};
use rackwright_ramdisk::architecture::Architecture;
use rackwright_ramdisk::gpt::{self, Kind, Partition, SECTOR};
use rackwright_ramdisk::packages::Packages;
use rackwright_ramdisk::{fat, grub, iso};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1024 * 1024;
/// Sectors where partitions begin; each ends where the next begins, on whole MiB.
const BIOS: u64 = 2048;
const EFI: u64 = 4096;
const CONFIG: u64 = EFI + 8 * MIB / SECTOR;
const ROOT: u64 = CONFIG + 4 * MIB / SECTOR;
/// Serial number of the EFI file system, and seed of the disk's identifiers.
const SERIAL: u32 = 0x5257_0002;
/// GRUB on a BIOS has what it needs in its core and loads no module.
const BIOS_MODULES: &[&str] =
    &["biosdisk", "part_gpt", "ext2", "linux", "normal", "configfile", "search", "search_label", "boot", "minicmd"];
const FIND_ROOT: &str = "search --no-floppy --set=root --label root\nconfigfile ($root)/boot/grub/grub.cfg\n";

/// Writes `root` as a disk image to `to`.
pub fn write(root: &Path, to: &Path, packages: &Packages, machine: &Architecture) -> Result<()> {
    let used =
        command::output(Command::new("du").args(["--summarize", "--apparent-size", "--block-size=1"]).arg(root))?;
    let used: u64 = used.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).context("du says no size")?;
    // Room for ext4's tables, and for what the first boot writes before the file system has grown.
    let root_sectors = (used + used / 8 + 32 * MIB).next_multiple_of(MIB) / SECTOR;
    let sectors = ROOT + root_sectors + MIB / SECTOR;
    let partition = |kind, name, first, next: u64| Partition { kind, name, first, last: next - 1 };
    let partitions = [
        partition(Kind::BiosBoot, "bios", BIOS, EFI),
        partition(Kind::EfiSystem, "efi", EFI, CONFIG),
        partition(Kind::Linux, "cidata", CONFIG, ROOT),
        partition(Kind::RootAmd64, "root", ROOT, ROOT + root_sectors),
    ];
    let table = gpt::table(sectors, &partitions, u64::from(SERIAL))?;
    let efi = fat::image("EFI", SERIAL, &iso::efi_files(FIND_ROOT, packages, machine)?, 8 * MIB as usize)?;
    let core = grub::core(bios_core(to, packages)?, BIOS, EFI - BIOS)?;

    let disk = File::create(to)?;
    disk.set_len(sectors * SECTOR)?;
    disk.write_all_at(&table.head, 0)?;
    disk.write_all_at(&grub::first_sector(&packages.read("usr/lib/grub/i386-pc/boot.img")?, BIOS)?, 0)?;
    disk.write_all_at(&core, BIOS * SECTOR)?;
    disk.write_all_at(&efi, EFI * SECTOR)?;
    disk.write_all_at(&table.tail, sectors * SECTOR - table.tail.len() as u64)?;
    let mut ext4 = Command::new("mke2fs");
    ext4.args(["-q", "-t", "ext4", "-L", "root", "-m", "0", "-N", "60000", "-O"]);
    // GRUB 2.06 does not know the newest features; a test's disk needs no journal.
    ext4.arg("^has_journal,^metadata_csum_seed,^orphan_file").arg("-d").arg(root);
    ext4.arg("-E").arg(format!("offset={},lazy_itable_init=1", ROOT * SECTOR));
    command::output(ext4.arg(to).arg(format!("{}k", root_sectors * SECTOR / 1024))).map(drop)
}

fn bios_core(to: &Path, packages: &Packages) -> Result<Vec<u8>> {
    let (config, core) = (to.with_extension("cfg"), to.with_extension("core"));
    fs::write(&config, FIND_ROOT)?;
    let mut mkimage = Command::new(packages.path("usr/bin/grub-mkimage")?);
    let folder = packages.path("usr/lib/grub/i386-pc")?;
    mkimage.env("LD_LIBRARY_PATH", std::env::join_paths(packages.library_folders("x86_64-linux-gnu"))?);
    mkimage.args(["--format=i386-pc", "--prefix=/boot/grub", "--directory"]).arg(folder);
    mkimage.arg("--config").arg(&config).arg("--output").arg(&core).args(BIOS_MODULES);
    command::output(&mut mkimage).context("GRUB's core cannot be made")?;
    Ok(fs::read(core)?)
}

/// Compresses `raw` into the folder `out`, and writes the digests of both.
pub fn compress(raw: &Path, out: &Path) -> Result<()> {
    let mut sums = format!("{}  node-amd64.raw\n", digest(raw)?);
    let packed: PathBuf = out.join(IMAGE);
    let mut encoder = zstd::stream::Encoder::new(File::create(&packed)?, 3)?;
    encoder.include_checksum(true)?;
    std::io::copy(&mut File::open(raw)?, &mut encoder)?;
    encoder.finish()?;
    sums.push_str(&format!("{}  {IMAGE}\n", digest(&packed)?));
    Ok(fs::write(out.join("sha256sums.txt"), sums)?)
}

fn digest(file: &Path) -> Result<String> {
    let (mut file, mut hash, mut block) = (File::open(file)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}
