//! Everything that the reconcilers meet: the API server, the fleet, the boot service and its agents, people.

use crate::api_server::{ApiServer, Change, Fate};
use crate::pools;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::runtime::watcher::Event;
use rackwright_api::host::{Host, OperationKind};
use rackwright_api::image::FinalBoot;
use rackwright_api::{Datacenter, HostHardware, NodePool, OSImage, Rack, RackwrightMachine, Region, contract};
use rackwright_controllers::caches::{Caches, Feeds};
use rackwright_controllers::{Clock, Context, Limits, host, infra};
use rackwright_protocol::plan::ConfigDrive;
use rackwright_protocol::token::BootKey;
use rackwright_simulator::direct::{AgentCall, DirectFleet, PASSWORD, USERNAME};
use rackwright_simulator::faults::{Fault, Silence};
use rackwright_simulator::hardware::{Hardware, Spec};
use rackwright_simulator::machine::{Target, Timing};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

pub const NAMESPACE: &str = "ns";
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

/// Time and identifiers that only the simulation moves.
struct SimClock {
    millis: AtomicI64,
    ids: AtomicU64,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.millis.load(Ordering::Relaxed)).expect("within the years of the simulation")
    }

    fn fresh_id(&self) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        // Different from the first letters on, as random identifiers are: machines are named after those.
        format!("{:06x}-{number}", number.wrapping_mul(0x9E37_79B1) & 0xFF_FFFF)
    }
}

/// An agent that has opened its session: what it was told to do.
#[derive(Clone, Debug)]
struct Session {
    host: String,
    operation: String,
    kind: OperationKind,
    claim_uid: Option<String>,
    provider_id: Option<String>,
    kexec: bool,
    /// It has told its result, and is about to switch the machine off; or to go on waiting, when that was a preparation.
    told: bool,
}

/// Everything that the reconcilers meet.
pub struct World {
    pub api: ApiServer,
    pub fleet: DirectFleet,
    clock: Arc<SimClock>,
    pub(crate) ctx: Arc<Context>,
    feeds: Feeds,
    late: BTreeMap<String, VecDeque<Change>>,
    sessions: BTreeMap<(String, String), Session>,
    machines_made: u64,
    images_written: u64,
    steps: VecDeque<String>,
    /// Hosts whose disk holds part of an image for nobody yet, and nothing else.
    pub ahead: BTreeSet<String>,
    /// Wipes and images that no order stood behind.
    pub outrages: Vec<String>,
    calm: bool,
    /// Whether there are node pools beside the machines of people.
    pub with_pools: bool,
}

pub fn path(group: &str, plural: &str, name: &str) -> String {
    format!("/apis/{group}/namespaces/{NAMESPACE}/{plural}/{name}")
}

pub fn host_path(name: &str) -> String {
    path("rackwright.dev/v1alpha1", "hosts", name)
}

pub fn machine_path(name: &str) -> String {
    path("infrastructure.cluster.x-k8s.io/v1alpha1", "rackwrightmachines", name)
}

pub fn core_machine_path(name: &str) -> String {
    path("cluster.x-k8s.io/v1beta2", "machines", name)
}

