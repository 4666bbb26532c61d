//! Says how the pool is: the only write of its status, and only when something changed.

use super::act::Outcome;
use super::decide::{self, Step, count};
use super::view::PoolView;
use crate::context::Context;
use crate::kubeio::{self, Error, manager};
use jiff::Timestamp;
use rackwright_api::conditions::{Said, find, merge};
use rackwright_api::pool::NodePoolStatus;
use rackwright_api::{NodePool, POOL_LABEL};

/// Writes the status of `pool` if it is not what it was.
pub async fn record(
    pool: &NodePool,
    view: &PoolView,
    step: &Step,
    outcome: &Outcome,
    ctx: &Context,
) -> Result<(), Error> {
    // The step that did something is told by the next pass, which sees what came of it.
    if matches!(outcome, Outcome::Done) || *step == Step::LetGo {
        return Ok(());
    }
    let status = status(view, step, outcome, ctx.clock.now());
    if status == view.status {
        return Ok(());
    }
    ctx.own_writes.note(&kubeio::apply_status(&ctx.client, manager::POOL, pool, &status).await?);
    if let Step::Wait(wait) = step
        && wait.reason == "NoHostMatches"
        && find(&view.status.conditions, "ScalingUp").is_none_or(|before| before.reason != wait.reason)
    {
        ctx.events.warning(pool, wait.reason, format!("Waiting for {}", wait.message)).await;
    }
    Ok(())
}

/// The status that follows from what was seen and decided. Pure.
pub fn status(view: &PoolView, step: &Step, outcome: &Outcome, now: Timestamp) -> NodePoolStatus {
    let wanted = decide::wanted(view).name;
    let of = |wanted: &dyn Fn(&super::view::MachineSeen) -> bool| {
        count(view.machines.iter().filter(|machine| !machine.deleting && wanted(machine)))
    };
    let held = count(decide::kept(view).iter());
    let spare = count(view.hosts.iter().filter(|host| host.is_spare()));
    let warm = count(view.hosts.iter().filter(|host| host.is_spare() && host.is_warm()));
    let progress = decide::progress(view, now);
    let available = of(&|machine| machine.available.is_some());
    NodePoolStatus {
        replicas: count(view.machines.iter()),
        selector: Some(format!("{POOL_LABEL}={}", view.name)),
        ready_replicas: of(&|machine| machine.ready),
        available_replicas: available,
        up_to_date_replicas: of(&|machine| machine.revision == wanted),
        unplaced_replicas: (view.spec.replicas - held).max(0),
        spare,
        warm,
        rollout: progress.as_ref().map(|progress| progress.text.clone()),
        waiting_for: waiting_for(step, outcome),
        revision: Some(wanted),
        observed_generation: view.generation,
        conditions: merge(&view.status.conditions, &said(view, step, outcome, available, now), view.generation, now),
    }
}

fn waiting_for(step: &Step, outcome: &Outcome) -> Option<String> {
    match (outcome, step) {
        (Outcome::Failed(why), _) => Some(why.clone()),
        (_, Step::Wait(wait)) if wait.message.len() > 120 => Some(wait.reason.into()),
        (_, Step::Wait(wait)) => Some(wait.message.clone()),
        _ => None,
    }
}

/// `Available, RollingOut, ScalingUp, ScalingDown, MachinesReady, MachinesUpToDate, Remediating, Deleting, Paused`.
fn said(view: &PoolView, step: &Step, outcome: &Outcome, available: i32, now: Timestamp) -> Vec<Said> {
    let truth = |kind: &'static str, holds: bool, yes: &str, no: &str, message: String| match holds {
        true => Said::yes(kind, yes, message),
        false => Said::no(kind, no, message),
    };
    let (replicas, machines) = (view.spec.replicas, count(view.machines.iter()));
    let ready = view.machines.iter().all(|machine| machine.ready);
    let wanted = decide::wanted(view).name;
    let up_to_date = view.machines.iter().all(|machine| machine.revision == wanted);
    let sick = view.machines.iter().filter(|machine| machine.unhealthy).count();
    let going = view.machines.iter().filter(|machine| machine.deleting).count();
    let progress = decide::progress(view, now);
    let up = match (step, outcome) {
        (Step::Wait(wait), _) if wait.reason == "NoHostMatches" => {
            Said::yes("ScalingUp", wait.reason, format!("Waiting for {}", wait.message))
        }
        (_, Outcome::Failed(why)) if machines < replicas => Said::yes("ScalingUp", "CannotMakeMachine", why.clone()),
        _ => truth("ScalingUp", machines < replicas, "ScalingUp", "NotScalingUp", String::new()),
    };
    let rolling = progress.as_ref().is_some_and(|progress| !progress.text.starts_with("rolled back"));
    vec![
        truth("Available", available >= replicas, "Available", "NotAvailable", String::new()),
        truth(
            "RollingOut",
            rolling,
            "RollingOut",
            if progress.is_some() { "RolledBack" } else { "NotRollingOut" },
            progress.map(|progress| progress.text).unwrap_or_default(),
        ),
        up,
        truth("ScalingDown", machines > replicas, "ScalingDown", "NotScalingDown", String::new()),
        truth("MachinesReady", ready, "Ready", "NotReady", String::new()),
        truth("MachinesUpToDate", up_to_date, "UpToDate", "NotUpToDate", String::new()),
        truth("Remediating", sick > 0, "Remediating", "NotRemediating", String::new()),
        truth("Deleting", view.deleting, "Deleting", "NotDeleting", format!("{going} machines are being deleted")),
        truth("Paused", *step == Step::Paused, "Paused", "NotPaused", String::new()),
    ]
}
