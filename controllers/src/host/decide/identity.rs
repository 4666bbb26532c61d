//! Whether the machine behind the BMC is the one that was inspected. Says so; what follows is decided elsewhere.

use crate::host::view::{HostView, Observed, Problem};

/// The BMC leads to another machine than the inspection found. `None` also when one of them tells no UUID.
pub(in crate::host) fn mismatch(view: &HostView) -> Option<Problem> {
    let Observed::Seen { system, .. } = &view.bmc else { return None };
    let shown = system.uuid.as_deref()?;
    let found = view.hardware.as_ref()?.system_uuid.as_deref()?;
    if is_same(bytes(shown)?, bytes(found)?) {
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
    system.uuid.as_deref().filter(|uuid| bytes(uuid).is_some()).map(str::to_ascii_lowercase)
}

/// SMBIOS (DSP0134, "System - UUID") keeps the first three fields little-endian; some BMCs show them unturned.
fn is_same(one: [u8; 16], other: [u8; 16]) -> bool {
    let mut turned = other;
    turned[0..4].reverse();
    turned[4..6].reverse();
    turned[6..8].reverse();
    one == other || one == turned
}

/// `None` for what is no UUID, and for all zeros and all ones: "not set" and "not there".
fn bytes(uuid: &str) -> Option<[u8; 16]> {
    let bytes = *uuid::Uuid::try_parse(uuid.trim()).ok()?.as_bytes();
    (bytes != [0; 16] && bytes != [0xff; 16]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> Option<bool> {
        Some(is_same(bytes(one)?, bytes(other)?))
    }

    #[test]
    fn a_uuid_is_the_same_in_either_order_of_its_bytes_and_in_either_case() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        for other in [uuid, "33221100-5544-7766-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF"] {
            assert_eq!(same(uuid, other), Some(true), "{other}");
        }
        for other in ["00112233-4455-6677-8899-aabbccddeefe", "33221100-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(same(uuid, other), Some(false), "{other}");
        }
    }

    #[test]
    fn what_says_nothing_is_compared_with_nothing() {
        for nothing in ["", "ABCD", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            assert_eq!(same(nothing, "00112233-4455-6677-8899-aabbccddeeff"), None, "{nothing}");
        }
    }
}
