//! Which change makes which object be looked at.

use crate::caches::Feeds;
use crate::context::Context;
use crate::queue::Queue;
use kube::ResourceExt;
use rackwright_api::contract::{self, CLUSTER_NAME_LABEL};
use rackwright_api::machine::ProviderId;
use rackwright_api::{Datacenter, Host, Rack, RackwrightCluster, RackwrightConfig, RackwrightMachine, Region};
use rackwright_api::{NodePool, POOL_LABEL};
use rackwright_placement::unclaimable;
use std::sync::Arc;

/// Queues of the infrastructure provider.
#[expect(missing_docs, reason = "each is named by what it holds")]
pub struct Queues {
    pub hosts: Queue<Host>,
    pub machines: Queue<RackwrightMachine>,
    pub clusters: Queue<RackwrightCluster>,
    pub pools: Queue<NodePool>,
    pub racks: Queue<Rack>,
    pub datacenters: Queue<Datacenter>,
    pub regions: Queue<Region>,
}

/// Wires the infrastructure provider's kinds.
pub fn infrastructure(feeds: &mut Feeds, ctx: &Arc<Context>, queues: Queues) {
    let Queues { hosts, machines, clusters, pools, racks, datacenters, regions } = queues;
    for_hosts(feeds, ctx, &hosts);
    for_machines(feeds, ctx, &machines);
    for_clusters(feeds, ctx, &clusters);
    for_pools(feeds, ctx, &pools);
    for_places(feeds, ctx, racks, datacenters, regions);
}

fn for_hosts(feeds: &mut Feeds, ctx: &Arc<Context>, hosts: &Queue<Host>) {
    let queue = hosts.clone();
    feeds.hosts.on_change(move |host| queue.add_object(host));
    let queue = hosts.clone();
    feeds.hardware.on_change(move |found| queue.add(&found.namespace().unwrap_or_default(), &found.name_any()));
    let queue = hosts.clone();
    feeds.rackwright_machines.on_change(move |machine| {
        if let Some(id) = machine.spec.provider_id.as_deref().and_then(ProviderId::parse) {
            queue.add(&id.namespace, &id.host);
        }
    });
    let (queue, context) = (hosts.clone(), ctx.clone());
    feeds.racks.on_change(move |rack| {
        queue.add_which(&context.caches.hosts.store, |host| {
            host.spec.rack == rack.name_any() && host.namespace() == rack.namespace()
        });
    });
    let (queue, context) = (hosts.clone(), ctx.clone());
    feeds.datacenters.on_change(move |datacenter| {
        queue.add_which(&context.caches.hosts.store, |host| host.namespace() == datacenter.namespace());
    });
}

fn for_machines(feeds: &mut Feeds, ctx: &Arc<Context>, machines: &Queue<RackwrightMachine>) {
    let queue = machines.clone();
    feeds.rackwright_machines.on_change(move |machine| queue.add_object(machine));
    let queue = machines.clone();
    feeds.machines.on_change(move |machine| {
        if let Some(reference) =
            machine.spec.infrastructure_ref.as_ref().filter(|reference| reference.kind == "RackwrightMachine")
        {
            queue.add(&machine.namespace().unwrap_or_default(), &reference.name);
        }
    });
    let (queue, context) = (machines.clone(), ctx.clone());
    feeds.clusters.on_change(move |cluster| {
        let name = cluster.name_any();
        queue.add_which(&context.caches.rackwright_machines.store, |machine| {
            machine.labels().get(CLUSTER_NAME_LABEL) == Some(&name) && machine.namespace() == cluster.namespace()
        });
    });
    let (queue, context) = (machines.clone(), ctx.clone());
    feeds.hosts.on_change(move |host| {
        let namespace = host.namespace().unwrap_or_default();
        if let Some(claim) = &host.spec.claim {
            queue.add(&claim.consumer.namespace, &claim.consumer.name);
        }
        if let Some(order) = &host.spec.wipe {
            queue.add(&namespace, &order.released_by);
        }
        if unclaimable(host, None).is_none() {
            add_waiting(&queue, &context, &namespace); // it is free: somebody may have waited for it
        }
    });
    let (queue, context) = (machines.clone(), ctx.clone());
    feeds.images.on_change(move |image| add_waiting(&queue, &context, &image.namespace().unwrap_or_default()));
}

fn add_waiting(queue: &Queue<RackwrightMachine>, ctx: &Context, namespace: &str) {
    queue.add_which(&ctx.caches.rackwright_machines.store, |machine| {
        machine.spec.provider_id.is_none() && machine.namespace().as_deref() == Some(namespace)
    });
}

fn for_clusters(feeds: &mut Feeds, ctx: &Arc<Context>, clusters: &Queue<RackwrightCluster>) {
    let queue = clusters.clone();
    feeds.rackwright_clusters.on_change(move |cluster| queue.add_object(cluster));
    let (queue, context) = (clusters.clone(), ctx.clone());
    feeds.clusters.on_change(move |cluster| {
        queue.add_which(&context.caches.rackwright_clusters.store, |candidate| {
            contract::owner(&candidate.metadata, "Cluster")
                .is_some_and(|owner| Some(&owner.uid) == cluster.uid().as_ref())
        });
    });
    let (queue, context) = (clusters.clone(), ctx.clone());
    feeds.rackwright_machines.on_change(move |machine| {
        if machine.metadata.deletion_timestamp.is_some() {
            queue.add_which(&context.caches.rackwright_clusters.store, |cluster| {
                cluster.metadata.deletion_timestamp.is_some() && cluster.namespace() == machine.namespace()
            });
        }
    });
    let (queue, context) = (clusters.clone(), ctx.clone());
    feeds.racks.on_change(move |_| add_spread(&queue, &context));
    let (queue, context) = (clusters.clone(), ctx.clone());
    feeds.datacenters.on_change(move |_| add_spread(&queue, &context));
}

