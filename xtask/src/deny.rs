//! `cargo xtask deny`: licences, sources and banned crates, as `deny.toml` says.

use crate::{bed, command, paths};
use anyhow::{Context, Result};
use std::process::Command;

const VERSION: &str = "0.20.2";

/// Installs cargo-deny into the cache when it is not there, and runs the checks that need no network.
pub fn run() -> Result<()> {
    let home = paths::cache()?.join(format!("cargo-deny-{VERSION}"));
    let program = home.join("bin/cargo-deny");
    if !program.exists() {
        println!("building cargo-deny {VERSION} (about 5 minutes on 2 cores, once)");
        let mut cargo = Command::new(bed::cargo());
        cargo.args(["install", "--quiet", "--locked", "--version", VERSION, "--root"]).arg(&home).arg("cargo-deny");
        command::run(&mut cargo).context("cargo-deny cannot be installed")?;
    }
    let mut deny = Command::new(program);
    deny.current_dir(paths::root()).args(["--offline", "check", "bans", "licenses", "sources"]);
    command::run(&mut deny)?;
    println!("not checked: advisories (their database comes from the network: `cargo deny check advisories`)");
    Ok(())
}
