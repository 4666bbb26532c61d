//! Picks the one next step for a pool. Pure and total.
//!
//! Order: what is being given up goes first, then the number of hosts, then a machine for every host, then healing, then
//! the rollout, and last the hosts that wait. It never deletes more than its budgets allow, and gives up a host only by way of `spec.release`.

mod choose;
mod rollout;
mod warm;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod warm_tests;
#[cfg(test)]
mod world;

pub use choose::{reasons, takeable};
pub use rollout::{Progress, progress, wanted};
pub use warm::ends as warmth_ends;

use super::view::{HostSeen, LifeSeen, MachineSeen, PoolView, Released};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rackwright_api::pool::HostLife;
use std::collections::HashSet;

/// How long a reservation beyond `replicas` is left alone: the autoscaler reserves first and raises `replicas` then.
const UNCONFIRMED: SignedDuration = SignedDuration::from_secs(60);

/// The one next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is as it should be.
    Rest,
    /// Nobody may touch it.
    Paused,
    /// Nothing to do now.
    Wait(Wait),
    /// Put our finalizer on it.
    Hold,
    /// Record the revision that the spec describes.
    RecordRevision,
    /// Forget a revision that nobody needs any more.
    ForgetRevision {
        /// Its name.
        revision: String,
    },
    /// A revision failed: never use it again.
    FailRevision {
        /// Its name.
        revision: String,
        /// Why.
        why: String,
    },
    /// Hold a free host.
    Reserve {
        /// Its name.
        host: String,
    },
    /// The machine of a life is gone: begin the host's next life with the pool.
    Renew {
        /// Name of the host.
        host: String,
    },
    /// Write down that a life is given up.
    Release {
        /// The life.
        life: HostLife,
        /// Why, for people.
        why: String,
    },
    /// Make what a life still lacks: bootstrap config, RackwrightMachine, Machine.
    Make {
        /// The life.
        life: HostLife,
        /// The revision to make it from.
        revision: String,
    },
    /// Delete a Machine; Cluster API drains its node first.
    Delete {
        /// Name of the Machine.
        machine: String,
        /// Why, for people.
        why: String,
    },
    /// Delete what was made for a life that is over: the Machine, or the RackwrightMachine that never got one.
    DeleteStray {
        /// Name of both.
        machine: String,
    },
    /// Delete a RackwrightMachine that never got a Machine.
    DeleteInfra {
        /// Its name.
        machine: String,
    },
    /// Give a host back.
    Free {
        /// Its name.
        host: String,
    },
    /// Keep a free host warm with the image as it is now.
    Warm {
        /// Its name.
        host: String,
        /// Until when; `None`: as long as the pool wants warm hosts.
        until: Option<Timestamp>,
    },
    /// Keep a host warm no longer.
    Cool {
        /// Its name.
        host: String,
    },
    /// Take what is done out of `spec.release`.
    Prune(Vec<HostLife>),
    /// Say on a Machine that its owner replaces it.
    MarkRemediating {
        /// Name of the Machine.
        machine: String,
        /// Reason for the condition.
        reason: &'static str,
    },
    /// Say on a Machine whether it is of the wanted revision.
    MarkUpToDate {
        /// Name of the Machine.
        machine: String,
        /// Whether.
        up_to_date: bool,
    },
    /// Bring labels, annotations and timeouts of a Machine up to date.
    Propagate {
        /// Name of the Machine.
        machine: String,
    },
    /// Let a deleted pool go.
    LetGo,
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// CamelCase fact.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

fn wait(reason: &'static str, message: impl Into<String>) -> Step {
    Step::Wait(Wait { reason, message: message.into() })
}

/// The one next step for the pool in `view`.
pub fn decide(view: &PoolView, now: Timestamp) -> Step {
    if view.paused || (view.spec.paused && !view.deleting) {
        return Step::Paused; // also while it is deleted: clusterctl move deletes what it has moved
    }
    if view.deleting {
        return leave(view);
    }
    if !view.held {
        return Step::Hold;
    }
    match view.cluster_ready {
        None => return wait("ClusterMissing", format!("Cluster {} (spec.clusterName)", view.spec.cluster_name)),
        Some(false) => {
            return wait("WaitingForCluster", format!("the infrastructure of cluster {}", view.spec.cluster_name));
        }
        Some(true) => {}
    }
    if !view.revisions.iter().any(|revision| revision.name == view.revision) {
        return Step::RecordRevision;
    }
    let released = Released::of(&view.spec);
    prune(view)
        .or_else(|| give_up(view, |host, life| released.has(host, life)))
        .or_else(|| stray(view))
        .or_else(|| rollout::fail(view, now))
        .or_else(|| lost(view))
        .or_else(|| rollout::give_back(view))
        .or_else(|| size(view, now))
        .or_else(|| furnish(view))
        .or_else(|| heal(view))
        .or_else(|| rollout::replace(view, now))
        .or_else(|| tell(view))
        .or_else(|| rollout::forget(view))
        .or_else(|| warm::keep(view, now))
        .unwrap_or_else(|| rest(view, now))
}

