//! Says how the host is: the only write of its status, and only when something changed.

use super::act::Outcome;
use super::decide::identity::mismatch;
use super::decide::idle::own_name;
use super::decide::{AGENT_WORKING, Goal, Step, Wait, ended, goal};
use super::view::{HostView, Observed};
use crate::context::{Context, Limits};
use crate::kubeio::{self, Error, manager};
use jiff::Timestamp;
use rackwright_api::Host;
use rackwright_api::conditions::{Said, find, merge};
use rackwright_api::host::{EndedTry, HostStatus, Operation, OperationKind, Phase, Stage, Wiped};
use rackwright_bmc::Power;
use serde_json::json;

/// Reason for a host that can be claimed while it is made warm.
const PREPARING: &str = "Preparing";

/// Writes the status of `host` if it is not what it was.
pub async fn record(host: &Host, view: &HostView, step: &Step, outcome: &Outcome, ctx: &Context) -> Result<(), Error> {
    let host = match outcome {
        Outcome::Done(Some(written)) => {
            ctx.own_writes.note(written.as_ref());
            return Ok(()); // the next pass sees it and says so
        }
        _ => host,
    };
    if matches!(step, Step::LetGo) {
        return Ok(());
    }
    let status = status(view, step, outcome, ctx.clock.now(), &ctx.limits);
    if status == view.status || is_told(view, &status, ctx) {
        return Ok(());
    }
    let fields = HostStatus { agent: None, ..status.clone() }; // `agent` is the boot service's
    let written = kubeio::apply_status(&ctx.client, manager::HOST, host, &json!(fields)).await?;
    ctx.own_writes.note(&written);
    announce(host, view, step, &status, ctx).await;
    Ok(())
}

/// Nothing but the agent's progress is new, and it was told a moment ago: the boot service writes it down as it comes,
/// and each of its writes must not be followed by one of ours.
fn is_told(view: &HostView, status: &HostStatus, ctx: &Context) -> bool {
    let Some(operation) = status.operation.as_ref().filter(|_| tells_of_work(status)) else { return false };
    let due = ctx.progress_told.is_due(&view.uid, &operation.id, ctx.clock.now(), ctx.limits.progress);
    !due && is_progress(&view.status, status)
}

fn tells_of_work(status: &HostStatus) -> bool {
    find(&status.conditions, "Ready").is_some_and(|ready| [AGENT_WORKING, PREPARING].contains(&ready.reason.as_str()))
}

/// True when `after` differs from `before` in nothing but how far the agent is.
fn is_progress(before: &HostStatus, after: &HostStatus) -> bool {
    let mut same = after.clone();
    same.waiting_for.clone_from(&before.waiting_for);
    for condition in same.conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
        if let Some(ready) = find(&before.conditions, "Ready") {
            condition.message.clone_from(&ready.message);
        }
    }
    tells_of_work(before) && tells_of_work(after) && same == *before
}

/// Events for the turns that a person must hear of. The ordinary ones stand in phase and conditions: an event for each
/// would be a write for each.
async fn announce(host: &Host, view: &HostView, step: &Step, status: &HostStatus, ctx: &Context) {
    if let Some(wiped) = just_wiped(view, step) {
        ctx.events.normal(host, "Wiped", evidence(wiped)).await;
    }
    if status.phase == view.status.phase {
        return;
    }
    match (status.phase, &view.spec.broken) {
        (Some(Phase::Broken), Some(broken)) => ctx.events.warning(host, "Broken", broken.message.clone()).await,
        (Some(Phase::Retired), _) => {
            ctx.events.normal(host, "Retired", "Wiped, off, and kept as a record".into()).await
        }
        _ => {}
    }
}

/// The wipe that is over with this step.
fn just_wiped<'a>(view: &'a HostView, step: &Step) -> Option<&'a Wiped> {
    let operation = view.status.operation.as_ref().filter(|_| matches!(step, Step::Finish))?;
    view.spec.wiped.as_ref().filter(|wiped| wiped.operation_id == operation.id)
}

