//! `cargo xtask ramdisk`: builds our agent as a static program and has [`rackwright_ramdisk`] put the media together.

use crate::{bed, command, paths};
use anyhow::{Context, Result, bail};
use clap::Args;
use rackwright_e2e::Narrator;
use rackwright_ramdisk::architecture::{AMD64, Architecture};
use rackwright_ramdisk::build::Made;
use rackwright_ramdisk::{Inputs, build};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Above this the ISO takes too long through a BMC, bytes.
const ISO_TARGET: u64 = 40_000_000;

/// What to build and where. Without any of these: the ramdisk of this checkout, in the cache.
#[derive(Args)]
pub struct Options {
    /// Folder to write to
    #[arg(long, required_if_eq("verify", "true"))]
    out: Option<PathBuf>,
    /// Program that becomes /init; default: our agent, built for this
    #[arg(long, requires = "out")]
    agent: Option<PathBuf>,
    /// Debian's kernel package: linux-image-amd64 drives real adapters that the cloud kernel does not
    #[arg(long, default_value = AMD64.kernel, requires = "out")]
    kernel: String,
    /// Build everything twice and compare
    #[arg(long)]
    verify: bool,
}

/// Builds as `options` say.
pub fn run(options: &Options) -> Result<()> {
    let narrator = Narrator::stdout();
    let Some(out) = &options.out else { return prepare(&narrator).map(drop) };
    let agent = agent(options, "agent", &narrator)?;
    let made = put_together(&agent, &options.kernel, out, &narrator)?;
    show(&made);
    if options.verify {
        let second = tempfile::tempdir()?;
        let agent = self::agent(options, "agent-verify", &narrator)?;
        let again = put_together(&agent, &options.kernel, second.path(), &narrator)?;
        compare(&made, &again)?;
        println!("two builds, the same bytes");
    }
    Ok(())
}

/// The ramdisk of this checkout, in the cache: for tests that boot machines. Built when anything that it is made from
/// changed.
pub fn prepare(narrator: &Narrator) -> Result<PathBuf> {
    let agent = build_agent(&AMD64, "agent", narrator)?;
    let mut inputs = Sha256::new();
    for file in [agent.clone(), std::env::current_exe()?] {
        inputs.update(fs::read(file)?);
    }
    let home = paths::cache()?.join(format!("ramdisk-{}", &hex::encode(inputs.finalize())[..12]));
    let lock = File::create(home.with_extension("lock"))?;
    lock.lock().context("another run's lock on the ramdisk cannot be waited for")?;
    if !home.join("digests.txt").exists() {
        put_together(&agent, AMD64.kernel, &home, narrator)?;
    }
    narrator.step(format!("ramdisk: {}", home.display()));
    Ok(home)
}

fn put_together(agent: &Path, kernel: &str, out: &Path, narrator: &Narrator) -> Result<Vec<Made>> {
    let cache = paths::cache()?.join("debian");
    build(&Inputs { machine: &AMD64, kernel, agent, cache: &cache }, out, &|line| narrator.step(line))
}

fn agent(options: &Options, folder: &str, narrator: &Narrator) -> Result<PathBuf> {
    match &options.agent {
        Some(agent) => Ok(agent.clone()),
        None => build_agent(&AMD64, folder, narrator),
    }
}

fn build_agent(machine: &Architecture, folder: &str, narrator: &Narrator) -> Result<PathBuf> {
    narrator.step("building the agent (about 3 minutes on 2 cores, once)");
    build_static(machine, folder, &["--bin", "rackwright-agent"])?;
    Ok(paths::cache()?.join(folder).join(machine.target).join("agent/rackwright-agent"))
}

/// The agent's way of an image to a disk as a static program of its own, for measuring.
pub fn build_write_image() -> Result<PathBuf> {
    build_static(&AMD64, "agent", &["--example", "write_image"])?;
    Ok(paths::cache()?.join("agent").join(AMD64.target).join("agent/examples/write_image"))
}

/// Builds in a target folder of its own: other flags, and no path of this machine in what comes out.
fn build_static(machine: &Architecture, folder: &str, what: &[&str]) -> Result<()> {
    let target = paths::cache()?.join(folder);
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).unwrap_or_default();
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_string()];
    // Our own sources are named relative to the checkout anyway; without its path here, checkouts share what is built.
    for (path, name) in [(cargo_home, "/cargo"), (target.clone(), "/target")] {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    let mut cargo = Command::new(bed::cargo());
    cargo.current_dir(paths::root()).env("CARGO_TARGET_DIR", &target).env("CARGO_INCREMENTAL", "0");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.args(["build", "--quiet", "--locked", "--profile", "agent", "--target", machine.target]);
    command::run(cargo.args(["--package", "rackwright-agent"]).args(what))
}

fn show(made: &[Made]) {
    for file in made {
        println!("{:>10}  {}  {}", file.size, &file.sha256[..16], file.path.display());
        if file.path.extension().is_some_and(|extension| extension == "iso") && file.size > ISO_TARGET {
            println!("            more than the {ISO_TARGET} bytes that an ISO should have");
        }
    }
}

fn compare(one: &[Made], other: &[Made]) -> Result<()> {
    for (first, second) in one.iter().zip(other) {
        if first.sha256 != second.sha256 {
            bail!("{} came out differently the second time", first.path.display());
        }
    }
    Ok(())
}
