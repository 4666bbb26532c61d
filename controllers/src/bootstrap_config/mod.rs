//! A RackwrightConfig: the user-data of one worker, in a Secret, with a token that works as long as it is needed.
//!
//! It makes data once: later changes of the spec have no effect on a node. It never hands the data out (the boot service
//! does), and holds no finalizer: its Secret goes with it, and its token ends by itself.

pub mod act;
pub mod data;
pub mod decide;
pub mod grants;
pub mod input;
pub mod observe;
pub mod record;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod view;
pub mod workload;

use crate::context::Context;
use crate::kubeio::{Error, fresh};
use act::Outcome;
use decide::Step;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use observe::Handles;
use rackwright_api::RackwrightConfig;
use std::sync::Arc;
use std::time::Duration;
use view::ConfigView;
pub use workload::Workloads;

/// One pass over one config.
pub async fn reconcile(config: Arc<RackwrightConfig>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(config) = fresh(&ctx.client, &ctx.own_writes, &config).await? else {
        return Ok(Action::await_change());
    };
    let (view, handles) = observe::observe(&config, &ctx).await?; // reads only
    let now = ctx.clock.now();
    let step = decide::decide(&view, now, ctx.limits.join_token); // pure, total, one step
    tracing::debug!(config = config.name_any(), ?step, "decided");
    let outcome = act::act(&config, &step, &handles, &ctx).await?; // at most one effect
    record::record(&config, &view, &step, &outcome, &ctx).await?; // the only status write
    Ok(next(&view, &step, &outcome, &handles, now, &ctx))
}

/// When to look again without being told of a change.
fn next(view: &ConfigView, step: &Step, outcome: &Outcome, handles: &Handles, now: Timestamp, ctx: &Context) -> Action {
    let settled = view.machine.as_ref().is_none_or(|machine| machine.joined || machine.deleting);
    let quiet = record::quiet_for(view, step, now, ctx.limits.quiet);
    match (step, outcome) {
        (_, Outcome::Done) => after(SignedDuration::from_millis(20)), // look at what came of it
        (_, Outcome::Failed(_)) | (Step::Stale(..), _) => after(retry(handles, now, ctx)),
        (Step::Wait(_) | Step::Refuse(_), _) if view.further.is_some() => after(retry(handles, now, ctx)),
        (Step::Wait(_), _) if quiet.is_positive() => after(quiet),
        (Step::Published(_), _) if !settled => after(until_due(view, now, ctx)),
        _ => Action::await_change(), // all it waits for is watched
    }
}

/// When a workload cluster that failed is tried again; else soon, for something that nobody watches.
fn retry(handles: &Handles, now: Timestamp, ctx: &Context) -> SignedDuration {
    let again = handles.cluster_key().and_then(|(namespace, cluster)| ctx.workloads.again(&namespace, &cluster));
    again.map(|again| again.duration_since(now)).unwrap_or_default().max(SignedDuration::from_secs(10))
}

/// When the token is to be renewed: when half of its life is over.
fn until_due(view: &ConfigView, now: Timestamp, ctx: &Context) -> SignedDuration {
    let half = ctx.limits.join_token / 2;
    let left = view.token_seen_until.map_or(half, |until| until.duration_since(now) - half);
    left.max(SignedDuration::from_secs(1))
}

fn after(pause: SignedDuration) -> Action {
    Action::requeue(Duration::try_from(pause).unwrap_or_default())
}
