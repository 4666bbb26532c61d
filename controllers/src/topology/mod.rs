//! Regions, datacenters and racks: how many hosts they hold and how those are, summed up in their status.
//!
//! Counts come from caches and are written at most once in a few seconds per place, and only when they changed.

use crate::context::Context;
use crate::kubeio::{self, Error, Kind, cached, manager};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use rackwright_api::conditions::{Said, is_true, merge};
use rackwright_api::host::Phase;
use rackwright_api::topology::PlaceStatus;
use rackwright_api::{Datacenter, Host, Rack, Region};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long changes of hosts are gathered before a place is written.
pub const GATHER: Duration = Duration::from_secs(5);

/// Sums up one rack.
pub async fn reconcile_rack(rack: Arc<Rack>, ctx: Arc<Context>) -> Result<Action, Error> {
    let namespace = rack.namespace().unwrap_or_default();
    let ready = match cached(&ctx.caches.datacenters.store, &namespace, &rack.spec.datacenter) {
        Some(_) => Said::yes("Ready", "DatacenterFound", ""),
        None => Said::no(
            "Ready",
            "DatacenterMissing",
            format!("Datacenter {} (spec.datacenter) does not exist", rack.spec.datacenter),
        ),
    };
    let racks = HashSet::from([rack.name_any()]);
    record(rack.as_ref(), rack.status.as_ref(), &namespace, &racks, ready, &ctx).await
}

/// Sums up one datacenter.
pub async fn reconcile_datacenter(datacenter: Arc<Datacenter>, ctx: Arc<Context>) -> Result<Action, Error> {
    let namespace = datacenter.namespace().unwrap_or_default();
    let ready = match cached(&ctx.caches.regions.store, &namespace, &datacenter.spec.region) {
        Some(_) => Said::yes("Ready", "RegionFound", ""),
        None => Said::no(
            "Ready",
            "RegionMissing",
            format!("Region {} (spec.region) does not exist", datacenter.spec.region),
        ),
    };
    let racks = racks_in(&namespace, |name| name == datacenter.name_any(), &ctx);
    record(datacenter.as_ref(), datacenter.status.as_ref(), &namespace, &racks, ready, &ctx).await
}

/// Sums up one region.
pub async fn reconcile_region(region: Arc<Region>, ctx: Arc<Context>) -> Result<Action, Error> {
    let namespace = region.namespace().unwrap_or_default();
    let datacenters: HashSet<_> = (ctx.caches.datacenters.store.state().iter())
        .filter(|datacenter| {
            datacenter.namespace().as_deref() == Some(&namespace) && datacenter.spec.region == region.name_any()
        })
        .map(|datacenter| datacenter.name_any())
        .collect();
    let racks = racks_in(&namespace, |name| datacenters.contains(name), &ctx);
    let ready = Said::yes("Ready", "Known", "");
    record(region.as_ref(), region.status.as_ref(), &namespace, &racks, ready, &ctx).await
}

fn racks_in(namespace: &str, datacenter: impl Fn(&str) -> bool, ctx: &Context) -> HashSet<String> {
    (ctx.caches.racks.store.state().iter())
        .filter(|rack| rack.namespace().as_deref() == Some(namespace) && datacenter(&rack.spec.datacenter))
        .map(|rack| rack.name_any())
        .collect()
}

async fn record<K: Kind>(
    place: &K,
    before: Option<&PlaceStatus>,
    namespace: &str,
    racks: &HashSet<String>,
    ready: Said,
    ctx: &Context,
) -> Result<Action, Error> {
    let hosts = ctx
        .caches
        .hosts
        .store
        .state_filter(|host| host.namespace().as_deref() == Some(namespace) && racks.contains(&host.spec.rack));
    let mut status = count(&hosts);
    let old = before.cloned().unwrap_or_default();
    status.observed_generation = place.meta().generation;
    status.conditions = merge(&old.conditions, &[ready], place.meta().generation, ctx.clock.now());
    if status != old {
        kubeio::apply_status(&ctx.client, manager::PLACES, place, &status).await?;
    }
    Ok(Action::await_change())
}

/// How many hosts there are and how they are. Pure.
fn count(hosts: &[Arc<Host>]) -> PlaceStatus {
    let mut status = PlaceStatus { hosts: i32::try_from(hosts.len()).unwrap_or(i32::MAX), ..PlaceStatus::default() };
    for host in hosts.iter().filter_map(|host| host.status.as_ref()) {
        match host.phase {
            Some(Phase::Available) if is_true(&host.conditions, "Available") => status.available += 1,
            Some(Phase::Provisioned) => status.provisioned += 1,
            Some(Phase::Broken) => status.broken += 1,
            _ => {}
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn host(phase: &str, available: &str) -> Arc<Host> {
        let host = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "metadata": { "name": "a" },
            "spec": { "rack": "a", "bmc": { "address": "https://10.1.1.7" }, "bootMACAddress": "52:54:00:00:00:01" },
            "status": { "phase": phase, "conditions": [{
                "type": "Available", "status": available, "reason": "R", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        });
        Arc::new(serde_json::from_value(host).expect("a Host"))
    }

    #[test]
    fn a_host_that_cannot_be_claimed_is_not_counted_as_available() {
        let counted = count(&[host("Available", "True"), host("Available", "False"), host("Broken", "False")]);
        assert_eq!((counted.hosts, counted.available, counted.broken), (3, 1, 1));
    }
}
