//! `cargo xtask test`: every test there is.
//!
//! Tests that need the bed are ignored by a plain `cargo test`; here they are included and told where its programs are.

use crate::bed;
use crate::command;
use crate::judges;
use crate::metal;
use crate::packages;
use crate::paths;
use crate::python;
use crate::sushy;
use anyhow::Result;
use rackwright_e2e::programs::{BIN, CLUSTER_API, PROGRAMS, RELEASE};
use rackwright_e2e::{Narrator, Programs};
use std::ffi::OsString;
use std::process::Command;
use std::time::Instant;

/// What tests hold our own writers and readers against: a file of each Debian package, and the package.
const JUDGES: [(&str, &str); 3] =
    [("/usr/bin/cpio", "cpio"), ("/usr/bin/curl", "curl"), ("/usr/bin/qemu-img", "qemu-utils")];
/// Reads the config drives that our agent writes.
const PYCDLIB: [&str; 1] = ["pycdlib==1.22.0"];

/// Runs every test, or those whose name contains `filter`.
pub fn run(filter: Option<&str>) -> Result<()> {
    let begun = Instant::now();
    let programs = bed::prepare(&Narrator::stdout())?;
    packages::need(&JUDGES)?;
    let sushy = sushy::prepare()?;
    let (ksvalidator, cloud_init) = (judges::ksvalidator()?, judges::cloud_init()?);
    let pycdlib = python::environment(&PYCDLIB)?.join("bin/python");
    let cargo_test = |args: &[&str]| {
        let mut cargo = Command::new(bed::cargo());
        cargo.current_dir(paths::root()).args(["test", "--no-fail-fast"]).args(args).args(filter);
        cargo.env("RACKWRIGHT_SUSHY_EMULATOR", &sushy).env("RACKWRIGHT_PYCDLIB", &pycdlib);
        cargo.env("RACKWRIGHT_KSVALIDATOR", &ksvalidator);
        cargo.env("RACKWRIGHT_CLOUD_INIT", &cloud_init.source).env("RACKWRIGHT_CLOUD_INIT_PYTHON", &cloud_init.python);
        cargo.envs(environment(&programs));
        cargo
    };
    // All of it runs whatever fails: one run shows everything that is wrong.
    let mut outcomes = vec![
        command::run(cargo_test(&["--workspace", "--exclude", "rackwright-e2e"]).args(["--", "--include-ignored"])),
        // One bed at a time: each is a whole control plane with its clusters.
        command::run(cargo_test(&["--package", "rackwright-e2e"]).args([
            "--",
            "--include-ignored",
            "--test-threads=1",
        ])),
    ];
    if filter.is_none() {
        let kind = paths::root().join("e2e/kind");
        outcomes.push(command::run(Command::new("go").current_dir(kind).args(["test", "-count=1", "./..."])));
        outcomes.push(metal::one());
    }
    outcomes.into_iter().collect::<Result<()>>()?;
    println!("every test passed in {} s", begun.elapsed().as_secs());
    Ok(())
}

/// Tells the tests where the bed's programs are.
pub fn environment(programs: &Programs) -> Vec<(&'static str, OsString)> {
    let bin = programs.rackwright.parent().unwrap_or(&programs.rackwright);
    vec![
        ("RUST_LIB_BACKTRACE", "0".into()), // an error says what is wrong; where it was made does not help
        (PROGRAMS, programs.bin.clone().into()),
        (CLUSTER_API, programs.cluster_api.clone().into()),
        (RELEASE, programs.release.clone().into()),
        (BIN, bin.into()),
    ]
}