/// Three racks of two machines: one kind can be booted every way, one has no virtual drive, one knows only that.
fn specs() -> Vec<Spec> {
    let kinds = [
        ("rack-a", vec![Target::Cd, Target::UefiHttp, Target::Pxe]),
        ("rack-b", vec![Target::UefiHttp]),
        ("rack-c", vec![Target::Cd]),
    ];
    let rack = |(number, (name, boots)): (u8, (&'static str, Vec<Target>))| {
        let hardware = Hardware { boots, ..Hardware::default() };
        [1, 2].map(|unit| Spec::new(1, name, number, unit, &hardware))
    };
    (1..).zip(kinds).flat_map(rack).collect()
}

impl World {
    pub fn new(seed: u64) -> World {
        let start = Timestamp::from_second(1_800_000_000).expect("a valid time");
        let clock = Arc::new(SimClock {
            millis: AtomicI64::new(start.as_millisecond()),
            ids: AtomicU64::new(seed * 1_000_000),
        });
        let fleet = DirectFleet::new(specs(), Timing::default(), start);
        let api = ApiServer::default();
        let (ctx, feeds) = process(&api, &fleet, &clock);
        let mut world = World {
            api,
            fleet,
            clock,
            ctx,
            feeds,
            late: BTreeMap::new(),
            sessions: BTreeMap::new(),
            machines_made: 0,
            images_written: 0,
            steps: VecDeque::new(),
            ahead: BTreeSet::new(),
            outrages: Vec::new(),
            calm: false,
            with_pools: false,
        };
        world.api.set_time(start.to_string());
        world.furnish();
        world.restart();
        world
    }

    fn furnish(&mut self) {
        let meta = |name: &str| json!({ "name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z" });
        let put = |group: &str, plural: &str, kind: &str, name: &str, spec: Value| {
            self.api.put(
                &path(group, plural, name),
                json!({ "apiVersion": group, "kind": kind, "metadata": meta(name), "spec": spec }),
            );
        };
        let ours = "rackwright.dev/v1alpha1";
        put(ours, "regions", "Region", "eu", json!({}));
        let datacenter = json!({ "region": "eu", "boot": { "url": "https://boot:8443" }, "hostDefaults": { "bmc": { "credentialsRef": { "name": "bmc" } } } });
        put(ours, "datacenters", "Datacenter", "dc", datacenter);
        let disk = json!({ "url": "http://images/debian", "digest": DIGEST });
        put(ours, "osimages", "OSImage", "debian", json!({ "disk": disk }));
        put(ours, "osimages", "OSImage", "debian-kexec", json!({ "disk": disk, "finalBoot": "Kexec" }));
        put("cluster.x-k8s.io/v1beta2", "clusters", "Cluster", "prod", json!({}));
        let cluster = path("cluster.x-k8s.io/v1beta2", "clusters", "prod");
        self.api.apply(
            &cluster,
            "core",
            true,
            json!({ "status": { "initialization": { "infrastructureProvisioned": true } } }),
        );
        let text = |text: &str| json!(k8s_openapi::ByteString(text.into()));
        let secret =
            json!({ "metadata": meta("bmc"), "data": { "username": text(USERNAME), "password": text(PASSWORD) } });
        self.api.put(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/bmc"), secret);
        for spec in self.fleet.specs() {
            put(ours, "racks", "Rack", &spec.rack, json!({ "datacenter": "dc" }));
            let address = self.fleet.access(&spec.name).expect("it is there").address;
            put(
                ours,
                "hosts",
                "Host",
                &spec.name,
                json!({
                    "rack": spec.rack, "unit": spec.unit, "bmc": { "address": address }, "bootMACAddress": spec.facts.nics[0].mac,
                }),
            );
        }
    }

    /// The process dies and another begins: caches are filled anew, everything else it knew is forgotten.
    fn restart(&mut self) {
        let (ctx, feeds) = process(&self.api, &self.fleet, &self.clock);
        self.ctx = ctx;
        self.feeds = feeds;
        self.late.clear();
        self.api.take_changes();
        let Feeds {
            regions,
            datacenters,
            racks,
            hosts,
            hardware,
            images,
            rackwright_machines,
            rackwright_clusters,
            configs,
            clusters,
            machines,
            pools,
            revisions,
        } = &mut self.feeds;
        macro_rules! fill {
            ($($feed:ident $plural:literal),*) => { $(
                $feed.take(&Event::Init);
                for object in self.api.list($plural) {
                    $feed.take(&Event::InitApply(serde_json::from_value(object).expect("of that kind")));
                }
                $feed.take(&Event::InitDone);
            )* };
        }
        fill!(regions "regions", datacenters "datacenters", racks "racks", hosts "hosts", hardware "hosthardwares", images "osimages",
              rackwright_machines "rackwrightmachines", rackwright_clusters "rackwrightclusters", configs "rackwrightconfigs",
              clusters "clusters", machines "machines", pools "nodepools", revisions "controllerrevisions");
    }

    fn collect_changes(&mut self) {
        for change in self.api.take_changes() {
            self.late.entry(change.plural.clone()).or_default().push_back(change);
        }
    }

    /// Hands one waiting change of that kind to its cache.
    fn deliver(&mut self, plural: &str) {
        let Some(change) = self.late.get_mut(plural).and_then(VecDeque::pop_front) else { return };
        macro_rules! take {
            ($feed:ident, $kind:ty) => {{
                let object: $kind = serde_json::from_value(change.object).expect("of that kind");
                self.feeds.$feed.take(&if change.deleted { Event::Delete(object) } else { Event::Apply(object) });
            }};
        }
        match plural {
            "hosts" => take!(hosts, Host),
            "hosthardwares" => take!(hardware, HostHardware),
            "rackwrightmachines" => take!(rackwright_machines, RackwrightMachine),
            "machines" => take!(machines, contract::Machine),
            "clusters" => take!(clusters, contract::Cluster),
            "racks" => take!(racks, Rack),
            "datacenters" => take!(datacenters, Datacenter),
            "regions" => take!(regions, Region),
            "osimages" => take!(images, OSImage),
            "nodepools" => take!(pools, NodePool),
            "controllerrevisions" => take!(revisions, ControllerRevision),
            _ => {}
        }
    }

    pub(crate) fn deliver_all(&mut self) {
        self.collect_changes();
        let kinds: Vec<_> = self.late.keys().cloned().collect();
        for plural in kinds {
            while self.late.get(&plural).is_some_and(|waiting| !waiting.is_empty()) {
                self.deliver(&plural);
            }
        }
    }

    /// One thing happens. Tells what.
    pub async fn step(&mut self, chance: &mut SmallRng) -> String {
        let what = match chance.random_range(0..100) {
            0..=7 if self.with_pools => self.pass_over_pool(chance).await,
            8..=15 if self.with_pools => self.core_acts(chance),
            16..=17 if self.with_pools => self.person_changes_pool(chance),
            0..=34 => self.pass_over_host(chance).await,
            35..=59 => self.pass_over_machine(chance).await,
            60..=74 => self.late_event(chance),
            75..=83 => self.time_passes(chance),
            84..=91 => self.agent_acts(chance),
            92..=94 => self.fault_changes(chance),
            95..=97 => self.person_acts(chance),
            _ => {
                self.restart();
                "the process restarts".into()
            }
        };
        self.collect_changes();
        self.note(&what);
        what
    }

    pub(crate) fn note(&mut self, what: &str) {
        self.steps.push_back(what.to_string());
        if self.steps.len() > 60 {
            self.steps.pop_front();
        }
    }

    pub fn last_steps(&self) -> String {
        self.steps.iter().map(|step| format!("  {step}\n")).collect()
    }

    pub(crate) fn fate(&self, chance: &mut SmallRng) -> Fate {
        match chance.random_range(0..40) {
            0 => Fate::DiesBefore,
            1 => Fate::DiesAfter,
            2 => Fate::Refused,
            _ => Fate::Answered,
        }
    }

    async fn pass_over_host(&mut self, chance: &mut SmallRng) -> String {
        let hosts = self.ctx.caches.hosts.store.state();
        let mut names: Vec<_> = hosts.iter().filter_map(|host| host.metadata.name.clone()).collect();
        names.sort();
        let Some(name) = names.choose(chance).cloned() else { return "no host".into() };
        let fate = self.fate(chance);
        self.host_pass(&name, fate).await
    }

    async fn host_pass(&mut self, name: &str, fate: Fate) -> String {
        let key = kube::runtime::reflector::ObjectRef::<Host>::new(name).within(NAMESPACE);
        let Some(host) = self.ctx.caches.hosts.store.get(&key) else { return "no host".into() };
        self.api.next_write(fate);
        let running = self.running();
        let pass = host::reconcile(host, self.ctx.clone());
        let ended = tokio::time::timeout(Duration::from_secs(3600), pass).await;
        self.look_for_power_cuts(&running, name);
        self.after(
            &format!("pass over host {name}"),
            fate,
            ended.map(|result| result.map(|_| ()).map_err(|why| why.to_string())),
        )
    }

    async fn pass_over_machine(&mut self, chance: &mut SmallRng) -> String {
        let machines = self.ctx.caches.rackwright_machines.store.state();
        let mut names: Vec<_> = machines.iter().filter_map(|machine| machine.metadata.name.clone()).collect();
        names.sort();
        let Some(name) = names.choose(chance).cloned() else { return "no machine".into() };
        let fate = self.fate(chance);
        self.machine_pass(&name, fate).await
    }

    async fn machine_pass(&mut self, name: &str, fate: Fate) -> String {
        let key = kube::runtime::reflector::ObjectRef::<RackwrightMachine>::new(name).within(NAMESPACE);
        let Some(machine) = self.ctx.caches.rackwright_machines.store.get(&key) else { return "no machine".into() };
        self.api.next_write(fate);
        let pass = infra::machine::reconcile(machine, self.ctx.clone());
        let ended = tokio::time::timeout(Duration::from_secs(3600), pass).await;
        self.after(
            &format!("pass over machine {name}"),
            fate,
            ended.map(|result| result.map(|_| ()).map_err(|why| why.to_string())),
        )
    }

    pub(crate) fn after<E>(&mut self, what: &str, fate: Fate, ended: Result<Result<(), String>, E>) -> String {
        self.api.next_write(Fate::Answered);
        match ended {
            Ok(Ok(())) => format!("{what} ({fate:?})"),
            Ok(Err(why)) => format!("{what} ({fate:?}): {why}"),
            Err(_) => {
                self.restart();
                format!("{what} ({fate:?}): the process died in it")
            }
        }
    }

    /// Machines that run what their claim wants.
    fn running(&self) -> Vec<(String, String)> {
        let runs = |host: &Value| {
            let name = host["metadata"]["name"].as_str()?;
            let claim = host["spec"]["claim"]["consumer"]["uid"].as_str()?;
            let wanted = host["spec"]["deployed"]["claimUID"].as_str() == Some(claim);
            let runs = self.fleet.snapshot(name)?.is_running();
            (wanted && runs).then(|| (name.to_string(), claim.to_string()))
        };
        self.api.list("hosts").iter().filter_map(runs).collect()
    }

    fn look_for_power_cuts(&mut self, running: &[(String, String)], name: &str) {
        for (host, claim) in running.iter().filter(|(host, _)| host == name) {
            let still_wanted = self
                .api
                .get(&host_path(host))
                .is_some_and(|now| now["spec"]["claim"]["consumer"]["uid"] == json!(claim));
            let on = self.fleet.snapshot(host).is_some_and(|seen| seen.is_running());
            if still_wanted && !on {
                self.outrages.push(format!("{host} was switched off although machine {claim} runs on it"));
            }
        }
    }

    fn late_event(&mut self, chance: &mut SmallRng) -> String {
        self.collect_changes();
        let waiting: Vec<_> =
            self.late.iter().filter(|(_, waiting)| !waiting.is_empty()).map(|(kind, _)| kind.clone()).collect();
        let Some(plural) = waiting.choose(chance) else { return "no event".into() };
        for _ in 0..chance.random_range(1..6) {
            self.deliver(plural);
        }
        format!("events of {plural}")
    }

    pub(crate) fn pass_time(&mut self, millis: i64) {
        self.clock.millis.fetch_add(millis, Ordering::Relaxed);
        self.fleet.tick(self.clock.now());
        self.api.set_time(self.clock.now().to_string());
    }

    fn time_passes(&mut self, chance: &mut SmallRng) -> String {
        let millis = if chance.random_range(0..12) == 0 {
            chance.random_range(60_000..2_400_000)
        } else {
            chance.random_range(100..15_000)
        };
        self.pass_time(millis);
        format!("{} s pass", millis / 1000)
    }

    /// The boot service and the agents: a machine in its ramdisk opens a session, and later works, reports, goes off.
    fn agent_acts(&mut self, chance: &mut SmallRng) -> String {
        let calls = self.fleet.calls();
        let Some(call) = calls.choose(chance) else { return "no agent".into() };
        let key = (call.machine.clone(), call.media_url.clone());
        let session = self.sessions.get(&key).cloned();
        match session {
            None => self.open_session(call),
            Some(session) if session.told && session.kind != OperationKind::Prepare => self.work(call, &session),
            Some(session) => match chance.random_range(0..20) {
                0 => {
                    let _ = self.fleet.panic(call);
                    format!("agent on {} panics", call.machine)
                }
                1 if session.told => {
                    let _ = self.fleet.failed(call);
                    format!("agent that waits on {} switches off", call.machine)
                }
                1 => {
                    self.report_failure(
                        &session,
                        ["ImageDigestMismatch", "WipeFailed", "NetworkDown"][chance.random_range(0..3)],
                    );
                    let _ = self.fleet.failed(call);
                    format!("agent on {} fails", call.machine)
                }
                2 if session.kind == OperationKind::Deploy => {
                    self.ahead.remove(&session.host);
                    let _ = self.fleet.write_part(call);
                    format!("agent on {} writes half an image", call.machine)
                }
                _ => self.work(call, &session),
            },
        }
    }

    /// As the boot service decides it: the operation is the host's current one, and nobody opened a session for it.
    fn open_session(&mut self, call: &AgentCall) -> String {
        let mut parts = call.media_url.rsplit('/');
        let (_, operation, name) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let refused = |why: &str| format!("agent on {} is refused: {why}", call.machine);
        let Some(host) = self.typed_host(name) else { return refused("no host") };
        if name != call.machine {
            return refused("the media of another machine");
        }
        let status = host.status.clone().unwrap_or_default();
        let Some(current) =
            status.operation.filter(|current| current.id == operation && self.clock.now() < current.deadline)
        else {
            return refused("its operation is over");
        };
        if status.agent.is_some_and(|agent| agent.operation_id == operation) {
            return refused("its token was used");
        }
        let claim = host.spec.claim.as_ref();
        let stands = match current.kind {
            OperationKind::Deploy => claim.map(|claim| claim.consumer.uid.clone()) == current.claim_uid,
            OperationKind::Wipe => {
                claim.is_none() && host.spec.wipe.as_ref().map(|order| order.claim_uid.clone()) == current.claim_uid
            }
            OperationKind::Prepare => host.spec.warm.map(|order| order.id) == current.claim_uid,
            OperationKind::Inspect => true,
            OperationKind::PowerOn => false,
        };
        if !stands {
            return refused("nobody wants that any more");
        }
        let told = current.system_uuid.clone();
        let session = Session {
            host: name.into(),
            operation: operation.into(),
            kind: current.kind,
            claim_uid: current.claim_uid,
            provider_id: claim.map(|claim| claim.provider_id.clone()),
            kexec: claim.is_some_and(|claim| claim.image.final_boot == FinalBoot::Kexec),
            told: false,
        };
        let runs_on = self.fleet.specs().into_iter().find(|spec| spec.name == call.machine);
        if told.is_some_and(|told| runs_on.is_none_or(|spec| spec.uuid() != told)) {
            self.apply_agent(&session, Some("WrongMachine"));
            let _ = self.fleet.failed(call);
            return refused("it runs on another machine than the BMC told of");
        }
        self.apply_agent(&session, None);
        self.sessions.insert((call.machine.clone(), call.media_url.clone()), session);
        format!("agent on {name} opens a session for {:?}", current.kind)
    }

    /// What an agent that has prepared a host does next: nothing yet, a deployment in the place of its own operation, or
    /// it sees that nobody waits for it.
    fn next(&mut self, call: &AgentCall, session: &Session) -> String {
        let name = session.host.clone();
        let status = self.typed_host(&name).and_then(|host| host.status).unwrap_or_default();
        let is_its_own = status.agent.is_some_and(|agent| agent.operation_id == session.operation);
        let (Some(current), true) =
            (status.operation.filter(|current| self.clock.now() < current.deadline), is_its_own)
        else {
            let _ = self.fleet.power_off(call);
            return format!("nobody waits for the agent on {name}");
        };
        if current.id == session.operation {
            return format!("agent on {name} waits");
        }
        let claim = self.typed_host(&name).and_then(|host| host.spec.claim);
        let stands = claim.as_ref().map(|claim| claim.consumer.uid.clone()) == current.claim_uid;
        if current.takes_over.as_ref() != Some(&session.operation) || !stands {
            let _ = self.fleet.power_off(call);
            return format!("nobody waits for the agent on {name} any more");
        }
        let next = Session {
            operation: current.id.clone(),
            kind: current.kind,
            claim_uid: current.claim_uid,
            provider_id: claim.as_ref().map(|claim| claim.provider_id.clone()),
            kexec: claim.is_some_and(|claim| claim.image.final_boot == FinalBoot::Kexec),
            told: false,
            ..session.clone()
        };
        self.apply_agent(&next, None);
        self.sessions.insert((call.machine.clone(), call.media_url.clone()), next);
        format!("agent on {name} takes {} over", current.id)
    }

    fn apply_agent(&self, session: &Session, failure: Option<&str>) {
        let mut agent = json!({ "operationID": session.operation, "sessionDigest": "digest", "since": self.clock.now(), "heardAt": self.clock.now() });
        if session.told && session.kind == OperationKind::Prepare {
            agent["preparedAt"] = json!(self.clock.now());
        }
        if let Some(reason) = failure {
            agent["failure"] = json!({ "reason": reason, "message": "said the agent" });
        }
        self.api.apply(&host_path(&session.host), "rackwright-boot", true, json!({ "status": { "agent": agent } }));
    }

    fn is_current(&self, session: &Session) -> bool {
        let status = self.typed_host(&session.host).and_then(|host| host.status).unwrap_or_default();
        status.operation.is_some_and(|operation| operation.id == session.operation)
    }

    fn report_failure(&self, session: &Session, reason: &str) {
        if self.is_current(session) {
            self.apply_agent(session, Some(reason));
        }
    }

    /// The agent does what it was told, whatever became of the order since; its report is taken only while it stands.
    fn work(&mut self, call: &AgentCall, session: &Session) -> String {
        let name = session.host.clone();
        let Some(host) = self.typed_host(&name) else { return "host gone".into() };
        let current = self.is_current(session);
        let at = self.clock.now();
        let spec = |wiped: Option<Value>, deployed: Option<Value>| {
            let wiped = wiped.or(host.spec.wiped.as_ref().map(|wiped| json!(wiped)));
            let deployed = deployed.or(host.spec.deployed.as_ref().map(|deployed| json!(deployed)));
            let mut spec = json!({});
            if let Some(wiped) = wiped {
                spec["wiped"] = wiped;
            }
            if let Some(deployed) = deployed {
                spec["deployed"] = deployed;
            }
            json!({ "spec": spec })
        };
        match session.kind {
            OperationKind::Inspect => {
                if current {
                    let facts =
                        self.fleet.specs().into_iter().find(|spec| spec.name == name).expect("it is there").facts;
                    let owner = json!([{ "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "name": name, "uid": format!("uid-{name}") }]);
                    self.api.put(&path("rackwright.dev/v1alpha1", "hosthardwares", &name), json!({
                        "apiVersion": "rackwright.dev/v1alpha1", "kind": "HostHardware",
                        "metadata": { "name": name, "namespace": NAMESPACE, "uid": format!("uid-hw-{name}"), "ownerReferences": owner },
                        "spec": { "operationID": session.operation, "inspectedAt": at, "facts": facts },
                    }));
                }
                let _ = self.fleet.inspected(call);
            }
            OperationKind::Prepare if session.told => return self.next(call, session),
            OperationKind::Prepare => {
                let ordered = host.spec.warm.as_ref().map(|order| order.id.clone()) == session.claim_uid;
                self.ahead.insert(name.clone());
                if self.fleet.write_part(call).is_err() || !(current && ordered) {
                    let _ = self.fleet.power_off(call);
                    return format!("agent on {name} prepares it for nobody");
                }
                let key = (call.machine.clone(), call.media_url.clone());
                let told = Session { told: true, ..session.clone() };
                self.apply_agent(&told, None);
                self.sessions.insert(key, told);
            }
            OperationKind::Deploy => {
                self.ahead.remove(&name);
                let drive = ConfigDrive {
                    kind: Default::default(),
                    user_data: "user-data".into(),
                    meta_data: session.provider_id.clone().unwrap_or_default(),
                };
                if session.told {
                    let _ = self.fleet.power_off(call);
                    return format!("agent on {name} switches off");
                }
                if self.fleet.write(call, &session.operation, DIGEST, drive).is_err() {
                    return format!("agent on {name} is cut off");
                }
                self.images_written += 1;
                let claimed = host.spec.claim.as_ref().map(|claim| claim.consumer.uid.clone()) == session.claim_uid;
                // Some are slow: the result is known before the machine is off.
                let slow = current && claimed && !session.kexec && self.images_written.is_multiple_of(3);
                if !session.kexec && !slow {
                    let _ = self.fleet.power_off(call);
                }
                if current && claimed {
                    let deployed = json!({
                        "claimUID": session.claim_uid, "operationID": session.operation, "digest": DIGEST, "device": "/dev/sda",
                        "finalBoot": if session.kexec { "Kexec" } else { "PowerCycle" }, "at": at,
                    });
                    self.api.apply(&host_path(&name), "rackwright-boot", false, spec(None, Some(deployed)));
                }
                // A kexec that fails ends as a power cycle; without its report taken the agent does not try.
                if session.kexec && !(current && claimed && !self.images_written.is_multiple_of(4)) {
                    let _ = self.fleet.power_off(call);
                } else if session.kexec {
                    let _ = self.fleet.kexec(call);
                }
                if slow && let Some(session) = self.sessions.get_mut(&(call.machine.clone(), call.media_url.clone())) {
                    session.told = true;
                }
            }
            OperationKind::Wipe => {
                self.ahead.remove(&name);
                if host.spec.claim.is_some() {
                    self.outrages.push(format!("{name} is wiped although it is claimed"));
                }
                if self.fleet.wiped(call, &session.operation).is_err() {
                    return format!("agent on {name} is cut off");
                }
                if current {
                    let wiped = json!({ "claimUID": session.claim_uid, "operationID": session.operation, "disks": [], "at": at });
                    self.api.apply(&host_path(&name), "rackwright-boot", false, spec(Some(wiped), None));
                }
            }
            OperationKind::PowerOn => {}
        }
        format!("agent on {name} is done with {:?}", session.kind)
    }

    fn fault_changes(&mut self, chance: &mut SmallRng) -> String {
        let names: Vec<_> = self.fleet.specs().into_iter().map(|spec| spec.name).collect();
        let Some(name) = names.choose(chance) else { return "no machine".into() };
        if chance.random_range(0..2) == 0 {
            self.heal(name);
            return format!("{name} is healed");
        }
        let faults = [
            Fault::PowerSupplyDead { refuses: chance.random() },
            Fault::HangsInPost,
            Fault::Unreachable { how: Silence::Silent },
            Fault::LiesAboutPower,
            Fault::UnknownPower,
            Fault::WrongPassword,
            Fault::DropsBootOverride,
            Fault::Unavailable { requests: Some(chance.random_range(1..5)) },
            Fault::MediaUnreadable,
            Fault::EjectsEarly { once_read: chance.random() },
            Fault::HoldsMediaWhileOn,
            Fault::IgnoresBootOverride,
            Fault::WrongUuid,
        ];
        let fault = *faults.choose(chance).expect("not empty");
        self.fleet.fault(name, fault);
        format!("{name}: {fault:?}")
    }

    fn heal(&self, name: &str) {
        for fault in [
            Fault::PowerSupplyDead { refuses: true },
            Fault::HangsInPost,
            Fault::Unreachable { how: Silence::Silent },
            Fault::LiesAboutPower,
            Fault::UnknownPower,
            Fault::WrongPassword,
            Fault::DropsBootOverride,
            Fault::Unavailable { requests: None },
            Fault::MediaUnreadable,
            Fault::EjectsEarly { once_read: false },
            Fault::HoldsMediaWhileOn,
            Fault::IgnoresBootOverride,
            Fault::WrongUuid,
        ] {
            self.fleet.heal(name, fault);
        }
    }

    fn person_acts(&mut self, chance: &mut SmallRng) -> String {
        let machines = self.api.list("rackwrightmachines");
        match chance.random_range(0..10) {
            // As many as there are hosts for in the end.
            0..=4 if machines.len() < if self.with_pools { 3 } else { 5 } => {
                self.machines_made += 1;
                let name = format!("web-{}", self.machines_made);
                let image = if self.machines_made.is_multiple_of(2) { "debian-kexec" } else { "debian" };
                self.make_machine(&name, image);
                format!("machine {name} is made")
            }
            5..=7 => {
                let own: Vec<_> = machines.iter().filter(|machine| !pools::is_of_pool(machine)).collect();
                let Some(machine) = own.choose(chance) else { return "no machine to delete".into() };
                let name = machine["metadata"]["name"].as_str().unwrap_or_default().to_string();
                self.api.delete(&machine_path(&name));
                format!("machine {name} is deleted")
            }
            8 => {
                let hosts = self.api.list("hosts");
                let broken: Vec<_> = hosts.iter().filter(|host| !host["spec"]["broken"].is_null()).collect();
                let Some(host) = broken.choose(chance) else { return "nothing to mend".into() };
                let name = host["metadata"]["name"].as_str().unwrap_or_default().to_string();
                self.mend(&name);
                format!("{name} is mended")
            }
            _ => {
                let names: Vec<_> = self.fleet.specs().into_iter().map(|spec| spec.name).collect();
                let Some(name) = names.choose(chance) else { return "no host".into() };
                let mut host = self.api.get(&host_path(name)).expect("hosts stay");
                let spec = host["spec"].as_object_mut().expect("it has one");
                if spec.remove("maintenance").is_none() {
                    spec.insert("maintenance".into(), json!({ "reason": "a look inside" }));
                }
                self.api.put(&host_path(name), host);
                format!("maintenance of {name} is turned")
            }
        }
    }

    fn mend(&self, name: &str) {
        self.heal(name);
        let mut host = self.api.get(&host_path(name)).expect("hosts stay");
        host["metadata"]["annotations"]["rackwright.dev/repaired"] = json!("seen to");
        self.api.put(&host_path(name), host);
    }

    pub fn make_machine(&self, name: &str, image: &str) {
        let meta = |uid: String| json!({ "name": name, "namespace": NAMESPACE, "uid": uid, "labels": { "cluster.x-k8s.io/cluster-name": "prod" }, "creationTimestamp": self.clock.now().to_string() });
        let core = json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "metadata": meta(format!("uid-core-{name}")),
            "spec": { "clusterName": "prod", "bootstrap": { "dataSecretName": name }, "infrastructureRef": { "kind": "RackwrightMachine", "name": name } },
        });
        self.api.put(&core_machine_path(name), core);
        let mut metadata = meta(format!("uid-{name}"));
        metadata["ownerReferences"] = json!([{ "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": name, "uid": format!("uid-core-{name}") }]);
        let ours = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1", "kind": "RackwrightMachine", "metadata": metadata,
            "spec": { "image": { "name": image } },
        });
        self.api.put(&machine_path(name), ours);
    }

    pub fn typed_host(&self, name: &str) -> Option<Host> {
        serde_json::from_value(self.api.get(&host_path(name))?).ok()
    }

    /// Every host, typed.
    pub fn hosts(&self) -> Vec<Host> {
        self.api.list("hosts").into_iter().map(|host| serde_json::from_value(host).expect("a host")).collect()
    }

    /// Every machine, typed.
    pub fn machines(&self) -> Vec<RackwrightMachine> {
        self.api
            .list("rackwrightmachines")
            .into_iter()
            .map(|machine| serde_json::from_value(machine).expect("a machine"))
            .collect()
    }

    /// From now on nothing breaks, and what is broken is mended.
    pub fn calm(&mut self) {
        self.calm = true;
        self.note("-- calm --");
        for spec in self.fleet.specs() {
            self.heal(&spec.name);
            let mut host = self.api.get(&host_path(&spec.name)).expect("hosts stay");
            if let Some(host) = host["spec"].as_object_mut() {
                host.remove("maintenance");
            }
            self.api.put(&host_path(&spec.name), host);
        }
    }

    /// Everybody gets a turn.
    pub async fn fair_round(&mut self) {
        self.reconcilers_turn().await;
        for call in self.fleet.calls() {
            let session = self.sessions.get(&(call.machine.clone(), call.media_url.clone())).cloned();
            let what = match session {
                None => self.open_session(&call),
                Some(session) => self.work(&call, &session),
            };
            self.note(&what);
        }
        self.deliver_all();
    }

    /// Agents that work do not come to an end, and tell how far they are, percent. Then the reconcilers have their turn.
    pub async fn round_of_progress(&mut self, percent: u8) {
        for call in self.fleet.calls() {
            match self.sessions.get(&(call.machine.clone(), call.media_url.clone())) {
                None => drop(self.open_session(&call)),
                Some(session) => {
                    let path = host_path(&session.host);
                    let mut agent = self.api.get(&path).unwrap_or_default()["status"]["agent"].clone();
                    (agent["step"], agent["percent"]) = (json!("WritingImage"), json!(percent));
                    self.api.apply(&path, "rackwright-boot", true, json!({ "status": { "agent": agent } }));
                }
            }
        }
        self.reconcilers_turn().await;
    }

    /// Every host and every machine is looked at, and ten seconds go by.
    async fn reconcilers_turn(&mut self) {
        for spec in self.fleet.specs() {
            if self.typed_host(&spec.name).is_some_and(|host| host.spec.broken.is_some()) {
                self.mend(&spec.name);
            }
            self.deliver_all();
            let what = self.host_pass(&spec.name, Fate::Answered).await;
            self.note(&what);
        }
        for machine in self.machines() {
            self.deliver_all();
            let what = self.machine_pass(&machine.metadata.name.unwrap_or_default(), Fate::Answered).await;
            self.note(&what);
        }
        self.pools_turn().await;
        self.pass_time(10_000);
    }

    /// Nobody waits for anything that can be had.
    pub fn is_settled(&self) -> bool {
        self.unsettled().is_empty()
    }

    /// Who waits.
    pub fn unsettled(&self) -> String {
        let ready = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            rackwright_api::conditions::is_true(conditions, "Ready")
        };
        let mut text = self.unsettled_pools();
        for host in self.hosts() {
            let status = host.status.clone().unwrap_or_default();
            let cold = host.spec.warm.as_ref().is_some_and(|order| order.until.is_some() || status.warm().is_none());
            if !ready(&status.conditions) || host.spec.needs_wipe() || cold {
                text += &format!(
                    "host {:?}: {:?} {:?} {:?}\n",
                    host.metadata.name, status.phase, status.waiting_for, status.operation
                );
                text += &format!(
                    "   {:?}\n",
                    self.fleet
                        .snapshot(host.metadata.name.as_deref().unwrap_or_default())
                        .map(|seen| (seen.phase, seen.boot, seen.media))
                );
            }
        }
        for machine in self.machines() {
            let status = machine.status.clone().unwrap_or_default();
            if !ready(&status.conditions) || machine.metadata.deletion_timestamp.is_some() {
                text += &format!("machine {:?}: {:?}\n", machine.metadata.name, status.waiting_for);
            }
        }
        text
    }
}

fn process(api: &ApiServer, fleet: &DirectFleet, clock: &Arc<SimClock>) -> (Arc<Context>, Feeds) {
    let client = api.client();
    let (caches, feeds) = Caches::new();
    let limits = Limits { retry: SignedDuration::from_secs(60), ..Limits::default() };
    let boot_key = BootKey::new(vec![1; 32]).expect("long enough");
    let ctx = Context::new(client, caches, clock.clone(), limits, Arc::new(fleet.clone()), boot_key);
    (Arc::new(ctx), feeds)
}
