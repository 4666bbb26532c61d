//! One watch per kind, shared by every reconciler; what nobody reads is taken out before it is kept.

use crate::kubeio::Kind;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::reflector::{ReflectHandle, Store, store::Writer, store_shared};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rackwright_api::contract::{Cluster, Machine, WATCH_LABEL};
use rackwright_api::{
    Datacenter, Host, HostHardware, OSImage, Rack, RackwrightCluster, RackwrightConfig, RackwrightMachine, Region,
};

/// How many events a slow reader may be behind before its watch waits for it.
const BUFFER: usize = 1024;

/// What is watched: one namespace or all, everything or what carries a label.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `--watch-filter`: value of the label `cluster.x-k8s.io/watch-filter` on the objects we reconcile.
    pub watch_filter: Option<String>,
}

/// What was last seen of one kind, and the stream of its changes.
pub struct Cache<K: Kind> {
    /// What was last seen.
    pub store: Store<K>,
    root: ReflectHandle<K>,
}

impl<K: Kind> Cache<K> {
    /// A cache fed by `writer`'s owner; used by tests that play the API server.
    pub fn of(store: Store<K>, writer: &Writer<K>) -> Cache<K> {
        Cache { store, root: writer.subscribe().expect("made by store_shared, so it can be subscribed to") }
    }

    /// Every object that changes from now on.
    pub fn changes(&self) -> ReflectHandle<K> {
        self.root.clone()
    }
}

/// Caches of every kind.
pub struct Caches {
    /// Regions.
    pub regions: Cache<Region>,
    /// Datacenters.
    pub datacenters: Cache<Datacenter>,
    /// Racks.
    pub racks: Cache<Rack>,
    /// Hosts.
    pub hosts: Cache<Host>,
    /// Hardware facts.
    pub hardware: Cache<HostHardware>,
    /// Images.
    pub images: Cache<OSImage>,
    /// Infrastructure clusters.
    pub rackwright_clusters: Cache<RackwrightCluster>,
    /// Infrastructure machines.
    pub rackwright_machines: Cache<RackwrightMachine>,
    /// Bootstrap configs.
    pub configs: Cache<RackwrightConfig>,
    /// Cluster API's clusters.
    pub clusters: Cache<Cluster>,
    /// Cluster API's machines.
    pub machines: Cache<Machine>,
}

/// A watch that feeds a cache for as long as it is polled.
pub type Feed = BoxStream<'static, ()>;

/// Caches that are fed by watches, and the watches: whoever runs the manager polls them. Kinds that `wanted` leaves out
/// stay empty and cost nothing.
pub fn watched(client: &Client, scope: &Scope, wanted: Wanted) -> (Caches, Vec<Feed>) {
    let mut feeds = Vec::new();
    let filter = scope.watch_filter.as_ref().map(|value| format!("{WATCH_LABEL}={value}"));
    macro_rules! cache {
        ($wanted:expr, $filter:expr) => {{
            let (store, writer) = store_shared(BUFFER);
            let cache = Cache::of(store, &writer);
            if $wanted {
                feeds.push(feed(client, scope, $filter, writer));
            }
            cache
        }};
    }
    let caches = Caches {
        regions: cache!(wanted.infrastructure, None),
        datacenters: cache!(wanted.infrastructure, None),
        racks: cache!(wanted.infrastructure, None),
        hosts: cache!(wanted.infrastructure, None),
        hardware: cache!(wanted.infrastructure, None),
        images: cache!(wanted.infrastructure, None),
        rackwright_clusters: cache!(wanted.infrastructure, filter.clone()),
        rackwright_machines: cache!(wanted.infrastructure, filter.clone()),
        configs: cache!(wanted.bootstrap, filter.clone()),
        clusters: cache!(true, None),
        machines: cache!(true, None),
    };
    (caches, feeds)
}

/// Which reconcilers run, hence which kinds are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The infrastructure provider's.
    pub infrastructure: bool,
    /// The bootstrap provider's.
    pub bootstrap: bool,
}

fn feed<K: Kind>(client: &Client, scope: &Scope, labels: Option<String>, writer: Writer<K>) -> Feed {
    let api = match &scope.namespace {
        Some(namespace) => Api::<K>::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut config = watcher::Config::default();
    if let Some(labels) = labels {
        config = config.labels(&labels);
    }
    watcher(api, config)
        .default_backoff()
        .modify(|object: &mut K| {
            object.managed_fields_mut().clear();
            object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
        })
        .reflect_shared(writer)
        .map(|event| {
            if let Err(why) = event {
                tracing::warn!(kind = %K::kind(&()), %why, "watch broke off; it is taken up again");
            }
        })
        .boxed()
}
