//! A host that waits for a person: off, kept as it is, and not taken by anybody.

use super::{Goal, Step, goal, seen};
use crate::host::view::HostView;
use rackwright_api::host::Broken;
use rackwright_bmc::{Power, PowerTarget};

/// The next step for a broken host.
pub(super) fn decide(view: &HostView, broken: &Broken) -> Step {
    if view.status.operation.is_some() {
        return Step::Finish; // before it is mended: it would break the host again at once
    }
    if view.repaired.is_some() {
        return Step::Mend;
    }
    let power = seen(view).map(|(power, ..)| power);
    if broken.reason == "NoPower" && goal(view) == Goal::Run && power == Some(Power::On) {
        return Step::Mend; // it has power again and runs what it should: nobody is needed
    }
    if power == Some(Power::On) && goal(view) != Goal::Run {
        return Step::Power(PowerTarget::Off); // fenced: nothing of an earlier life may run on
    }
    let message = format!("{}; mend it and annotate rackwright.dev/repaired=WHAT-WAS-DONE", broken.message);
    Step::Wait(super::Wait { reason: broken.reason.clone(), message, until: None, idle: true })
}