/// A deleted pool: its machines go, then its hosts, then the pool.
fn leave(view: &PoolView) -> Step {
    let step = give_up(view, |_, _| true).or_else(|| stray(view)).or_else(|| warm::all_cold(view));
    let empty = view.machines.is_empty() && view.lives().next().is_none();
    match step {
        Some(step) => step,
        None if empty => Step::LetGo,
        None => wait("DeletingMachines", format!("{} machines to be drained and wiped", view.machines.len())),
    }
}

fn prune(view: &PoolView) -> Option<Step> {
    let held: HashSet<_> = view.lives().map(|(host, life)| (host.name.as_str(), life.id.as_str())).collect();
    let stands = |released: &HostLife| held.contains(&(released.host.as_str(), released.id.as_str()));
    let done = view.spec.release.iter().any(|released| !stands(released));
    done.then(|| Step::Prune(view.spec.release.iter().filter(|released| stands(released)).cloned().collect()))
}

/// Lives that `gone` picks: Machine, then RackwrightMachine, then the hold on the host.
fn give_up(view: &PoolView, gone: impl Fn(&HostSeen, &LifeSeen) -> bool) -> Option<Step> {
    view.lives().filter(|(host, life)| gone(host, life)).find_map(|(host, life)| match view.machine_of(life) {
        Some(machine) if machine.deleting => None,
        Some(machine) => Some(Step::Delete {
            machine: machine.name.clone(),
            why: if view.deleting { "the pool is deleted".into() } else { "its host is given up".into() },
        }),
        None if life.infra_exists => Some(Step::DeleteInfra { machine: life.machine.clone() }),
        None => Some(Step::Free { host: host.name.clone() }),
    })
}

/// Made for a life of a host that the pool does not hold any more: the hold was taken back, by whoever wrote it, while the
/// machine was being made. No host is behind it, and none ever will be.
fn stray(view: &PoolView) -> Option<Step> {
    let names: HashSet<_> = view.lives().map(|(_, life)| &life.machine).collect();
    let machines = view.machines.iter().filter(|machine| !machine.deleting).map(|machine| &machine.name);
    let mut made = machines.chain(&view.infra);
    made.find(|name| !names.contains(name)).map(|name| Step::DeleteStray { machine: name.clone() })
}

/// A host that no machine can claim any more is given up, and another takes its place.
fn lost(view: &PoolView) -> Option<Step> {
    kept(view).into_iter().find_map(|(host, life)| {
        let refusal = life.unclaimable.filter(|_| !life.claimed)?;
        let machine = view.machine_of(life);
        (refusal.is_lasting() && machine.is_none_or(|machine| !machine.has_node))
            .then(|| Step::Release { life: life.of(host), why: format!("it is {}", refusal.as_text()) })
    })
}

/// Lives that stay.
pub(in crate::pool) fn kept(view: &PoolView) -> Vec<(&HostSeen, &LifeSeen)> {
    let released = Released::of(&view.spec);
    view.lives().filter(|(host, life)| !released.has(host, life)).collect()
}

fn size(view: &PoolView, now: Timestamp) -> Option<Step> {
    let have = count(kept(view).iter());
    let want = view.spec.replicas;
    let surge = rollout::surge(view, now);
    if have < want + surge {
        return choose::best(view).map(|host| Step::Reserve { host: host.name.clone() });
    }
    if have > want + surge {
        return choose::victim(view, now, UNCONFIRMED)
            .map(|(host, life, why)| Step::Release { life: life.of(host), why });
    }
    None
}

/// A machine for every host that is held.
fn furnish(view: &PoolView) -> Option<Step> {
    let revision = &wanted(view).name;
    kept(view).into_iter().find_map(|(host, life)| match view.machine_of(life) {
        Some(_) => None,
        None if life.ended => life.free_again().then(|| Step::Renew { host: host.name.clone() }),
        None => Some(Step::Make { life: life.of(host), revision: revision.clone() }),
    })
}

