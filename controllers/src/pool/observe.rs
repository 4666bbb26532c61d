//! Reads everything that a decision about one pool may rest on. Writes nothing.

use super::revision::{self, Blueprint};
use super::view::{HostSeen, LifeSeen, MachineSeen, PoolView, RevisionSeen, WarmSeen, machine_name};
use crate::context::Context;
use crate::kubeio::{Error, cached, fresh};
use kube::ResourceExt;
use rackwright_api::common::selects;
use rackwright_api::conditions::find;
use rackwright_api::contract::{self, Machine};
use rackwright_api::hardware::Facts;
use rackwright_api::image::Architecture;
use rackwright_api::machine::ProviderId;
use rackwright_api::pool::Domain;
use rackwright_api::{
    Datacenter, Host, HostHardware, NodePool, OSImage, POOL_FINALIZER, POOL_LABEL, REVISION_LABEL, Rack,
    RackwrightMachine,
};
use rackwright_placement::{Refusal, plenty, unclaimable, unequipped};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What this pass knows of `pool`.
pub async fn observe(pool: &NodePool, ctx: &Context) -> Result<PoolView, Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let name = pool.name_any();
    let cluster = cached(&ctx.caches.clusters.store, &namespace, &pool.spec.cluster_name);
    let inventory = inventory(pool, &namespace, ctx).await?;
    let mine = ctx.caches.machines.store.state_filter(|machine| {
        machine.namespace().as_deref() == Some(&namespace) && machine.labels().get(POOL_LABEL) == Some(&name)
    });
    let mut machines = Vec::new();
    for machine in mine {
        if let Some(machine) = fresh(&ctx.client, &ctx.own_writes, &machine).await? {
            machines.push(seen(pool, &machine));
        }
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    let revisions = ctx.caches.revisions.store.state_filter(|revision| {
        revision.namespace().as_deref() == Some(&namespace) && revision.labels().get(POOL_LABEL) == Some(&name)
    });
    Ok(PoolView {
        generation: pool.metadata.generation,
        spec: pool.spec.clone(),
        status: pool.status.clone().unwrap_or_default(),
        deleting: pool.metadata.deletion_timestamp.is_some(),
        held: pool.finalizers().iter().any(|finalizer| finalizer == POOL_FINALIZER),
        paused: contract::is_paused(&pool.metadata, cluster.as_deref()),
        cluster_ready: cluster.as_deref().map(contract::Cluster::infrastructure_provisioned),
        revision: Blueprint::of(&pool.spec).name(&name),
        image_digest: inventory.image.as_ref().map(|image| image.spec.disk.as_ref().map(|disk| disk.digest.clone())),
        revisions: revisions
            .iter()
            .map(|found| RevisionSeen {
                name: found.name_any(),
                number: found.revision,
                failed: revision::failed(found),
            })
            .collect(),
        hosts: hosts(pool, &inventory),
        infra: without_machine(&name, &inventory, &machines),
        machines,
        name,
    })
}

async fn inventory(pool: &NodePool, namespace: &str, ctx: &Context) -> Result<Inventory, Error> {
    let here = |other: Option<String>| other.as_deref() == Some(namespace);
    let mut hosts = Vec::new();
    for host in ctx.caches.hosts.store.state_filter(|host| here(host.namespace())) {
        // What this process wrote a moment ago must be seen, or a second host would be reserved for the same replica.
        hosts.extend(fresh(&ctx.client, &ctx.own_writes, &host).await?);
    }
    Ok(Inventory {
        hosts,
        hardware: ctx.caches.hardware.store.state_filter(|hardware| here(hardware.namespace())),
        racks: ctx.caches.racks.store.state_filter(|rack| here(rack.namespace())),
        datacenters: ctx.caches.datacenters.store.state_filter(|datacenter| here(datacenter.namespace())),
        machines: ctx.caches.rackwright_machines.store.state_filter(|machine| here(machine.namespace())),
        image: cached(&ctx.caches.images.store, namespace, &pool.spec.image.name),
    })
}

