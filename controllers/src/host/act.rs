//! Does the one effect of a step. Decides nothing; what it cannot do it says in the outcome.

use super::decide::Step;
use super::observe::{connect, media_url};
use super::view::{HostView, Problem};
use crate::context::Context;
use crate::kubeio::{self, Error, cached, manager};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use rackwright_api::{HOST_FINALIZER, Host, INSPECT_ANNOTATION, REPAIRED_ANNOTATION};
use rackwright_bmc::Bmc;
use serde_json::json;
use std::sync::Arc;

/// What came of a step.
#[derive(Debug)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// It is done; for a write to the host: the host as it is now.
    Done(Option<Box<Host>>),
    /// It could not be done; the next pass looks again.
    Failed(Problem),
}

/// Does the one effect of `step`.
pub async fn act(host: &Host, view: &HostView, step: &Step, ctx: &Context) -> Outcome {
    let done = match step {
        Step::Rest | Step::Wait(_) | Step::Record(_) | Step::Finish => return Outcome::Nothing, // recorded, not done
        Step::Power(_) | Step::InsertMedia | Step::EjectMedia | Step::SetBoot(_) => {
            return on_bmc(host, view, step, ctx).await;
        }
        Step::Hold => hold(host, Some(HOST_FINALIZER), ctx).await,
        Step::LetGo => hold(host, None, ctx).await,
        Step::Break(broken) => apply(host, manager::BREAK, json!({ "spec": { "broken": broken } }), ctx).await,
        Step::Mend => mend(host, view, ctx).await,
        Step::Inspected => take_off(host, INSPECT_ANNOTATION, ctx).await,
        Step::DropClaim => apply(host, manager::CLAIM, json!({ "spec": {} }), ctx).await,
        Step::OrderWipe(order) => apply(host, manager::CLAIM, json!({ "spec": { "wipe": order } }), ctx).await,
    };
    match done {
        Ok(host) => Outcome::Done(Some(Box::new(host))),
        Err(why) => Outcome::Failed(Problem { reason: "WriteFailed", message: why.to_string() }),
    }
}

async fn on_bmc(host: &Host, view: &HostView, step: &Step, ctx: &Context) -> Outcome {
    if let Step::Power(target) = step
        && !ctx.power_orders.is_due(&view.uid, *target, ctx.clock.now(), ctx.limits.power_repeat)
    {
        return Outcome::Nothing; // it was told a moment ago
    }
    let bmc = match reach(host, ctx).await {
        Ok(bmc) => bmc,
        Err(problem) => return Outcome::Failed(problem),
    };
    let done = match (step, &view.place, &view.status.operation) {
        (Step::Power(target), ..) => bmc.set_power(*target).await,
        (Step::SetBoot(device), ..) => bmc.set_boot(*device).await,
        (Step::EjectMedia, ..) => bmc.eject_media().await,
        (Step::InsertMedia, Ok(place), Some(operation)) => {
            bmc.insert_media(&media_url(host, place, operation, ctx)).await
        }
        _ => Ok(()), // media without an operation: decide does not ask for that
    };
    match done {
        Ok(()) => Outcome::Done(None),
        Err(error) => Outcome::Failed(Problem { reason: "BMCDidNotDoIt", message: without_url(&error.to_string()) }),
    }
}

/// The media's URL is a secret, and BMCs like to quote what they were sent.
fn without_url(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| if word.contains("/media/") { "(media URL) " } else { word })
        .collect()
}

async fn reach(host: &Host, ctx: &Context) -> Result<Arc<dyn Bmc>, Problem> {
    let namespace = host.namespace().unwrap_or_default();
    let gone = |what: &str| Problem { reason: "PlaceMissing", message: format!("{what} went away") };
    let rack = cached(&ctx.caches.racks.store, &namespace, &host.spec.rack).ok_or_else(|| gone("the rack"))?;
    let datacenter = cached(&ctx.caches.datacenters.store, &namespace, &rack.spec.datacenter)
        .ok_or_else(|| gone("the datacenter"))?;
    connect(host, &namespace, &rack, &datacenter, ctx)
        .await
        .map_err(|why| Problem { reason: "APIServerSilent", message: why.to_string() })?
}

async fn apply(host: &Host, manager: &str, fields: serde_json::Value, ctx: &Context) -> Result<Host, Error> {
    kubeio::apply(&ctx.client, manager, host, fields).await
}

async fn hold(host: &Host, finalizer: Option<&str>, ctx: &Context) -> Result<Host, Error> {
    kubeio::apply_finalizer(&ctx.client, manager::HOST, host, finalizer, json!({})).await
}

async fn mend(host: &Host, view: &HostView, ctx: &Context) -> Result<Host, Error> {
    if let Some(what) = &view.repaired {
        ctx.events.normal(host, "Repaired", format!("A person mended it: {what}")).await;
        let host = apply(host, manager::BREAK, json!({}), ctx).await?;
        return take_off(&host, REPAIRED_ANNOTATION, ctx).await;
    }
    apply(host, manager::BREAK, json!({}), ctx).await
}

/// A person put the annotation there with a manager of their own, so it is taken off by a merge.
async fn take_off(host: &Host, annotation: &str, ctx: &Context) -> Result<Host, Error> {
    let api = Api::<Host>::namespaced(ctx.client.clone(), &host.namespace().unwrap_or_default());
    let patch =
        json!({ "metadata": { "resourceVersion": host.resource_version(), "annotations": { annotation: null } } });
    Ok(api.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?)
}

#[cfg(test)]
mod tests {
    use super::without_url;

    #[test]
    fn a_media_url_in_what_a_bmc_says_is_left_out() {
        let said = "could not fetch https://10.0.0.1/media/ns/host/op/secret.img : timed out";
        assert_eq!(without_url(said), "could not fetch (media URL) : timed out");
    }
}
