//! Pools and hosts of one workload cluster, as far as node groups rest on them.

use super::template::Capacity;
use rackwright_api::config::KubeletSettings;
use rackwright_api::machine::ProviderId;
use rackwright_api::pool::HostLife;
use std::collections::BTreeMap;

/// A pool's hold on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Name of the pool.
    pub pool: String,
    /// This life.
    pub id: String,
    /// Since when, seconds since 1970.
    pub at: i64,
}

/// Why a host in flight will not become a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase reason.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// There is no stock of such hosts; otherwise the host itself failed.
    pub out_of_resources: bool,
}

/// How far a host is on its way to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// No Node has registered.
    #[default]
    Creating,
    /// No Node will register.
    Failed(Failure),
    /// Its Node has registered.
    Registered,
}

/// A NodePool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolEntry {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Other with every change of its spec (`metadata.generation`).
    pub version: String,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Bounds; absent: the autoscaler may not change it.
    pub bounds: Option<(i32, i32)>,
    /// Paused pools neither grow nor shrink.
    pub paused: bool,
    /// Groups by hardware class.
    pub by_class: bool,
    /// Groups by rack.
    pub by_rack: bool,
    /// `spec.release`.
    pub release: Vec<HostLife>,
    /// Labels of its nodes.
    pub labels: BTreeMap<String, String>,
    /// Taints of its nodes: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Settings of its kubelets.
    pub kubelet: Option<KubeletSettings>,
}

/// A Host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostEntry {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Hardware class, a short stable name.
    pub class: String,
    /// Rack.
    pub rack: String,
    /// Go-style architecture.
    pub arch: String,
    /// Labels that its node registers with because of where it stands and what it is.
    pub labels: BTreeMap<String, String>,
    /// What it has.
    pub capacity: Capacity,
    /// Who holds it.
    pub reservation: Option<Reservation>,
    /// How far it is.
    pub stage: Stage,
    /// For each pool it could serve by its place and hardware: absent when it can be claimed now, or why not now.
    pub fits: BTreeMap<String, Option<String>>,
    /// The pool that keeps it warm, once it is.
    pub warm_for: Option<String>,
    /// Price for an hour, in whatever unit all prices have.
    pub price: Option<f64>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Pools.
    pub pools: Vec<PoolEntry>,
    /// Hosts.
    pub hosts: Vec<HostEntry>,
    /// Answer NodeGroupGetOptions with the caller's defaults; autoscalers from 1.35 on then take the startup time for 0
    /// and buy twice (kubernetes/autoscaler#10245).
    pub options: bool,
}

impl PoolEntry {
    /// The name of the group that `host` falls into.
    pub fn group_of(&self, host: &HostEntry) -> String {
        let mut id = format!("{}/{}", self.namespace, self.name);
        for part in [self.by_class.then_some(&host.class), self.by_rack.then_some(&host.rack)].into_iter().flatten() {
            id.push('/');
            id.push_str(part);
        }
        id
    }

    /// Whether `life` is to be given up.
    pub fn releases(&self, host: &str, id: &str) -> bool {
        self.release.iter().any(|life| life.host == host && life.id == id)
    }
}

impl HostEntry {
    /// Its hold, when it is `pool`'s.
    pub fn held_by(&self, pool: &PoolEntry) -> Option<&Reservation> {
        self.reservation.as_ref().filter(|held| self.namespace == pool.namespace && held.pool == pool.name)
    }

    /// Provider ID of the life that `held` began.
    pub fn provider_id(&self, held: &Reservation) -> String {
        let (namespace, host) = (self.namespace.clone(), self.name.clone());
        ProviderId { namespace, host, machine_uid: held.id.clone() }.to_string()
    }

    /// Whether `pool` could claim it now.
    pub fn free_for(&self, pool: &PoolEntry) -> bool {
        self.reservation.is_none() && self.namespace == pool.namespace && self.fits.get(&pool.name) == Some(&None)
    }
}
