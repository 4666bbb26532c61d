//! A host whose image is on the disk: kept on, and otherwise left alone.

use super::{Step, operation, seen};
use crate::context::Limits;
use crate::host::view::{HostView, MediaSeen, Observed};
use jiff::Timestamp;
use rackwright_api::host::{Broken, Operation, OperationKind, Stage};
use rackwright_bmc::{Power, PowerTarget};

/// The next step for a host that runs, or should run, a machine's image.
pub(super) fn decide(view: &HostView, now: Timestamp, limits: &Limits) -> Step {
    if let Some(deployment) = operation::of(view, OperationKind::Deploy) {
        return operation::finish(view, deployment, now, limits);
    }
    let switching = operation::of(view, OperationKind::PowerOn);
    match (seen(view).map(|(power, ..)| power), switching) {
        (Some(Power::On), None) => Step::Rest,
        (Some(Power::On), Some(_)) => Step::Finish,
        (None, _) => silent(view),
        (Some(Power::Off), _) if view.spec.maintenance.is_some() => Step::Rest, // somebody has their hands in it
        (Some(Power::Off), None) => Step::Record(switch_on(view, 1, now, limits)),
        // It would not let go of the media while it was on. A drive that never does must not keep it off.
        (Some(Power::Off), Some(try_)) if is_held(view) && now < try_.started_at + limits.power_repeat * 2 => {
            Step::EjectMedia
        }
        (Some(Power::Off), Some(try_)) if now < try_.deadline => Step::Power(PowerTarget::On),
        (Some(Power::Off), Some(try_)) if try_.attempt < limits.attempts => {
            Step::Retry(switch_on(view, try_.attempt + 1, now, limits), "NoPower".into())
        }
        (Some(Power::Off), Some(_)) => Step::Break(Broken {
            reason: "NoPower".into(),
            message: "the host went off and does not switch on again".into(),
            since: now,
        }),
    }
}

fn switch_on(view: &HostView, attempt: i32, now: Timestamp, limits: &Limits) -> Operation {
    Operation {
        id: view.fresh_id.clone(),
        kind: OperationKind::PowerOn,
        claim_uid: view.spec.claim.as_ref().map(|claim| claim.consumer.uid.clone()),
        way: None,
        takes_over: None,
        system_uuid: None,
        stage: Stage::Booting,
        attempt,
        started_at: now,
        stage_since: now,
        deadline: now + limits.power / limits.attempts.max(1),
    }
}

/// The media that deployed it is still in the drive. What a person put there is left.
fn is_held(view: &HostView) -> bool {
    matches!(view.bmc, Observed::Seen { media: MediaSeen::Ours, .. })
}

/// Unknown power leads to no act: the machine most likely runs on.
fn silent(view: &HostView) -> Step {
    match &view.bmc {
        Observed::Silent(problem) => Step::wait_for_person(problem),
        Observed::Seen { .. } => Step::wait_for_person(&crate::host::view::Problem {
            reason: "PowerUnknown",
            message: "the BMC does not know whether the host is on".into(),
        }),
    }
}
