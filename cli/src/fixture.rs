//! Objects in the middle of their lives.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use rackwright_api::{Host, RackwrightMachine};
use serde_json::{Value, json};

/// So many seconds after five o'clock.
pub fn at(seconds: i64) -> Timestamp {
    let five: Timestamp = "2026-11-27T05:00:00Z".parse().expect("a time");
    five + SignedDuration::from_secs(seconds)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, second: i64) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(second)})
}

/// A host whose image is being written, in its second try.
pub fn host() -> Host {
    serde_json::from_value(json!({
        "apiVersion": "rackwright.dev/v1alpha1",
        "kind": "Host",
        "metadata": {"name": "osl1-a01-u07", "namespace": "metal"},
        "spec": {
            "rack": "osl1-a01",
            "unit": 7,
            "bmc": {"address": "https://10.1.1.7"},
            "bootMACAddress": "52:54:00:12:34:56",
            "claim": {
                "consumer": {"namespace": "metal", "name": "web-1", "uid": "machine"},
                "clusterName": "prod",
                "image": {"name": "debian-12", "url": "http://i/d", "digest": "sha256:00", "format": "raw"},
                "userData": {"name": "web-1"},
                "hostname": "web-1",
                "providerID": "rackwright://metal/osl1-a01-u07/machine",
                "claimedAt": at(10),
            },
            "wipe": {"claimUID": "old", "releasedBy": "db-3", "policy": "Discard", "orderedAt": at(-90_000)},
            "wiped": {
                "claimUID": "old",
                "operationID": "op-0",
                "disks": [{"device": "/dev/nvme0n1", "method": "discard"}],
                "at": at(-89_900),
            },
        },
        "status": {
            "phase": "Provisioning",
            "power": "On",
            "health": "OK",
            "waitingFor": "the agent: WritingImage 63 %, until 05:32:00",
            "history": [
                {"type": "Wipe", "way": "VirtualMedia", "attempt": 1, "startedAt": at(-90_000), "endedAt": at(-89_890), "outcome": "Succeeded"},
                {"type": "Deploy", "way": "VirtualMedia", "attempt": 1, "startedAt": at(12), "endedAt": at(118), "outcome": "Failed", "reason": "RamdiskSilent"},
            ],
            "operation": {
                "id": "op-2", "type": "Deploy", "claimUID": "machine", "way": "HTTPBoot", "stage": "Booting", "attempt": 2,
                "startedAt": at(120), "stageSince": at(121), "deadline": at(1920),
            },
            "agent": {
                "operationID": "op-2", "sessionDigest": "x", "since": at(150), "step": "WritingImage", "percent": 63,
                "bytesPerSecond": 1_120_000_000,
                "steps": [{"step": "ResolvingDisk", "since": at(151)}, {"step": "WritingImage", "since": at(153)}],
            },
            "conditions": [
                condition("Reachable", "True", "Answers", "", -100_000),
                condition("Ready", "False", "Provisioning", "an image is being written", 12),
            ],
        },
    }))
    .expect("a host")
}

/// A host that a wipe has broken.
pub fn broken() -> Host {
    let mut host = host();
    host.spec.claim = None;
    host.spec.broken = serde_json::from_value(json!({
        "reason": "WipeFailed", "message": "wipe given up: /dev/sdb does not take a secure erase", "since": at(400),
    }))
    .expect("broken");
    let status = host.status.as_mut().expect("set");
    (status.operation, status.waiting_for) = (None, Some("person: WipeFailed".into()));
    (status.health, status.power) = (Some("WipeFailed".into()), Some("Off".into()));
    status.phase = Some(rackwright_api::host::Phase::Broken);
    status.agent.as_mut().expect("set").failure = serde_json::from_value(json!({
        "reason": "WipeFailed", "message": "/dev/sdb does not take a secure erase",
    }))
    .expect("a failure");
    host
}

/// The machine that uses [`host`].
pub fn machine() -> RackwrightMachine {
    serde_json::from_value(json!({
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1",
        "kind": "RackwrightMachine",
        "metadata": {"name": "web-1", "namespace": "metal", "uid": "machine", "creationTimestamp": at(0)},
        "spec": {"image": {"name": "debian-12"}, "providerID": "rackwright://metal/osl1-a01-u07/machine"},
        "status": {
            "host": "osl1-a01-u07",
            "waitingFor": "host osl1-a01-u07 to be provisioned",
            "conditions": [
                condition("HostClaimed", "True", "Claimed", "", 11),
                condition("Ready", "False", "Provisioning", "host osl1-a01-u07 to be provisioned", 11),
            ],
        },
    }))
    .expect("a machine")
}

/// What Kubernetes was told of [`host`].
pub fn events() -> Vec<Event> {
    let event = |reason: &str, kind: &str, second: i64, note: &str, count: Option<i32>| -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Host", "name": "osl1-a01-u07"},
            "reason": reason, "type": kind, "message": note, "count": count,
            "eventTime": at(second),
            "lastTimestamp": at(second + 45),
        }))
        .expect("an event")
    };
    vec![
        event("Repaired", "Normal", -100_000, "A person mended it: new PSU", None),
        event("MediaEjected", "Warning", 60, "the BMC has thrown out the media", Some(3)),
    ]
}
