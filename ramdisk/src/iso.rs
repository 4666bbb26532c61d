//! A hybrid ISO: BIOS starts ISOLINUX, UEFI starts Debian's signed shim and GRUB, from a CD drive or from a USB stick
//! that the file was copied to. All of them load the same kernel and the same initial ramdisk, which stand in it once
//! and as they are.

use crate::architecture::Architecture;
use crate::fat;
use crate::packages::Packages;
use crate::program;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the boot loaders and xorriso come from.
pub const PACKAGES: &[&str] = &[
    "isolinux",
    "syslinux-common",
    "xorriso",
    "libisoburn1",
    "libburn4",
    "libisofs6",
    "libjte2",
    "libreadline8",
    "libacl1",
];
/// Time of everything on the medium, seconds since 1970 and as xorriso writes it: 2026-01-01.
const EPOCH: &str = "1767225600";
const DATE: &str = "2026010100000000";
/// Serial number of the EFI file system: any, but always the same.
const SERIAL: u32 = 0x5257_0001;

/// What an ISO is made of.
pub struct Parts<'a> {
    /// Debian's kernel.
    pub kernel: &'a [u8],
    /// What [`crate::initrd::assemble`] made.
    pub initrd: &'a [u8],
    /// The kernel's command line.
    pub command_line: &'a str,
}

/// Writes the ISO to `out`; `work` is an empty folder.
pub fn write(out: &Path, work: &Path, parts: &Parts, packages: &Packages, machine: &Architecture) -> Result<()> {
    // GRUB finds its medium by a file that no other medium has.
    let digest = hex::encode(Sha256::new().chain_update(parts.kernel).chain_update(parts.initrd).finalize());
    let marker = format!("rackwright/{}", &digest[..16]);
    let grub = grub_config(&marker, parts.command_line);
    let efi = efi_files(&grub, packages, machine)?;
    let read = |path: &str| packages.read(path);
    let files = [
        ("boot/vmlinuz", parts.kernel.to_vec()),
        ("boot/initrd", parts.initrd.to_vec()),
        ("boot/grub/grub.cfg", grub.into_bytes()),
        ("boot/efi.img", fat::image("RACKWRIGHT", SERIAL, &efi, 0)?),
        ("isolinux/isolinux.bin", read("usr/lib/ISOLINUX/isolinux.bin")?),
        ("isolinux/ldlinux.c32", read("usr/lib/syslinux/modules/bios/ldlinux.c32")?),
        ("isolinux/isolinux.cfg", isolinux_config(parts.command_line).into_bytes()),
        (marker.as_str(), digest.into_bytes()),
    ];
    for (path, data) in files {
        let path = work.join(path);
        fs::create_dir_all(path.parent().unwrap_or(work))?;
        fs::write(path, data)?;
    }
    run_xorriso(out, work, packages)
}

/// What the firmware's own boot manager reads.
pub fn efi_files(grub: &str, packages: &Packages, machine: &Architecture) -> Result<BTreeMap<String, Vec<u8>>> {
    Ok(BTreeMap::from([
        (format!("EFI/BOOT/{}", machine.boot_file), packages.read(machine.shim.1)?),
        (format!("EFI/BOOT/{}", machine.second_file), packages.read(machine.grub.1)?),
        ("boot/grub/grub.cfg".to_string(), grub.as_bytes().to_vec()),
    ]))
}

fn grub_config(marker: &str, command_line: &str) -> String {
    format!(
        "search --no-floppy --set=root --file /{marker}\n\
         linux /boot/vmlinuz {command_line}\n\
         initrd /boot/initrd\n\
         boot\n\
         echo \"Rackwright's ramdisk cannot be started from this medium.\"\n\
         sleep 30\n\
         exit\n"
    )
}

fn isolinux_config(command_line: &str) -> String {
    format!(
        "default rackwright\n\
         prompt 0\n\
         noescape 1\n\
         label rackwright\n\
         kernel /boot/vmlinuz\n\
         initrd /boot/initrd\n\
         append {command_line}\n"
    )
}

fn run_xorriso(out: &Path, tree: &Path, packages: &Packages) -> Result<()> {
    let mut xorriso = Command::new(packages.path("usr/bin/xorriso")?);
    xorriso.env("LD_LIBRARY_PATH", std::env::join_paths(packages.library_folders("x86_64-linux-gnu"))?);
    xorriso.env("SOURCE_DATE_EPOCH", EPOCH).env("TZ", "UTC").env("LC_ALL", "C");
    xorriso.args(["-no_rc", "-as", "mkisofs", "-quiet", "-iso-level", "3", "-R", "-uid", "0", "-gid", "0"]);
    xorriso.args(["-file-mode", "0444", "-dir-mode", "0555", "-V", "RACKWRIGHT"]);
    xorriso.arg(format!("--modification-date={DATE}")).args(["--set_all_file_dates", DATE]);
    xorriso.args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot"]);
    xorriso.args(["-boot-load-size", "4", "-boot-info-table", "-isohybrid-mbr"]);
    xorriso.arg(packages.path("usr/lib/ISOLINUX/isohdpfx.bin")?);
    xorriso.args(["-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", "-o"]);
    program::output(xorriso.arg(out).arg(tree)).context("the ISO cannot be written").map(drop)
}
