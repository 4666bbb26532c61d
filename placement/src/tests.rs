use super::*;
use rackwright_api::common::LocalReference;
use rackwright_api::machine::{AcceleratorNeed, HostNeeds, Spread};
use rackwright_protocol::facts::{Accelerator, Cpu, Disk};
use serde_json::json;

fn host(name: &str, rack: &str) -> Candidate {
    Candidate {
        name: name.into(),
        uid: format!("uid-{name}"),
        labels: BTreeMap::from([("team".into(), "search".into())]),
        rack: rack.into(),
        datacenter: "dc".into(),
        taken: None,
        facts: Some(Facts {
            cpu: Cpu { architecture: "amd64".into(), model: None, cores: 32, threads: 64 },
            memory_mib: 256 * 1024,
            disks: vec![Disk::default(), Disk::default()],
            ..Facts::default()
        }),
        neighbours: Neighbours::default(),
        kept_warm: false,
    }
}

fn wish() -> RackwrightMachineSpec {
    RackwrightMachineSpec {
        provider_id: None,
        image: LocalReference { name: "debian".into() },
        host: None,
        spread: None,
        wipe: None,
    }
}

fn needs(hardware: HardwareNeeds) -> RackwrightMachineSpec {
    RackwrightMachineSpec { host: Some(HostNeeds { selector: None, hardware: Some(hardware) }), ..wish() }
}

fn chosen(wish: &RackwrightMachineSpec, candidates: &[Candidate]) -> Result<String, String> {
    choose(wish, Some(Architecture::Amd64), None, candidates)
        .map(|host| host.name.clone())
        .map_err(|why| why.to_string())
}

/// A Host that can be claimed.
fn free() -> Host {
    let yes = |kind: &str| json!({ "type": kind, "status": "True", "reason": "OK", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let host = json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "metadata": { "name": "a", "generation": 2 },
        "spec": { "rack": "a", "bmc": { "address": "https://10.1.1.7" }, "bootMACAddress": "52:54:00:00:00:01" },
        "status": {
            "phase": "Available", "observedGeneration": 2, "conditions": [yes("Reachable"), yes("Ready")],
        },
    });
    serde_json::from_value(host).expect("a Host")
}

#[test]
fn a_host_is_claimed_only_as_it_was_last_looked_at_and_found_ready() {
    assert_eq!(unclaimable(&free(), None), None);
    let mut edited = free();
    edited.metadata.generation = Some(3);
    assert_eq!(unclaimable(&edited, None), Some(Refusal::NotReady));
    for (condition, refusal) in [(0, Refusal::Unreachable), (1, Refusal::NotReady)] {
        let mut host = free();
        host.status.as_mut().expect("has a status").conditions[condition].status = "False".into();
        assert_eq!(unclaimable(&host, None), Some(refusal));
    }
}

#[test]
fn a_host_that_a_pool_holds_is_claimed_only_by_way_of_its_reservation() {
    let mut held = free();
    held.spec.reservation = serde_json::from_value(json!({
        "pool": { "namespace": "metal", "name": "web", "uid": "1" }, "id": "life-1", "at": "2026-01-01T00:00:00Z",
    }))
    .expect("a reservation");
    assert_eq!(unclaimable(&held, None), Some(Refusal::Reserved));
    assert_eq!(unclaimable(&held, Some("life-0")), Some(Refusal::Reserved));
    assert_eq!(unclaimable(&held, Some("life-1")), None);
}

#[test]
fn the_rack_with_the_fewest_machines_of_the_owner_is_taken_first() {
    let mut crowded = host("a", "rack-a");
    crowded.neighbours.rack = 1;
    assert_eq!(chosen(&wish(), &[crowded, host("b", "rack-b")]), Ok("b".into()));
}

#[test]
fn the_smallest_host_that_will_do_is_taken() {
    let mut large = host("a", "rack-a");
    large.facts.as_mut().expect("has facts").memory_mib *= 4;
    assert_eq!(chosen(&wish(), &[large, host("b", "rack-a")]), Ok("b".into()));
}

