//! Does the one effect of a step. Decides nothing; what it cannot do it says in the outcome.

use super::decide::Step;
use super::observe::{connect, media_url};
use super::view::{HostView, Problem};
use crate::context::Context;
use crate::kubeio::{self, Error, cached, manager};
use kube::ResourceExt;
use kube::api::Api;
use rackwright_api::{HOST_FINALIZER, Host, INSPECT_ANNOTATION, REPAIRED_ANNOTATION};
use rackwright_bmc::{Bmc, BootDevice};
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
        Step::Rest | Step::Wait(_) | Step::Record(_) | Step::Retry(..) | Step::Finish => return Outcome::Nothing, // recorded, not done
        Step::Power(_) | Step::InsertMedia | Step::EjectMedia | Step::SetBoot(_) => {
            return on_bmc(host, view, step, ctx).await;
        }
        Step::Hold => kubeio::hold(&ctx.client, manager::HOST, host, HOST_FINALIZER, json!({})).await,
        Step::LetGo => kubeio::let_go(&ctx.client, manager::HOST, host, HOST_FINALIZER).await,
        Step::Break(broken) => apply(host, manager::BREAK, json!({ "spec": { "broken": broken } }), ctx).await,
        Step::Mend => mend(host, view, ctx).await,
        Step::Inspected => take_off(host, INSPECT_ANNOTATION, ctx).await,
        Step::OrderWipe(order) => {
            let fields = json!({ "spec": { "claim": null, "wipe": order } });
            kubeio::merge(&ctx.client, manager::CLAIM, host, fields).await
        }
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
    if matches!(step, Step::Power(_))
        && let Err(problem) = still_as_decided(host, ctx).await
    {
        return Outcome::Failed(problem);
    }
    let bmc = match reach(host, ctx).await {
        Ok(bmc) => bmc,
        Err(problem) => return Outcome::Failed(problem),
    };
    let done = match (step, &view.place, &view.status.operation) {
        (Step::Power(target), ..) => bmc.set_power(*target).await,
        (Step::SetBoot(BootDevice::Http), Ok(place), Some(operation)) => {
            bmc.set_http_boot(&media_url(host, place, operation, ctx)).await
        }
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

/// Forgets the fault and the person's word in one write: a word that stayed behind would undo the next fault at once. A
/// host in which nothing runs is looked at anew, for what was done to it may have changed what it is made of.
async fn mend(host: &Host, view: &HostView, ctx: &Context) -> Result<Host, Error> {
    if let Some(what) = view.repaired.as_ref().filter(|_| host.spec.broken.is_some()) {
        ctx.events.normal(host, "Repaired", format!("A person mended it: {what}")).await;
    }
    let mut annotations = json!({ REPAIRED_ANNOTATION: null });
    if host.spec.broken.is_some() && host.spec.claim.is_none() {
        annotations[INSPECT_ANNOTATION] = json!("repaired");
    }
    let fields = json!({ "metadata": { "annotations": annotations }, "spec": { "broken": null } });
    kubeio::merge(&ctx.client, manager::BREAK, host, fields).await
}

/// A person put the annotation there with a manager of their own, so it is taken off by a merge.
async fn take_off(host: &Host, annotation: &str, ctx: &Context) -> Result<Host, Error> {
    kubeio::merge(&ctx.client, manager::HOST, host, json!({ "metadata": { "annotations": { annotation: null } } }))
        .await
}

/// Power cannot be taken back and no version guards it, so the host is asked for once more: a process that lost the lead
/// without knowing it, or that slept, must not act on what it remembers.
async fn still_as_decided(host: &Host, ctx: &Context) -> Result<(), Problem> {
    let api = Api::<Host>::namespaced(ctx.client.clone(), &host.namespace().unwrap_or_default());
    let now = api.get_opt(&host.name_any()).await;
    match now {
        Ok(Some(now)) if now.resource_version() == host.resource_version() && now.uid() == host.uid() => Ok(()),
        Ok(_) => Err(Problem { reason: "HostChanged", message: "the host changed since it was looked at".into() }),
        Err(why) => Err(Problem { reason: "APIServerSilent", message: why.to_string() }),
    }
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
