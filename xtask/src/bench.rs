//! `cargo xtask bench`: what a fleet costs. The measuring is in `rackwright_e2e::bench`.
//!
//! What is measured is built as it is shipped, and so is this program, because the simulated machines run in it and must
//! not take the computer's time from what is measured.

use crate::bed;
use crate::bench_image;
use crate::bench_serve;
use crate::command;
use crate::demo;
use crate::paths;
use anyhow::{Result, bail};
use clap::Subcommand;
use rackwright_e2e::bench::{Report, idle, scale};
use rackwright_e2e::{Narrator, Programs};
use std::path::PathBuf;
use std::process::Command;

/// What is measured.
#[derive(Subcommand)]
pub enum Bench {
    /// Memory, processor time and requests of the manager while nothing happens: 1,000 Available hosts
    Idle {
        /// Number of racks
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=26))]
        racks: u8,
        /// Hosts in each of them
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u8).range(1..=250))]
        hosts_per_rack: u8,
    },
    /// Time and writes until so many Machines are Running under stock Cluster API
    Scale {
        /// Machines that are added at once
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=2499))]
        machines: u16,
    },
    /// The agent's way of an image to a disk, against curl, zstd and dd; the disk is a file
    Image {
        /// Size of the image, MiB
        #[arg(long, default_value_t = 768)]
        mib: usize,
        /// How often each way is measured; the best time counts
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Where the file is that stands for the disk
        #[arg(long, default_value = "/tmp")]
        folder: PathBuf,
        /// How fast the network is, Mbit/s (needs root); 0: as fast as loopback goes. Default: 1000, and 100 for a machine,
        /// whose emulated processor has about a twentieth of a real one's speed
        #[arg(long)]
        link: Option<u32>,
        /// Do all of it in a machine of QEMU's, with a disk of its own
        #[arg(long)]
        vm: bool,
    },
    /// One loop of a cluster-autoscaler over 15,000 nodes in 1,000 groups: 78,037 calls, against a bare tonic service
    Autoscaler,
    /// Passes over one pool in a namespace of 10,000 hosts: time and memory
    Pool,
    /// The boot service sending one image to many hosts at once, against nginx
    Serve {
        /// Size of the image, MiB
        #[arg(long, default_value_t = 64)]
        mib: usize,
        /// Hosts at once
        #[arg(long, default_value_t = 100)]
        clients: usize,
        /// How often each is measured; the best time counts
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
}

/// Measures, prints the figures, and fails when a count misses its target.
pub fn run(which: &Bench) -> Result<()> {
    if let Bench::Image { mib, rounds, folder, link, vm } = which {
        let (on, usual) = if *vm { (bench_image::On::Machine, 100) } else { (bench_image::On::File, 1000) };
        let link = link.unwrap_or(usual);
        if link != 0 && !bench_image::is_behind_link() {
            return bench_image::run_behind_link(on, link);
        }
        return bench_image::run(on, *mib, *rounds, folder);
    }
    if let Bench::Serve { mib, clients, rounds } = which {
        return bench_serve::run(*mib, *clients, *rounds);
    }
    match which {
        Bench::Autoscaler => return example("rackwright-autoscaler", "loop"),
        Bench::Pool => return example("rackwright-controllers", "pool"),
        _ => {}
    }
    if cfg!(debug_assertions) {
        return run_optimized();
    }
    let narrator = Narrator::stdout();
    let programs = bed::prepare_optimized(&narrator)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let interrupted = demo::interruption()?;
        tokio::select! {
            report = measure(which, programs, &narrator) => report,
            () = interrupted => bail!("interrupted"), // what was started is dropped, and so killed
        }
    })?;
    println!("\n{report}");
    if report.missed() {
        bail!("a count missed its target");
    }
    Ok(())
}

fn example(package: &str, name: &str) -> Result<()> {
    let mut cargo = Command::new(bed::cargo());
    cargo.current_dir(paths::root()).args(["run", "--release", "--package", package, "--example", name]);
    command::run(&mut cargo)
}

fn run_optimized() -> Result<()> {
    let mut cargo = Command::new(bed::cargo());
    cargo.current_dir(paths::root()).args(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    command::run(cargo.args(std::env::args_os().skip(1)))
}

async fn measure(which: &Bench, programs: Programs, narrator: &Narrator) -> Result<Report> {
    match *which {
        Bench::Idle { racks, hosts_per_rack } => idle::run(programs, narrator.clone(), racks, hosts_per_rack).await,
        Bench::Image { .. } | Bench::Serve { .. } | Bench::Autoscaler | Bench::Pool => bail!("it needs no bed"),
        Bench::Scale { machines } => {
            let (report, requests) = scale::run(programs, narrator.clone(), machines).await?;
            println!("\n{requests}");
            Ok(report)
        }
    }
}
