//! Whether the machine behind the BMC is the one that was inspected. Says so; what follows is decided elsewhere.

use crate::host::view::{HostView, Observed, Problem};
use rackwright_protocol::uuid;

/// The BMC leads to another machine than the inspection found. `None` also when one of them tells no UUID.
pub(in crate::host) fn mismatch(view: &HostView) -> Option<Problem> {
    let Observed::Seen { system, .. } = &view.bmc else { return None };
    let shown = system.uuid.as_deref()?;
    let found = view.hardware.as_ref()?.system_uuid.as_deref()?;
    if !uuid::differ(shown, found) {
        return None;
    }
    let message = format!(
        "the BMC says that the machine's UUID is {shown}, the inspection found {found}: correct spec.bmc.address, or \
         annotate rackwright.dev/inspect when the machine itself was exchanged"
    );
    Some(Problem { reason: "WrongMachine", message })
}

/// The UUID that a BMC told, when it is one.
pub(super) fn told(view: &HostView) -> Option<String> {
    let Observed::Seen { system, .. } = &view.bmc else { return None };
    system.uuid.as_deref().filter(|shown| uuid::says_something(shown)).map(str::to_ascii_lowercase)
}
