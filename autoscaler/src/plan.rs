//! What a call that changes something writes, or the sentence why it is refused.
//!
//! The commit point of each is one write of the NodePool that carries the version that was read. Pure.

use crate::groups::{HostEntry, HostLife, Inventory, PoolEntry, Snapshot, Stage};
use rackwright_api::machine::ProviderId;
use std::collections::BTreeMap;

/// One write; it conflicts when what it rests on is no longer so.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Set `Host.spec.reservation` of a host that can be claimed.
    Reserve {
        /// Namespace.
        namespace: String,
        /// Host.
        host: String,
        /// Pool.
        pool: String,
        /// The new life.
        id: String,
    },
    /// Take the reservation `id` off again.
    Free {
        /// Namespace.
        namespace: String,
        /// Host and life.
        life: HostLife,
    },
    /// Change a `NodePool.spec` that is still as it was read.
    Pool {
        /// Namespace.
        namespace: String,
        /// Pool.
        pool: String,
        /// Version that was read.
        version: String,
        /// New `spec.replicas`.
        replicas: i32,
        /// Added to `spec.release`.
        release: Vec<HostLife>,
    },
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such group, or a node that is not ours.
    #[error("{0}")]
    NotFound(String),
    /// Nothing that can be meant.
    #[error("{0}")]
    Invalid(String),
    /// Not enough hosts.
    #[error("{0}")]
    Exhausted(String),
    /// The pool does not allow it as it stands.
    #[error("{0}")]
    Precondition(String),
}

/// An increase: hold `count` of `hosts` in this order, then write `commit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Increase {
    /// How many.
    pub count: usize,
    /// Names of candidates, best first.
    pub hosts: Vec<String>,
    /// Namespace of hosts and pool.
    pub namespace: String,
    /// Pool.
    pub pool: String,
    /// The last write.
    pub commit: Write,
    /// Why the group has no more, per reason with counts.
    pub stock: String,
}

/// `IncreaseSize`: all or nothing.
pub fn increase(inventory: &Inventory, snapshot: &Snapshot, group: &str, delta: i32) -> Result<Increase, Refusal> {
    let pool = changeable(inventory, snapshot, group)?;
    if delta <= 0 {
        return Err(Refusal::Invalid(format!("delta is {delta}: an increase must be above 0")));
    }
    let commit = grow(pool, delta)?;
    let stock = stock(inventory, pool, group);
    let mut free: Vec<_> =
        inventory.hosts.iter().filter(|host| host.free_for(pool) && pool.group_of(host) == group).collect();
    if free.len() < delta as usize {
        return Err(Refusal::Exhausted(format!(
            "{group} lacks {} of {delta} hosts: {stock}",
            delta as usize - free.len()
        )));
    }
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for host in inventory.hosts.iter().filter(|host| host.held_by(pool).is_some()) {
        *used.entry(&host.rack).or_default() += 1;
    }
    let cold = |host: &HostEntry| host.warm_for.as_ref() != Some(&pool.name);
    free.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ranked: Vec<_> = free
        .into_iter()
        .map(|host| {
            let count = used.entry(&host.rack).or_default();
            *count += 1;
            (*count, host)
        })
        .collect();
    ranked.sort_by_key(|(count, host)| (cold(host), *count, &host.rack, &host.name));
    Ok(Increase {
        count: delta as usize,
        hosts: ranked.into_iter().map(|(_, host)| host.name.clone()).collect(),
        namespace: pool.namespace.clone(),
        pool: pool.name.clone(),
        commit,
        stock,
    })
}

/// The last write of an increase whose hosts are held, once more: the pool has changed in between.
pub fn commit_again(inventory: &Inventory, snapshot: &Snapshot, group: &str, delta: i32) -> Result<Write, Refusal> {
    grow(changeable(inventory, snapshot, group)?, delta)
}

fn grow(pool: &PoolEntry, delta: i32) -> Result<Write, Refusal> {
    let (_, max) = pool.bounds.unwrap_or_default();
    match pool.replicas.checked_add(delta).filter(|replicas| *replicas <= max) {
        Some(replicas) => Ok(commit(pool, replicas, Vec::new())),
        None => Err(Refusal::Exhausted(format!(
            "NodePool {}/{} has {} replicas and may have {max}: {delta} more do not fit",
            pool.namespace, pool.name, pool.replicas
        ))),
    }
}

