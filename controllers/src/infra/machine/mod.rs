//! A RackwrightMachine: chooses a host, claims it, waits for it, and gives it back wiped.
//!
//! A machine first writes down which host it has chosen (its provider ID) and then claims it, each against the version
//! that was read. So a machine can never hold two hosts and a host never has two machines, whatever a stale cache says.
//! It never talks to a BMC: hosts do what their claim says.

pub mod act;
pub(crate) mod claimed_image;
pub mod decide;
pub mod observe;
pub mod record;
pub mod reserve;
#[cfg(test)]
mod tests;
pub mod view;

use crate::context::Context;
use crate::kubeio::{Error, fresh};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use rackwright_api::RackwrightMachine;
use std::sync::Arc;
use std::time::Duration;

/// One pass over one machine.
pub async fn reconcile(machine: Arc<RackwrightMachine>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(machine) = fresh(&ctx.client, &ctx.own_writes, &machine).await? else {
        return Ok(Action::await_change());
    };
    let view = observe::observe(&machine, &ctx).await?;
    let now = ctx.clock.now();
    let step = decide::decide(&view, now, &ctx.limits);
    tracing::debug!(machine = %machine.name_any(), ?step, "decided");
    let outcome = act::act(&machine, &view, &step, &ctx).await;
    record::record(&machine, &view, &step, &outcome, &ctx).await?;
    Ok(match (&step, &outcome) {
        (_, act::Outcome::Failed(_)) => Action::requeue(Duration::from_secs(1)),
        (decide::Step::Wait(_), _) => Action::requeue(Duration::from_secs(20)),
        (decide::Step::Rest | decide::Step::Paused, _) => Action::await_change(),
        (decide::Step::LetGo, _) => Action::await_change(),
        _ => Action::requeue(Duration::from_millis(20)),
    })
}
