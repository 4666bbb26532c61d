//! An operation by way of the ramdisk: off, media in, boot it once, wait for the agent's result, media out.
//!
//! Every stage is recorded before it is acted on, and has a deadline; a try that fails is begun anew with a new
//! identifier, so that an agent of an earlier try is refused. After the last try a person is called.

use super::{Goal, Step, goal, seen};
use crate::context::Limits;
use crate::host::view::{HostView, MediaSeen, Observed, Problem};
use jiff::Timestamp;
use rackwright_api::host::{AgentStatus, Broken, Operation, OperationKind, Stage};
use rackwright_bmc::{BootDevice, Power, PowerTarget};

const SILENT_RAMDISK: &str = "the ramdisk was started but never called home";

/// The operation of this kind that was recorded for the machine in question, if any.
pub(super) fn of(view: &HostView, kind: OperationKind) -> Option<&Operation> {
    let uid = subject(view);
    view.status.operation.as_ref().filter(|operation| operation.kind == kind && operation.claim_uid.as_deref() == uid)
}

/// The inspection or wipe whose result is there while the host is not yet put back in order. Its goal is reached, so
/// the goal no longer tells of it.
pub(super) fn completed(view: &HostView) -> Option<&Operation> {
    let operation = view.status.operation.as_ref()?;
    let restores = view.spec.claim.is_none() && operation.kind != OperationKind::Deploy; // a deployment ends by running
    (restores && has_result(view, operation)).then_some(operation)
}

/// UID of the machine for whose sake the host's next operation is done.
fn subject(view: &HostView) -> Option<&str> {
    match (&view.spec.claim, &view.spec.wipe) {
        (Some(claim), _) => Some(&claim.consumer.uid),
        (None, Some(order)) if goal(view) == Goal::Wipe => Some(&order.claim_uid),
        _ => None,
    }
}

/// The next step of the operation of `kind` that the host needs.
pub(super) fn decide(view: &HostView, kind: OperationKind, now: Timestamp, limits: &Limits) -> Step {
    let Some(operation) = of(view, kind) else {
        if kind == OperationKind::Inspect
            && let Observed::Silent(problem) = &view.bmc
        {
            return Step::wait_for_person(problem); // not known yet: nothing is in flight, so nothing runs out
        }
        if let Some(maintenance) = &view.spec.maintenance {
            return Step::wait_for_person(&Problem { reason: "Maintenance", message: maintenance.reason.clone() });
        }
        return Step::Record(begin(view, kind, 1, now, limits));
    };
    if has_result(view, operation) {
        return finish(view, operation, now, limits);
    }
    if let Some(failure) = agent(view, operation).and_then(|agent| agent.failure.as_ref()) {
        return after_failure(view, operation, &failure.reason, &failure.message, now, limits);
    }
    if now >= operation.deadline {
        let (reason, message) = expired(view, operation);
        if reason == "MediaNotInserted" {
            // The boot service, its certificate or the BMC's way to it: mended elsewhere, and not this host's fault.
            return Step::Record(begin(view, kind, operation.attempt.saturating_add(1), now, limits));
        }
        return again(view, operation, reason, &message, now, limits);
    }
    match operation.stage {
        Stage::PoweringOff => power_off(view, operation, now),
        Stage::Booting | Stage::PoweringOn | Stage::StartingDisk => boot(view, operation, now, limits),
    }
}

fn begin(view: &HostView, kind: OperationKind, attempt: i32, now: Timestamp, limits: &Limits) -> Operation {
    let off = matches!(seen(view), Some((Power::Off, ..)));
    Operation {
        id: view.fresh_id.clone(),
        kind,
        claim_uid: subject(view).map(ToString::to_string),
        way: None,
        system_uuid: None,
        stage: if off { Stage::Booting } else { Stage::PoweringOff },
        attempt,
        started_at: now,
        stage_since: now,
        deadline: now + limits.operation,
    }
}

fn agent<'a>(view: &'a HostView, operation: &Operation) -> Option<&'a AgentStatus> {
    view.status.agent.as_ref().filter(|agent| agent.operation_id == operation.id)
}

fn has_result(view: &HostView, operation: &Operation) -> bool {
    result_time(view, operation).is_some()
}

/// When the agent reported success.
fn result_time(view: &HostView, operation: &Operation) -> Option<Timestamp> {
    match operation.kind {
        OperationKind::Inspect => {
            view.hardware.as_ref().filter(|seen| seen.operation_id == operation.id).map(|seen| seen.at)
        }
        OperationKind::Deploy => {
            view.spec.deployed.as_ref().filter(|done| done.operation_id == operation.id).map(|done| done.at)
        }
        OperationKind::Wipe => {
            view.spec.wiped.as_ref().filter(|done| done.operation_id == operation.id).map(|done| done.at)
        }
        OperationKind::PowerOn => None,
    }
}

fn power_off(view: &HostView, operation: &Operation, now: Timestamp) -> Step {
    match seen(view) {
        None => unknown(view, operation),
        Some((Power::On, ..)) => Step::Power(PowerTarget::Off),
        Some((Power::Off, ..)) => {
            Step::Record(Operation { stage: Stage::Booting, stage_since: now, ..operation.clone() })
        }
    }
}