/// `DeleteNodes`: exactly the named lives; none when all of them are gone or going already.
pub fn delete(
    inventory: &Inventory,
    snapshot: &Snapshot,
    group: &str,
    provider_ids: &[String],
) -> Result<Option<Write>, Refusal> {
    let pool = known(inventory, snapshot, group)?;
    let mut release: Vec<HostLife> = Vec::new();
    for text in provider_ids {
        let Some(ProviderId { namespace, host, machine_uid: id }) = ProviderId::parse(text) else {
            return Err(Refusal::NotFound(format!("{text:?} is not a provider ID of Rackwright")));
        };
        if let Some(other) = snapshot.group_of(text).filter(|other| other.id != group) {
            return Err(Refusal::Invalid(format!("{text} is in group {} and not in {group}", other.id)));
        }
        let current = snapshot.group_of(text).is_some() && namespace == pool.namespace;
        let life = HostLife { host, id };
        if current && !pool.releases(&life.host, &life.id) && !release.contains(&life) {
            release.push(life);
        }
    }
    if release.is_empty() {
        return Ok(None);
    }
    let pool = changeable(inventory, snapshot, group)?;
    let (min, _) = pool.bounds.unwrap_or_default();
    let registered = |life: &&HostLife| {
        inventory.hosts.iter().any(|host| {
            host.held_by(pool).is_some_and(|held| host.name == life.host && held.id == life.id)
                && host.stage == Stage::Registered
        })
    };
    let nodes = release.iter().filter(registered).count();
    if nodes == 0 && pool.replicas - (release.len() as i32) < min {
        // Hosts that never became nodes go in any case: the pool holds others in their place.
        return Ok(Some(commit(pool, min.min(pool.replicas), release)));
    }
    lower(pool, release).map(Some)
}

/// `DecreaseTargetSize`: only lives whose Node has not registered, newest first.
pub fn decrease(inventory: &Inventory, snapshot: &Snapshot, group: &str, delta: i32) -> Result<Write, Refusal> {
    let pool = changeable(inventory, snapshot, group)?;
    if delta >= 0 {
        return Err(Refusal::Invalid(format!("delta is {delta}: a decrease must be below 0")));
    }
    let wanted = delta.unsigned_abs() as usize;
    let mut promised: Vec<_> = inventory
        .hosts
        .iter()
        .filter(|host| host.stage != Stage::Registered && pool.group_of(host) == group)
        .filter_map(|host| Some((host.held_by(pool)?, &host.name)))
        .filter(|(held, host)| !pool.releases(host, &held.id))
        .collect();
    promised.sort_by(|a, b| (b.0.at, b.1).cmp(&(a.0.at, a.1)));
    if promised.len() < wanted {
        return Err(Refusal::Precondition(format!(
            "{group} has {} hosts whose node has not registered, {wanted} were to be given up: nodes go by DeleteNodes",
            promised.len()
        )));
    }
    let release =
        promised.into_iter().take(wanted).map(|(held, host)| HostLife { host: host.clone(), id: held.id.clone() });
    lower(pool, release.collect())
}

fn lower(pool: &PoolEntry, release: Vec<HostLife>) -> Result<Write, Refusal> {
    let (min, _) = pool.bounds.unwrap_or_default();
    let replicas = pool.replicas - release.len() as i32;
    if replicas < min {
        return Err(Refusal::Precondition(format!(
            "NodePool {}/{} has {} replicas and keeps {min}: {} fewer is too few",
            pool.namespace,
            pool.name,
            pool.replicas,
            release.len()
        )));
    }
    Ok(commit(pool, replicas, release))
}

fn commit(pool: &PoolEntry, replicas: i32, release: Vec<HostLife>) -> Write {
    Write::Pool {
        namespace: pool.namespace.clone(),
        pool: pool.name.clone(),
        version: pool.version.clone(),
        replicas,
        release,
    }
}

fn known<'a>(inventory: &'a Inventory, snapshot: &Snapshot, group: &str) -> Result<&'a PoolEntry, Refusal> {
    snapshot
        .groups
        .get(group)
        .and_then(|found| inventory.pools.get(found.pool))
        .ok_or_else(|| Refusal::NotFound(format!("there is no node group {group:?}")))
}

fn changeable<'a>(inventory: &'a Inventory, snapshot: &Snapshot, group: &str) -> Result<&'a PoolEntry, Refusal> {
    let pool = known(inventory, snapshot, group)?;
    let name = format!("NodePool {}/{}", pool.namespace, pool.name);
    match pool.bounds {
        None => Err(Refusal::Precondition(format!("{name} has no spec.autoscaling: set its min and max"))),
        Some(_) if pool.paused => Err(Refusal::Precondition(format!("{name} is paused"))),
        Some(_) => Ok(pool),
    }
}

/// "3 hosts: 1 can be claimed, 2 are held".
fn stock(inventory: &Inventory, pool: &PoolEntry, group: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = 0;
    for host in &inventory.hosts {
        let Some(fit) = host.fits.get(&pool.name) else { continue };
        if host.namespace != pool.namespace || pool.group_of(host) != group {
            continue;
        }
        total += 1;
        let reason = match fit {
            _ if host.reservation.is_some() => "held by a pool",
            Some(reason) => reason,
            None => "free",
        };
        *counts.entry(reason).or_default() += 1;
    }
    let parts: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("{total} hosts: {}", if parts.is_empty() { "none".into() } else { parts.join(", ") })
}
