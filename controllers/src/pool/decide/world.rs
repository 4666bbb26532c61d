//! A world of hosts and machines that does what steps say, so that whole rollouts can be told as tests. Machines become
//! available after a while, or never when their revision is bad; deleted ones go, and their hosts are wiped.

use super::super::view::*;
use super::{Step, decide};
use jiff::{SignedDuration, Timestamp};
use rackwright_api::pool::{HostLife, NodePoolSpec};
use rackwright_placement::Refusal;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How long a machine takes to become available, and a deleted one to go; seconds.
const MAKING: i64 = 100;
const GOING: i64 = 30;

pub struct World {
    pub view: PoolView,
    pub now: Timestamp,
    pub steps: Vec<Step>,
    pub bad: BTreeSet<String>,
    lives: u32,
    going: Vec<(String, Timestamp)>,
}

pub fn spec(extra: Value) -> NodePoolSpec {
    let mut spec = json!({
        "clusterName": "prod", "version": "v1.36.3", "replicas": 3, "image": { "name": "debian" },
        "bootstrap": { "config": {} }, "spread": { "over": "Rack" },
    });
    let (Value::Object(into), Value::Object(from)) = (&mut spec, extra) else { panic!("objects") };
    into.extend(from);
    serde_json::from_value(spec).expect("a spec")
}

/// A life of `host` that nothing has been made for.
pub fn life(host: &str, id: String, at: Timestamp) -> LifeSeen {
    let machine = machine_name("web", host, &id);
    LifeSeen { id, at, machine, claimed: false, ended: false, unclaimable: None, infra_exists: false }
}

impl World {
    /// `racks` racks of `each` free hosts.
    pub fn new(spec: NodePoolSpec, racks: u8, each: u8) -> World {
        let host = |rack: u8, unit: u8| HostSeen {
            name: format!("{}{unit}", char::from(b'a' + rack)),
            domains: vec![char::from(b'a' + rack).to_string()],
            refusal: None,
            unfit: None,
            surplus: 0,
            life: None,
            warm: None,
        };
        let hosts = (0..racks).flat_map(|rack| (1..=each).map(move |unit| host(rack, unit))).collect();
        let view = PoolView {
            name: "web".into(),
            generation: Some(1),
            spec,
            status: Default::default(),
            deleting: false,
            held: false,
            paused: false,
            cluster_ready: Some(true),
            revision: "r1".into(),
            image_digest: Some(Some("sha256:1".into())),
            revisions: vec![],
            hosts,
            infra: Vec::new(),
            machines: vec![],
        };
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        World { view, now, steps: vec![], bad: BTreeSet::new(), lives: 0, going: vec![] }
    }

    /// Lets `seconds` pass; `watch` sees the world after every step.
    pub fn run(&mut self, seconds: i64, mut watch: impl FnMut(&World)) {
        let end = self.now + SignedDuration::from_secs(seconds);
        while self.now < end {
            for round in 0.. {
                assert!(round < 1000, "steps without end: {:?}", &self.steps[self.steps.len() - 4..]);
                let step = decide(&self.view, self.now);
                if matches!(step, Step::Rest | Step::Paused | Step::Wait(_) | Step::LetGo) {
                    break;
                }
                self.apply(&step);
                self.steps.push(step);
                watch(self);
            }
            self.now += SignedDuration::from_secs(5);
            self.pass_time();
        }
    }

    fn pass_time(&mut self) {
        let now = self.now;
        for machine in &mut self.view.machines {
            let ripe = now.duration_since(machine.created) >= SignedDuration::from_secs(MAKING);
            if ripe && machine.available.is_none() && !self.bad.contains(&machine.revision) {
                (machine.available, machine.ready, machine.has_node) = (Some(now), true, true);
            }
        }
        let gone: Vec<_> = (self.going.iter())
            .filter(|(_, since)| now.duration_since(*since) >= SignedDuration::from_secs(GOING))
            .map(|(name, _)| name.clone())
            .collect();
        self.going.retain(|(name, _)| !gone.contains(name));
        self.view.machines.retain(|machine| !gone.contains(&machine.name));
        for host in &mut self.view.hosts {
            if let Some(warm) = &mut host.warm {
                warm.ready = true;
            }
            let Some(life) = &mut host.life else { continue };
            if gone.contains(&life.machine) {
                (life.claimed, life.ended, life.infra_exists, life.unclaimable) = (false, true, false, None);
            }
        }
    }

    fn host(&mut self, name: &str) -> &mut HostSeen {
        self.view.hosts.iter_mut().find(|host| host.name == name).expect("a host of the world")
    }

