//! Tries of an operation: the first, the next after a failure, and when there is none any more.
//!
//! Each has an identifier and a deadline of its own. What a person must mend elsewhere does not count as the host's fault and
//! never breaks it.

use super::operation::{agent, has_result, subject};
use super::{Step, identity, seen, ways};
use crate::context::Limits;
use crate::host::view::{HostView, Problem};
use jiff::{SignedDuration, Timestamp};
use rackwright_api::host::{BootWay, Broken, Operation, OperationKind, Stage, TryOutcome, WipePolicy};
use rackwright_bmc::{BootDevice, Power};

/// A disk is not given up that overwrites as slowly as this, bytes a second: turning ones do 100 MB/s and more at their inner end.
const SLOW_DISK: i64 = 25_000_000;

/// A try of an operation of `kind`, the ramdisk by `way`.
pub(super) fn new_try(
    view: &HostView,
    kind: OperationKind,
    attempt: i32,
    way: BootWay,
    now: Timestamp,
    limits: &Limits,
) -> Operation {
    // A URL that the BMC does not show may be that of an earlier try: it is cleared in a stage of its own.
    let ready = matches!(seen(view), Some((Power::Off, _, device)) if device != BootDevice::Http);
    Operation {
        id: view.fresh_id.clone(),
        kind,
        claim_uid: subject(view).map(ToString::to_string),
        way: Some(way),
        takes_over: None,
        system_uuid: identity::told(view),
        stage: if ready { Stage::Booting } else { Stage::PoweringOff },
        attempt,
        started_at: now,
        stage_since: now,
        deadline: now + limits.operation + time_for_disks(view, kind),
    }
}

/// What a wipe of every block may take, and a discard that ends in one. All disks are wiped at the same time.
fn time_for_disks(view: &HostView, kind: OperationKind) -> SignedDuration {
    let policy = view.spec.wipe.as_ref().map(|order| order.policy);
    if kind != OperationKind::Wipe || policy == Some(WipePolicy::Metadata) {
        return SignedDuration::ZERO;
    }
    let bytes = view.hardware.as_ref().map_or(0, |hardware| hardware.largest_disk.max(0));
    SignedDuration::from_secs(bytes / SLOW_DISK)
}

/// The agent gave up. What a person must mend (image, user-data) is tried again after a pause, and never breaks the host.
pub(super) fn after_failure(
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
    let pause = since + limits.retry * operation.attempt.clamp(1, 12);
    if now < pause {
        return Step::rest_until(reason, message, pause); // the BMC has nothing to say that would change it
    }
    retry(view, operation, operation.attempt.saturating_add(1), reason, now, limits)
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
            | "NoPartitionTable"
            | "ConfigDriveNoRoom"
            | "UserDataMissing"
            | "InstallerInvalid"
            | "NoDiskMatches"
            | "SeveralDisksMatch"
            | "WrongMachine"
    )
}

/// Try again with a new identifier, or call a person.
pub(super) fn again(
    view: &HostView,
    operation: &Operation,
    reason: &str,
    message: &str,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    if operation.attempt < limits.attempts {
        return retry(view, operation, operation.attempt + 1, reason, now, limits);
    }
    give_up(view, reason, message, now)
}

/// A new try, by the next way when it was the way that failed: a ramdisk that called home had come by a good one.
pub(super) fn retry(
    view: &HostView,
    operation: &Operation,
    attempt: i32,
    reason: &str,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    let last = ways::of(operation);
    let way = match agent(view, operation) {
        Some(_) => ways::still(view, last),
        None => ways::after(view, last),
    };
    by(way, view, operation.kind, attempt, reason, now, limits)
}

/// A new try by the same way, which had worked.
pub(super) fn anew(
    view: &HostView,
    operation: &Operation,
    attempt: i32,
    reason: &str,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    by(ways::still(view, ways::of(operation)), view, operation.kind, attempt, reason, now, limits)
}

fn by(
    way: Result<BootWay, Problem>,
    view: &HostView,
    kind: OperationKind,
    attempt: i32,
    reason: &str,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    match way {
        Ok(way) => Step::Retry(new_try(view, kind, attempt, way, now, limits), reason.into()),
        Err(problem) => Step::wait_for_person(&problem),
    }
}

/// How the recorded operation ended, when it is over with `step`.
pub(in crate::host) fn ended(view: &HostView, step: &Step) -> Option<(TryOutcome, Option<String>)> {
    let operation = view.status.operation.as_ref()?;
    let (done, over) = match step {
        Step::Retry(_, reason) => return Some((TryOutcome::Failed, Some(reason.clone()))),
        Step::Record(next) => (has_result(view, operation), next.id != operation.id),
        Step::Finish => match (&view.spec.broken, operation.kind) {
            (Some(broken), _) => return Some((TryOutcome::Failed, Some(broken.reason.clone()))),
            (None, OperationKind::PowerOn) => (matches!(seen(view), Some((Power::On, ..))), true),
            (None, _) => (has_result(view, operation), true),
        },
        _ => return None,
    };
    over.then_some((if done { TryOutcome::Succeeded } else { TryOutcome::Superseded }, None))
}

pub(super) fn give_up(view: &HostView, reason: &str, message: &str, now: Timestamp) -> Step {
    let what = match view.status.operation.as_ref().map(|operation| operation.kind) {
        Some(OperationKind::Inspect) => "inspection",
        Some(OperationKind::Deploy) => "deployment",
        Some(OperationKind::Prepare) => "preparation",
        Some(OperationKind::Wipe) => "wipe",
        Some(OperationKind::PowerOn) | None => "power-on",
    };
    Step::Break(Broken { reason: reason.into(), message: format!("{what} given up: {message}"), since: now })
}
