//! Passes over one NodePool in a namespace of 10,000 hosts: reading and deciding, without the API server. What each pass
//! decides is checked, so that a figure stands for the work it names.
//! `cargo xtask bench pool`.
#![allow(missing_docs, clippy::print_stdout, reason = "prints figures")]

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use kube::runtime::watcher::Event;
use rackwright_api::pool::NodePoolSpec;
use rackwright_api::{NodePool, POOL_FINALIZER, POOL_LABEL, REVISION_LABEL};
use rackwright_bmc::{Access, Bmc, Connect};
use rackwright_controllers::caches::{Caches, Feeds};
use rackwright_controllers::pool::decide::{Step, decide, progress};
use rackwright_controllers::pool::observe::observe;
use rackwright_controllers::pool::revision::Blueprint;
use rackwright_controllers::pool::view::machine_name;
use rackwright_controllers::{Context, Limits, SystemClock};
use rackwright_protocol::token::BootKey;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOSTS: usize = 10_000;
const RACKS: usize = 250;
const PASSES: usize = 20;
const NAMESPACE: &str = "metal";
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// What is asked of the pool, and how far it is.
struct State {
    name: &'static str,
    /// Hosts that it holds, each with an Available Machine.
    held: usize,
    replicas: usize,
    /// Of these, Machines of the revision before.
    outdated: usize,
    /// Lives in `spec.release`; their Machines are being deleted.
    released: usize,
    expected: fn(&Step) -> bool,
}

