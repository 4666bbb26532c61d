//! How a new revision reaches the nodes: few first, never more missing than allowed, and back when it fails.

use super::super::view::{HostSeen, LifeSeen, MachineSeen, PoolView, RevisionSeen};
use super::{Step, count, kept, resolve};
use jiff::{SignedDuration, Timestamp};
use rackwright_api::pool::{OnFailure, Rollout, Strategy};
use std::collections::BTreeSet;

/// The revision that the pool's nodes are to have: the one that the spec describes, or the newest good one before it once
/// that failed.
pub fn wanted(view: &PoolView) -> RevisionSeen {
    let described = view.revisions.iter().find(|revision| revision.name == view.revision);
    let unknown = || RevisionSeen { name: view.revision.clone(), number: 0, failed: None };
    match described {
        Some(revision) if revision.failed.is_some() && rollout(view).on_failure == OnFailure::Rollback => {
            before(view).cloned().unwrap_or_else(|| revision.clone())
        }
        Some(revision) => revision.clone(),
        None => unknown(),
    }
}

/// The newest revision other than the described one that has not failed.
fn before(view: &PoolView) -> Option<&RevisionSeen> {
    let good = |revision: &&RevisionSeen| revision.name != view.revision && revision.failed.is_none();
    view.revisions.iter().filter(good).max_by_key(|revision| revision.number)
}

fn rollout(view: &PoolView) -> Rollout {
    view.spec.rollout.clone().unwrap_or_default()
}

/// A host that stays, with what runs on it.
struct Life<'a> {
    host: &'a HostSeen,
    life: &'a LifeSeen,
    machine: Option<&'a MachineSeen>,
    /// Its machine is to be replaced.
    outdated: bool,
}

impl Life<'_> {
    /// Since when its machine is available; a machine that goes is not.
    fn available(&self) -> Option<Timestamp> {
        self.machine.filter(|machine| !machine.deleting)?.available
    }
}

fn lives(view: &PoolView) -> Vec<Life<'_>> {
    let revision = wanted(view).name;
    let look = |(host, life)| {
        let machine = view.machine_of(life);
        let outdated = machine.is_some_and(|machine| machine.revision != revision && !machine.deleting);
        Life { host, life, machine, outdated }
    };
    kept(view).into_iter().map(look).collect()
}

fn max_unavailable(view: &PoolView) -> i32 {
    let rollout = rollout(view);
    let in_place = rollout.strategy == Strategy::InPlace;
    let set = resolve(rollout.max_unavailable.as_ref(), view.spec.replicas, false);
    let count = set.unwrap_or(i32::from(in_place));
    if count == 0 && (in_place || max_surge(view) == 0) { 1 } else { count }
}

fn max_surge(view: &PoolView) -> i32 {
    let rollout = rollout(view);
    match rollout.strategy {
        Strategy::Surge => resolve(rollout.max_surge.as_ref(), view.spec.replicas, true).unwrap_or(1),
        Strategy::InPlace | Strategy::OnDelete => 0,
    }
}

/// Where a canary stands: how many of the new revision there may be, and what it waits for.
struct Allowed {
    count: i32,
    step: Option<String>,
    waiting_for: Option<String>,
    until: Option<Timestamp>,
}

