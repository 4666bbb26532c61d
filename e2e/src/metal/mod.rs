//! Real machines: QEMU with empty disks, each behind a Redfish BMC that nobody here wrote (sushy-emulator over libvirt).
//!
//! What the simulator pretends is real here: firmware, loader, kernel, disk, network. A lab lives in namespaces of its
//! own ([`sandbox`]) with everything that talks to its machines, so nothing of it outlives it and several stand side by
//! side. It needs root and Debian's packages of libvirt, QEMU, OVMF and dnsmasq; `cargo xtask e2e-metal` installs them.

pub mod bed;
pub mod bmc;
pub mod cluster;
pub mod console;
mod domain;
pub mod front;
pub mod lab;
pub mod lan;
pub mod libvirt;
mod life;
pub mod machine;
mod machines;
pub mod mirror;
pub mod node;
pub mod relay;
pub mod sandbox;
pub mod server;
pub mod steps;
pub mod toy;
mod watch;

pub use bed::MetalBed;
pub use lab::Lab;
pub use machine::{Firmware, Machine, Spec};

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Folder with `bin/sushy-emulator`, its Python with libvirt's bindings, and `bin/virt-fw-vars`.
pub const EMULATOR: &str = "RACKWRIGHT_METAL_EMULATOR";

/// Runs a program and gives what it prints; fails with what it says when it fails.
fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} cannot be started; `cargo xtask e2e-metal` installs it"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} ended with {}:\n{}", args.join(" "), output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
