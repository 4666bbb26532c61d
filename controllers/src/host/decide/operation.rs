//! An operation by way of the ramdisk: off, media in, boot it once, wait for the agent's result, media out. By which way
//! the ramdisk is booted, `ways` tells.
//!
//! Every stage is recorded before it is acted on, and has a deadline; a try that fails is begun anew with a new
//! identifier, so that an agent of an earlier try is refused. After the last try a person is called.

use super::tries::{after_failure, again, give_up, new_try, retry};
use super::{Goal, Step, goal, identity, seen, tries, warm, ways};
use crate::context::Limits;
use crate::host::progress;
use crate::host::view::{HostView, MediaSeen, Observed, Problem};
use jiff::Timestamp;
use rackwright_api::host::{AgentStatus, BootWay, Operation, OperationKind, Stage};
use rackwright_api::image::FinalBoot;
use rackwright_bmc::{BootDevice, Power, PowerTarget};

/// Reason of the wait for an agent that works.
pub(in crate::host) const AGENT_WORKING: &str = "AgentWorking";
const SILENT_RAMDISK: &str = "the ramdisk was started but never called home";
const SILENT_AGENT: &str = "the agent called home and is not heard of any more: the machine hangs, or lost its network";
const SLOW_INSTALLER: &str =
    "the installer was started and did not report in time; what became of it stands on the host's serial console";
const EJECTED: &str = "the BMC emptied its drive before the ramdisk called home";

/// The operation of this kind that was recorded for the machine in question, if any.
pub(super) fn of(view: &HostView, kind: OperationKind) -> Option<&Operation> {
    let uid = subject(view);
    view.status.operation.as_ref().filter(|operation| operation.kind == kind && operation.claim_uid.as_deref() == uid)
}

/// The inspection or wipe whose result is there while the host is not yet put back in order. Its goal is reached, so
/// the goal no longer tells of it.
pub(super) fn completed(view: &HostView) -> Option<&Operation> {
    let operation = view.status.operation.as_ref()?;
    // A deployment ends by running, and a prepared host goes on waiting.
    let restores =
        view.spec.claim.is_none() && !matches!(operation.kind, OperationKind::Deploy | OperationKind::Prepare);
    (restores && has_result(view, operation)).then_some(operation)
}

/// UID of the machine for whose sake the host's next operation is done.
pub(super) fn subject(view: &HostView) -> Option<&str> {
    match (&view.spec.claim, &view.spec.wipe) {
        (Some(claim), _) => Some(&claim.consumer.uid),
        (None, Some(order)) if goal(view) == Goal::Wipe => Some(&order.claim_uid),
        _ if goal(view) == Goal::Prepare => view.spec.warm.as_ref().map(|order| order.id.as_str()),
        _ => None,
    }
}

/// The next step of the operation of `kind` that the host needs.
pub(super) fn decide(view: &HostView, kind: OperationKind, now: Timestamp, limits: &Limits) -> Step {
    let Some(operation) = of(view, kind) else {
        return begin(view, kind, now, limits);
    };
    if has_result(view, operation) {
        return match (kind, result_time(view, operation)) {
            (OperationKind::Prepare, since) => warm::settle(view, operation, since.unwrap_or(now), now, limits),
            _ => finish(view, operation, now, limits),
        };
    }
    if let Some(failure) = agent(view, operation).and_then(|agent| agent.failure.as_ref()) {
        return after_failure(view, operation, &failure.reason, &failure.message, now, limits);
    }
    if now >= operation.deadline {
        let (reason, message) = expired(view, operation);
        if reason == "MediaNotInserted" {
            // The boot service, its certificate or the BMC's way to it: mended elsewhere, and not this host's fault.
            return retry(view, operation, operation.attempt, reason, now, limits);
        }
        return again(view, operation, reason, &message, now, limits);
    }
    match operation.stage {
        Stage::PoweringOff => power_off(view, operation, now),
        Stage::HandingOver => await_takeover(view, operation, now, limits),
        Stage::Booting | Stage::PoweringOn | Stage::StartingDisk | Stage::Warm => boot(view, operation, now, limits),
    }
}