fn allowed(view: &PoolView, lives: &[Life<'_>], now: Timestamp) -> Allowed {
    let all = Allowed { count: i32::MAX, step: None, waiting_for: None, until: None };
    let rollout = rollout(view);
    let Some(canary) = rollout.canary.filter(|_| wanted(view).name == view.revision && before(view).is_some()) else {
        return all;
    };
    let mut since: Vec<_> = lives.iter().filter(|life| !life.outdated).filter_map(Life::available).collect();
    since.sort();
    for step in &canary.steps {
        let percent = |percent: i32| (view.spec.replicas.saturating_mul(percent) + 99) / 100;
        let count = step.count.or(step.percent.map(percent)).unwrap_or(1).max(1);
        let name = step.percent.map_or_else(|| count.to_string(), |percent| format!("{percent} %"));
        let Some(last) = usize::try_from(count - 1).ok().and_then(|last| since.get(last)) else {
            let waiting = format!("{} of {count} machines of the new revision to be Available", since.len());
            return Allowed { count, step: Some(name), waiting_for: Some(waiting), until: None };
        };
        let until = *last + SignedDuration::from_secs(step.soak_seconds);
        if now < until {
            let clock = until.strftime("%H:%M:%S").to_string();
            let waiting = format!("soaking until {clock}");
            return Allowed { count, step: Some(name), waiting_for: Some(waiting), until: Some(until) };
        }
    }
    all
}

/// A new revision that failed too often is never used again.
pub(super) fn fail(view: &PoolView, now: Timestamp) -> Option<Step> {
    let revision = wanted(view);
    let canary = rollout(view).canary?;
    if revision.name != view.revision || revision.failed.is_some() || before(view).is_none() {
        return None;
    }
    let timeout = SignedDuration::from_secs(canary.timeout_seconds);
    let failed = |machine: &&MachineSeen| {
        let late = machine.available.is_none() && now.duration_since(machine.created) >= timeout;
        machine.revision == revision.name && !machine.deleting && (late || machine.unhealthy)
    };
    let failed: Vec<_> = view.machines.iter().filter(failed).map(|machine| machine.name.as_str()).collect();
    (i64::try_from(failed.len()).unwrap_or(i64::MAX) > i64::from(canary.max_failures)).then(|| Step::FailRevision {
        revision: revision.name,
        why: format!("{} did not become or stay Available", failed.join(", ")),
    })
}

/// The oldest revision beyond those that are kept. The one that is wanted, the one to go back to and those of Machines
/// are always kept.
pub(super) fn forget(view: &PoolView) -> Option<Step> {
    const KEPT: usize = 10;
    let limit = view.spec.revision_history_limit.map_or(KEPT, |limit| usize::try_from(limit).unwrap_or_default());
    let (wanted, before) = (wanted(view).name, before(view).map(|revision| &revision.name));
    let needed = |revision: &&RevisionSeen| {
        revision.name == view.revision
            || revision.name == wanted
            || Some(&revision.name) == before
            || view.machines.iter().any(|machine| machine.revision == revision.name)
    };
    let old: Vec<_> = view.revisions.iter().filter(|revision| !needed(revision)).collect();
    let oldest = old.iter().min_by_key(|revision| revision.number).filter(|_| old.len() > limit)?;
    Some(Step::ForgetRevision { revision: oldest.name.clone() })
}

fn stands_still(view: &PoolView) -> bool {
    let rollout = rollout(view);
    let failed = view.revisions.iter().any(|revision| revision.name == view.revision && revision.failed.is_some());
    rollout.paused
        || rollout.strategy == Strategy::OnDelete
        || (failed && (rollout.on_failure == OnFailure::Pause || before(view).is_none()))
}

/// How many hosts the rollout may hold on top of `replicas` now. What it holds already stays until an old machine goes.
pub(super) fn surge(view: &PoolView, now: Timestamp) -> i32 {
    if stands_still(view) {
        return 0;
    }
    let lives = lives(view);
    let outdated = count(lives.iter().filter(|life| life.outdated));
    let room = allowed(view, &lives, now).count.saturating_sub(count(lives.iter()) - outdated);
    max_surge(view).min(outdated).min(room.max(in_use(view)).max(0))
}

/// Hosts held on top of `replicas`.
fn in_use(view: &PoolView) -> i32 {
    (count(kept(view).iter()) - view.spec.replicas).max(0)
}

/// A new machine is there: an old one goes.
pub(super) fn give_back(view: &PoolView) -> Option<Step> {
    if stands_still(view) || max_surge(view) == 0 || in_use(view) == 0 {
        return None;
    }
    let lives = lives(view);
    let enough = view.spec.replicas - max_unavailable(view);
    let spared = count(lives.iter().filter_map(Life::available)) > enough;
    let outdated = lives.iter().filter(|life| life.outdated && (spared || life.available().is_none()));
    let old = outdated.min_by_key(|life| life.available().is_some())?;
    Some(Step::Release { life: old.life.of(old.host), why: "a machine of the new revision takes its place".into() })
}

/// The next machine to be replaced on its own host, if the budgets allow one.
pub(super) fn replace(view: &PoolView, now: Timestamp) -> Option<Step> {
    if stands_still(view) {
        return None;
    }
    let lives = lives(view);
    let spare = view.hosts.iter().any(|host| host.is_spare());
    let surges = max_surge(view) > 0;
    if surges && (spare || in_use(view) > 0) {
        return None; // by way of a spare host: see `surge`
    }
    let budget = if surges { max_unavailable(view).max(1) } else { max_unavailable(view) };
    let outdated: Vec<_> = lives.iter().filter(|life| life.outdated).collect();
    let moving: Vec<_> = lives.iter().filter(|life| life.available().is_none()).collect();
    if count(lives.iter()) - count(outdated.iter()) >= allowed(view, &lives, now).count {
        return None;
    }
    // One that is not available costs nothing; of the others, only within one place at a time if the nodes are spread.
    let missing = count(moving.iter()) + (view.spec.replicas - count(lives.iter())).max(0);
    let busy: BTreeSet<&String> = match view.spec.spread {
        Some(_) => moving.iter().flat_map(|life| &life.host.domains).collect(),
        None => BTreeSet::new(),
    };
    let same_place =
        |life: &&&Life<'_>| busy.is_empty() || life.host.domains.iter().any(|domain| busy.contains(domain));
    let next = outdated.iter().find(|life| life.available().is_none()).or_else(|| {
        let budget = missing < budget;
        outdated.iter().filter(|_| budget).filter(same_place).min_by_key(|life| (&life.host.domains, &life.host.name))
    })?;
    let machine = next.machine?;
    Some(Step::Delete { machine: machine.name.clone(), why: "its host is reimaged with the new revision".into() })
}

/// Where a rollout stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// One short phrase.
    pub text: String,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// When that is over, if the clock says so.
    pub until: Option<Timestamp>,
}

