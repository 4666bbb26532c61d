use super::*;
use crate::groups::Snapshot;
use rackwright_api::{HostHardware, Rack};
use rackwright_controllers::pool::view::machine_name;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().expect("a time")
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

const DEADLINES: Deadlines = Deadlines { image: SignedDuration::from_secs(1800), node: SignedDuration::from_secs(900) };

fn object<K: serde::de::DeserializeOwned>(name: &str, spec: Value, status: Value) -> Arc<K> {
    let meta = json!({ "name": name, "namespace": "metal", "generation": 3, "uid": name });
    let object = json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "", "metadata": meta, "spec": spec, "status": status,
    });
    Arc::new(serde_json::from_value(object).expect("an object"))
}

fn free_host(name: &str, rack: &str, extra: Value) -> Arc<Host> {
    let mut spec = json!({
        "rack": rack, "bmc": { "address": "https://10.0.0.1" }, "bootMACAddress": "52:54:00:12:34:56",
    });
    let (Value::Object(into), Value::Object(from)) = (&mut spec, extra) else { panic!("objects") };
    into.extend(from);
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": ago(9) });
    let conditions = json!([condition("Ready"), condition("Reachable")]);
    object(name, spec, json!({ "phase": "Available", "observedGeneration": 3, "conditions": conditions }))
}

fn held(id: &str, since: i64) -> Value {
    json!({ "reservation": { "pool": { "namespace": "metal", "name": "web", "uid": "u" }, "id": id, "at": ago(since) } })
}

/// Held by the pool, and claimed by the machine of that life.
fn claimed(host: &str, since: i64, more: Value, operation: Value) -> Arc<Host> {
    let mut spec = held("life", since);
    spec["claim"] = json!({
        "consumer": { "namespace": "metal", "name": "m", "uid": "u" }, "clusterName": "prod",
        "image": { "name": "i", "url": "http://i", "digest": "sha256:00", "format": "raw" },
        "userData": { "name": "d" }, "hostname": "m", "providerID": format!("rackwright://metal/{host}/life"),
        "claimedAt": ago(since),
    });
    let (Value::Object(into), Value::Object(from)) = (&mut spec, more) else { panic!("objects") };
    into.extend(from);
    let mut host = Arc::unwrap_or_clone(free_host(host, "a", spec));
    let status = host.status.get_or_insert_default();
    *status = serde_json::from_value(json!({ "waitingFor": "power", "operation": operation, "history": [
        { "type": "Deploy", "attempt": 1, "startedAt": ago(9), "endedAt": ago(5), "outcome": "Failed", "reason": "RamdiskSilent" },
    ] }))
    .expect("a status");
    Arc::new(host)
}

fn deploying(attempt: i32) -> Value {
    json!({
        "id": "o", "type": "Deploy", "claimUID": "life", "stage": "Booting", "attempt": attempt,
        "startedAt": ago(5), "stageSince": ago(5), "deadline": ago(-60),
    })
}

fn hardware(host: &str, memory_mib: i64) -> Arc<HostHardware> {
    let facts = json!({
        "cpu": { "architecture": "amd64", "cores": 4, "threads": 8 }, "memoryMiB": memory_mib,
        "disks": [{ "device": "/dev/sda", "sizeBytes": 100_i64 << 30, "rotational": false }], "nics": [],
    });
    object(host, json!({ "operationID": "o", "inspectedAt": ago(99), "facts": facts }), Value::Null)
}

fn pool(extra: Value) -> Arc<NodePool> {
    let mut spec = json!({
        "clusterName": "prod", "version": "v1.36.3", "replicas": 1, "autoscaling": { "min": 0, "max": 9 },
        "image": { "name": "i" }, "bootstrap": { "config": {} },
    });
    let (Value::Object(into), Value::Object(from)) = (&mut spec, extra) else { panic!("objects") };
    into.extend(from);
    object("web", spec, Value::Null)
}

fn world(pool: Arc<NodePool>, hosts: Vec<Arc<Host>>) -> Objects {
    let hardware = hosts.iter().map(|host| hardware(&host.name_any(), 16 * 1024)).collect();
    let stock = observe::Inventory { hosts, hardware, ..Default::default() };
    Objects { pools: vec![pool], stock, ..Objects::default() }
}

fn stage_of(host: Arc<Host>) -> Stage {
    let found = inventory(&world(pool(json!({})), vec![host]), &DEADLINES, now());
    found.hosts.into_iter().next().expect("it is held").stage
}

