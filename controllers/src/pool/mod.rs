//! A NodePool: holds so many hosts, keeps a Machine on each, heals them and rolls new revisions out.
//!
//! A hold is a reservation on the Host, written against the version that was read, so two pools can never hold one host.
//! Everything made for one life of a host has one name that follows from it, so that making it twice makes one. It never
//! writes `replicas` and never talks to a BMC or a node: Cluster API runs and drains each Machine.

mod act;
pub mod decide;
pub mod labels;
pub mod observe;
mod record;
pub mod revision;
pub mod view;

use crate::context::Context;
use crate::kubeio::{Error, fresh};
use decide::Step;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use rackwright_api::NodePool;
use std::sync::Arc;
use std::time::Duration;

/// How long changes of hosts and Machines are gathered before a pool is looked at.
pub const GATHER: Duration = Duration::from_millis(200);

/// One pass over one pool.
pub async fn reconcile(pool: Arc<NodePool>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(pool) = fresh(&ctx.client, &ctx.own_writes, &pool).await? else {
        return Ok(Action::await_change());
    };
    let view = observe::observe(&pool, &ctx).await?;
    let now = ctx.clock.now();
    let step = decide::decide(&view, now);
    tracing::debug!(pool = %pool.name_any(), ?step, "decided");
    let outcome = act::act(&pool, &view, &step, &ctx).await;
    record::record(&pool, &view, &step, &outcome, &ctx).await?;
    let rollout = decide::progress(&view, now).and_then(|progress| progress.until);
    let until = rollout.into_iter().chain(decide::warmth_ends(&view)).min();
    Ok(match (&step, &outcome) {
        (_, act::Outcome::Failed(_)) => Action::requeue(Duration::from_secs(1)),
        (Step::LetGo | Step::Paused, _) => Action::await_change(),
        (Step::Rest | Step::Wait(_), _) => {
            let soon = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
            let soon = soon.map_or(Duration::from_secs(20), |soon| soon.min(Duration::from_secs(20)));
            if step == Step::Rest && until.is_none() { Action::await_change() } else { Action::requeue(soon) }
        }
        _ => Action::requeue(Duration::from_millis(20)),
    })
}