/// Names of the RackwrightMachines of `pool` that have no Machine and are not going.
fn without_machine(pool: &str, inventory: &Inventory, machines: &[MachineSeen]) -> Vec<String> {
    let mine = inventory.machines.iter().filter(|infra| {
        infra.labels().get(POOL_LABEL).is_some_and(|name| name == pool) && infra.metadata.deletion_timestamp.is_none()
    });
    let alone = |name: &String| machines.binary_search_by(|machine| machine.name.cmp(name)).is_err();
    mine.map(|infra| infra.name_any()).filter(alone).collect()
}

/// What of a pool's namespace decides which hosts it can take.
#[derive(Default)]
pub struct Inventory {
    /// Hosts.
    pub hosts: Vec<Arc<Host>>,
    /// What was found in them.
    pub hardware: Vec<Arc<HostHardware>>,
    /// Racks.
    pub racks: Vec<Arc<Rack>>,
    /// Datacenters.
    pub datacenters: Vec<Arc<Datacenter>>,
    /// Machines of every owner.
    pub machines: Vec<Arc<RackwrightMachine>>,
    /// The pool's image.
    pub image: Option<Arc<OSImage>>,
}

/// Every host of `inventory` as `pool` sees it, by name.
pub fn hosts(pool: &NodePool, inventory: &Inventory) -> Vec<HostSeen> {
    Surroundings::of(inventory).hosts(pool, inventory.image.as_deref(), &inventory.hosts)
}

/// What is the same for every host, whatever pool looks at it.
pub struct Surroundings<'a> {
    racks: HashMap<String, &'a Rack>,
    regions: HashMap<String, &'a str>,
    hardware: HashMap<String, &'a Facts>,
    /// Hosts that machines of no pool have chosen and may not have claimed yet.
    chosen: HashSet<String>,
    infra: HashSet<String>,
}

impl<'a> Surroundings<'a> {
    /// Those of `inventory`.
    pub fn of(inventory: &'a Inventory) -> Surroundings<'a> {
        let others = inventory.machines.iter().filter(|machine| !machine.labels().contains_key(POOL_LABEL));
        Surroundings {
            racks: inventory.racks.iter().map(|rack| (rack.name_any(), rack.as_ref())).collect(),
            regions: (inventory.datacenters.iter())
                .map(|datacenter| (datacenter.name_any(), datacenter.spec.region.as_str()))
                .collect(),
            hardware: inventory.hardware.iter().map(|found| (found.name_any(), &found.spec.facts)).collect(),
            chosen: others
                .filter_map(|machine| Some(ProviderId::parse(machine.spec.provider_id.as_deref()?)?.host))
                .collect(),
            infra: inventory.machines.iter().map(|machine| machine.name_any()).collect(),
        }
    }

    /// The rack of `host`.
    pub fn rack(&self, host: &Host) -> Option<&'a Rack> {
        self.racks.get(&host.spec.rack).copied()
    }

    /// The region that `rack` is in.
    pub fn region(&self, rack: &Rack) -> Option<&'a str> {
        self.regions.get(&rack.spec.datacenter).copied()
    }

    /// What was found in the host of this name.
    pub fn facts(&self, host: &str) -> Option<&'a Facts> {
        self.hardware.get(host).copied()
    }

    /// Every host of `hosts` as `pool`, which images with `image`, sees it; by name.
    pub fn hosts(&self, pool: &NodePool, image: Option<&OSImage>, hosts: &[Arc<Host>]) -> Vec<HostSeen> {
        let looker = Looker {
            around: self,
            pool,
            name: pool.name_any(),
            namespace: pool.namespace().unwrap_or_default(),
            architecture: image.map(|image| image.spec.architecture),
        };
        let mut hosts: Vec<_> = hosts.iter().map(|host| looker.host(host)).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }
}

/// A pool that looks at hosts.
struct Looker<'a> {
    around: &'a Surroundings<'a>,
    pool: &'a NodePool,
    name: String,
    namespace: String,
    architecture: Option<Architecture>,
}

