//! Development tasks: `cargo xtask TASK`.
//!
//! Everything that a person or CI does with this repository beyond `cargo build` starts here, so that a laptop runs
//! what CI runs. Nothing here is shipped.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what these tasks are for")]

mod bed;
mod bench;
mod bench_image;
mod bench_serve;
mod ci;
mod command;
mod crds;
mod debian;
mod demo;

mod deny;
mod judges;
mod metal;
mod node_image;
mod packages;
mod paths;
mod python;
mod ramdisk;
mod release;
mod stand_in;
mod sushy;
mod test;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rackwright_e2e::Narrator;
use std::path::PathBuf;
use std::process::ExitCode;

/// Development tasks of Rackwright.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the main job: a cluster on racks of simulated machines, then a dead host replaced
    Demo {
        /// Leave everything running until Ctrl-C and say how to look around
        #[arg(long)]
        keep: bool,
        /// With one real machine, in QEMU, among the simulated ones. Needs root and Debian 12
        #[arg(long)]
        metal: bool,
    },
    /// Measure what a fleet costs; the figures of record are in docs/benchmarks.md
    Bench {
        #[command(subcommand)]
        which: bench::Bench,
    },
    /// Run every test: unit, simulation, wire, and end to end against a real control plane
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Run the stories about real machines: QEMU behind sushy-emulator and libvirt. Needs root and Debian 12
    E2eMetal {
        /// Only stories whose name contains this
        filter: Option<String>,
    },
    /// What CI runs: format, lints, generated files, every test
    Ci,
    /// Write config/crd from the types in api/
    Crds {
        /// Change nothing; fail when the files differ
        #[arg(long)]
        check: bool,
    },
    /// Lay out a release as a clusterctl file repository
    Release {
        /// Version of the release
        #[arg(long, default_value = concat!("v", env!("CARGO_PKG_VERSION")))]
        version: String,
        /// Folder to write to
        #[arg(long, default_value = "target/release-repository")]
        out: PathBuf,
    },
    /// Build the system that end-to-end tests write to empty disks: Debian with a kubelet
    NodeImage,
    /// Build what machines boot: ISO, UEFI application, kernel and initial ramdisk
    Ramdisk(ramdisk::Options),
    /// Build the programs of the test bed into the cache
    Tools,
    /// Check licences, sources and banned crates with cargo-deny
    Deny,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo { keep, metal } => demo::run(keep, metal),
        Task::Bench { which } => bench::run(&which),
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::E2eMetal { filter } => metal::run(filter.as_deref()),
        Task::Ci => ci::run(),
        Task::Crds { check: false } => crds::write(),
        Task::Crds { check: true } => crds::check(),
        Task::Release { version, out } => release::run(&version, &out),
        Task::NodeImage => node_image::run(),
        Task::Ramdisk(options) => ramdisk::run(&options),
        Task::Tools => tools::prepare(&Narrator::stdout()).map(|tools| println!("{}", tools.programs.display())),
        Task::Deny => deny::run(),
    };
    report(outcome)
}

fn report(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}
