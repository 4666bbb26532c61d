//! From Kubernetes objects to the inventory that node groups rest on. Pure: reads no clock, does no I/O.
//!
//! Which host a pool could take, and why not, is the pool's own judgement ([`rackwright_controllers::pool`]).

use crate::groups::{Failure, HostEntry, Inventory, PoolEntry, Reservation, Stage, hardware};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rackwright_api::config::RackwrightConfigSpec;
use rackwright_api::contract::{self, Cluster};
use rackwright_api::hardware::hardware_class;
use rackwright_api::host::OperationKind;
use rackwright_api::pool::{ConfigTemplateKind, GroupBy};
use rackwright_api::{Host, NodePool, OSImage, RackwrightConfigTemplate};
use rackwright_controllers::pool::decide::takeable;
use rackwright_controllers::pool::labels;
use rackwright_controllers::pool::observe;
use rackwright_controllers::pool::view::{HostSeen, LifeSeen};
use rackwright_placement::Refusal;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Annotation on a Host, or on its Rack: what an hour of it costs, in whatever unit all prices have.
pub const PRICE_ANNOTATION: &str = "rackwright.dev/price-per-hour";
/// Annotation on a Cluster: answer NodeGroupGetOptions. See [`Inventory::options`].
pub const OPTIONS_ANNOTATION: &str = "rackwright.dev/autoscaler-options";

/// How long a host may take before the autoscaler is told that it will not come. Both must end before the autoscaler's
/// own `--max-node-provision-time`: only a failure that is told makes it try another group at once.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the hold until the image is on the disk.
    pub image: SignedDuration,
    /// From then until the node has registered.
    pub node: SignedDuration,
}

/// Everything of one namespace.
#[derive(Default)]
pub struct Objects {
    /// The Cluster.
    pub cluster: Option<Arc<Cluster>>,
    /// Its pools that the autoscaler may change.
    pub pools: Vec<Arc<NodePool>>,
    /// What its pools may choose from; the image differs from pool to pool.
    pub stock: observe::Inventory,
    /// Images.
    pub images: Vec<Arc<OSImage>>,
    /// Templates of bootstrap configs.
    pub templates: Vec<Arc<RackwrightConfigTemplate>>,
    /// Names of pools' Machines whose node has registered.
    pub with_node: HashSet<String>,
}

/// The inventory at `now`. Hosts that no pool of the cluster holds or could ever take are left out.
pub fn inventory(objects: &Objects, deadlines: &Deadlines, now: Timestamp) -> Inventory {
    let stock = &objects.stock;
    let places: HashMap<_, _> = stock.hosts.iter().enumerate().map(|(place, host)| (host.name_any(), place)).collect();
    let mut entries: Vec<Option<HostEntry>> = vec![None; stock.hosts.len()];
    let around = observe::Surroundings::of(stock);
    let mut pools = Vec::new();
    for pool in &objects.pools {
        let name = pool.name_any();
        let image = objects.images.iter().find(|image| image.name_any() == pool.spec.image.name);
        let hosts = around.hosts(pool, image.map(Arc::as_ref), &stock.hosts);
        let takeable: HashSet<_> = takeable(&pool.spec, &hosts).into_iter().map(|host| host.name.as_str()).collect();
        for found in hosts.iter().filter(|found| found.unfit.is_none() || found.life.is_some()) {
            let Some(&place) = places.get(&found.name) else { continue };
            let host = &stock.hosts[place];
            let seen = entries[place].get_or_insert_with(|| host_entry(host, &around));
            if found.unfit.is_none() {
                seen.fits.insert(name.clone(), why_not(found, takeable.contains(found.name.as_str())));
            }
            if found.is_warm() {
                seen.warm_for = Some(name.clone());
            }
            if let Some(life) = &found.life {
                seen.stage = match objects.with_node.contains(&life.machine) {
                    true => Stage::Registered,
                    false => stage(host, life, deadlines, now),
                };
            }
        }
        pools.push(entry(pool, objects));
    }
    let options = objects.cluster.as_deref().and_then(|cluster| cluster.annotations().get(OPTIONS_ANNOTATION));
    Inventory {
        pools,
        hosts: entries.into_iter().flatten().collect(),
        options: options.is_some_and(|text| text == "true"),
    }
}

/// Why a host that would do cannot be taken now.
fn why_not(found: &HostSeen, takeable: bool) -> Option<String> {
    let spread = (!takeable && found.life.is_none()).then_some(Refusal::Spread);
    found.refusal.or(spread).map(|refusal| refusal.as_text().into())
}

