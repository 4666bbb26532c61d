//! A host that is kept warm: its ramdisk runs, has written an image, and waits for what only a claim can tell.
//!
//! The agent is never asked whether it still waits: a claim finds out, and an agent that does not take it over in time
//! costs that time and no more, because the host is then deployed as a cold one. Nothing is ever wiped here.

use super::identity::mismatch;
use super::tries::{again, anew, new_try};
use super::{Step, seen, ways};
use crate::context::Limits;
use crate::host::view::{HostView, MediaSeen};
use jiff::Timestamp;
use rackwright_api::host::{Operation, OperationKind, Stage};
use rackwright_bmc::{BootDevice, Power, PowerTarget};

/// The next step after the agent has prepared the host: the media goes out, and then it waits.
pub(super) fn settle(
    view: &HostView,
    operation: &Operation,
    since: Timestamp,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    let in_time = now < since + limits.drive; // some drives let go of nothing while the host is on
    match seen(view) {
        _ if operation.stage == Stage::Warm => keep(view, operation, now, limits),
        None => Step::wait("PowerUnknown", "the BMC to tell whether the host is on", operation.deadline),
        Some((Power::Off, ..)) => lost(view, operation, now, limits),
        Some((_, media, _)) if media.is_held() && in_time => Step::EjectMedia,
        Some((.., device)) if device != BootDevice::Disk && in_time => Step::SetBoot(BootDevice::Disk),
        Some(_) => Step::Record(Operation {
            stage: Stage::Warm,
            stage_since: now,
            deadline: now + limits.warm,
            ..operation.clone()
        }),
    }
}

fn keep(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    match seen(view) {
        Some((Power::Off, ..)) => lost(view, operation, now, limits),
        Some(_) if now >= operation.deadline => match ways::still(view, ways::of(operation)) {
            Ok(way) => Step::Record(new_try(view, operation.kind, 1, way, now, limits)),
            Err(problem) => Step::wait_for_person(&problem),
        },
        _ => Step::Rest, // a BMC that is silent for a while changes nothing
    }
}

/// It went off while it waited. One that never waits long is not tried for ever.
fn lost(view: &HostView, operation: &Operation, now: Timestamp, limits: &Limits) -> Step {
    const WHY: &str = "the host went off while it was kept warm";
    let long = operation.stage == Stage::Warm && now >= operation.stage_since + limits.operation;
    match long {
        true => anew(view, operation, 1, "AgentLost", now, limits),
        false => again(view, operation, "AgentLost", WHY, now, limits),
    }
}

/// The deployment that the agent of a warm host is to take over; `None` when a ramdisk has to be booted.
pub(super) fn handed_over(
    view: &HostView,
    claim_uid: Option<&str>,
    now: Timestamp,
    limits: &Limits,
) -> Option<Operation> {
    let warm = view.status.warm().filter(|warm| now < warm.deadline)?;
    if !matches!(seen(view), Some((Power::On, ..))) {
        return None;
    }
    Some(Operation {
        id: view.fresh_id.clone(),
        kind: OperationKind::Deploy,
        claim_uid: claim_uid.map(ToString::to_string),
        takes_over: Some(warm.id.clone()),
        stage: Stage::HandingOver,
        attempt: 1,
        started_at: now,
        stage_since: now,
        deadline: now + limits.operation,
        ..warm.clone()
    })
}

/// A host that nobody wants warm any more: off, and nothing of ours in its drive.
pub(super) fn cool(view: &HostView) -> Step {
    match seen(view) {
        // Somebody has their hands in it, or it may be somebody else's: not even its power is ours.
        _ if view.spec.maintenance.is_some() || mismatch(view).is_some() => Step::Finish,
        Some((Power::On, ..)) => Step::Power(PowerTarget::Off),
        Some((Power::Off, MediaSeen::Ours, _)) => Step::EjectMedia,
        Some((Power::Off, _, BootDevice::Cd | BootDevice::Http | BootDevice::Pxe)) => Step::SetBoot(BootDevice::Disk),
        Some((Power::Off, ..)) | None => Step::Finish,
    }
}
