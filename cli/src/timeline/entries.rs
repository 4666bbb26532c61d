//! From objects to what happened. Pure.

use super::{Entry, Source, State, Timeline};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use rackwright_api::host::{AgentStatus, BootWay, EndedTry, Host, Operation, OperationKind, TryOutcome};
use rackwright_api::{RackwrightMachine, conditions};

/// What happened to `host`.
pub fn of_host(host: &Host, events: &[Event]) -> Timeline {
    let status = host.status.clone().unwrap_or_default();
    let phase = status.phase.map_or_else(|| "not looked at yet".into(), |phase| format!("{phase:?}"));
    let power = status.power.map(|power| format!(", power {power}")).unwrap_or_default();
    let health = status.health.filter(|health| health != "OK").map(|health| format!(", {health}")).unwrap_or_default();
    Timeline {
        kind: "host",
        name: host.name_any(),
        host: Some(host.name_any()),
        now: format!("{phase}{power}{health}"),
        waiting_for: status.waiting_for,
        entries: sorted(host_entries(host).into_iter().chain(events.iter().filter_map(event))),
    }
}

/// What happened to `machine`, and since it was made to the host that it has chosen.
pub fn of_machine(machine: &RackwrightMachine, host: Option<&Host>, events: &[Event]) -> Timeline {
    let status = machine.status.clone().unwrap_or_default();
    let created = machine.creation_timestamp().map(|time| time.0);
    let ready = conditions::find(&status.conditions, "Ready");
    let now = match ready {
        Some(ready) if ready.status == "True" => "Ready".to_string(),
        Some(ready) => format!("not Ready ({})", ready.reason),
        None => "not looked at yet".to_string(),
    };
    let made = created.map(|at| entry(at, Source::Machine, State::Done, "machine created".into()));
    let since = created.unwrap_or(Timestamp::MIN);
    let of_host = host.map(host_entries).unwrap_or_default();
    let all = made
        .into_iter()
        .chain(status.conditions.iter().map(|found| condition("machine: ", found)))
        .chain(of_host.into_iter().filter(|entry| entry.ended_at.unwrap_or(entry.at) >= since))
        .chain(events.iter().filter_map(event).filter(|entry| entry.at >= since));
    Timeline {
        kind: "machine",
        name: machine.name_any(),
        host: host.map(ResourceExt::name_any).or(status.host),
        now,
        waiting_for: status.waiting_for,
        entries: sorted(all),
    }
}

fn sorted(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|a, b| (a.at, a.source, &a.what).cmp(&(b.at, b.source, &b.what)));
    entries
}

fn entry(at: Timestamp, source: Source, state: State, what: String) -> Entry {
    Entry { at, ended_at: None, source, state, what }
}

fn host_entries(host: &Host) -> Vec<Entry> {
    let status = host.status.clone().unwrap_or_default();
    let mut entries = orders_and_facts(host);
    entries.extend(status.history.iter().map(ended));
    if let Some(operation) = &status.operation {
        entries.push(current(host, operation));
    }
    if let Some(agent) = &status.agent {
        entries.extend(steps(agent, agent_end(host, agent, &status.history)));
    }
    entries.extend(status.conditions.iter().map(|found| condition("", found)));
    entries
}

/// What stands in the spec with a time of its own.
fn orders_and_facts(host: &Host) -> Vec<Entry> {
    let spec = &host.spec;
    let mut entries = Vec::new();
    let mut push = |at, state, what| entries.push(entry(at, Source::Host, state, what));
    if let Some(claim) = &spec.claim {
        let what = format!(
            "claimed by machine {} of cluster {}, image {}",
            claim.consumer.name, claim.cluster_name, claim.image.name
        );
        push(claim.claimed_at, State::Done, what);
    }
    if let Some(done) = &spec.deployed {
        push(done.at, State::Done, format!("deployed to {}", done.device));
    }
    if let Some(order) = &spec.wipe {
        push(
            order.ordered_at,
            State::Done,
            format!("released by {}: to be wiped ({:?})", order.released_by, order.policy),
        );
    }
    if let Some(done) = &spec.wiped {
        let disks: Vec<_> = done.disks.iter().map(|disk| format!("{} by {}", disk.device, disk.method)).collect();
        push(
            done.at,
            State::Done,
            format!("wiped: {}", if disks.is_empty() { "no disk".into() } else { disks.join(", ") }),
        );
    }
    if let Some(broken) = &spec.broken {
        push(broken.since, State::Failed, format!("broken ({}): {}", broken.reason, broken.message));
    }
    entries
}

fn ended(done: &EndedTry) -> Entry {
    let (state, outcome) = match done.outcome {
        TryOutcome::Succeeded => (State::Done, "succeeded".to_string()),
        TryOutcome::Failed => (State::Failed, "failed".to_string()),
        TryOutcome::Superseded => (State::Done, "not wanted any more".to_string()),
    };
    let reason = done.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    Entry {
        at: done.started_at,
        ended_at: Some(done.ended_at),
        source: Source::Operation,
        state,
        what: format!("{}: {outcome}{reason}", tried(done.kind, done.attempt, done.way)),
    }
}

