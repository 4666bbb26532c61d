//! The watches, shared by all workload clusters, and what they have seen of one of them.

use super::ClusterKey;
use super::convert::{self, Deadlines, Objects};
use super::overlay::Overlay;
use crate::groups::Inventory;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use jiff::Timestamp;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rackwright_api::{Host, NodePool, POOL_LABEL, RackwrightConfigTemplate};
use rackwright_controllers::caches::{Caches, Feeds, Scope};
use rackwright_controllers::kubeio::{Kind, cached};
use rackwright_controllers::pool::observe;
use std::sync::Arc;
use tokio::sync::Notify;

/// What the watches have seen, and what was written since.
pub struct Watched {
    pub(super) client: Client,
    pub(super) hosts: Overlay<Host>,
    pub(super) pools: Overlay<NodePool>,
    caches: Caches,
    templates: Store<RackwrightConfigTemplate>,
    deadlines: Deadlines,
    changed: Arc<Notify>,
}

impl Watched {
    /// Nothing seen yet, and the watches that will see; whoever serves polls them.
    pub fn new(client: Client, scope: &Scope, deadlines: Deadlines) -> (Watched, Vec<BoxFuture<'static, ()>>) {
        let (caches, feeds) = Caches::new();
        let (templates, writer) = reflector::store();
        let changed = Arc::new(Notify::new());
        let mut runs = watches(feeds, &client, scope, &changed);
        let api = match &scope.namespace {
            Some(namespace) => Api::<RackwrightConfigTemplate>::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let events = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
        let told = changed.clone();
        let tell = move |_| {
            told.notify_one();
            std::future::ready(())
        };
        runs.push(events.for_each(tell).boxed());
        let (hosts, pools) = Default::default();
        (Watched { client, hosts, pools, caches, templates, deadlines, changed }, runs)
    }

    /// Returns once everything has been seen.
    pub async fn ready(&self) {
        let caches = &self.caches;
        // Only a dropped writer is an error, and the feeds live as long as the process.
        let _ = tokio::join!(
            caches.hosts.store.wait_until_ready(),
            caches.hardware.store.wait_until_ready(),
            caches.racks.store.wait_until_ready(),
            caches.datacenters.store.wait_until_ready(),
            caches.images.store.wait_until_ready(),
            caches.pools.store.wait_until_ready(),
            caches.rackwright_machines.store.wait_until_ready(),
            caches.clusters.store.wait_until_ready(),
            caches.machines.store.wait_until_ready(),
            self.templates.wait_until_ready(),
        );
    }

    /// Returns when something has changed since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether there is such a Cluster.
    pub fn knows(&self, cluster: &ClusterKey) -> bool {
        cached(&self.caches.clusters.store, &cluster.namespace, &cluster.name).is_some()
    }

    pub(super) fn pool_uid(&self, namespace: &str, name: &str) -> Option<String> {
        cached(&self.caches.pools.store, namespace, name)?.uid()
    }

    /// Pools and hosts of `cluster` as they are known at `now`.
    pub fn inventory(&self, cluster: &ClusterKey, now: Timestamp) -> Inventory {
        let caches = &self.caches;
        let namespace = Some(cluster.namespace.as_str());
        let here = |other: Option<String>| other.as_deref() == namespace;
        let pools = caches.pools.store.state_filter(|pool| {
            here(pool.namespace()) && pool.spec.cluster_name == cluster.name && pool.spec.autoscaling.is_some()
        });
        if pools.is_empty() {
            return Inventory::default();
        }
        let objects = Objects {
            cluster: cached(&caches.clusters.store, &cluster.namespace, &cluster.name),
            pools: pools.into_iter().map(|pool| self.pools.newest(pool)).collect(),
            stock: observe::Inventory {
                hosts: (caches.hosts.store.state_filter(|host| here(host.namespace())).into_iter())
                    .map(|host| self.hosts.newest(host))
                    .collect(),
                hardware: caches.hardware.store.state_filter(|found| here(found.namespace())),
                racks: caches.racks.store.state_filter(|rack| here(rack.namespace())),
                datacenters: caches.datacenters.store.state_filter(|datacenter| here(datacenter.namespace())),
                machines: caches.rackwright_machines.store.state_filter(|machine| here(machine.namespace())),
                image: None,
            },
            images: caches.images.store.state_filter(|image| here(image.namespace())),
            templates: self.templates.state_filter(|template| here(template.namespace())),
            with_node: (caches.machines.store)
                .state_filter(|machine| here(machine.namespace()) && has_node(machine))
                .iter()
                .map(|machine| machine.name_any())
                .collect(),
        };
        convert::inventory(&objects, &self.deadlines, now)
    }
}

fn has_node(machine: &rackwright_api::contract::Machine) -> bool {
    machine.labels().contains_key(POOL_LABEL) && machine.status.as_ref().is_some_and(|status| status.node_ref.is_some())
}

/// Of the kinds that the manager knows, those that node groups rest on.
fn watches(feeds: Feeds, client: &Client, scope: &Scope, changed: &Arc<Notify>) -> Vec<BoxFuture<'static, ()>> {
    macro_rules! run {
        ($($kind:ident),*) => { vec![$({
            let mut feed = feeds.$kind;
            feed.on_change(tell(changed));
            feed.run(client, scope, None)
        }),*] };
    }
    run!(hosts, hardware, racks, datacenters, images, pools, rackwright_machines, clusters, machines)
}

fn tell<K: Kind>(changed: &Arc<Notify>) -> impl Fn(&K) + Send + Sync + 'static + use<K> {
    let changed = changed.clone();
    move |_| changed.notify_one()
}
