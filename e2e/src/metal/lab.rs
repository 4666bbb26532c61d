//! A lab: its network, its libvirt, and its machines with their BMCs.

use super::bmc::Bmc;
use super::lan::Lan;
use super::libvirt::Libvirt;
use super::machine::{Machine, Spec};
use crate::pki::Authority;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A machine in its place: itself and its BMC.
pub struct Unit {
    /// The machine.
    pub machine: Machine,
    /// Its BMC.
    pub bmc: Bmc,
}

/// A running lab.
pub struct Lab {
    // Dropped in this order: BMCs go before what they talk to.
    units: Vec<Unit>,
    _libvirt: Libvirt,
    lan: Lan,
    folder: PathBuf,
}

impl Lab {
    /// Starts a lab without machines; its files are in `folder`.
    pub async fn start(folder: &Path) -> Result<Lab> {
        let lan = Lan::start(folder)?;
        let libvirt = Libvirt::start(folder).await?;
        Ok(Lab { units: Vec::new(), _libvirt: libvirt, lan, folder: folder.into() })
    }

    /// Builds a machine and gives it a BMC whose certificate `authority` vouches for.
    pub async fn add(&mut self, spec: Spec, authority: &Authority) -> Result<&Unit> {
        ensure!(self.units.iter().all(|unit| unit.machine.spec.number != spec.number), "two machines have one number");
        self.lan.add_bmc(spec.number)?;
        let machine = Machine::define(spec, &self.folder)?;
        let bmc = Bmc::start(&machine.spec, authority, &self.folder).await?;
        self.units.push(Unit { machine, bmc });
        self.units.last().context("one was added")
    }

    /// All machines.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The machine called `name`.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        let mut machines = self.units.iter().map(|unit| &unit.machine);
        machines.find(|machine| machine.spec.name == name).with_context(|| format!("there is no machine {name}"))
    }
}
