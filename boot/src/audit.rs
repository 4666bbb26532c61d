//! The audit log: one line for each secret that leaves the service, with who got it. What it was is never in it.
//! Filter by the target `rackwright::audit`.

use kube::ResourceExt;
use rackwright_api::host::{Claim, Host};
use rackwright_protocol::Subject;

/// The host's own part of its media was read, by an address that had not read it before.
pub fn media(subject: &Subject, kind: &str, peer: &str) {
    let Subject { namespace, host, operation_id: operation, .. } = subject;
    tracing::info!(target: "rackwright::audit", namespace, host, operation, kind, peer, "media handed out");
}

/// The same, when the agent on that media had called home before: whoever this is, nobody expects him.
pub fn late_media(subject: &Subject, kind: &str, peer: &str) {
    let Subject { namespace, host, operation_id: operation, .. } = subject;
    tracing::warn!(
        target: "rackwright::audit",
        namespace, host, operation, kind, peer,
        "media handed out to another address after its session was opened"
    );
}

/// A session was opened: its secret and a plan went out.
pub fn session(subject: &Subject, kind: &str, peer: &str) {
    let Subject { namespace, host, operation_id: operation, .. } = subject;
    tracing::info!(target: "rackwright::audit", namespace, host, operation, kind, peer, "session opened");
}

/// A machine's user-data was in that plan.
pub fn user_data(host: &Host, claim: &Claim, peer: &str) {
    tracing::info!(
        target: "rackwright::audit",
        namespace = host.namespace(),
        host = host.name_any(),
        machine = claim.consumer.name,
        machine_uid = claim.consumer.uid,
        secret = claim.user_data.name,
        peer,
        "user-data handed out"
    );
}
