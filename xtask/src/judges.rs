//! Programs that nobody here wrote and that judge what we generate: pykickstart's ksvalidator and cloud-init's schema.

use crate::command;
use crate::{paths, python};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Pinned, so that a judge does not change its mind between two runs.
const PYKICKSTART: [&str; 1] = ["pykickstart==3.78"];
/// What `cloud-init schema` imports.
const CLOUD_INIT_NEEDS: [&str; 6] =
    ["configobj==5.0.9", "Jinja2==3.1.6", "jsonpatch==1.48", "jsonschema==4.26.0", "PyYAML==6.0.4", "requests==2.34.2"];

/// cloud-init, to be run and not installed: its own services have no business on a developer's machine.
pub struct CloudInit {
    /// A Python that has what it imports.
    pub python: PathBuf,
    /// Folder with its source, for `PYTHONPATH`.
    pub source: PathBuf,
}

/// The path of ksvalidator.
pub fn ksvalidator() -> Result<PathBuf> {
    Ok(python::environment(&PYKICKSTART)?.join("bin/ksvalidator"))
}

/// cloud-init as Debian ships it, which is what the node image has.
pub fn cloud_init() -> Result<CloudInit> {
    let python = python::environment(&CLOUD_INIT_NEEDS)?.join("bin/python");
    let home = paths::cache()?.join("cloud-init");
    let source = home.join("usr/lib/python3/dist-packages");
    if source.join("cloudinit").exists() {
        return Ok(CloudInit { python, source });
    }
    println!("fetching Debian's cloud-init into {}", home.display());
    let unfinished = home.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished); // what an interrupted run left
    fs::create_dir_all(&unfinished)?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&unfinished).args(["download", "-qq", "-o", "APT::Sandbox::User=root", "cloud-init"]);
        command::output(&mut apt)
    };
    if download().is_err() {
        command::output(Command::new("apt-get").args(["update", "-qq"]))?;
        download().context("cloud-init cannot be fetched from Debian's archive")?;
    }
    let package = fs::read_dir(&unfinished)?.next().context("apt-get downloaded nothing")??.path();
    command::output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unfinished))?;
    let _ = fs::remove_dir_all(&home);
    fs::rename(&unfinished, &home)?;
    Ok(CloudInit { python, source })
}
