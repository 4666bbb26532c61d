//! Picks the one next step for a config. Pure and total.
//!
//! In this order: leave alone what is not to be touched; take over what a Machine already uses (a moved cluster has lost
//! its status); wait for the cluster; allow nodes to join; write the data; make the token that is in it; publish. So
//! whatever a crash interrupts is found and taken up by the next pass, and nothing is published that does not work.

use super::grants::Grant;
use super::tokens::is_due;
use super::view::{ClusterView, ConfigView, Data, Further, MachineView, Problem, Token};
use jiff::{SignedDuration, Timestamp};

/// The one next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It or its Machine is going: nothing has to be undone, since its Secret goes with it and its token ends by itself.
    Ignore,
    /// Nobody may touch it.
    Paused,
    /// There is no data yet, and nothing to do about it now but wait.
    Wait(Problem),
    /// There is no data, and will be none before a person changes something.
    Refuse(Problem),
    /// Give nodes these rights in the workload cluster.
    Allow(Vec<&'static Grant>),
    /// Write the Secret with the data, and a new token in it.
    CreateData,
    /// Take that Secret away: its token cannot be used, and nobody has seen it.
    DiscardData,
    /// Make the token in the workload cluster, or give it a new end.
    ApplyToken,
    /// Take the token back: nobody needs it any more.
    RevokeToken,
    /// The data is in the Secret of this name, and all is as it should be.
    Published(String),
    /// The data is in the Secret of this name, but its token cannot be kept alive.
    Stale(String, Problem),
}

/// The one next step for the config in `view`. `life` is that of a token.
pub fn decide(view: &ConfigView, now: Timestamp, life: SignedDuration) -> Step {
    if let Some(step) = gate(view, now, life) {
        return step;
    }
    match (&view.further, view.published()) {
        (Some(further), Some(name)) => keep(name, further, now, life),
        (Some(further), None) => make(&view.name, further, now, life),
        (None, _) => Step::Ignore, // not reached: what the gate lets through is read
    }
}

/// The step that follows without asking the workload cluster and without reading a Secret, if one does.
pub fn gate(view: &ConfigView, now: Timestamp, life: SignedDuration) -> Option<Step> {
    if view.deleting {
        return Some(Step::Ignore);
    }
    if view.paused {
        return Some(Step::Paused);
    }
    let Some(machine) = &view.machine else {
        return Some(wait("WaitingForMachine", "a Machine to own this RackwrightConfig"));
    };
    if let Some(name) = view.published() {
        return rest(name, machine, view.token_seen_until, now, life);
    }
    if let Some(name) = &machine.data_secret_name {
        return Some(Step::Published(name.clone()));
    }
    if machine.deleting {
        return Some(Step::Ignore);
    }
    if machine.control_plane {
        return Some(Step::Refuse(Problem {
            reason: "ControlPlaneNotSupported",
            message: "a RackwrightConfig makes workers only; use a KubeadmConfig or KubeadmControlPlane here".into(),
        }));
    }
    cluster_gate(view.cluster.as_ref())
}

fn cluster_gate(cluster: Option<&ClusterView>) -> Option<Step> {
    let Some(cluster) = cluster else {
        return Some(wait("WaitingForCluster", "the Cluster of its Machine, which does not exist"));
    };
    if !cluster.infrastructure_provisioned {
        return Some(wait("WaitingForClusterInfrastructure", "the Cluster's infrastructure to be provisioned"));
    }
    if !cluster.control_plane_initialized {
        return Some(wait("WaitingForControlPlane", "the Cluster's control plane to be initialized"));
    }
    if !cluster.endpoint_known {
        return Some(wait("WaitingForEndpoint", "spec.controlPlaneEndpoint of the Cluster"));
    }
    None
}

/// What is published stays. `None`: its token is needed, and must be looked at.
fn rest(
    name: &str,
    machine: &MachineView,
    seen_until: Option<Timestamp>,
    now: Timestamp,
    life: SignedDuration,
) -> Option<Step> {
    match seen_until {
        Some(_) if machine.joined || machine.deleting => Some(Step::RevokeToken),
        None if machine.joined || machine.deleting => Some(Step::Published(name.to_owned())),
        Some(until) if !is_due(until, now, life) => Some(Step::Published(name.to_owned())),
        _ => None,
    }
}

/// Keeps the token of published data alive while its Machine waits for a host.
fn keep(name: &str, further: &Further, now: Timestamp, life: SignedDuration) -> Step {
    let stale = |problem| Step::Stale(name.to_owned(), problem);
    match (further.data, &further.workload, further.token) {
        (Data::Foreign | Data::Spoiled, ..) => Step::Published(name.to_owned()), // no token of ours is in it
        (Data::Absent, ..) => stale(Problem {
            reason: "DataSecretMissing",
            message: format!("Secret {name} is gone; bring it back, or delete the Machine to have it replaced"),
        }),
        (Data::Ours, Err(problem), _) => stale(Problem {
            reason: problem.reason,
            message: format!("the join token cannot be looked after: {}", problem.message),
        }),
        (Data::Ours, Ok(missing), _) if !missing.is_empty() => Step::Allow(missing.clone()),
        (Data::Ours, Ok(_), Token::Taken) => stale(Problem {
            reason: "TokenReplaced",
            message: "somebody replaced the join token; delete the Machine to have it replaced with a new one".into(),
        }),
        (Data::Ours, Ok(_), Token::Until(until)) if !is_due(until, now, life) => Step::Published(name.to_owned()),
        (Data::Ours, Ok(_), Token::Absent | Token::Until(_)) => Step::ApplyToken,
    }
}

/// Makes the data, in an order in which every crash is harmless.
fn make(name: &str, further: &Further, now: Timestamp, life: SignedDuration) -> Step {
    match (&further.workload, further.data, further.token) {
        (Err(problem), ..) => Step::Wait(problem.clone()),
        (Ok(missing), ..) if !missing.is_empty() => Step::Allow(missing.clone()),
        (Ok(_), Data::Absent, _) => Step::CreateData,
        (Ok(_), Data::Foreign, _) => Step::Refuse(Problem {
            reason: "DataSecretNameTaken",
            message: format!("Secret {name} exists and belongs to somebody else; delete it, or this Machine"),
        }),
        (Ok(_), Data::Spoiled, _) | (Ok(_), Data::Ours, Token::Taken) => Step::DiscardData,
        (Ok(_), Data::Ours, Token::Until(until)) if !is_due(until, now, life) => Step::Published(name.to_owned()),
        (Ok(_), Data::Ours, Token::Absent | Token::Until(_)) => Step::ApplyToken,
    }
}

fn wait(reason: &'static str, message: &str) -> Step {
    Step::Wait(Problem { reason, message: message.to_owned() })
}
