//! A RackwrightCluster: says where the API server answers and which places are failure domains, and goes after its machines.
//!
//! It makes no load balancer and no address: the endpoint is given by a person, here or on the Cluster.

pub mod decide;
pub mod observe;
pub mod record;
#[cfg(test)]
mod tests;
pub mod view;

use crate::context::Context;
use crate::kubeio::{self, Error, fresh, manager};
use kube::runtime::controller::Action;
use rackwright_api::{CLUSTER_FINALIZER, RackwrightCluster};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// One pass over one cluster.
pub async fn reconcile(cluster: Arc<RackwrightCluster>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(cluster) = fresh(&ctx.client, &ctx.own_writes, &cluster).await? else {
        return Ok(Action::await_change());
    };
    let view = observe::observe(&cluster, &ctx);
    let step = decide::decide(&view);
    let cluster = cluster.as_ref();
    let written = match &step {
        decide::Step::Hold => {
            kubeio::hold(&ctx.client, manager::CLUSTER, cluster, CLUSTER_FINALIZER, json!({})).await?
        }
        decide::Step::LetGo => kubeio::let_go(&ctx.client, manager::CLUSTER, cluster, CLUSTER_FINALIZER).await?,
        _ => {
            record::record(cluster, &view, &step, &ctx).await?;
            return Ok(Action::requeue(Duration::from_secs(300)));
        }
    };
    ctx.own_writes.note(&written);
    Ok(Action::requeue(Duration::from_millis(20)))
}