/// Where the rollout stands; `None` when every machine is of the wanted revision.
pub fn progress(view: &PoolView, now: Timestamp) -> Option<Progress> {
    let lives = lives(view);
    let revision = wanted(view);
    let new = lives.iter().filter(|life| life.machine.is_some_and(|machine| machine.revision == revision.name)).count();
    let outdated = lives.iter().filter(|life| life.outdated).count();
    let failed = view.revisions.iter().find(|found| found.name == view.revision).and_then(|found| found.failed.clone());
    let of = format!("{new} of {}", lives.len());
    let say = |text: String, waiting_for, until| Some(Progress { text, waiting_for, until });
    match (failed, outdated) {
        (Some(_), 0) => say(format!("rolled back to {}", revision.name), None, None),
        (Some(why), _) if stands_still(view) => say(format!("failed at {of}"), Some(format!("a person: {why}")), None),
        (Some(_), _) => say(format!("rolling back: {of}"), Some(format!("{outdated} machines to go back")), None),
        (None, 0) => None,
        (None, _) if rollout(view).paused => say(format!("paused at {of}"), Some("a person to resume it".into()), None),
        (None, _) if rollout(view).strategy == Strategy::OnDelete => say(format!("on delete: {of}"), None, None),
        (None, _) => {
            let at = allowed(view, &lives, now);
            let default = format!("{outdated} machines to be replaced");
            let text = at.step.map_or_else(|| of.clone(), |step| format!("canary {step}: {of}"));
            say(text, at.waiting_for.or(Some(default)), at.until)
        }
    }
}