fn reason(stage: Stage) -> String {
    match stage {
        Stage::Failed(failure) => failure.reason,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_host_on_its_way_is_creating_until_a_try_or_a_deadline_has_passed() {
    let none = || json!({});
    assert_eq!(reason(stage_of(claimed("h", 60, none(), deploying(1)))), "Creating");
    assert_eq!(reason(stage_of(claimed("h", 60, none(), deploying(2)))), "RamdiskSilent");
    assert_eq!(reason(stage_of(claimed("h", 1801, none(), deploying(1)))), "HostStalled");
    let deployed = |since: i64| {
        json!({ "deployed": {
            "claimUID": "life", "operationID": "o", "digest": "sha256:00", "device": "/dev/sda", "at": ago(since),
        } })
    };
    assert_eq!(reason(stage_of(claimed("h", 2400, deployed(600), Value::Null))), "Creating");
    assert_eq!(reason(stage_of(claimed("h", 2400, deployed(901), Value::Null))), "NodeMissing");
    let broken = json!({ "broken": { "reason": "PowerSupplyDead", "message": "it is", "since": ago(1) } });
    assert_eq!(reason(stage_of(claimed("h", 60, broken, Value::Null))), "PowerSupplyDead");
}

#[test]
fn a_hold_without_a_machine_is_the_pools_affair_until_it_has_taken_too_long() {
    assert_eq!(reason(stage_of(free_host("h", "a", held("life", 60)))), "Creating");
    assert_eq!(reason(stage_of(free_host("h", "a", held("life", 1801)))), "HostStalled");
}

#[test]
fn a_node_has_registered_when_its_machine_says_so() {
    let mut objects = world(pool(json!({})), vec![claimed("h", 9999, json!({}), Value::Null)]);
    objects.with_node.insert(machine_name("web", "h", "life"));
    assert_eq!(inventory(&objects, &DEADLINES, now()).hosts[0].stage, Stage::Registered);
}

#[test]
fn only_hosts_that_would_do_are_stock_and_each_of_the_others_has_its_reason() {
    let maintenance = json!({ "maintenance": { "reason": "x" } });
    let hosts = vec![
        free_host("a1", "a", json!({})),
        free_host("a2", "a", maintenance),
        free_host("b1", "b", json!({})),
        free_host("small", "b", json!({})),
    ];
    let mut objects = world(pool(json!({ "replicas": 0, "hardware": { "minMemoryGiB": 8 } })), hosts);
    objects.stock.hardware[3] = hardware("small", 4096);
    let found = inventory(&objects, &DEADLINES, now());
    let fits: Vec<_> = found.hosts.iter().map(|host| (host.name.as_str(), host.fits["web"].as_deref())).collect();
    assert_eq!(fits, [("a1", None), ("a2", Some("in maintenance")), ("b1", None)]);
    let groups = Snapshot::of(&found).all;
    let sizes: Vec<_> = groups.iter().map(|group| (group.id.as_str(), group.min_size, group.max_size)).collect();
    assert_eq!(sizes, [("metal/web/amd64-8c-16g/a", 0, 1), ("metal/web/amd64-8c-16g/b", 0, 1)]);
}

#[test]
fn a_strict_spread_bounds_what_can_be_had_at_once() {
    let hosts = ["a1", "a2", "a3", "b1"].map(|name| free_host(name, &name[..1], json!({})));
    let strict = pool(json!({ "replicas": 0, "spread": { "over": "Rack", "maxSkew": 1 } }));
    let found = inventory(&world(strict, hosts.to_vec()), &DEADLINES, now());
    let maxima: Vec<_> = Snapshot::of(&found).all.iter().map(|group| group.max_size).collect();
    assert_eq!(maxima, [1, 1], "one from each rack");
}

#[test]
fn a_pool_says_what_its_nodes_will_carry() {
    let node = json!({
        "labels": { "tier": "web", "node.cluster.x-k8s.io/a": "b", "example.kubernetes.io/never": "x" },
        "taints": [{ "key": "gpu", "effect": "NoSchedule" }],
    });
    let found = inventory(&world(pool(json!({ "node": node })), vec![]), &DEADLINES, now());
    let pool = &found.pools[0];
    assert_eq!(pool.labels.keys().collect::<Vec<_>>(), ["node.cluster.x-k8s.io/a", "tier"]);
    assert_eq!(pool.taints, [("gpu".into(), String::new(), "NoSchedule".into())]);
    assert_eq!((pool.version.as_str(), pool.bounds, pool.by_class, pool.by_rack), ("3", Some((0, 9)), true, true));
}

#[test]
fn prices_stand_on_hosts_or_on_their_racks() {
    let mut dear = Arc::unwrap_or_clone(free_host("a1", "a", json!({})));
    dear.annotations_mut().insert(PRICE_ANNOTATION.into(), "0.75".into());
    let mut rack: Rack = Arc::unwrap_or_clone(object("a", json!({ "datacenter": "d" }), Value::Null));
    rack.annotations_mut().insert(PRICE_ANNOTATION.into(), "0.5".into());
    let mut objects = world(pool(json!({})), vec![Arc::new(dear), free_host("a2", "a", json!({}))]);
    objects.stock.racks.push(Arc::new(rack));
    let found = inventory(&objects, &DEADLINES, now());
    assert_eq!(found.hosts.iter().map(|host| host.price).collect::<Vec<_>>(), [Some(0.75), Some(0.5)]);
}
