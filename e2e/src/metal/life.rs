//! A machine's life as a story follows it, with a step for everything that can be told apart from outside.

use super::bed::MetalBed;
use super::steps::{Steps, Whose};
use crate::hosts::phase;
use anyhow::{Context, Result};
use rackwright_api::Host;
use rackwright_api::host::{AgentStatus, OperationKind, Phase};
use std::time::{Duration, Instant};

/// What the ramdisk says first.
const RAMDISK_RUNS: &str = "rackwright ramdisk";
/// Firmware, loader and kernel of a busy lab.
const BOOT: Duration = Duration::from_secs(120);
/// The work itself.
const WORK: Duration = Duration::from_secs(240);

impl MetalBed {
    /// Follows an operation from the moment it is recorded until the agent has its plan; gives the operation's identifier.
    pub async fn follow_to_session(&self, name: &str, kind: OperationKind, steps: &mut Steps) -> Result<String> {
        let began = Instant::now();
        let host = self
            .until_host(name, &format!("an operation {kind:?}"), BOOT, |host| operation(host, kind).is_some())
            .await?;
        let id = operation(&host, kind).context("it was there")?;
        steps.step("the operation is recorded", Whose::Ours);
        self.until_power(name, true, BOOT).await?;
        steps.step("BMC: media in, boot device set, switched on", Whose::Bmc);
        let runs = self.until_says(name, RAMDISK_RUNS, began, BOOT).await?;
        steps.step_at("firmware, loader, kernel: the ramdisk runs", Whose::Boot, runs);
        self.until_host(name, "a session of its agent", BOOT, |host| agent_works_for(host, &id)).await?;
        steps.step("modules, network, session", Whose::Ours);
        Ok(id)
    }

    /// Follows an inspection from its registration until the host is Available and off.
    pub async fn follow_inspection(&self, name: &str) -> Result<Steps> {
        let mut steps = Steps::default();
        self.follow_to_session(name, OperationKind::Inspect, &mut steps).await?;
        self.until_power(name, false, WORK).await?;
        steps.step("inspected and reported; off", Whose::Ours);
        self.until_phase(name, Phase::Available, WORK).await?;
        steps.step("Available", Whose::Ours);
        Ok(steps)
    }

    /// Follows a deployment from the claim until the written system says `greeting`.
    pub async fn follow_deployment(&self, name: &str, greeting: &str) -> Result<Steps> {
        let mut steps = Steps::default();
        self.until_host(name, "a claim", WORK, |host| host.spec.claim.is_some()).await?;
        steps.step("claimed", Whose::Ours);
        let id = self.follow_to_session(name, OperationKind::Deploy, &mut steps).await?;
        let session = Instant::now();
        let written = |host: &Host| deployed_by(host, &id) || step(host).is_some_and(|step| step != "WritingImage");
        self.until_host(name, "the image on its disk", WORK, written).await?;
        steps.step("image fetched, checked, written", Whose::Transfer);
        let host = self.until_host(name, "its report", WORK, |host| deployed_by(host, &id)).await?;
        steps.step("read back, config drive, report", Whose::Ours);
        self.follow_start(name, host, greeting, session, &mut steps).await?;
        Ok(steps)
    }

    /// Follows a host that a pool wants warm, from the order until its agent waits.
    pub async fn follow_preparation(&self, name: &str) -> Result<Steps> {
        let mut steps = Steps::default();
        let id = self.follow_to_session(name, OperationKind::Prepare, &mut steps).await?;
        let prepared = |host: &Host| agent_of(host, &id).is_some_and(|agent| agent.prepared_at.is_some());
        self.until_host(name, "the image on its disk", WORK, prepared).await?;
        steps.step("image fetched, checked, written, read back", Whose::Transfer);
        let waits = |host: &Host| host.status.as_ref().is_some_and(|status| status.warm().is_some());
        self.until_host(name, "a host that waits", WORK, waits).await?;
        steps.step("media out; it waits", Whose::Bmc);
        Ok(steps)
    }

    /// Follows a deployment of a warm host from the claim until the written system says `greeting`.
    pub async fn follow_hand_over(&self, name: &str, greeting: &str) -> Result<Steps> {
        let mut steps = Steps::default();
        let since = Instant::now();
        self.until_host(name, "a claim", WORK, |host| host.spec.claim.is_some()).await?;
        steps.step("claimed", Whose::Ours);
        let host = self.until_host(name, "its report", WORK, |host| host.spec.is_deployed()).await?;
        steps.step("handed over: config drive, report", Whose::Ours);
        self.follow_start(name, host, greeting, since, &mut steps).await?;
        Ok(steps)
    }

    /// From the agent's report until the written system says `greeting`.
    async fn follow_start(
        &self,
        name: &str,
        host: Host,
        greeting: &str,
        since: Instant,
        steps: &mut Steps,
    ) -> Result<()> {
        if host.spec.deployed.is_some_and(|deployed| deployed.final_boot == Default::default()) {
            self.until_power(name, false, BOOT).await?;
            steps.step("off", Whose::Bmc);
            self.until_power(name, true, BOOT).await?;
            steps.step("BMC: media out, boot device set, switched on", Whose::Bmc);
        }
        let runs = self.until_says(name, greeting, since, BOOT).await?;
        steps.step_at("firmware, loader, kernel: the disk's system runs", Whose::Boot, runs);
        Ok(())
    }

    /// Follows a host that is given back, from the deletion of its machine until the host is Available and off.
    pub async fn follow_wipe(&self, name: &str) -> Result<Steps> {
        let mut steps = Steps::default();
        self.until_host(name, "the order to wipe it", WORK, |host| host.spec.needs_wipe()).await?;
        steps.step("drained and let go by Cluster API", Whose::System);
        self.follow_to_session(name, OperationKind::Wipe, &mut steps).await?;
        self.until_host(name, "its disks wiped", WORK, |host| !host.spec.needs_wipe()).await?;
        steps.step("wiped and reported", Whose::Transfer);
        self.until_power(name, false, BOOT).await?;
        steps.step("off", Whose::Bmc);
        self.until_phase(name, Phase::Available, WORK).await?;
        steps.step("Available", Whose::Ours);
        Ok(steps)
    }
}

/// Identifier of the operation that is going on, when it is of this kind.
fn operation(host: &Host, kind: OperationKind) -> Option<String> {
    let operation = host.status.as_ref()?.operation.as_ref()?;
    (operation.kind == kind).then(|| operation.id.clone())
}

fn agent_of<'a>(host: &'a Host, id: &str) -> Option<&'a AgentStatus> {
    host.status.as_ref()?.agent.as_ref().filter(|agent| agent.operation_id == id)
}

/// An inspection may be over before anybody has looked.
fn agent_works_for(host: &Host, id: &str) -> bool {
    let is_over = phase(host) == Some(Phase::Available) && operation(host, OperationKind::Prepare).is_none();
    agent_of(host, id).is_some() || is_over
}

fn step(host: &Host) -> Option<String> {
    host.status.as_ref()?.agent.as_ref()?.step.clone()
}

fn deployed_by(host: &Host, id: &str) -> bool {
    host.spec.deployed.as_ref().is_some_and(|deployed| deployed.operation_id == id)
}