/// What was done to which disk, as short as an Event must be.
fn evidence(wiped: &Wiped) -> String {
    const FITS: usize = 900;
    let mut told = format!("{} disks wiped of {}", wiped.disks.len(), wiped.claim_uid);
    for (at, disk) in wiped.disks.iter().enumerate() {
        let serial = disk.serial.as_ref().map(|serial| format!(" ({serial})")).unwrap_or_default();
        let next = format!("{}{}{serial} {}", if at == 0 { ": " } else { ", " }, disk.device, disk.method);
        if told.len() + next.len() > FITS {
            return format!("{told}, and more: see spec.wiped");
        }
        told += &next;
    }
    told
}

/// The status that follows from what was seen, what was decided and what came of it. Pure.
pub fn status(view: &HostView, step: &Step, outcome: &Outcome, now: Timestamp, limits: &Limits) -> HostStatus {
    if is_quiet(view, step, now, limits) {
        return view.status.clone();
    }
    let operation = match step {
        Step::Record(operation) | Step::Retry(operation, _) => Some(operation.clone()),
        Step::Finish => None,
        _ => view.status.operation.clone(),
    };
    let over = matches!(step, Step::Finish).then(|| without_operation(view));
    let shown = over.as_ref().unwrap_or(view);
    let phase = phase(shown);
    let said = said(shown, step, phase);
    HostStatus {
        phase: Some(phase),
        power: Some(power(view, operation.as_ref())),
        health: Some(health(view)),
        waiting_for: waiting_for(step, outcome, operation.as_ref()),
        operation,
        agent: view.status.agent.clone(),
        history: history(view, step, now),
        observed_generation: view.generation,
        conditions: merge(&view.status.conditions, &said, view.generation, now),
    }
}

/// The host as the next pass will see it: what an operation came to is told with its end, not by a write of its own.
fn without_operation(view: &HostView) -> HostView {
    HostView { status: HostStatus { operation: None, ..view.status.clone() }, ..view.clone() }
}

/// The tries that are over, with the one that `step` ends. Written together with what ends it.
fn history(view: &HostView, step: &Step, now: Timestamp) -> Vec<EndedTry> {
    const KEPT: usize = 10;
    let mut history = view.status.history.clone();
    if let (Some(operation), Some((outcome, reason))) = (&view.status.operation, ended(view, step)) {
        history.push(EndedTry {
            kind: operation.kind,
            way: operation.booted_by(),
            attempt: operation.attempt,
            started_at: operation.started_at,
            ended_at: now,
            outcome,
            reason,
        });
    }
    let old = history.len().saturating_sub(KEPT);
    history.split_off(old)
}

/// The steps inside an operation are told only once it takes long enough for a person to look: most are over before,
/// and ten thousand hosts must not write every turn of their power switches.
fn is_quiet(view: &HostView, step: &Step, now: Timestamp, limits: &Limits) -> bool {
    let Some(operation) = &view.status.operation else { return false };
    let inside = match step {
        Step::Power(_) | Step::InsertMedia | Step::EjectMedia | Step::SetBoot(_) => true,
        Step::Wait(wait) => !wait.idle && view.status.agent.as_ref().is_none_or(|agent| agent.failure.is_none()),
        _ => false,
    };
    inside && view.status.waiting_for.is_some() && now < operation.stage_since + limits.quiet
}