fn begin(view: &HostView, kind: OperationKind, now: Timestamp, limits: &Limits) -> Step {
    if matches!(kind, OperationKind::Inspect | OperationKind::Prepare)
        && let Observed::Silent(problem) = &view.bmc
    {
        return Step::wait_for_person(problem); // nobody waits for it: nothing is in flight, so nothing runs out
    }
    if let Some(maintenance) = &view.spec.maintenance {
        return Step::wait_for_person(&Problem { reason: "Maintenance", message: maintenance.reason.clone() });
    }
    // A wipe is not held up: the boot service compares the machine itself before it hands out the plan.
    if matches!(kind, OperationKind::Deploy | OperationKind::Prepare)
        && let Some(problem) = identity::mismatch(view)
    {
        return Step::wait_for_person(&problem);
    }
    if kind == OperationKind::Deploy
        && let Some(operation) = warm::handed_over(view, subject(view), now, limits)
    {
        return Step::Record(operation);
    }
    match ways::first(view) {
        Ok(way) => Step::Record(new_try(view, kind, 1, way, now, limits)),
        Err(problem) => Step::wait_for_person(&problem),
    }
}

pub(super) fn agent<'a>(view: &'a HostView, operation: &Operation) -> Option<&'a AgentStatus> {
    view.status.agent.as_ref().filter(|agent| agent.operation_id == operation.id)
}

pub(super) fn has_result(view: &HostView, operation: &Operation) -> bool {
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
        OperationKind::Prepare => agent(view, operation).and_then(|agent| agent.prepared_at),
        OperationKind::PowerOn => None,
    }
}

/// The agent that waits on the host is to take the operation over. When it does not, the host is started anew, and no
/// try is counted: nothing was wrong with the host itself.
fn await_takeover(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    let until = operation.stage_since + limits.hand_over;
    let cold = |reason| tries::anew(view, operation, operation.attempt, reason, now, limits);
    match (seen(view), agent(view, operation)) {
        (None, None) if now >= until => cold("WarmAgentSilent"),
        (None, _) => unknown(view, operation),
        (Some((Power::Off, ..)), _) => cold("AgentLost"),
        (Some((Power::On, ..)), Some(agent)) => await_agent(view, operation, agent, now, limits),
        (Some((Power::On, ..)), None) if now >= until => cold("WarmAgentSilent"),
        (Some((Power::On, ..)), None) => Step::wait("HandingOver", "the agent on the warm host to take over", until),
    }
}

fn power_off(view: &HostView, operation: &Operation, now: Timestamp) -> Step {
    match seen(view) {
        None => unknown(view, operation),
        Some((Power::On, ..)) => Step::Power(PowerTarget::Off),
        Some((Power::Off, _, BootDevice::Http)) => Step::SetBoot(BootDevice::Disk),
        // When it was begun the BMC may have been silent: what it can do, and who its machine is, is known now.
        Some((Power::Off, ..)) => match ways::still(view, ways::of(operation)) {
            Ok(way) => Step::Record(Operation {
                stage: Stage::Booting,
                stage_since: now,
                way: Some(way),
                system_uuid: identity::told(view),
                ..operation.clone()
            }),
            Err(problem) => Step::rest_until(problem.reason, problem.message, operation.deadline),
        },
    }
}

fn boot(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    match (seen(view), agent(view, operation)) {
        (None, _) => unknown(view, operation),
        (Some((Power::Off, ..)), Some(_)) => {
            again(view, operation, "AgentLost", "the host went off before the agent was done", now, limits)
        }
        (Some((Power::Off, ..)), None) => start(view, operation, now, limits),
        (Some((Power::On, ..)), None) => await_call(view, operation, now, limits),
        (Some((Power::On, ..)), Some(agent)) => await_agent(view, operation, agent, now, limits),
    }
}

/// Whether what is deployed installs itself.
fn installs(view: &HostView) -> bool {
    view.spec.claim.as_ref().is_some_and(|claim| claim.image.installer.is_some())
}