fn add_spread(queue: &Queue<RackwrightCluster>, ctx: &Context) {
    queue.add_which(&ctx.caches.rackwright_clusters.store, |cluster| cluster.spec.failure_domains.is_some());
}

/// A pool looks again when one of its own objects changed, when a host of its namespace did (it may be spare now), and
/// when what its hosts are asked for did.
fn for_pools(feeds: &mut Feeds, ctx: &Arc<Context>, pools: &Queue<NodePool>) {
    let queue = pools.clone();
    feeds.pools.on_change(move |pool| queue.add_object(pool));
    let labelled = |queue: Queue<NodePool>| {
        move |namespace: Option<String>, labels: &std::collections::BTreeMap<String, String>| {
            if let Some(pool) = labels.get(POOL_LABEL) {
                queue.add(&namespace.unwrap_or_default(), pool);
            }
        }
    };
    let add = labelled(pools.clone());
    feeds.machines.on_change(move |machine| add(machine.namespace(), machine.labels()));
    let add = labelled(pools.clone());
    feeds.rackwright_machines.on_change(move |machine| add(machine.namespace(), machine.labels()));
    let add = labelled(pools.clone());
    feeds.revisions.on_change(move |revision| add(revision.namespace(), revision.labels()));
    let around = |queue: Queue<NodePool>, context: Arc<Context>| {
        move |namespace: Option<String>| {
            queue.add_which(&context.caches.pools.store, |pool| pool.namespace() == namespace);
        }
    };
    let add = around(pools.clone(), ctx.clone());
    feeds.hosts.on_change(move |host| add(host.namespace()));
    let add = around(pools.clone(), ctx.clone());
    feeds.hardware.on_change(move |hardware| add(hardware.namespace()));
    let add = around(pools.clone(), ctx.clone());
    feeds.clusters.on_change(move |cluster| add(cluster.namespace()));
    let add = around(pools.clone(), ctx.clone());
    feeds.images.on_change(move |image| add(image.namespace()));
    let add = around(pools.clone(), ctx.clone());
    feeds.racks.on_change(move |rack| add(rack.namespace()));
}

fn for_places(
    feeds: &mut Feeds,
    ctx: &Arc<Context>,
    racks: Queue<Rack>,
    datacenters: Queue<Datacenter>,
    regions: Queue<Region>,
) {
    let (all_racks, all_datacenters, all_regions, context) =
        (racks.clone(), datacenters.clone(), regions.clone(), ctx.clone());
    let around = move |namespace: &str, rack: &str| {
        let Some(rack) = crate::kubeio::cached(&context.caches.racks.store, namespace, rack) else { return };
        all_racks.add_object(&rack);
        all_datacenters.add(namespace, &rack.spec.datacenter);
        if let Some(datacenter) =
            crate::kubeio::cached(&context.caches.datacenters.store, namespace, &rack.spec.datacenter)
        {
            all_regions.add(namespace, &datacenter.spec.region);
        }
    };
    feeds.hosts.on_change(move |host| around(&host.namespace().unwrap_or_default(), &host.spec.rack));
    let (queue, context) = (racks.clone(), ctx.clone());
    feeds.datacenters.on_change(move |datacenter| {
        queue.add_which(&context.caches.racks.store, |rack| rack.spec.datacenter == datacenter.name_any());
    });
    feeds.racks.on_change(move |rack| racks.add_object(rack));
    let (queue, context) = (datacenters.clone(), ctx.clone());
    feeds.regions.on_change(move |region| {
        queue.add_which(&context.caches.datacenters.store, |datacenter| datacenter.spec.region == region.name_any());
    });
    feeds.datacenters.on_change(move |datacenter| datacenters.add_object(datacenter));
    feeds.regions.on_change(move |region| regions.add_object(region));
}

/// Wires the bootstrap provider's kind.
pub fn bootstrap(feeds: &mut Feeds, ctx: &Arc<Context>, configs: Queue<RackwrightConfig>) {
    let queue = configs.clone();
    feeds.configs.on_change(move |config| queue.add_object(config));
    let queue = configs.clone();
    feeds.machines.on_change(move |machine| {
        if let Some(reference) =
            machine.spec.bootstrap.config_ref.as_ref().filter(|reference| reference.kind == "RackwrightConfig")
        {
            queue.add(&machine.namespace().unwrap_or_default(), &reference.name);
        }
    });
    let (queue, context) = (configs, ctx.clone());
    feeds.clusters.on_change(move |cluster| {
        let name = cluster.name_any();
        queue.add_which(&context.caches.configs.store, |config| {
            config.labels().get(CLUSTER_NAME_LABEL) == Some(&name) && config.namespace() == cluster.namespace()
        });
    });
}
