//! Reads what a decision about one cluster may rest on, all of it from caches.

use super::view::ClusterView;
use crate::context::Context;
use crate::kubeio::cached;
use kube::ResourceExt;
use rackwright_api::cluster::{FailureDomain, FailureDomainKind, FailureDomains};
use rackwright_api::common::selects;
use rackwright_api::contract::{self, CLUSTER_NAME_LABEL, MANAGED_BY_ANNOTATION};
use rackwright_api::{CLUSTER_FINALIZER, RackwrightCluster};
use std::collections::BTreeMap;

/// What this pass knows of `cluster`.
pub fn observe(cluster: &RackwrightCluster, ctx: &Context) -> ClusterView {
    let namespace = cluster.namespace().unwrap_or_default();
    let owner = contract::owner(&cluster.metadata, "Cluster").and_then(|owner| {
        cached(&ctx.caches.clusters.store, &namespace, &owner.name)
            .filter(|found| found.uid().as_ref() == Some(&owner.uid))
    });
    let name =
        owner.as_ref().map(|owner| owner.name_any()).or_else(|| cluster.labels().get(CLUSTER_NAME_LABEL).cloned());
    let machines = ctx.caches.rackwright_machines.store.state_filter(|machine| {
        machine.namespace().as_deref() == Some(namespace.as_str())
            && machine.labels().get(CLUSTER_NAME_LABEL) == name.as_ref()
    });
    ClusterView {
        generation: cluster.metadata.generation,
        spec: cluster.spec.clone(),
        status: cluster.status.clone().unwrap_or_default(),
        deleting: cluster.metadata.deletion_timestamp.is_some(),
        held: cluster.finalizers().iter().any(|finalizer| finalizer == CLUSTER_FINALIZER),
        paused: contract::is_paused(&cluster.metadata, owner.as_deref()),
        managed_elsewhere: cluster.annotations().contains_key(MANAGED_BY_ANNOTATION),
        owned: owner.is_some(),
        cluster_endpoint: owner.and_then(|owner| owner.spec.control_plane_endpoint.as_ref()?.known()),
        places: cluster
            .spec
            .failure_domains
            .as_ref()
            .map(|domains| places(domains, &namespace, ctx))
            .unwrap_or_default(),
        machines: if name.is_some() { machines.len() } else { 0 },
    }
}

fn places(domains: &FailureDomains, namespace: &str, ctx: &Context) -> Vec<FailureDomain> {
    let selected = |labels: &BTreeMap<String, String>| selects(Some(&domains.selector), labels);
    let domain = |name: String, attribute: (&str, String)| FailureDomain {
        name,
        control_plane: Some(true),
        attributes: BTreeMap::from([(attribute.0.to_string(), attribute.1)]),
    };
    let here = Some(namespace);
    let mut places: Vec<_> = match domains.from {
        FailureDomainKind::Rack => (ctx.caches.racks.store.state().iter())
            .filter(|rack| rack.namespace().as_deref() == here && selected(rack.labels()))
            .map(|rack| domain(rack.name_any(), ("datacenter", rack.spec.datacenter.clone())))
            .collect(),
        FailureDomainKind::Datacenter => (ctx.caches.datacenters.store.state().iter())
            .filter(|datacenter| datacenter.namespace().as_deref() == here && selected(datacenter.labels()))
            .map(|datacenter| domain(datacenter.name_any(), ("region", datacenter.spec.region.clone())))
            .collect(),
    };
    places.sort_by(|a, b| a.name.cmp(&b.name));
    places
}
