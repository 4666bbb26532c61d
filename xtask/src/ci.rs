//! `cargo xtask ci`: what must hold before anything is merged, cheapest first.

use crate::{bed, command, crds, paths, test};
use anyhow::{Context, Result};
use std::process::Command;

/// Runs it all; stops at the first thing that does not hold.
pub fn run() -> Result<()> {
    let cargo = |args: &[&str]| {
        println!("cargo {}", args.join(" "));
        command::run(Command::new(bed::cargo()).current_dir(paths::root()).args(args))
    };
    cargo(&["fmt", "--all", "--check"]).context("run `cargo fmt --all`")?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    // No plain `cargo test` runs it, and so "all targets" is without it.
    cargo(&["clippy", "--package", "rackwright-e2e", "--test", "metal", "--", "--deny", "warnings"])?;
    crds::check()?;
    test::run(None)
}