fn boot(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    let called = agent(view, operation);
    match seen(view) {
        None => unknown(view, operation),
        Some((Power::Off, ..)) if called.is_some() => {
            again(view, operation, "AgentLost", "the host went off before the agent was done", now, limits)
        }
        Some((Power::Off, media, _)) if media != MediaSeen::Ours => Step::InsertMedia,
        Some((Power::Off, _, device)) if device != BootDevice::Cd => Step::SetBoot(BootDevice::Cd),
        Some((Power::Off, ..)) if now < operation.stage_since + limits.power => Step::Power(PowerTarget::On),
        // So much went by over media, or while nobody was looking, that the time for power begins now.
        Some((Power::Off, ..)) if operation.stage == Stage::Booting => {
            Step::Record(Operation { stage: Stage::PoweringOn, stage_since: now, ..operation.clone() })
        }
        Some((Power::Off, ..)) => {
            again(view, operation, "NoPower", "the BMC was told to switch the host on and it stays off", now, limits)
        }
        Some((Power::On, ..)) => match called {
            None if now >= operation.stage_since + limits.call_home => {
                again(view, operation, "RamdiskSilent", SILENT_RAMDISK, now, limits)
            }
            None => {
                let until = operation.deadline.min(operation.stage_since + limits.call_home);
                Step::wait("BootingRamdisk", "the ramdisk to boot and call home", until)
            }
            Some(agent) => {
                let step = agent.step.as_deref().unwrap_or("Working");
                let percent = agent.percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
                Step::wait("AgentWorking", format!("the agent: {step}{percent}"), operation.deadline)
            }
        },
    }
}

/// The agent is done: wait until it has switched the host off, take the media out, and after a deployment start the disk.
pub(super) fn finish(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    let done_at = result_time(view, operation).unwrap_or(now);
    let deploys = operation.kind == OperationKind::Deploy;
    match seen(view) {
        None if now >= operation.deadline + limits.power => give_up(view, "BMCUnreachable", &silence(view), now),
        None => unknown(view, operation),
        Some((Power::On, MediaSeen::Empty, _)) if deploys => Step::Finish,
        Some((Power::On, ..)) if now >= done_at + limits.power => Step::Power(PowerTarget::Off),
        Some((Power::On, ..)) => {
            Step::wait("AgentPoweringOff", "the agent to switch the host off", done_at + limits.power)
        }
        Some((Power::Off, media, _)) if media != MediaSeen::Empty => Step::EjectMedia,
        Some((Power::Off, _, device)) if device != BootDevice::Disk => Step::SetBoot(BootDevice::Disk),
        Some((Power::Off, ..)) if !deploys && view.inspect => Step::Inspected,
        Some((Power::Off, ..)) if !deploys => Step::Finish,
        // Long after the report: whether it switches on at all is found out with a time of its own (`provisioned`).
        Some((Power::Off, ..)) if now >= done_at + limits.power * 2 => Step::Finish,
        Some((Power::Off, ..)) => Step::Power(PowerTarget::On),
    }
}

/// The agent gave up. What a person must mend (image, user-data) is tried again after a pause, and never breaks the host.
fn after_failure(
    view: &HostView,
    operation: &Operation,
    reason: &str,
    message: &str,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    if !is_for_a_person(reason) {
        return again(view, operation, reason, message, now, limits);
    }
    let since = agent(view, operation).map_or(operation.started_at, |agent| agent.since);
    let retry = since + limits.retry * operation.attempt.clamp(1, 12);
    if now < retry {
        return Step::rest_until(reason, message, retry); // the BMC has nothing to say that would change it
    }
    Step::Record(begin(view, operation.kind, operation.attempt.saturating_add(1), now, limits))
}

/// Failures that another try on the same or another host does not mend.
fn is_for_a_person(reason: &str) -> bool {
    matches!(
        reason,
        "ImageDigestMismatch"
            | "ImageDigestUnknown"
            | "ImageUnavailable"
            | "ImageUnreadable"
            | "ImageTooLarge"
            | "UserDataMissing"
            | "NoDiskMatches"
            | "SeveralDisksMatch"
    )
}

/// Try again with a new identifier, or call a person.
fn again(view: &HostView, operation: &Operation, reason: &str, message: &str, now: Timestamp, limits: &Limits) -> Step {
    if operation.attempt < limits.attempts {
        return Step::Record(begin(view, operation.kind, operation.attempt + 1, now, limits));
    }
    give_up(view, reason, message, now)
}

fn give_up(view: &HostView, reason: &str, message: &str, now: Timestamp) -> Step {
    let what = match view.status.operation.as_ref().map(|operation| operation.kind) {
        Some(OperationKind::Inspect) => "inspection",
        Some(OperationKind::Deploy) => "deployment",
        Some(OperationKind::Wipe) => "wipe",
        Some(OperationKind::PowerOn) | None => "power-on",
    };
    Step::Break(Broken { reason: reason.into(), message: format!("{what} given up: {message}"), since: now })
}

fn expired(view: &HostView, operation: &Operation) -> (&'static str, String) {
    match (&view.bmc, agent(view, operation)) {
        (Observed::Silent(problem), _) => (problem.reason, problem.message.clone()),
        (Observed::Seen { media: MediaSeen::Empty | MediaSeen::Other, .. }, None) => {
            ("MediaNotInserted", "the BMC did not take the boot media; it must reach the boot service".into())
        }
        (_, Some(_)) => ("AgentTooSlow", "the agent called home but was not done in time".into()),
        (_, None) => ("RamdiskSilent", SILENT_RAMDISK.into()),
    }
}

fn silence(view: &HostView) -> String {
    match &view.bmc {
        Observed::Silent(problem) => problem.message.clone(),
        Observed::Seen { .. } => "the BMC does not know whether the host is on".into(),
    }
}

fn unknown(view: &HostView, operation: &Operation) -> Step {
    match &view.bmc {
        Observed::Silent(problem) => Step::wait(problem.reason, problem.message.clone(), operation.deadline),
        Observed::Seen { .. } => {
            Step::wait("PowerUnknown", "the BMC to tell whether the host is on", operation.deadline)
        }
    }
}
