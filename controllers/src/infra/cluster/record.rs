//! Says how the cluster is: the only write of its status, and only when something changed.

use super::decide::Step;
use super::view::ClusterView;
use crate::context::Context;
use crate::kubeio::{self, Error, manager};
use jiff::Timestamp;
use rackwright_api::RackwrightCluster;
use rackwright_api::cluster::{ClusterInitialization, RackwrightClusterStatus};
use rackwright_api::conditions::{Said, merge};

/// Writes the status of `cluster` if it is not what it was.
pub async fn record(cluster: &RackwrightCluster, view: &ClusterView, step: &Step, ctx: &Context) -> Result<(), Error> {
    let status = status(view, step, ctx.clock.now());
    if *step == Step::Ignore || status == view.status {
        return Ok(());
    }
    let written = kubeio::apply_status(&ctx.client, manager::CLUSTER, cluster, &status).await?;
    ctx.own_writes.note(&written);
    Ok(())
}

/// The status that follows from what was seen and decided. Pure.
pub fn status(view: &ClusterView, step: &Step, now: Timestamp) -> RackwrightClusterStatus {
    let before = view.status.initialization.as_ref().and_then(|before| before.provisioned).unwrap_or_default();
    let provisioned = before || *step == Step::Rest; // latched
    let waits = |kind: &str| match step {
        Step::Wait(condition, reason, message) if *condition == kind => Some((*reason, message.clone())),
        _ => None,
    };
    let condition = |kind: &'static str, reason: &'static str, message: String| match waits(kind) {
        Some((reason, message)) => Said::no(kind, reason, message),
        None => Said::yes(kind, reason, message),
    };
    let ready = match step {
        _ if view.deleting => Said::no("Ready", "Deleting", ""),
        Step::Wait(_, reason, message) => Said::no("Ready", *reason, message.clone()),
        _ if provisioned => Said::yes("Ready", "Provisioned", ""),
        _ => Said::no("Ready", "Paused", ""),
    };
    let mut said = vec![
        condition("EndpointSet", "EndpointGiven", String::new()),
        condition("FailureDomainsReady", "PlacesPublished", format!("{} places", view.places.len())),
        ready,
        match step {
            Step::Paused => Said::yes("Paused", "Paused", "the Cluster or this object is paused"),
            _ => Said::no("Paused", "NotPaused", ""),
        },
    ];
    if view.deleting {
        let (reason, message) = waits("Deleting").unwrap_or(("Deleting", String::new()));
        said.push(Said::yes("Deleting", reason, message));
    }
    RackwrightClusterStatus {
        initialization: provisioned.then_some(ClusterInitialization { provisioned: Some(true) }),
        failure_domains: view.places.clone(),
        conditions: merge(&view.status.conditions, &said, view.generation, now),
    }
}