const STATES: [State; 5] = [
    State {
        name: "10,000 nodes, nothing to do",
        held: HOSTS,
        replicas: HOSTS,
        outdated: 0,
        released: 0,
        expected: |step| *step == Step::Rest,
    },
    State {
        name: "growing from 5,000 to 10,000",
        held: HOSTS / 2,
        replicas: HOSTS,
        outdated: 0,
        released: 0,
        expected: |step| matches!(step, Step::Reserve { .. }),
    },
    State {
        name: "10,000 nodes, half of them rolled out",
        held: HOSTS,
        replicas: HOSTS,
        outdated: HOSTS / 2,
        released: 0,
        expected: |step| matches!(step, Step::Delete { .. }),
    },
    State {
        name: "shrinking from 10,000 to 5,000",
        held: HOSTS,
        replicas: HOSTS / 2,
        outdated: 0,
        released: HOSTS / 4,
        expected: |step| matches!(step, Step::Release { .. }),
    },
    State {
        name: "5,000 of 10,000 being drained",
        held: HOSTS,
        replicas: HOSTS / 2,
        outdated: 0,
        released: HOSTS / 2,
        expected: |step| matches!(step, Step::Wait(_) | Step::Rest),
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // an error: somebody else did
    println!("{:<40} {:>9} {:>9} {:>10} {:>10}", "one pass", "median", "longest", "caches", "most");
    for state in &STATES {
        measure(state).await.with_context(|| state.name)?;
    }
    Ok(())
}

async fn measure(state: &State) -> Result<()> {
    forget_peak()?;
    let (ctx, mut feeds) = context()?;
    let pool = fill(state, &mut feeds)?;
    let cached = memory("VmRSS:")?;
    let mut times = Vec::new();
    for _ in 0..PASSES {
        let begun = Instant::now();
        let view = observe(&pool, &ctx).await?;
        let now = ctx.clock.now();
        let step = decide(&view, now);
        std::hint::black_box(progress(&view, now));
        times.push(begun.elapsed());
        ensure!((state.expected)(&step), "it decides {step:?}");
    }
    times.sort();
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let (median, longest) = (millis(times[PASSES / 2]), millis(times[PASSES - 1]));
    println!("{:<40} {median:>9} {longest:>9} {cached:>6} MiB {:>6} MiB", state.name, memory("VmHWM:")?);
    Ok(())
}

fn host_name(n: usize) -> String {
    format!("host-{n:05}")
}

fn life(n: usize) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

/// Everything that is there, in the caches.
fn fill(state: &State, feeds: &mut Feeds) -> Result<NodePool> {
    let spec: NodePoolSpec = from(json!({
        "clusterName": "prod", "version": "v1.36.3", "replicas": state.replicas, "image": { "name": "debian" },
        "bootstrap": { "config": {} }, "spread": { "over": "Rack", "maxSkew": 1 },
        "hardware": { "minCPUCores": 32, "minMemoryGiB": 64 }, "rollout": { "maxUnavailable": "2%" },
        "release": (0..state.released).map(|n| json!({ "host": host_name(n), "id": life(n) })).collect::<Vec<_>>(),
    }))?;
    let older = NodePoolSpec { version: "v1.35.9".into(), ..spec.clone() };
    let [new, old] = [&spec, &older].map(|spec| Blueprint::of(spec).name("web"));
    let revision = |n: usize| if n < state.held - state.outdated { &new } else { &old };
    let pool = object("rackwright.dev/v1alpha1", "NodePool", "web", json!({ "spec": spec }));
    let mut pool: NodePool = from(pool)?;
    pool.metadata.finalizers = Some(vec![POOL_FINALIZER.into()]);

    let ours = "rackwright.dev/v1alpha1";
    let infrastructure = "infrastructure.cluster.x-k8s.io/v1alpha1";
    let core = "cluster.x-k8s.io/v1beta2";
    let name = |n: usize| machine_name("web", &host_name(n), &life(n));
    let labels = |n: usize| json!({ POOL_LABEL: "web", REVISION_LABEL: revision(n) });
    macro_rules! take {
        ($feed:ident, $objects:expr) => {
            feeds.$feed.take(&Event::Init);
            for object in $objects {
                feeds.$feed.take(&Event::InitApply(from(object)?));
            }
            feeds.$feed.take(&Event::InitDone);
        };
    }
    let ready = json!({ "status": { "initialization": { "infrastructureProvisioned": true } }, "spec": {} });
    take!(clusters, [object(core, "Cluster", "prod", ready)]);
    let disk = json!({ "url": "http://images/debian", "digest": format!("sha256:{}", "0".repeat(64)) });
    take!(images, [object(ours, "OSImage", "debian", json!({ "spec": { "disk": disk } }))]);
    let rack = |n| object(ours, "Rack", &format!("rack-{n:03}"), json!({ "spec": { "datacenter": "dc" } }));
    take!(racks, (0..RACKS).map(rack));
    let revisions = [(&old, 1), (&new, 2)];
    take!(
        revisions,
        revisions.iter().filter(|(name, _)| *name == &new || state.outdated > 0).map(|(name, number)| {
            let mut found = object("apps/v1", "ControllerRevision", name, json!({ "revision": number }));
            found["metadata"]["labels"] = json!({ POOL_LABEL: "web" });
            found
        })
    );
    take!(hosts, (0..HOSTS).map(|n| object(ours, "Host", &host_name(n), host(n, n < state.held))));
    take!(hardware, (0..HOSTS).map(|n| object(ours, "HostHardware", &host_name(n), hardware(n))));
    let infra = |n| {
        let spec = json!({ "providerID": provider_id(n), "image": { "name": "debian" } });
        let mut found = object(infrastructure, "RackwrightMachine", &name(n), json!({ "spec": spec }));
        found["metadata"]["labels"] = labels(n);
        found
    };
    take!(rackwright_machines, (0..state.held).map(infra));
    let machine = |n| {
        let up_to_date = if revision(n) == &new { "True" } else { "False" };
        let conditions: Vec<_> = [("Ready", "True"), ("Available", "True"), ("UpToDate", up_to_date)]
            .map(|(kind, truth)| condition(kind, truth))
            .into();
        let status = json!({ "nodeRef": { "name": name(n) }, "conditions": conditions });
        let mut found =
            object(core, "Machine", &name(n), json!({ "spec": { "clusterName": "prod" }, "status": status }));
        found["metadata"]["labels"] = labels(n);
        if n < state.released {
            found["metadata"]["deletionTimestamp"] = json!(LONG_AGO);
        }
        found
    };
    take!(machines, (0..state.held).map(machine));
    Ok(pool)
}

fn provider_id(n: usize) -> String {
    format!("rackwright://{NAMESPACE}/{}/{}", host_name(n), life(n))
}

fn condition(kind: &str, truth: &str) -> Value {
    json!({ "type": kind, "status": truth, "reason": kind, "message": "", "lastTransitionTime": LONG_AGO })
}

fn host(n: usize, held: bool) -> Value {
    let mut spec = json!({
        "rack": format!("rack-{:03}", n % RACKS), "unit": n / RACKS, "bmc": { "address": format!("https://10.0.{}.{}", n / 250, n % 250) },
        "bootMACAddress": format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256),
    });
    if held {
        let web = json!({ "namespace": NAMESPACE, "name": "web", "uid": "uid-web" });
        spec["reservation"] = json!({ "pool": web, "id": life(n), "at": LONG_AGO });
        let machine = machine_name("web", &host_name(n), &life(n));
        spec["claim"] = json!({
            "consumer": { "namespace": NAMESPACE, "name": machine, "uid": format!("uid-{machine}") },
            "clusterName": "prod", "userData": { "name": machine }, "hostname": machine, "providerID": provider_id(n),
            "claimedAt": LONG_AGO,
            "image": { "name": "debian", "url": "http://images/debian", "digest": format!("sha256:{}", "0".repeat(64)), "format": "raw" },
        });
    }
    let conditions: Vec<_> = ["Reachable", "Ready"].map(|kind| condition(kind, "True")).into();
    let phase = if held { "Provisioned" } else { "Available" };
    json!({ "spec": spec, "status": { "phase": phase, "observedGeneration": 1, "conditions": conditions } })
}

