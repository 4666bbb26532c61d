//! Debian packages that parts of the test bed come from.

use crate::command;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// Installs the packages whose file (the first of each pair) is not there; says how, when this process may not.
pub fn need(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !can_install() {
        bail!("needed first (Debian 12, as root): apt-get install --no-install-recommends {}", missing.join(" "));
    }
    install(&missing)
}

/// Whether this process may install packages.
pub fn can_install() -> bool {
    let root = command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    root && Path::new("/usr/bin/apt-get").exists()
}

/// Installs packages; with fresh lists when the machine's own do not do.
pub fn install(names: &[&str]) -> Result<()> {
    println!("installing {}", names.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-o", "DPkg::Lock::Timeout=600"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command::output(&mut command)
    };
    let install = || apt(&[&["install", "-y", "--no-install-recommends"], names].concat());
    if install().is_ok() {
        return Ok(());
    }
    apt(&["update"])?;
    install().map(drop)
}