fn current(host: &Host, operation: &Operation) -> Entry {
    let named = tried(operation.kind, operation.attempt, operation.booted_by());
    let failure = agent_of(host, operation).and_then(|agent| agent.failure.as_ref());
    let (state, ended_at, how) = match (result_time(host, operation), failure) {
        (Some(at), _) => (State::Done, Some(at), "its result is there".to_string()),
        (None, Some(failure)) => (State::Failed, None, format!("failed ({}): {}", failure.reason, failure.message)),
        (None, None) => {
            (State::Running, None, format!("{:?}, is given up at {}", operation.stage, clock(operation.deadline)))
        }
    };
    Entry { at: operation.started_at, ended_at, source: Source::Operation, state, what: format!("{named}: {how}") }
}

fn tried(kind: OperationKind, attempt: i32, way: Option<BootWay>) -> String {
    let what = match kind {
        OperationKind::Inspect => "inspection",
        OperationKind::Deploy => "deployment",
        OperationKind::Prepare => "preparation",
        OperationKind::Wipe => "wipe",
        OperationKind::PowerOn => "power-on",
    };
    let way = way.map(|way| format!(" by {way:?}")).unwrap_or_default();
    format!("{what}, try {attempt}{way}")
}

fn agent_of<'a>(host: &'a Host, operation: &Operation) -> Option<&'a AgentStatus> {
    host.status.as_ref()?.agent.as_ref().filter(|agent| agent.operation_id == operation.id)
}

fn result_time(host: &Host, operation: &Operation) -> Option<Timestamp> {
    let deployed = host.spec.deployed.as_ref().map(|done| (&done.operation_id, done.at));
    let wiped = host.spec.wiped.as_ref().map(|done| (&done.operation_id, done.at));
    let result = [deployed, wiped].into_iter().flatten().find(|(id, _)| **id == operation.id).map(|(_, at)| at);
    result.or_else(|| agent_of(host, operation)?.prepared_at)
}

/// When the agent's work was over; absent while it goes on.
fn agent_end(host: &Host, agent: &AgentStatus, history: &[EndedTry]) -> Option<Timestamp> {
    let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
    if let Some(operation) = operation.filter(|operation| operation.id == agent.operation_id) {
        return result_time(host, operation);
    }
    let deployed = host.spec.deployed.as_ref().map(|done| (&done.operation_id, done.at));
    let wiped = host.spec.wiped.as_ref().map(|done| (&done.operation_id, done.at));
    let result = [deployed, wiped].into_iter().flatten().find(|(id, _)| **id == agent.operation_id);
    let its_try = history.iter().find(|done| (done.started_at..=done.ended_at).contains(&agent.since));
    // A try that nobody remembers: the step is told without a length.
    Some(result.map(|(_, at)| at).or(its_try.map(|done| done.ended_at)).unwrap_or(agent.since))
}

fn steps(agent: &AgentStatus, end: Option<Timestamp>) -> Vec<Entry> {
    let mut entries = vec![entry(agent.since, Source::Agent, State::Done, "agent called home".into())];
    for (index, step) in agent.steps.iter().enumerate() {
        let next = agent.steps.get(index + 1).map(|next| next.since);
        let ended_at = next.or(end).filter(|ended| *ended >= step.since);
        let (state, how_far) = match (ended_at, &agent.failure) {
            (Some(_), _) => (State::Done, String::new()),
            (None, Some(failure)) => (State::Failed, format!(", then gave up ({})", failure.reason)),
            (None, None) => (State::Running, progress(agent, &step.step)),
        };
        let what = format!("agent: {}{how_far}", step.step);
        entries.push(Entry { at: step.since, ended_at, source: Source::Agent, state, what });
    }
    entries
}

fn progress(agent: &AgentStatus, step: &str) -> String {
    if agent.step.as_deref() != Some(step) {
        return String::new();
    }
    let percent = agent.percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
    let rate = agent.bytes_per_second.map(|rate| format!(" ({})", super::draw::rate(rate))).unwrap_or_default();
    percent + &rate
}

fn condition(of: &str, condition: &Condition) -> Entry {
    let (state, became) = match condition.status.as_str() {
        "True" => (State::Done, "is so"),
        "False" => (State::Done, "is not so"),
        _ => (State::Done, "cannot be told"),
    };
    let message = if condition.message.is_empty() { String::new() } else { format!(": {}", condition.message) };
    let what = format!("{of}{} {became} ({}){message}", condition.type_, condition.reason);
    entry(condition.last_transition_time.0, Source::Condition, state, what)
}

fn event(event: &Event) -> Option<Entry> {
    let last = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let at = event.event_time.as_ref().map(|time| time.0);
    let at = at.or(event.first_timestamp.as_ref().map(|time| time.0))?;
    let last = last.or(event.last_timestamp.as_ref().map(|time| time.0)).filter(|last| *last > at);
    let times = event.series.as_ref().and_then(|series| series.count).or(event.count).filter(|times| *times > 1);
    let times = times.map(|times| format!(" ({times} times)")).unwrap_or_default();
    let state = if event.type_.as_deref() == Some("Warning") { State::Failed } else { State::Done };
    let (reason, note) = (event.reason.clone().unwrap_or_default(), event.message.clone().unwrap_or_default());
    Some(Entry { at, ended_at: last, source: Source::Event, state, what: format!("event {reason}: {note}{times}") })
}

/// Time of day, UTC.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}