/// An agent works, or the installer that it started. A machine that hangs says nothing; nor does an installer that works, or
/// an agent while the boot service is away: the longer it has worked, the more is lost by a new try, and the longer it may be
/// silent.
fn await_agent(view: &HostView, operation: &Operation, agent: &AgentStatus, now: Timestamp, limits: &Limits) -> Step {
    // A boot service of an earlier release does not say when it has heard of an agent.
    let silent = agent.heard_at.is_some_and(|heard| {
        let worked = heard.duration_since(agent.since);
        now >= heard + limits.agent_silence.max(worked / 4)
    });
    if silent && !installs(view) {
        return again(view, operation, "AgentSilent", SILENT_AGENT, now, limits);
    }
    Step::wait(AGENT_WORKING, progress::told(agent), operation.deadline)
}

/// The host is off and the ramdisk is to be started: media, boot device, power.
fn start(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    let Some((_, media, device)) = seen(view) else { return unknown(view, operation) };
    let way = ways::of(operation);
    let late = now >= operation.stage_since + limits.power;
    // The last try has all the time there is: after it comes a person.
    let give_way = late && operation.attempt < limits.attempts && ways::has_other(view, way);
    if way == BootWay::VirtualMedia && media != MediaSeen::Ours {
        // Not counted as a try: the boot service may be away, and the host was not even started.
        return match media {
            MediaSeen::NoDrive => retry(view, operation, operation.attempt, "NoDrive", now, limits),
            _ if late && ways::has_other(view, way) => {
                retry(view, operation, operation.attempt, "MediaNotInserted", now, limits)
            }
            _ => Step::InsertMedia,
        };
    }
    if device != ways::device(way) {
        let message = format!("the BMC does not take {way:?} as what to boot next");
        return match give_way {
            true => again(view, operation, "BootDeviceNotSet", &message, now, limits),
            false => Step::SetBoot(ways::device(way)),
        };
    }
    if !late {
        return Step::Power(PowerTarget::On);
    }
    if operation.stage == Stage::Booting {
        // So much went by over media, or while nobody was looking, that the time for power begins now.
        return Step::Record(Operation { stage: Stage::PoweringOn, stage_since: now, ..operation.clone() });
    }
    again(view, operation, "NoPower", "the BMC was told to switch the host on and it stays off", now, limits)
}

/// The host is on and its ramdisk has not called home. What tells before the deadline that it never will ends the try.
fn await_call(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    let Some((_, media, device)) = seen(view) else { return unknown(view, operation) };
    let way = ways::of(operation);
    let call_home = operation.stage_since + limits.call_home;
    if device != BootDevice::Disk && device != ways::device(way) {
        let message = format!("the BMC was told to boot by {way:?} and shows another boot device: {device:?}");
        return again(view, operation, "BootsOtherDevice", &message, now, limits);
    }
    if way == BootWay::VirtualMedia && device == BootDevice::Disk && media == MediaSeen::Other {
        return again(view, operation, "BootsOldDisk", "the drive holds other media and the disk is next", now, limits);
    }
    if is_drive_wrong(view) {
        let until = view.drive_wrong_since.unwrap_or(now) + limits.drive;
        return if now >= until {
            again(view, operation, "MediaEjectedEarly", EJECTED, now, limits)
        } else {
            Step::wait("MediaEjectedEarly", "the ramdisk to call home although its media is gone", until)
        };
    }
    if now >= call_home {
        return again(view, operation, "RamdiskSilent", SILENT_RAMDISK, now, limits);
    }
    Step::wait("BootingRamdisk", "the ramdisk to boot and call home", operation.deadline.min(call_home))
}

/// The host is on and its drive is empty before the ramdisk has called home, or still full after a system was started
/// from the ramdisk.
pub(in crate::host) fn is_drive_wrong(view: &HostView) -> bool {
    let (Some(operation), Some((Power::On, media, _))) = (&view.status.operation, seen(view)) else { return false };
    if !comes_by_drive(operation) || operation.kind == OperationKind::PowerOn || operation.stage == Stage::Warm {
        return false;
    }
    match (has_result(view, operation), agent(view, operation)) {
        (true, _) => media.is_held() && is_kexec(view, operation),
        (false, None) => media == MediaSeen::Empty,
        (false, Some(_)) => false,
    }
}