/// Where the host is in its life.
fn phase(view: &HostView) -> Phase {
    if view.spec.broken.is_some() {
        return Phase::Broken;
    }
    let restoring = view.spec.claim.is_none() && view.status.operation.is_some();
    match (goal(view), view.status.operation.as_ref().map(|operation| operation.kind)) {
        (Goal::Run, Some(OperationKind::Deploy)) | (Goal::Deploy, _) => Phase::Provisioning,
        (Goal::Run, _) => Phase::Provisioned,
        (Goal::Wipe, _) if view.spec.retire.is_some() => Phase::Retiring,
        (Goal::Wipe, _) => Phase::Deprovisioning,
        (Goal::Retire, _) if view.spec.wiped.as_ref().is_some_and(|done| done.claim_uid == own_name(view)) => {
            Phase::Retired
        }
        (Goal::Retire, _) => Phase::Retiring,
        (Goal::Inspect, Some(_)) => Phase::Inspecting,
        (Goal::Inspect, None) => Phase::Registering,
        (Goal::Idle | Goal::Prepare, Some(OperationKind::Wipe)) if restoring => Phase::Deprovisioning,
        (Goal::Idle | Goal::Prepare, Some(OperationKind::Inspect)) if restoring => Phase::Inspecting,
        (Goal::Idle | Goal::Prepare, _) => Phase::Available,
    }
}

/// Power for people. While an operation switches the machine about it is written with the operation's own steps only:
/// a status that followed every switch would double the writes and tell nobody anything.
fn power(view: &HostView, operation: Option<&Operation>) -> String {
    let seen = match &view.bmc {
        Observed::Seen { system, .. } => match system.power {
            Some(Power::On) => "On",
            Some(Power::Off) => "Off",
            None => "?",
        },
        Observed::Silent(_) => "?",
    };
    match (&view.status.power, operation, &view.status.operation) {
        (Some(before), Some(now), Some(last)) if now == last => before.clone(),
        _ => seen.to_string(),
    }
}

fn health(view: &HostView) -> String {
    if let Some(broken) = &view.spec.broken {
        return broken.reason.clone();
    }
    if let Some(problem) = mismatch(view) {
        return problem.reason.into();
    }
    match &view.bmc {
        Observed::Seen { system, .. } => system.health.clone().unwrap_or_else(|| "OK".into()),
        Observed::Silent(_) => view.status.health.clone().unwrap_or_else(|| "-".into()),
    }
}

fn waiting_for(step: &Step, outcome: &Outcome, operation: Option<&Operation>) -> Option<String> {
    if let Outcome::Failed(problem) = outcome {
        return Some(format!("{}: {}", problem.reason, problem.message));
    }
    match (step, operation) {
        (Step::Wait(wait), _) => Some(short(wait)),
        (Step::Finish | Step::Rest, _) | (_, None) => None,
        (_, Some(operation)) => Some(format!("{}, until {}", doing(operation), clock(operation.deadline))),
    }
}

fn doing(operation: &Operation) -> String {
    let what = match operation.kind {
        OperationKind::Inspect => "inspection",
        OperationKind::Deploy => "deployment",
        OperationKind::Prepare => "preparation",
        OperationKind::Wipe => "wipe",
        OperationKind::PowerOn => "power",
    };
    let way = operation.booted_by().map(|way| format!(" by {way:?}")).unwrap_or_default();
    match operation.attempt {
        1 => format!("{what}{way}"),
        attempt => format!("{what}{way} (try {attempt})"),
    }
}

fn sentence(wait: &Wait) -> String {
    match wait.until {
        Some(until) => format!("{}, until {}", wait.message, clock(until)),
        None => format!("{}: {}", wait.reason, wait.message),
    }
}

/// As `sentence`, for a column of a table: a person who needs the whole of it reads the condition.
fn short(wait: &Wait) -> String {
    const FITS: usize = 80;
    match (wait.until, wait.message.len() <= FITS) {
        (Some(until), true) => format!("{}, until {}", wait.message, clock(until)),
        (Some(until), false) => format!("{}, until {}", wait.reason, clock(until)),
        (None, true) => format!("{}: {}", wait.reason, wait.message),
        (None, false) => format!("a person: {}", wait.reason),
    }
}

/// Time of day, UTC, to the second.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