impl Looker<'_> {
    fn host(&self, host: &Host) -> HostSeen {
        let name = host.name_any();
        let facts = self.around.facts(&name);
        let life = self.life(host);
        let unfit =
            self.elsewhere(host).or_else(|| unequipped(self.pool.spec.hardware.as_ref(), self.architecture, facts));
        let refusal = unclaimable(host, None)
            .or_else(|| self.around.chosen.contains(&name).then_some(Refusal::Claimed))
            .or(unfit);
        let (domains, warm) = (self.domains(host), self.warm(host));
        HostSeen { domains, surplus: facts.map_or(i64::MAX, plenty), name, refusal, unfit, life, warm }
    }

    fn warm(&self, host: &Host) -> Option<WarmSeen> {
        let order = host.spec.warm.as_ref()?;
        let waits = host.status.as_ref().and_then(|status| status.warm());
        Some(WarmSeen {
            mine: order.pool.name == self.name && order.pool.namespace == self.namespace,
            digest: order.image.as_ref().map(|image| image.digest.clone()),
            until: order.until,
            ready: waits.is_some_and(|operation| operation.claim_uid.as_ref() == Some(&order.id)),
        })
    }

    fn life(&self, host: &Host) -> Option<LifeSeen> {
        let reservation = host.spec.reservation.as_ref()?;
        if reservation.pool.name != self.name || reservation.pool.namespace != self.namespace {
            return None;
        }
        let machine = machine_name(&self.name, &host.name_any(), &reservation.id);
        Some(LifeSeen {
            id: reservation.id.clone(),
            at: reservation.at,
            claimed: host.is_claimed_by_reservation(),
            ended: host.spec.wipe.as_ref().is_some_and(|order| order.claim_uid == reservation.id),
            unclaimable: unclaimable(host, Some(&reservation.id)),
            infra_exists: self.around.infra.contains(&machine),
            machine,
        })
    }

    /// Why a host stands in the wrong place, if it does.
    fn elsewhere(&self, host: &Host) -> Option<Refusal> {
        let place = self.pool.spec.place.as_ref()?;
        let rack = self.around.rack(host);
        let datacenter = rack.map(|rack| rack.spec.datacenter.as_str()).unwrap_or_default();
        let region = rack.and_then(|rack| self.around.region(rack)).unwrap_or_default();
        let named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
        let none = Default::default();
        let rack_labels = rack.map_or(&none, |rack| rack.labels());
        let fits = named(&place.datacenters, datacenter)
            && named(&place.regions, region)
            && place.racks.as_ref().is_none_or(|racks| selects(Some(racks), rack_labels));
        if !fits {
            Some(Refusal::FailureDomain)
        } else if place.hosts.as_ref().is_some_and(|hosts| !selects(Some(hosts), host.labels())) {
            Some(Refusal::Labels)
        } else {
            None
        }
    }

    fn domains(&self, host: &Host) -> Vec<String> {
        let rack = self.around.rack(host);
        let over = self.pool.spec.spread.as_ref().map(|spread| spread.over).unwrap_or_default();
        let known = match (over, rack) {
            (Domain::Rack, _) | (_, None) => vec![],
            (Domain::Datacenter, Some(rack)) => vec![rack.spec.datacenter.clone()],
            (Domain::PowerFeed, Some(rack)) => rack.spec.power_feeds.clone(),
            (Domain::Switch, Some(rack)) => rack.spec.switches.clone(),
        };
        if known.is_empty() { vec![host.spec.rack.clone()] } else { known }
    }
}

fn seen(pool: &NodePool, machine: &Machine) -> MachineSeen {
    let unknown = contract::MachineStatus::default();
    let status = machine.status.as_ref().unwrap_or(&unknown);
    let is = |kind: &str, truth: &str| find(&status.conditions, kind).filter(|found| found.status == truth);
    let created = machine.creation_timestamp().map(|time| time.0).unwrap_or_default();
    MachineSeen {
        name: machine.name_any(),
        created,
        revision: machine.labels().get(REVISION_LABEL).cloned().unwrap_or_default(),
        deleting: machine.metadata.deletion_timestamp.is_some(),
        has_node: status.node_ref.is_some(),
        ready: is("Ready", "True").is_some(),
        available: is("Available", "True").map(|found| found.last_transition_time.0),
        unhealthy: is("HealthCheckSucceeded", "False").is_some(),
        remediation: is("OwnerRemediated", "False").map(|found| found.reason.clone()),
        marked: machine.annotations().contains_key("cluster.x-k8s.io/delete-machine"),
        up_to_date: find(&status.conditions, "UpToDate").map(|found| found.status == "True"),
        propagated: super::act::propagated(pool, machine),
    }
}
