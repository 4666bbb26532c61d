//! The finished answers over one state of the inventory; never changed once made.

use super::inventory::{Inventory, PoolEntry, Stage};
use super::template;
use crate::wire::instance_status::InstanceState;
use crate::wire::{Instance, InstanceErrorInfo, InstanceStatus, NodeGroup};
use rackwright_api::ACCELERATOR_LABEL;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const OUT_OF_RESOURCES: i32 = 1;
const OTHER: i32 = 99;

/// One node group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What `NodeGroups` says of it.
    pub answer: NodeGroup,
    /// Place of its pool in the inventory.
    pub pool: usize,
    /// Hosts held and not to be given up.
    pub target: i32,
    /// Everything held.
    pub instances: Vec<Instance>,
    /// The template Node; never empty.
    pub template: Vec<u8>,
    /// Price of one of its hosts for an hour.
    pub price: Option<f64>,
    free: i32,
}

/// All groups, and whose each provider ID is.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By id.
    pub groups: BTreeMap<String, Group>,
    /// All `NodeGroups` answers.
    pub all: Vec<NodeGroup>,
    /// Vendors of accelerators, as nodes with some are labelled.
    pub accelerators: BTreeSet<String>,
    /// Mean price of a core and of a GiB for an hour, when there are prices.
    pub unit_prices: Option<(f64, f64)>,
    /// See [`Inventory::options`].
    pub options: bool,
    by_provider_id: HashMap<String, NodeGroup>,
    awaited: HashSet<String>,
}

impl Snapshot {
    /// The answers over `inventory`.
    pub fn of(inventory: &Inventory) -> Snapshot {
        let mut snapshot = Snapshot { options: inventory.options, ..Snapshot::default() };
        let pools: HashMap<(&str, &str), usize> = inventory
            .pools
            .iter()
            .enumerate()
            .map(|(place, pool)| ((pool.namespace.as_str(), pool.name.as_str()), place))
            .collect();
        let mut homes: Vec<(String, String)> = Vec::new();
        let (mut price, mut cores, mut gib) = (0.0, 0.0, 0.0);
        for host in &inventory.hosts {
            snapshot.accelerators.extend(host.labels.get(ACCELERATOR_LABEL).cloned());
            if let Some(own) = host.price {
                price += own;
                cores += host.capacity.cpu_milli as f64 / 1000.0;
                gib += host.capacity.memory as f64 / f64::from(1 << 30);
            }
            let held = host.reservation.as_ref().map(|held| held.pool.as_str());
            let names = host.fits.keys().map(String::as_str).chain(held.filter(|held| !host.fits.contains_key(*held)));
            for name in names {
                let Some(&place) = pools.get(&(host.namespace.as_str(), name)) else { continue };
                let pool = &inventory.pools[place];
                let id = pool.group_of(host);
                let group = snapshot.groups.entry(id.clone()).or_insert_with(|| Group {
                    pool: place,
                    template: template::encode(pool, &id, host),
                    ..Group::default()
                });
                group.price = group.price.or(host.price);
                group.free += i32::from(host.free_for(pool));
                if let Some(held) = host.held_by(pool) {
                    let released = pool.releases(&host.name, &held.id);
                    let own = host.provider_id(held);
                    group.instances.push(instance(own.clone(), released, &host.stage));
                    group.target += i32::from(!released);
                    if host.stage != Stage::Registered {
                        snapshot.awaited.insert(own.clone());
                    }
                    homes.push((own, id));
                }
            }
        }
        if cores > 0.0 && gib > 0.0 {
            snapshot.unit_prices = Some((price / cores / 2.0, price / gib / 2.0));
        }
        for (id, group) in &mut snapshot.groups {
            group.answer = answer(id, group, &inventory.pools[group.pool]);
        }
        snapshot.all = snapshot.groups.values().map(|group| group.answer.clone()).collect();
        for (own, id) in homes {
            if let Some(group) = snapshot.groups.get(&id) {
                snapshot.by_provider_id.insert(own, group.answer.clone());
            }
        }
        snapshot
    }

    /// True when the node with this provider ID is not known to have registered.
    pub fn is_awaited(&self, provider_id: &str) -> bool {
        self.awaited.contains(provider_id)
    }

    /// The group of a provider ID that a pool holds.
    pub fn group_of(&self, provider_id: &str) -> Option<&NodeGroup> {
        self.by_provider_id.get(provider_id)
    }
}

fn answer(id: &str, group: &Group, pool: &PoolEntry) -> NodeGroup {
    let target = group.target;
    let (min, max) = match pool.bounds {
        Some((low, high)) if !pool.paused => {
            ((target - (pool.replicas - low).max(0)).max(0), target + group.free.min(high - pool.replicas).max(0))
        }
        _ => (target, target),
    };
    let debug = format!("{id}: target {target}, {} can be claimed now; the pool wants {}", group.free, pool.replicas);
    NodeGroup { id: id.into(), min_size: min, max_size: max, debug }
}

fn instance(id: String, released: bool, stage: &Stage) -> Instance {
    let (state, error) = match stage {
        _ if released => (InstanceState::InstanceDeleting, None),
        Stage::Registered => (InstanceState::InstanceRunning, None),
        Stage::Creating => (InstanceState::InstanceCreating, None),
        Stage::Failed(failure) => (
            InstanceState::InstanceCreating,
            Some(InstanceErrorInfo {
                error_code: failure.reason.clone(),
                error_message: failure.message.clone(),
                instance_error_class: if failure.out_of_resources { OUT_OF_RESOURCES } else { OTHER },
            }),
        ),
    };
    Instance { id, status: Some(InstanceStatus { instance_state: state.into(), error_info: error }) }
}
