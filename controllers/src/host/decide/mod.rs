//! Picks the one next step for a host. Pure and total: no clock, no chance, nothing read, nothing written.

mod broken;
pub(super) mod identity;
pub(super) mod idle;
mod operation;
mod provisioned;
mod removal;
#[cfg(test)]
mod tests;
mod tries;
pub(super) mod warm;
#[cfg(test)]
mod warm_tests;
#[cfg(test)]
mod way_tests;
mod ways;

pub(super) use operation::{AGENT_WORKING, is_drive_wrong};
pub(super) use tries::ended;

use super::view::{Consumer, HostView, MediaSeen, Observed, Problem};
use crate::context::Limits;
use jiff::Timestamp;
use rackwright_api::host::{Broken, Operation, OperationKind, PowerWish, WipeOrder};
use rackwright_bmc::{BootDevice, Power, PowerTarget};

/// The one next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing to do and nothing to wait for.
    Rest,
    /// Nothing to do now.
    Wait(Wait),
    /// Hold the host with our finalizer.
    Hold,
    /// Let a deleted host go.
    LetGo,
    /// Record this operation, before anything of it is done; or its next stage.
    Record(Operation),
    /// Record this try in place of the last one, which failed for this reason.
    Retry(Operation, String),
    /// Forget the operation: it is over.
    Finish,
    /// Switch the machine.
    Power(PowerTarget),
    /// Put the operation's media into the drive.
    InsertMedia,
    /// Empty the drive.
    EjectMedia,
    /// Boot from here next.
    SetBoot(BootDevice),
    /// Record that a person is needed.
    Break(Broken),
    /// A person mended it: forget that it was broken.
    Mend,
    /// A person's wish for an inspection is fulfilled: take the annotation off.
    Inspected,
    /// Order a wipe that no machine ordered; a claim that stands is replaced by it.
    OrderWipe(WipeOrder),
}

/// Why nothing is done now. Times in it come from recorded deadlines, so that the text stays the same until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// CamelCase fact.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When the wait ends by itself and what is next is tried; `None` while a person is awaited.
    pub until: Option<Timestamp>,
    /// Nothing is expected to change soon.
    pub idle: bool,
}

impl Step {
    fn wait(reason: impl Into<String>, message: impl Into<String>, until: Timestamp) -> Step {
        Step::Wait(Wait { reason: reason.into(), message: message.into(), until: Some(until), idle: false })
    }

    /// As `wait`, while nothing on the hardware is expected to change.
    fn rest_until(reason: impl Into<String>, message: impl Into<String>, until: Timestamp) -> Step {
        Step::Wait(Wait { reason: reason.into(), message: message.into(), until: Some(until), idle: true })
    }

    fn wait_for_person(problem: &Problem) -> Step {
        let (reason, message) = (problem.reason.to_string(), problem.message.clone());
        Step::Wait(Wait { reason, message, until: None, idle: true })
    }
}

/// What a host is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Its image is on the disk: run it.
    Run,
    /// Get the claim's image onto the disk.
    Deploy,
    /// Get rid of what the last machine left.
    Wipe,
    /// Leave service.
    Retire,
    /// Be known.
    Inspect,
    /// Be ready for a claim, with an image on the disk and an agent that waits.
    Prepare,
    /// Be ready for a claim.
    Idle,
}

/// What `view`'s host is to become.
pub fn goal(view: &HostView) -> Goal {
    let spec = &view.spec;
    if spec.is_deployed() {
        Goal::Run
    } else if spec.claim.is_some() {
        Goal::Deploy
    } else if spec.needs_wipe() && view.inspect && view.hardware.is_some() {
        Goal::Inspect // what a wipe has to find is what the last inspection found
    } else if spec.needs_wipe() {
        Goal::Wipe
    } else if spec.retire.is_some() {
        Goal::Retire
    } else if view.hardware.is_none() || view.inspect {
        Goal::Inspect
    } else if spec.warm.is_some() && view.warm_wanted && spec.power != PowerWish::Off {
        Goal::Prepare
    } else {
        Goal::Idle
    }
}

