//! The life of a host: registered, inspected, available, provisioned, wiped, retired; broken when a person is needed.
//!
//! One pass looks at one host, takes at most one step, and says so in its status. It never claims a host (machines do),
//! and never touches a disk (the agent does, by a signed plan).

pub mod act;
pub mod credentials;
pub mod decide;
pub mod observe;
pub mod pace;
pub mod record;
pub mod view;

use crate::context::Context;
use crate::kubeio::{Error, fresh};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use rackwright_api::Host;
use std::sync::Arc;
use std::time::Duration;

/// One pass over one host.
pub async fn reconcile(host: Arc<Host>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(host) = fresh(&ctx.client, &ctx.own_writes, &host).await? else {
        return Ok(Action::await_change());
    };
    let view = observe::observe(&host, &ctx).await?; // reads only; a BMC that does not answer is data
    let now = ctx.clock.now();
    let step = decide::decide(&view, now, &ctx.limits); // pure, total, one step
    tracing::debug!(host = %host.name_any(), ?step, "decided");
    let outcome = act::act(&host, &view, &step, &ctx).await; // at most one effect
    record::record(&host, &view, &step, &outcome, &ctx).await?; // the only status write
    Ok(Action::requeue(pause(&view, &step, &outcome, &ctx)))
}

/// When to look again without being told of a change.
fn pause(view: &view::HostView, step: &decide::Step, outcome: &act::Outcome, ctx: &Context) -> Duration {
    let limits = &ctx.limits;
    let pause = match (step, outcome) {
        (_, act::Outcome::Failed(_)) => limits.poll_busy,
        (decide::Step::Wait(_), _) if !view.bmc.is_seen() => limits.poll_unreachable,
        (decide::Step::Rest, _) => jitter(view, limits.poll_idle),
        (decide::Step::Wait(wait), _) if wait.idle => jitter(view, limits.poll_idle),
        (decide::Step::Wait(_) | decide::Step::Power(_), _) => limits.poll_busy,
        _ => return Duration::from_millis(20), // something was done: look at what came of it
    };
    pause.try_into().unwrap_or(Duration::from_secs(60))
}

/// Spreads idle looks over time: hosts that were registered together must not be polled together for ever.
fn jitter(view: &view::HostView, pause: jiff::SignedDuration) -> jiff::SignedDuration {
    let share = view.uid.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 1000;
    pause + pause * i32::try_from(share).unwrap_or_default() / 4000
}
