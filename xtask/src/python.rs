//! Programs from the Python package index, each set in an environment of its own in the cache.

use crate::command;
use crate::{packages, paths};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs `packages`, pinned as `name==version`, when they are not in the cache; gives the environment's folder.
pub fn environment(packages: &[&str]) -> Result<PathBuf> {
    let home = paths::cache()?.join(packages.join("+").replace("==", "-"));
    let whole = home.join("whole");
    if whole.exists() {
        return Ok(home);
    }
    println!("installing {} into {}", packages.join(" "), home.display());
    let _ = fs::remove_dir_all(&home); // what an interrupted run left
    fs::create_dir_all(home.parent().unwrap_or(&home))?;
    create(&home)?;
    command::output(Command::new(home.join("bin/pip")).args(["install", "--quiet"]).args(packages))
        .with_context(|| format!("{} cannot be installed from the Python package index", packages.join(" ")))?;
    fs::write(whole, "")?;
    Ok(home)
}

fn create(home: &Path) -> Result<()> {
    let venv = || command::output(Command::new("python3").args(["-m", "venv"]).arg(home));
    let Err(why) = venv() else { return Ok(()) };
    if !packages::can_install() {
        bail!("python3 with venv is needed (Debian: apt-get install python3-venv): {why:#}");
    }
    packages::install(&["python3-venv"])?;
    let _ = fs::remove_dir_all(home);
    venv().map(drop)
}