/// The one next step for the host in `view`.
pub fn decide(view: &HostView, now: Timestamp, limits: &Limits) -> Step {
    if view.paused {
        return Step::Rest;
    }
    if !view.held && !view.deleting {
        return Step::Hold;
    }
    if let Some(step) = refuse(view) {
        return step;
    }
    if view.deleting && view.spec.claim.is_none() && (!view.spec.needs_wipe() || view.spec.broken.is_some()) {
        return removal::decide(view); // a broken host that a person deletes goes as it is: the person has it in hand
    }
    if let Some(broken) = &view.spec.broken {
        return broken::decide(view, broken);
    }
    if view.repaired.is_some() {
        return Step::Mend; // nothing to mend: the word is taken off, or it would undo the next fault
    }
    if let Some(step) = abandoned(view, now) {
        return step;
    }
    if let Some(operation) = operation::completed(view) {
        return operation::finish(view, operation, now, limits);
    }
    match goal(view) {
        Goal::Run => provisioned::decide(view, now, limits),
        Goal::Deploy => operation::decide(view, OperationKind::Deploy, now, limits),
        Goal::Wipe => operation::decide(view, OperationKind::Wipe, now, limits),
        Goal::Inspect => operation::decide(view, OperationKind::Inspect, now, limits),
        Goal::Retire => idle::retire(view, now),
        Goal::Prepare => operation::decide(view, OperationKind::Prepare, now, limits),
        Goal::Idle => idle::decide(view),
    }
}

/// What a person must put right before anything is done at all.
fn refuse(view: &HostView) -> Option<Step> {
    let done_with = view.deleting && view.spec.claim.is_none() && !view.spec.needs_wipe();
    if done_with {
        return None; // nothing of it is used: bad settings must not keep it
    }
    if let Some(twin) = &view.twin {
        let message = format!(
            "spec.{} is the same as that of host {}, which is {}; correct one of them",
            twin.field, twin.name, twin.rank
        );
        return Some(Step::wait_for_person(&Problem { reason: "SameMachineTwice", message }));
    }
    match &view.place {
        Err(problem) => Some(Step::wait_for_person(problem)),
        Ok(_) => None,
    }
}

/// A claim whose machine does not stand by it. It becomes an order to wipe: that nothing was written cannot be known.
fn abandoned(view: &HostView, now: Timestamp) -> Option<Step> {
    let untouched = !view.spec.is_deployed() && operation::of(view, OperationKind::Deploy).is_none();
    match view.consumer {
        Consumer::None | Consumer::Present => None,
        Consumer::Gone | Consumer::Elsewhere if untouched => {
            let claim = view.spec.claim.as_ref()?;
            Some(Step::OrderWipe(WipeOrder {
                claim_uid: claim.consumer.uid.clone(),
                released_by: claim.consumer.name.clone(),
                policy: Default::default(),
                ordered_at: now,
            }))
        }
        Consumer::Gone | Consumer::Elsewhere => {
            let name = view.spec.claim.as_ref().map(|claim| claim.consumer.name.clone()).unwrap_or_default();
            let message = format!(
                "RackwrightMachine {name}, which claims this host, is gone without releasing it; nothing is wiped: \
                 remove spec.claim by hand when nobody needs what is on the disk"
            );
            Some(Step::wait_for_person(&Problem { reason: "ConsumerGone", message }))
        }
    }
}

/// Power, media and boot device, when the BMC answered and knows.
fn seen(view: &HostView) -> Option<(Power, MediaSeen, BootDevice)> {
    match &view.bmc {
        Observed::Seen { system, media } => Some((system.power?, *media, system.boot)),
        Observed::Silent(_) => None,
    }
}