#[test]
fn an_empty_selector_selects_no_host() {
    let nothing = RackwrightMachineSpec {
        host: Some(HostNeeds { selector: Some(Default::default()), hardware: None }),
        ..wish()
    };
    assert_eq!(chosen(&nothing, &[host("a", "rack-a")]), Err("1 hosts: 1 with other labels".into()));
}

#[test]
fn every_host_that_is_not_taken_is_counted_under_its_first_reason() {
    let mut claimed = host("a", "rack-a");
    claimed.taken = Some(Refusal::Claimed);
    let mut broken = host("b", "rack-a");
    broken.taken = Some(Refusal::Broken);
    let mut unknown = host("c", "rack-a");
    unknown.facts = None;
    let small = host("d", "rack-a");
    let large = needs(HardwareNeeds { min_memory_gib: Some(512), ..HardwareNeeds::default() });
    assert_eq!(
        chosen(&large, &[claimed, broken, unknown, small]),
        Err("4 hosts: 1 claimed, 1 broken, 1 not inspected, 1 with too little memory".into())
    );
}

#[test]
fn hardware_needs_are_lower_bounds() {
    let gpu = |min| AcceleratorNeed { vendor: "nvidia".into(), model: None, min };
    for (hardware, fits) in [
        (HardwareNeeds { min_cpu_cores: Some(32), ..HardwareNeeds::default() }, true),
        (HardwareNeeds { min_cpu_cores: Some(33), ..HardwareNeeds::default() }, false),
        (HardwareNeeds { min_memory_gib: Some(256), ..HardwareNeeds::default() }, true),
        (HardwareNeeds { min_disks: Some(3), ..HardwareNeeds::default() }, false),
        (HardwareNeeds { accelerators: vec![gpu(1)], ..HardwareNeeds::default() }, true),
        (HardwareNeeds { accelerators: vec![gpu(2)], ..HardwareNeeds::default() }, false),
    ] {
        let mut host = host("a", "rack-a");
        host.facts.as_mut().expect("has facts").accelerators =
            vec![Accelerator { vendor: "nvidia".into(), model: "L4".into() }];
        assert_eq!(chosen(&needs(hardware.clone()), &[host]).is_ok(), fits, "{hardware:?}");
    }
}

#[test]
fn a_host_of_another_architecture_or_failure_domain_is_refused() {
    let hosts = [host("a", "rack-a")];
    assert!(choose(&wish(), Some(Architecture::Arm64), None, &hosts).is_err());
    assert!(choose(&wish(), Some(Architecture::Amd64), Some("rack-b"), &hosts).is_err());
    assert!(choose(&wish(), Some(Architecture::Amd64), Some("rack-a"), &hosts).is_ok());
    assert!(choose(&wish(), Some(Architecture::Amd64), Some("dc"), &hosts).is_ok());
}

#[test]
fn a_skew_that_may_not_be_exceeded_is_not() {
    let mut crowded = host("a", "rack-a");
    crowded.neighbours.rack = 1;
    let mut full = host("b", "rack-b");
    full.taken = Some(Refusal::Claimed);
    let strict = RackwrightMachineSpec { spread: Some(Spread { over: SpreadOver::Rack, max_skew: Some(1) }), ..wish() };
    assert_eq!(
        chosen(&strict, &[crowded.clone(), full]),
        Err("2 hosts: 1 claimed, 1 in places that hold their share already".into())
    );
    // A rack whose hosts are all broken is no place to wait for.
    let mut dead = host("b", "rack-b");
    dead.taken = Some(Refusal::Broken);
    assert_eq!(chosen(&strict, &[crowded, dead]), Ok("a".into()));
}

