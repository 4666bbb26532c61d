//! A host that nobody uses.

use super::identity::mismatch;
use super::{Step, seen, warm};
use crate::host::view::{HostView, Observed, Problem};
use jiff::Timestamp;
use rackwright_api::host::{OperationKind, PowerWish, WipeOrder};
use rackwright_bmc::{Power, PowerTarget};

/// The next step for a host that can be claimed: its power as a person wants it.
pub(super) fn decide(view: &HostView) -> Step {
    if let Some(operation) = &view.status.operation {
        return match operation.kind {
            OperationKind::Prepare => warm::cool(view),
            _ => Step::Finish, // of a machine that is gone
        };
    }
    let wanted = match view.spec.power {
        PowerWish::Auto | PowerWish::Off => Power::Off,
        PowerWish::On => Power::On,
    };
    if let Some(problem) = mismatch(view) {
        return Step::wait_for_person(&problem); // somebody else may use that machine: not even its power is ours
    }
    match (&view.bmc, seen(view)) {
        (_, Some((power, ..))) if power == wanted || view.spec.maintenance.is_some() => Step::Rest,
        (_, Some(_)) => Step::Power(match wanted {
            Power::On => PowerTarget::On,
            Power::Off => PowerTarget::Off,
        }),
        (Observed::Silent(problem), None) => Step::wait_for_person(problem),
        (Observed::Seen { .. }, None) => Step::wait_for_person(&Problem {
            reason: "PowerUnknown",
            message: "the BMC does not know whether the host is on".into(),
        }),
    }
}

/// The next step for a host that leaves service: wiped in its own name, then off for good.
pub(super) fn retire(view: &HostView, now: Timestamp) -> Step {
    let wiped = view.spec.wiped.as_ref().is_some_and(|done| done.claim_uid == own_name(view));
    if !wiped {
        return Step::OrderWipe(WipeOrder {
            claim_uid: own_name(view),
            released_by: "retirement".into(),
            policy: view.spec.retire.clone().unwrap_or_default().wipe,
            ordered_at: now,
        });
    }
    if view.status.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Wipe) {
        return Step::Finish;
    }
    match seen(view) {
        Some((Power::On, ..)) => Step::Power(PowerTarget::Off),
        _ => Step::Rest,
    }
}

/// Stands for the machine in a wipe that no machine ordered. Not the UID: `clusterctl move` changes it.
pub(in crate::host) fn own_name(view: &HostView) -> String {
    format!("host/{}", view.name)
}