fn hardware(n: usize) -> Value {
    let disk = |d: usize| {
        json!({
            "device": format!("/dev/nvme{d}n1"), "sizeBytes": 3_840_755_982_336_u64, "rotational": false,
            "model": "SAMSUNG MZQL23T8HCLS", "serial": format!("S64HNE0R{n:05}{d}"), "wwn": format!("eui.{n:012}{d:04}"),
        })
    };
    let nic = |d: usize| json!({ "name": format!("eth{d}"), "mac": format!("02:00:00:{d:02x}:{:02x}:{:02x}", n / 256, n % 256), "speedMbps": 25_000 });
    let facts = json!({
        "vendor": "Dell Inc.", "model": "PowerEdge R650", "serial": format!("{n:07}"), "systemUUID": life(n),
        "cpu": { "architecture": "amd64", "model": "Intel(R) Xeon(R) Gold 6338", "cores": 64, "threads": 128 },
        "memoryMiB": 524_288, "disks": (0..4).map(disk).collect::<Vec<_>>(), "nics": (0..4).map(nic).collect::<Vec<_>>(),
    });
    json!({ "spec": { "operationID": life(n), "inspectedAt": LONG_AGO, "facts": facts } })
}

fn object(api_version: &str, kind: &str, name: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": { "name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1", "creationTimestamp": LONG_AGO },
    });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

fn from<T: DeserializeOwned>(object: Value) -> Result<T> {
    let shown = object.to_string();
    serde_json::from_value(object).with_context(|| shown)
}

/// Reading and deciding ask nothing of a BMC.
struct NoBmcs;

#[async_trait]
impl Connect for NoBmcs {
    async fn bmc(&self, _: &Access) -> rackwright_bmc::Result<Arc<dyn Bmc>> {
        Err(rackwright_bmc::Error::Unreachable { why: "there is none".into() })
    }
}

/// A context whose API server does not exist.
fn context() -> Result<(Context, Feeds)> {
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:9".parse()?))?;
    let (caches, feeds) = Caches::new();
    let boot_key = BootKey::new(vec![1; 32]).context("long enough")?;
    let ctx = Context::new(client, caches, Arc::new(SystemClock), Limits::default(), Arc::new(NoBmcs), boot_key);
    Ok((ctx, feeds))
}

/// MiB of this process (proc_pid_status(5)).
fn memory(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.split_whitespace().next().context("no figure")?.parse::<u64>()? / 1024)
}

/// `VmHWM` begins anew (proc_pid_clear_refs(5)).
fn forget_peak() -> Result<()> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}