#[test]
fn a_host_must_have_every_piece_of_hardware_that_is_asked_for() {
    let facts: Facts = serde_json::from_value(json!({
        "cpu": { "architecture": "amd64", "cores": 32, "threads": 64 }, "memoryMiB": 262_144, "secureBoot": true,
        "firmware": { "vendor": "Example", "version": "2.4" },
        "disks": [
            { "device": "/dev/nvme0n1", "sizeBytes": 960_i64 << 30, "rotational": false },
            { "device": "/dev/nvme1n1", "sizeBytes": 480_i64 << 30, "rotational": false },
            { "device": "/dev/sda", "sizeBytes": 4000_i64 << 30, "rotational": true },
        ],
        "nics": [
            { "name": "a", "mac": "0", "speedMbps": 25_000 }, { "name": "b", "mac": "1", "speedMbps": 25_000 },
            { "name": "c", "mac": "2", "speedMbps": 1000 }, { "name": "d", "mac": "3" },
        ],
        "accelerators": [{ "vendor": "nvidia", "model": "L4" }, { "vendor": "nvidia", "model": "A30" }],
    }))
    .expect("facts");
    let lacks = |needs: serde_json::Value| {
        let needs: HardwareNeeds = serde_json::from_value(needs).expect("needs");
        unequipped(Some(&needs), Some(Architecture::Amd64), Some(&facts))
    };
    for (needs, expected) in [
        (json!({ "disks": [{ "min": 2, "rotational": false }] }), None),
        (json!({ "disks": [{ "min": 2, "rotational": false, "minSizeGiB": 900 }] }), Some(Refusal::Disks)),
        (
            json!({ "disks": [{ "min": 1, "minSizeGiB": 4000 }, { "min": 1, "minSizeGiB": 4001 }] }),
            Some(Refusal::Disks),
        ),
        (json!({ "minDisks": 3 }), None),
        (json!({ "minDisks": 4 }), Some(Refusal::Disks)),
        (json!({ "nics": [{ "min": 2, "minSpeedGbps": 25 }, { "min": 4 }] }), None),
        (json!({ "nics": [{ "min": 3, "minSpeedGbps": 10 }] }), Some(Refusal::Nics)),
        (json!({ "nics": [{ "min": 4, "minSpeedGbps": 1 }] }), Some(Refusal::Nics)),
        (json!({ "firmware": { "vendor": "Example", "versions": ["2.3", "2.4"], "secureBoot": true } }), None),
        (json!({ "firmware": { "versions": ["2.5"] } }), Some(Refusal::Firmware)),
        (json!({ "firmware": { "vendor": "Other" } }), Some(Refusal::Firmware)),
        (json!({ "firmware": { "secureBoot": false } }), Some(Refusal::Firmware)),
        (json!({ "accelerators": [{ "vendor": "nvidia", "min": 2 }] }), None),
        (json!({ "accelerators": [{ "vendor": "nvidia", "model": "L4", "min": 2 }] }), Some(Refusal::Accelerators)),
        (json!({ "accelerators": [{ "vendor": "amd", "min": 1 }] }), Some(Refusal::Accelerators)),
    ] {
        assert_eq!(lacks(needs.clone()), expected, "{needs}");
    }
    let unknown = Facts { firmware: None, secure_boot: None, ..facts.clone() };
    let secure: HardwareNeeds = serde_json::from_value(json!({ "firmware": { "secureBoot": true } })).expect("needs");
    assert_eq!(unequipped(Some(&secure), None, Some(&unknown)), Some(Refusal::Firmware), "unknown is not on");
}

#[test]
fn a_host_that_a_pool_keeps_warm_is_taken_last_among_its_equals() {
    let warm = Candidate { kept_warm: true, ..host("a1", "a") };
    let candidates = [warm, host("a2", "a")];
    assert_eq!(choose(&wish(), None, None, &candidates).map(|host| host.name.as_str()), Ok("a2"));
    assert_eq!(choose(&wish(), None, None, &candidates[..1]).map(|host| host.name.as_str()), Ok("a1"));
}