/// The agent has started the written system itself, or will in a moment; when it cannot, it switches the host off.
fn is_kexec(view: &HostView, operation: &Operation) -> bool {
    let done = view.spec.deployed.as_ref().filter(|done| done.operation_id == operation.id);
    operation.kind == OperationKind::Deploy && done.is_some_and(|done| done.final_boot == FinalBoot::Kexec)
}

/// The agent is done: wait until it has switched the host off, take the media out, and after a deployment start the disk.
pub(super) fn finish(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    let done_at = result_time(view, operation).unwrap_or(now);
    let deploys = operation.kind == OperationKind::Deploy;
    match seen(view) {
        None if now >= operation.deadline + limits.power => give_up(view, "BMCUnreachable", &silence(view), now),
        None => unknown(view, operation),
        Some((Power::On, media, device)) if is_kexec(view, operation) => {
            // A drive that lets go of nothing while the host is on is told again when it goes off (`provisioned`).
            let in_time = now < view.drive_wrong_since.unwrap_or(done_at) + limits.drive;
            match (media.is_held(), device) {
                (true, _) if in_time => Step::EjectMedia,
                (_, device) if device != BootDevice::Disk && in_time => Step::SetBoot(BootDevice::Disk),
                _ => Step::Finish,
            }
        }
        Some((Power::On, media, _)) if deploys && runs_its_disk(operation, media) => Step::Finish,
        Some((Power::On, ..)) if now >= done_at + limits.power => Step::Power(PowerTarget::Off),
        Some((Power::On, ..)) => {
            Step::wait("AgentPoweringOff", "the agent to switch the host off", done_at + limits.power)
        }
        // Where media was in the drive it must come out; what else is there must not keep the host.
        Some((Power::Off, media, _))
            if media.is_held() && (is_in_drive(operation, media) || now < done_at + limits.power * 2) =>
        {
            Step::EjectMedia
        }
        Some((Power::Off, _, device)) if device != BootDevice::Disk => Step::SetBoot(BootDevice::Disk),
        Some((Power::Off, ..)) if operation.kind == OperationKind::Inspect && view.inspect => Step::Inspected,
        Some((Power::Off, ..)) if !deploys => Step::Finish,
        // Long after the report: whether it switches on at all is found out with a time of its own (`provisioned`).
        Some((Power::Off, ..)) if now >= done_at + limits.power * 2 => Step::Finish,
        Some((Power::Off, media, _)) if !is_in_drive(operation, media) && operation.stage != Stage::StartingDisk => {
            Step::Record(Operation { stage: Stage::StartingDisk, stage_since: now, ..operation.clone() })
        }
        Some((Power::Off, ..)) => Step::Power(PowerTarget::On),
    }
}

/// The ramdisk came from the drive, so that an empty drive tells that the host was off since.
fn is_in_drive(operation: &Operation, media: MediaSeen) -> bool {
    comes_by_drive(operation) && media != MediaSeen::NoDrive
}

/// The operation's own ramdisk is booted from the drive; one that takes over has none.
fn comes_by_drive(operation: &Operation) -> bool {
    ways::of(operation) == BootWay::VirtualMedia && operation.takes_over.is_none()
}

/// A host that is on after its deployment was started anew, and is not still in its ramdisk.
fn runs_its_disk(operation: &Operation, media: MediaSeen) -> bool {
    operation.stage == Stage::StartingDisk || (is_in_drive(operation, media) && media == MediaSeen::Empty)
}

fn expired(view: &HostView, operation: &Operation) -> (&'static str, String) {
    let in_drive = ways::of(operation) == BootWay::VirtualMedia;
    match (&view.bmc, agent(view, operation)) {
        (Observed::Silent(problem), _) => (problem.reason, problem.message.clone()),
        (Observed::Seen { media: MediaSeen::Empty | MediaSeen::Other, .. }, None) if in_drive => {
            ("MediaNotInserted", "the BMC did not take the boot media; it must reach the boot service".into())
        }
        (Observed::Seen { system, .. }, None) if system.power == Some(Power::Off) => {
            let way = ways::of(operation);
            ("BootDeviceNotSet", format!("the BMC does not take {way:?} as what to boot next"))
        }
        (_, Some(_)) if installs(view) => ("InstallerTooSlow", SLOW_INSTALLER.into()),
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