impl LifeSeen {
    /// The last machine's traces are gone and the host can be claimed anew.
    fn free_again(&self) -> bool {
        !self.claimed && self.unclaimable.is_none()
    }
}

/// The owner's side of a MachineHealthCheck: so many at a time, the ones that a person asked for and the newest first.
fn heal(view: &PoolView) -> Option<Step> {
    let budget = resolve(view.spec.max_remediating.as_ref(), view.spec.replicas, true).unwrap_or(1).max(1);
    let of = |(host, life)| view.machine_of(life).map(|machine| (host, life, machine));
    let in_flight = view.machines.iter().filter(|machine| machine.deleting && machine.unhealthy).count()
        + view.machines.iter().filter(|machine| !machine.deleting && turn(machine)).count();
    let mut sick: Vec<_> = kept(view).into_iter().filter_map(of).filter(|(.., machine)| is_sick(machine)).collect();
    sick.sort_by_key(|(.., machine)| (std::cmp::Reverse(machine.created), machine.name.clone()));
    if let Some((host, life, _)) = sick.iter().find(|(.., machine)| turn(machine)) {
        let life = life.of(host);
        return Some(Step::Release { life, why: "its machine is unhealthy".into() });
    }
    let free = usize::try_from(budget).unwrap_or_default().saturating_sub(in_flight);
    sick.iter().enumerate().find_map(|(place, (.., machine))| {
        let reason = if place < free { "MachineDeleting" } else { "RemediationDeferred" };
        (machine.remediation.as_deref() != Some(reason))
            .then(|| Step::MarkRemediating { machine: machine.name.clone(), reason })
    })
}

fn is_sick(machine: &MachineSeen) -> bool {
    machine.unhealthy && machine.remediation.is_some() && !machine.deleting
}

fn turn(machine: &MachineSeen) -> bool {
    is_sick(machine) && machine.remediation.as_deref() == Some("MachineDeleting")
}

/// What Machines are told: whether they are of the wanted revision, and what may change in place.
fn tell(view: &PoolView) -> Option<Step> {
    let revision = wanted(view).name.clone();
    view.machines.iter().filter(|machine| !machine.deleting).find_map(|machine| {
        let up_to_date = machine.revision == revision;
        if machine.up_to_date != Some(up_to_date) {
            Some(Step::MarkUpToDate { machine: machine.name.clone(), up_to_date })
        } else if !machine.propagated {
            Some(Step::Propagate { machine: machine.name.clone() })
        } else {
            None
        }
    })
}

fn rest(view: &PoolView, now: Timestamp) -> Step {
    let missing = view.spec.replicas - count(kept(view).iter());
    if missing > 0 {
        return wait("NoHostMatches", format!("{missing} hosts; {}", reasons(view)));
    }
    if let Some(message) = progress(view, now).and_then(|progress| progress.waiting_for) {
        return wait("RollingOut", message);
    }
    let going = view.machines.iter().filter(|machine| machine.deleting).count();
    let unready = view.machines.iter().filter(|machine| !machine.deleting && !machine.ready).count();
    match (unready, going) {
        (0, 0) => Step::Rest,
        (0, 1) => wait("MachinesDeleting", "1 machine to be drained and its host wiped"),
        (0, _) => wait("MachinesDeleting", format!("{going} machines to be drained and their hosts wiped")),
        (1, _) => wait("MachinesNotReady", "1 machine to become Ready"),
        _ => wait("MachinesNotReady", format!("{unready} machines to become Ready")),
    }
}

/// As many as the API counts.
pub(in crate::pool) fn count<T>(items: impl Iterator<Item = T>) -> i32 {
    i32::try_from(items.count()).unwrap_or(i32::MAX)
}

/// A count, or a percentage of `replicas`. `None` when absent or not a number.
pub(super) fn resolve(value: Option<&IntOrString>, replicas: i32, up: bool) -> Option<i32> {
    match value? {
        IntOrString::Int(count) => Some((*count).max(0)),
        IntOrString::String(text) => {
            let percent: i32 = text.strip_suffix('%')?.parse().ok()?;
            let hundredfold = replicas.saturating_mul(percent.clamp(0, 100));
            Some(if up { (hundredfold + 99) / 100 } else { hundredfold / 100 })
        }
    }
}
