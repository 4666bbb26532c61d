//! Does the one effect of a step. Decides nothing.

use super::decide::Step;
use super::view::MachineView;
use crate::context::Context;
use crate::kubeio::{self, Error, Kind, manager};
use kube::{Api, ResourceExt};
use rackwright_api::host::Claim;
use rackwright_api::machine::ProviderId;
use rackwright_api::{Host, MACHINE_FINALIZER, RackwrightMachine};
use serde_json::{Value, json};

/// What came of a step.
#[derive(Debug)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// It is done.
    Done,
    /// It could not be done; the next pass looks again.
    Failed(String),
}

/// Does the one effect of `step`.
pub async fn act(machine: &RackwrightMachine, view: &MachineView, step: &Step, ctx: &Context) -> Outcome {
    let done = match step {
        Step::Rest | Step::Paused | Step::Wait(_) => return Outcome::Nothing,
        Step::Choose { id, host_uid } => {
            if !ctx.reservations.reserve(host_uid, &id.host, &view.uid, ctx.clock.now()) {
                return Outcome::Failed(format!("host {} was chosen by another machine a moment ago", id.host));
            }
            let fields = json!({ "spec": { "providerID": id.to_string() } });
            note(kubeio::hold(&ctx.client, manager::MACHINE, machine, MACHINE_FINALIZER, fields).await, ctx)
        }
        Step::Unchoose { why } => {
            ctx.reservations.release(&view.uid);
            ctx.events.normal(machine, "HostLost", format!("{why}; another is chosen")).await;
            let fields = json!({ "spec": { "providerID": null } });
            note(kubeio::merge(&ctx.client, manager::MACHINE, machine, fields).await, ctx)
        }
        Step::LetGo if !view.held => return Outcome::Nothing,
        Step::LetGo => note(kubeio::let_go(&ctx.client, manager::MACHINE, machine, MACHINE_FINALIZER).await, ctx),
        Step::Claim(claim) => take(machine, claim, ctx).await,
        Step::Release(order) => give_back(view, json!({ "spec": { "claim": null, "wipe": order } }), ctx).await,
    };
    match done {
        Ok(()) => Outcome::Done,
        Err(why) => Outcome::Failed(why.to_string()),
    }
}

fn note<K: Kind>(written: Result<K, Error>, ctx: &Context) -> Result<(), Error> {
    ctx.own_writes.note(&written?);
    Ok(())
}

/// Claims the host, if the machine still stands by its choice: a cache may show a choice that was taken back since.
async fn take(machine: &RackwrightMachine, claim: &Claim, ctx: &Context) -> Result<(), Error> {
    let (namespace, name) = (machine.namespace().unwrap_or_default(), machine.name_any());
    let now = Api::<RackwrightMachine>::namespaced(ctx.client.clone(), &namespace).get_opt(&name).await?;
    let stands = now.is_some_and(|now| {
        now.uid() == machine.uid()
            && now.metadata.deletion_timestamp.is_none()
            && now.spec.provider_id.as_ref() == Some(&claim.provider_id)
    });
    if !stands {
        return Err(Error::Conflict);
    }
    let id = ProviderId::parse(&claim.provider_id).ok_or(Error::Conflict)?;
    let host = Api::<Host>::namespaced(ctx.client.clone(), &id.namespace).get(&id.host).await?;
    let held = host.spec.reservation.as_ref().is_some_and(|reservation| reservation.id != id.machine_uid);
    if host.spec.claim.is_some() || held {
        return Err(Error::Conflict);
    }
    // From here on the agent of a warm host waits for this claim, and for nobody else.
    let fields = json!({ "spec": { "claim": claim, "wipe": null, "warm": null } });
    note(kubeio::merge(&ctx.client, manager::CLAIM, &host, fields).await, ctx)
}

async fn give_back(view: &MachineView, fields: Value, ctx: &Context) -> Result<(), Error> {
    let id = view.spec.provider_id.as_deref().and_then(ProviderId::parse).ok_or(Error::Conflict)?;
    let host = Api::<Host>::namespaced(ctx.client.clone(), &id.namespace).get(&id.host).await?;
    if !host.spec.is_claimed_by(&view.namespace, &view.name, &id.to_string()) {
        return Err(Error::Conflict);
    }
    note(kubeio::merge(&ctx.client, manager::CLAIM, &host, fields).await, ctx)
}