/// How far a host is that has no node yet.
fn stage(host: &Host, life: &LifeSeen, deadlines: &Deadlines, now: Timestamp) -> Stage {
    let failed = |reason: &str, message: String| {
        Stage::Failed(Failure { reason: reason.into(), message, out_of_resources: false })
    };
    if !life.claimed {
        // The pool itself gives up a host that breaks before a machine has it, and takes another.
        return match now > life.at + deadlines.image {
            true => failed("HostStalled", format!("no machine could claim host {}", host.name_any())),
            false => Stage::Creating,
        };
    }
    if let Some(broken) = &host.spec.broken {
        return failed(&broken.reason, broken.message.clone());
    }
    let status = host.status.clone().unwrap_or_default();
    let again = (status.operation.as_ref())
        .filter(|under_way| under_way.kind == OperationKind::Deploy && under_way.attempt > 1);
    if let Some(under_way) = again {
        let reason =
            status.history.last().and_then(|ended| ended.reason.clone()).unwrap_or_else(|| "DeployFailed".into());
        return failed(&reason, format!("host {} is at its try {}", host.name_any(), under_way.attempt));
    }
    match host.spec.deployed.as_ref().filter(|deployed| deployed.claim_uid == life.id) {
        Some(deployed) if now > deployed.at + deadlines.node => {
            failed("NodeMissing", format!("host {} has its image since {} and no node", host.name_any(), deployed.at))
        }
        None if now > life.at + deadlines.image => {
            let waiting = status.waiting_for.unwrap_or_else(|| "its image".into());
            failed("HostStalled", format!("host {} waits for {waiting}", host.name_any()))
        }
        _ => Stage::Creating,
    }
}

/// Other with every change of the spec.
pub(super) fn version(pool: &NodePool) -> String {
    pool.metadata.generation.unwrap_or_default().to_string()
}

fn entry(pool: &NodePool, objects: &Objects) -> PoolEntry {
    let config = config(pool, objects);
    let node = pool.spec.node.clone().unwrap_or_default();
    let mut labels = config.node_labels;
    labels.extend(node.labels.into_iter().filter(|(key, _)| labels::reaches_node(key)));
    let taints = config.node_taints.into_iter().chain(node.taints);
    let by = |what| pool.spec.autoscaling.as_ref().is_some_and(|autoscaling| autoscaling.group_by.contains(&what));
    let paused = contract::is_paused(&pool.metadata, objects.cluster.as_deref());
    PoolEntry {
        namespace: pool.namespace().unwrap_or_default(),
        name: pool.name_any(),
        version: version(pool),
        replicas: pool.spec.replicas,
        bounds: pool.spec.autoscaling.as_ref().map(|autoscaling| (autoscaling.min, autoscaling.max)),
        paused: pool.spec.paused || paused || pool.metadata.deletion_timestamp.is_some(),
        by_class: by(GroupBy::HardwareClass),
        by_rack: by(GroupBy::Rack),
        release: pool.spec.release.clone(),
        labels,
        taints: taints
            .map(|taint| (taint.key, taint.value.unwrap_or_default(), taint.effect.as_str().to_owned()))
            .collect(),
        kubelet: config.kubelet,
    }
}

/// The pool's bootstrap config, as far as it is one of ours.
fn config(pool: &NodePool, objects: &Objects) -> RackwrightConfigSpec {
    let bootstrap = &pool.spec.bootstrap;
    let template = bootstrap.config_template_ref.as_ref().and_then(|named| {
        let same = |found: &&Arc<RackwrightConfigTemplate>| found.name_any() == named.name;
        let ours = named.kind == ConfigTemplateKind::RackwrightConfigTemplate;
        objects.templates.iter().filter(|_| ours).find(same).map(|found| found.spec.template.spec.clone())
    });
    bootstrap.config.clone().or(template).unwrap_or_default()
}

/// A host as any pool sees it.
fn host_entry(host: &Host, around: &observe::Surroundings<'_>) -> HostEntry {
    let name = host.name_any();
    let rack = around.rack(host);
    let region = rack.and_then(|rack| around.region(rack));
    let facts = around.facts(&name);
    let price = |annotations: &BTreeMap<String, String>| annotations.get(PRICE_ANNOTATION)?.parse::<f64>().ok();
    HostEntry {
        namespace: host.namespace().unwrap_or_default(),
        class: facts.map(hardware_class).unwrap_or_else(|| "unknown".into()),
        rack: host.spec.rack.clone(),
        arch: facts.map(|facts| facts.cpu.architecture.clone()).unwrap_or_default(),
        labels: labels::of_place(&host.spec.rack, rack, region, facts),
        capacity: facts.map(|facts| hardware::capacity(facts, host.spec.root_device.as_ref())).unwrap_or_default(),
        reservation: host.spec.reservation.as_ref().map(|held| Reservation {
            pool: held.pool.name.clone(),
            id: held.id.clone(),
            at: held.at.as_second(),
        }),
        price: price(host.annotations()).or_else(|| rack.and_then(|rack| price(rack.annotations()))),
        name,
        ..HostEntry::default()
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
