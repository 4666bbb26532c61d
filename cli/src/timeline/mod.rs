//! `rackwright timeline HOST|MACHINE`: what happened, when, how long it took, and what is waited for.
//!
//! Reads only. `entries` makes the list from the objects, `draw` shows it; both are pure.

mod draw;
mod entries;

use crate::access::Access;
use crate::output::{Absent, Output};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use rackwright_api::machine::ProviderId;
use rackwright_api::{Host, RackwrightMachine, contract};
use serde::Serialize;

/// Tells what happened to a host or a machine, and what it waits for.
#[derive(Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    access: Access,
    /// Name of a Host, a RackwrightMachine or a Machine; `host/NAME` or `machine/NAME` when several have it.
    name: String,
    /// Text for people, or JSON or YAML for scripts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// What is told of one host or machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// `host` or `machine`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The host it is about; absent when the machine has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How it is now, in a few words.
    pub now: String,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What happened, oldest first.
    pub entries: Vec<Entry>,
}

/// One thing that happened or goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it began.
    pub at: Timestamp,
    /// When it ended; absent for what happened at once, and for what goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it is about.
    pub source: Source,
    /// How it stands.
    pub state: State,
    /// In words.
    pub what: String,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The machine.
    Machine,
    /// The host's claim, wipe order, results.
    Host,
    /// Work by way of the ramdisk.
    Operation,
    /// A step of the agent in such work.
    Agent,
    /// A condition that changed.
    Condition,
    /// A Kubernetes Event.
    Event,
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It happened, or succeeded.
    Done,
    /// It goes on.
    Running,
    /// It failed, or tells of a failure.
    Failed,
}

/// Prints the timeline.
pub async fn run(args: TimelineArgs) -> anyhow::Result<()> {
    let (client, namespace) = args.access.client().await?;
    let timeline = read(&client, &namespace, &args.name).await?;
    print!("{}", args.output.of(&timeline, |timeline| draw::draw(timeline, Timestamp::now()))?);
    Ok(())
}

async fn read(client: &Client, namespace: &str, wanted: &str) -> anyhow::Result<Timeline> {
    let (kind, name) = wanted.split_once('/').map_or((None, wanted), |(kind, name)| (Some(kind), name));
    anyhow::ensure!(
        matches!(kind, None | Some("host" | "machine")),
        "{wanted:?}: say host/NAME, machine/NAME or just NAME"
    );
    let hosts = Api::<Host>::namespaced(client.clone(), namespace);
    if kind != Some("machine")
        && let Some(host) = hosts.get_opt(name).await?
    {
        let events = events(client, namespace, "Host", name).await;
        return Ok(entries::of_host(&host, &events));
    }
    if kind != Some("host")
        && let Some(machine) = find_machine(client, namespace, name).await?
    {
        let id = machine.spec.provider_id.as_deref().and_then(ProviderId::parse);
        let host = match &id {
            Some(id) => hosts.get_opt(&id.host).await?,
            None => None,
        };
        let mut events = events(client, namespace, "RackwrightMachine", &machine.name_any()).await;
        if let Some(host) = &host {
            events.extend(self::events(client, namespace, "Host", &host.name_any()).await);
        }
        return Ok(entries::of_machine(&machine, host.as_ref(), &events));
    }
    let what = match kind {
        Some("host") => "Host",
        Some(_) => "RackwrightMachine or Machine",
        None => "Host, RackwrightMachine or Machine",
    };
    Err(Absent(format!(
        "namespace {namespace} has no {what} {name}; `kubectl get hosts,rackwrightmachines -A` lists what there is"
    ))
    .into())
}

/// By its own name, or by that of the Machine it belongs to.
async fn find_machine(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Option<RackwrightMachine>> {
    let machines = Api::<RackwrightMachine>::namespaced(client.clone(), namespace);
    if let Some(machine) = machines.get_opt(name).await? {
        return Ok(Some(machine));
    }
    let owned = |machine: &RackwrightMachine| {
        contract::owner(&machine.metadata, "Machine").is_some_and(|owner| owner.name == name)
    };
    Ok(machines.list(&ListParams::default()).await?.into_iter().find(owned))
}

/// Events fade after an hour, and not everybody may read them: without, the timeline is only less complete.
async fn events(client: &Client, namespace: &str, kind: &str, name: &str) -> Vec<Event> {
    let about = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    match events.list(&ListParams::default().fields(&about)).await {
        Ok(list) => list.items,
        Err(why) => {
            tracing::warn!(%why, "Events cannot be read; the timeline is told without them");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;
