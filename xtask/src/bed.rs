//! What the bed and the tests that need it are given: programs, our release, our binary.

use crate::command;
use crate::paths;
use crate::release;
use crate::tools;
use anyhow::{Context, Result};
use rackwright_e2e::programs::RACKWRIGHT_VERSION;
use rackwright_e2e::{Narrator, Programs};
use std::process::Command;

/// Builds and lays out everything that the bed runs.
pub fn prepare(narrator: &Narrator) -> Result<Programs> {
    prepare_as(narrator, "dev", "debug")
}

/// The same with our own program as it is shipped.
pub fn prepare_optimized(narrator: &Narrator) -> Result<Programs> {
    prepare_as(narrator, "release", "release")
}

fn prepare_as(narrator: &Narrator, profile: &str, folder: &str) -> Result<Programs> {
    let tools = tools::prepare(narrator)?;
    let mut cargo = Command::new(cargo());
    cargo.current_dir(paths::root()).args(["build", "--quiet", "--package", "rackwright", "--profile", profile]);
    command::run(&mut cargo).context("our own program cannot be built")?;
    let release = paths::target().join("release-repository");
    release::lay_out(RACKWRIGHT_VERSION, &release)?;
    narrator.step(format!("rackwright {RACKWRIGHT_VERSION}: built, release laid out for clusterctl"));
    Ok(Programs {
        bin: tools.programs,
        cluster_api: tools.cluster_api,
        release,
        rackwright: paths::target().join(folder).join("rackwright"),
    })
}

/// The cargo that runs us, else the one on the PATH.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
