//! A host that a person deletes: never while a machine uses it, and not before it is wiped.

use super::{Step, seen};
use crate::host::view::HostView;
use rackwright_bmc::{Power, PowerTarget};

/// The next step for a deleted host that nobody uses and that holds nothing of anybody.
pub(super) fn decide(view: &HostView) -> Step {
    match seen(view) {
        Some((Power::On, ..)) if view.twin.is_none() => Step::Power(PowerTarget::Off),
        _ => Step::LetGo, // a BMC that does not answer keeps nobody
    }
}