    fn machine(&mut self, name: &str) -> &mut MachineSeen {
        self.view.machines.iter_mut().find(|machine| machine.name == name).expect("a machine of the world")
    }

    fn begin_life(&mut self, host: &str) {
        self.lives += 1;
        let (id, at) = (format!("{:06}", self.lives), self.now);
        let host = self.host(host);
        host.refusal = Some(Refusal::Reserved);
        host.life = Some(life(&host.name, id, at));
    }

    fn apply(&mut self, step: &Step) {
        let (now, revision) = (self.now, self.view.revision.clone());
        match step {
            Step::Rest | Step::Paused | Step::Wait(_) | Step::LetGo => {}
            Step::Hold => self.view.held = true,
            Step::RecordRevision => {
                let number = self.view.revisions.len() as i64 + 1;
                self.view.revisions.push(RevisionSeen { name: revision, number, failed: None });
            }
            Step::ForgetRevision { revision } => self.view.revisions.retain(|found| found.name != *revision),
            Step::FailRevision { revision, why } => {
                let found = self.view.revisions.iter_mut().find(|found| found.name == *revision);
                found.expect("is recorded").failed = Some(why.clone());
            }
            Step::Reserve { host } => {
                assert!(self.host(host).life.is_none(), "{host} is held already");
                self.begin_life(host);
            }
            Step::Renew { host } => self.begin_life(host),
            Step::Release { life, .. } => self.view.spec.release.push(life.clone()),
            Step::Prune(left) => self.view.spec.release = left.clone(),
            Step::Make { life, revision } => self.make(life, revision, now),
            Step::DeleteStray { machine } | Step::Delete { machine, .. } => {
                self.going.push((machine.clone(), now));
                self.machine(machine).deleting = true;
            }
            Step::DeleteInfra { .. } => unreachable!("machines are made whole here"),
            Step::Free { host } => {
                let host = self.host(host);
                assert!(host.life.as_ref().is_some_and(|life| !life.claimed), "{} is in use", host.name);
                (host.life, host.refusal) = (None, None);
            }
            Step::MarkRemediating { machine, reason } => self.machine(machine).remediation = Some((*reason).into()),
            Step::MarkUpToDate { machine, up_to_date } => self.machine(machine).up_to_date = Some(*up_to_date),
            Step::Warm { host, until } => {
                let digest = self.view.image_digest.clone().expect("there is an image");
                self.host(host).warm = Some(WarmSeen { mine: true, digest, until: *until, ready: false });
            }
            Step::Cool { host } => self.host(host).warm = None,
            Step::Propagate { machine } => self.machine(machine).propagated = true,
        }
    }

    fn make(&mut self, life: &HostLife, revision: &str, now: Timestamp) {
        let held = self.host(&life.host).life.as_mut().expect("is held");
        (held.claimed, held.infra_exists, held.unclaimable) = (true, true, Some(Refusal::Claimed));
        self.host(&life.host).warm = None;
        let name = machine_name("web", &life.host, &life.id);
        let place = self.view.machines.partition_point(|machine| machine.name < name);
        let machine = MachineSeen {
            name,
            created: now,
            revision: revision.into(),
            deleting: false,
            has_node: false,
            ready: false,
            available: None,
            unhealthy: false,
            remediation: None,
            marked: false,
            up_to_date: None,
            propagated: true,
        };
        self.view.machines.insert(place, machine);
    }

    /// Number of machines per rack.
    pub fn per_rack(&self) -> Vec<usize> {
        let racks: BTreeSet<_> = self.view.hosts.iter().flat_map(|host| &host.domains).collect();
        let held = |rack: &String| self.view.lives().filter(|(host, _)| host.domains.contains(rack)).count();
        racks.into_iter().map(held).collect()
    }

    /// Racks in which a machine is missing or not available.
    pub fn disturbed(&self) -> BTreeSet<String> {
        let hurt = |(_, life): &(&HostSeen, &LifeSeen)| {
            !self.view.machine_of(life).is_some_and(|machine| machine.available.is_some() && !machine.deleting)
        };
        self.view.lives().filter(hurt).flat_map(|(host, _)| host.domains.clone()).collect()
    }

    /// How many replicas are not available.
    pub fn missing(&self) -> usize {
        let there =
            self.view.machines.iter().filter(|machine| machine.available.is_some() && !machine.deleting).count();
        usize::try_from(self.view.spec.replicas).expect("not negative").saturating_sub(there)
    }

    /// How many machines were deleted.
    pub fn deleted(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Delete { .. })).count()
    }

    /// Revisions of the machines that are there.
    pub fn revisions(&self) -> BTreeSet<&str> {
        self.view.machines.iter().map(|machine| machine.revision.as_str()).collect()
    }
}
