//! Says how the machine is: the only write of its status, and only when something changed.

use super::act::Outcome;
use super::decide::{Step, Wait};
use super::view::{HostSeen, MachineView};
use crate::context::{Context, Limits};
use crate::kubeio::{self, Error, manager};
use jiff::Timestamp;
use rackwright_api::RackwrightMachine;
use rackwright_api::conditions::{Said, find, merge};
use rackwright_api::machine::{MachineInitialization, RackwrightMachineStatus};

/// Writes the status of `machine` if it is not what it was.
pub async fn record(
    machine: &RackwrightMachine,
    view: &MachineView,
    step: &Step,
    outcome: &Outcome,
    ctx: &Context,
) -> Result<(), Error> {
    // The step that did something is told by the next pass, which sees what came of it.
    if matches!(outcome, Outcome::Done) || matches!(step, Step::LetGo) {
        return Ok(());
    }
    let now = ctx.clock.now();
    let status = status(view, step, outcome, now);
    if status == view.status || is_quiet(view, step, now, &ctx.limits) {
        return Ok(());
    }
    let written = kubeio::apply_status(&ctx.client, manager::MACHINE, machine, &status).await?;
    ctx.own_writes.note(&written);
    let reason = |status: &RackwrightMachineStatus| find(&status.conditions, "Ready").map(|ready| ready.reason.clone());
    if let (Step::Wait(wait), true) = (step, reason(&status) != reason(&view.status))
        && wait.reason == "NoHostMatches"
    {
        ctx.events.warning(machine, "NoHostMatches", format!("Waiting for {}", wait.message)).await;
    }
    Ok(())
}

/// The ordinary waits of a young machine, or of one that got its host just now, are over before anybody looks; two
/// hundred machines at once must not write each of them. They are told once they last.
fn is_quiet(view: &MachineView, step: &Step, now: Timestamp, limits: &Limits) -> bool {
    let Step::Wait(wait) = step else { return false };
    let since = match (wait.reason.as_str(), &view.host) {
        ("WaitingForOwner" | "WaitingForCluster" | "WaitingForBootstrapData", _) => view.created,
        ("Provisioning", HostSeen::There(host)) => host.claim.as_ref().map(|claim| claim.claimed_at),
        _ => None,
    };
    !view.deleting && since.is_some_and(|since| now < since + limits.quiet)
}

/// The status that follows from what was seen and decided. Pure.
pub fn status(view: &MachineView, step: &Step, outcome: &Outcome, now: Timestamp) -> RackwrightMachineStatus {
    let claimed = match &view.host {
        HostSeen::There(host) if view.holds(host.claim.as_ref()) => Some(host),
        _ => None,
    };
    let before = view.status.initialization.as_ref().and_then(|before| before.provisioned).unwrap_or_default();
    let provisioned = before || *step == Step::Rest; // latched: once true it stays
    let said = said(view, step, provisioned);
    RackwrightMachineStatus {
        initialization: provisioned.then_some(MachineInitialization { provisioned: Some(true) }),
        host: claimed.map(|host| host.id.host.clone()).or_else(|| view.status.host.clone()),
        failure_domain: claimed.map(|host| host.failure_domain.clone()).or_else(|| view.status.failure_domain.clone()),
        addresses: claimed.map_or_else(|| view.status.addresses.clone(), |host| host.addresses.clone()),
        waiting_for: waiting_for(step, outcome),
        conditions: merge(&view.status.conditions, &said, view.generation, now),
    }
}

fn waiting_for(step: &Step, outcome: &Outcome) -> Option<String> {
    match (outcome, step) {
        (Outcome::Failed(why), _) => Some(why.clone()),
        // The column of a table; the condition has the whole sentence.
        (_, Step::Wait(wait)) if wait.message.len() > 120 => Some(wait.reason.clone()),
        (_, Step::Wait(wait)) => Some(wait.message.clone()),
        _ => None,
    }
}

/// Conditions: `HostClaimed`, `BootstrapDataReady`, `Provisioned`, `Ready`, `Paused`, `Deleting`. Whether its node joined stands on the
/// Machine (`NodeHealthy`), and a copy here would be a write for each machine.
fn said(view: &MachineView, step: &Step, provisioned: bool) -> Vec<Said> {
    let owner = view.owner.as_ref();
    let claimed = matches!(&view.host, HostSeen::There(host) if view.holds(host.claim.as_ref()));
    let waiting = |condition: &str| match step {
        Step::Wait(wait) if wait.condition == condition => Some(wait),
        _ => None,
    };
    let condition = |kind: &'static str, holds: bool, reason: &str| match (holds, waiting(kind)) {
        (_, Some(wait)) => Said::no(kind, wait.reason.clone(), wait.message.clone()),
        (true, None) => Said::yes(kind, reason, ""),
        (false, None) => Said::no(kind, format!("Not{kind}"), ""),
    };
    let mut said = vec![
        condition("HostClaimed", claimed, "Claimed"),
        condition("BootstrapDataReady", owner.is_some_and(|owner| owner.data_secret.is_some()), "DataSecretThere"),
        condition("Provisioned", provisioned, "ImageOnDisk"),
        ready(view, step, provisioned),
        match step {
            Step::Paused => Said::yes("Paused", "Paused", "the Cluster or this object is paused"),
            _ => Said::no("Paused", "NotPaused", ""),
        },
    ];
    if view.deleting {
        let wait = waiting("Deleting");
        said.push(Said::yes(
            "Deleting",
            wait.map_or("ReleasingHost", |wait| &wait.reason),
            wait.map_or("", |wait| &wait.message),
        ));
    }
    said
}

fn ready(view: &MachineView, step: &Step, provisioned: bool) -> Said {
    match step {
        _ if view.deleting => Said::no("Ready", "Deleting", ""),
        Step::Wait(Wait { reason, message, .. }) => Said::no("Ready", reason.clone(), message.clone()),
        _ if provisioned => Said::yes("Ready", "Provisioned", ""),
        Step::Paused => Said::no("Ready", "Paused", ""),
        _ => Said::no("Ready", "Working", ""),
    }
}
