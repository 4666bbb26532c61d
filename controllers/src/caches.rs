//! One watch per kind, shared by every reconciler; what nobody reads is taken out before it is kept.

use crate::kubeio::Kind;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::runtime::reflector::{self, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rackwright_api::contract::{Cluster, Machine, WATCH_LABEL};
use rackwright_api::{
    Datacenter, Host, HostHardware, NodePool, OSImage, POOL_LABEL, Rack, RackwrightCluster, RackwrightConfig,
    RackwrightMachine, Region,
};
use std::sync::Arc;

/// What is watched: one namespace or all, everything or what carries a label.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `--watch-filter`: value of the label `cluster.x-k8s.io/watch-filter` on the objects we reconcile.
    pub watch_filter: Option<String>,
}

/// What was last seen of one kind.
pub struct Cache<K: Kind> {
    /// What was last seen.
    pub store: Store<K>,
}

/// Declares the caches and their feeds, one of each per kind.
macro_rules! kinds {
    ($($(#[$doc:meta])* $field:ident: $kind:ty,)*) => {
        /// Caches of every kind.
        pub struct Caches { $($(#[$doc])* pub $field: Cache<$kind>,)* }

        /// What fills the caches; listeners are added before they run.
        pub struct Feeds { $($(#[$doc])* pub $field: Feed<$kind>,)* }

        impl Caches {
            /// Empty caches, and what fills them.
            pub fn new() -> (Caches, Feeds) {
                $(let $field = reflector::store();)*
                (
                    Caches { $($field: Cache { store: $field.0 },)* },
                    Feeds { $($field: Feed { writer: $field.1, listeners: Vec::new() },)* },
                )
            }
        }
    };
}

kinds! {
    /// Regions.
    regions: Region,
    /// Datacenters.
    datacenters: Datacenter,
    /// Racks.
    racks: Rack,
    /// Hosts.
    hosts: Host,
    /// Hardware facts.
    hardware: HostHardware,
    /// Images.
    images: OSImage,
    /// Node pools.
    pools: NodePool,
    /// What their machines are made from.
    revisions: ControllerRevision,
    /// Infrastructure clusters.
    rackwright_clusters: RackwrightCluster,
    /// Infrastructure machines.
    rackwright_machines: RackwrightMachine,
    /// Bootstrap configs.
    configs: RackwrightConfig,
    /// Cluster API's clusters.
    clusters: Cluster,
    /// Cluster API's machines.
    machines: Machine,
}

/// Told of every object of a kind that changes, and of those that are there when a watch begins.
type Listener<K> = Box<dyn Fn(&K) + Send + Sync>;

/// Fills one cache.
pub struct Feed<K: Kind> {
    writer: Writer<K>,
    listeners: Vec<Listener<K>>,
}

impl<K: Kind> Feed<K> {
    /// Tells `listener` of every change.
    pub fn on_change(&mut self, listener: impl Fn(&K) + Send + Sync + 'static) {
        self.listeners.push(Box::new(listener));
    }

    /// Takes in one event of a watch; tests that play the API server call it themselves.
    pub fn take(&mut self, event: &watcher::Event<K>) {
        self.writer.apply_watcher_event(event);
        match event {
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => self.tell(object),
            watcher::Event::InitDone => self.writer.as_reader().state().iter().for_each(|object| self.tell(object)),
            watcher::Event::Init | watcher::Event::InitApply(_) => {} // not readable before the list is whole
        }
    }

    fn tell(&self, object: &K) {
        self.listeners.iter().for_each(|listener| listener(object));
    }

    /// Watches until it is dropped. `labels`: only objects with these.
    pub fn run(mut self, client: &Client, scope: &Scope, labels: Option<&str>) -> BoxFuture<'static, ()> {
        let api = match &scope.namespace {
            Some(namespace) => Api::<K>::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let config = labels.map_or_else(watcher::Config::default, |labels| watcher::Config::default().labels(labels));
        let mut events = watcher(api, config).default_backoff().modify(lighten).boxed();
        async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(&event),
                    Err(why) => tracing::warn!(kind = %K::kind(&()), %why, "watch broke off; it is taken up again"),
                }
            }
        }
        .boxed()
    }
}

/// Takes out what nobody reads: half of an object's memory is who last wrote which field.
fn lighten<K: Kind>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// Which reconcilers run, hence which kinds are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The infrastructure provider's.
    pub infrastructure: bool,
    /// The bootstrap provider's.
    pub bootstrap: bool,
}

impl Feeds {
    /// The watches of the kinds that `wanted` needs; whoever runs the manager polls them. Kinds left out stay empty and
    /// cost nothing.
    pub fn run(self, client: &Client, scope: &Scope, wanted: Wanted) -> Vec<BoxFuture<'static, ()>> {
        let filter = scope.watch_filter.as_ref().map(|value| format!("{WATCH_LABEL}={value}"));
        let filter = filter.as_deref();
        let mut feeds = vec![self.clusters.run(client, scope, None), self.machines.run(client, scope, None)];
        if wanted.infrastructure {
            feeds.extend([
                self.regions.run(client, scope, None),
                self.datacenters.run(client, scope, None),
                self.racks.run(client, scope, None),
                self.hosts.run(client, scope, filter),
                self.hardware.run(client, scope, None),
                self.images.run(client, scope, None),
                self.pools.run(client, scope, filter),
                self.revisions.run(client, scope, Some(POOL_LABEL)),
                self.rackwright_clusters.run(client, scope, filter),
                self.rackwright_machines.run(client, scope, filter),
            ]);
        }
        if wanted.bootstrap {
            feeds.push(self.configs.run(client, scope, filter));
        }
        feeds
    }
}

impl Caches {
    /// Waits until everything that is there has been seen.
    pub async fn ready(&self, wanted: Wanted) {
        // An error means that the feed ended, which only happens when the process does.
        let _ = self.clusters.store.wait_until_ready().await;
        let _ = self.machines.store.wait_until_ready().await;
        if wanted.infrastructure {
            let _ = self.regions.store.wait_until_ready().await;
            let _ = self.datacenters.store.wait_until_ready().await;
            let _ = self.racks.store.wait_until_ready().await;
            let _ = self.hosts.store.wait_until_ready().await;
            let _ = self.hardware.store.wait_until_ready().await;
            let _ = self.images.store.wait_until_ready().await;
            let _ = self.pools.store.wait_until_ready().await;
            let _ = self.revisions.store.wait_until_ready().await;
            let _ = self.rackwright_clusters.store.wait_until_ready().await;
            let _ = self.rackwright_machines.store.wait_until_ready().await;
        }
        if wanted.bootstrap {
            let _ = self.configs.store.wait_until_ready().await;
        }
    }

    /// The objects of `store` for which `wanted` holds.
    pub fn which<K: Kind>(cache: &Cache<K>, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        cache.store.state_filter(|object| wanted(object))
    }
}