/// Conditions: `Reachable`, `Healthy`, `Inspected`, `Available`, `Provisioned`, `Ready`.
fn said(view: &HostView, step: &Step, phase: Phase) -> Vec<Said> {
    let reachable = match &view.bmc {
        Observed::Seen { .. } => Said::yes("Reachable", "BMCAnswers", ""),
        Observed::Silent(problem) => Said::no("Reachable", problem.reason, problem.message.clone()),
    };
    let healthy = match (&view.spec.broken, mismatch(view), &view.bmc) {
        (Some(broken), ..) => Said::no("Healthy", broken.reason.clone(), broken.message.clone()),
        (None, Some(problem), _) => Said::no("Healthy", problem.reason, problem.message),
        (None, None, Observed::Seen { system, .. }) => match system.health.as_deref() {
            None | Some("OK") => Said::yes("Healthy", "OK", ""),
            Some(other) => {
                Said::no("Healthy", format!("BMCReports{other}"), "the BMC's own summary of the machine's health")
            }
        },
        (None, None, Observed::Silent(_)) => Said::unknown("Healthy", "BMCSilent", "the BMC does not answer"),
    };
    let inspected = match &view.hardware {
        Some(_) => Said::yes("Inspected", "HardwareKnown", ""),
        None => Said::no("Inspected", "NotYet", "see HostHardware of the same name once it is there"),
    };
    let available = match (phase, &view.spec.maintenance, step) {
        (Phase::Available, Some(maintenance), _) => Said::no("Available", "Maintenance", maintenance.reason.clone()),
        (Phase::Available, None, Step::Wait(wait)) if warmth(view, step).is_none() => {
            Said::no("Available", wait.reason.clone(), wait.message.clone())
        }
        (Phase::Available, None, _) => match mismatch(view) {
            Some(problem) => Said::no("Available", problem.reason, problem.message),
            None => Said::yes("Available", "Free", ""),
        },
        (phase, ..) => Said::no("Available", format!("{phase:?}"), ""),
    };
    let provisioned = match goal(view) {
        Goal::Run => Said::yes("Provisioned", "ImageOnDisk", ""),
        _ => Said::no("Provisioned", "NoImage", ""),
    };
    vec![reachable, healthy, inspected, available, provisioned, ready(view, step, phase)]
}

fn ready(view: &HostView, step: &Step, phase: Phase) -> Said {
    match (step, phase) {
        _ if view.deleting => Said::no("Ready", "Deleting", deleting(view)),
        (Step::Wait(wait), _) if warmth(view, step).is_none() => Said::no("Ready", wait.reason.clone(), sentence(wait)),
        (_, Phase::Available) if mismatch(view).is_some() => Said::no("Ready", "WrongMachine", "see Healthy"),
        (_, Phase::Available | Phase::Provisioned | Phase::Retired) if view.status.operation.is_none() => {
            Said::yes("Ready", format!("{phase:?}"), "")
        }
        (_, phase) => match warmth(view, step) {
            Some((reason, message)) => Said::yes("Ready", reason, message),
            None => Said::no("Ready", format!("{phase:?}"), ""),
        },
    }
}

/// How warm a free host is, when that is all that is done to it: it can be claimed all the while.
fn warmth(view: &HostView, step: &Step) -> Option<(&'static str, String)> {
    let operation = view.status.operation.as_ref().filter(|operation| operation.kind == OperationKind::Prepare)?;
    match step {
        _ if !view.bmc.is_seen() || view.spec.claim.is_some() => None,
        Step::Wait(wait) if wait.until.is_none() => None,
        Step::Wait(wait) => Some((PREPARING, sentence(wait))),
        _ if operation.stage == Stage::Warm => Some(("Warm", "its agent waits for a claim".into())),
        _ => Some((PREPARING, String::new())),
    }
}

fn deleting(view: &HostView) -> String {
    match &view.spec.claim {
        Some(claim) => format!(
            "RackwrightMachine {} of cluster {} uses it; it goes once that machine is deleted",
            claim.consumer.name, claim.cluster_name
        ),
        None => "being taken out of service".into(),
    }
}
