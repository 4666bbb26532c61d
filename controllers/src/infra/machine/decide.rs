//! Picks the one next step for a machine. Pure and total.

use super::claimed_image;
use super::view::{Chosen, HostSeen, MachineView};
use crate::context::Limits;
use jiff::Timestamp;
use rackwright_api::common::{LocalReference, UidReference};
use rackwright_api::host::{Claim, ClaimedImage, WipeOrder};
use rackwright_api::machine::ProviderId;
use rackwright_placement::{self as place, Reasons};

/// The one next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// All is as it should be.
    Rest,
    /// Nobody may touch it.
    Paused,
    /// Nothing to do now.
    Wait(Wait),
    /// Write down that this host was chosen, and hold the machine with our finalizer; in one write.
    Choose {
        /// The choice.
        id: ProviderId,
        /// UID of the host.
        host_uid: String,
    },
    /// The chosen host went to another machine: choose anew.
    Unchoose {
        /// Why.
        why: String,
    },
    /// Claim the chosen host.
    Claim(Box<Claim>),
    /// Give the host back: its claim becomes an order to wipe it.
    Release(WipeOrder),
    /// Let a deleted machine go.
    LetGo,
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Condition that it belongs to.
    pub condition: &'static str,
    /// CamelCase fact.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

fn wait(condition: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Step {
    Step::Wait(Wait { condition, reason: reason.into(), message: message.into() })
}

/// The one next step for the machine in `view`.
pub fn decide(view: &MachineView, now: Timestamp, limits: &Limits) -> Step {
    match pick(view, now, limits) {
        // A pool's machine stands or falls with the host that the pool reserved: the pool replaces it.
        Step::Unchoose { why } if view.pooled => wait("HostClaimed", "HostNotClaimable", why),
        step => step,
    }
}

fn pick(view: &MachineView, now: Timestamp, limits: &Limits) -> Step {
    if view.paused {
        return Step::Paused; // also while it is deleted: clusterctl move deletes what it has moved
    }
    if view.deleting {
        return leave(view, now, limits);
    }
    let Some(owner) = &view.owner else {
        return wait("HostClaimed", "WaitingForOwner", "the Machine controller to set itself as owner");
    };
    let Some(cluster) = &view.cluster else {
        return wait(
            "HostClaimed",
            "WaitingForCluster",
            "the Cluster named by the label cluster.x-k8s.io/cluster-name",
        );
    };
    match &view.host {
        HostSeen::NotChosen if view.pooled => {
            wait("HostClaimed", "WaitingForPool", "its node pool, which chooses the host; it was made without one")
        }
        HostSeen::NotChosen => {
            if !cluster.infrastructure_provisioned {
                return wait(
                    "HostClaimed",
                    "WaitingForCluster",
                    format!("the infrastructure of cluster {}", cluster.name),
                );
            }
            if owner.data_secret.is_none() {
                return wait(
                    "BootstrapDataReady",
                    "WaitingForBootstrapData",
                    "the bootstrap provider to make the user-data",
                );
            }
            choose(view, owner.failure_domain.as_deref())
        }
        HostSeen::Foreign(id) => {
            wait("HostClaimed", "ForeignProviderID", format!("spec.providerID {id} is not of this machine; remove it"))
        }
        HostSeen::Missing(id) if view.status.host.is_none() => {
            Step::Unchoose { why: format!("host {} does not exist", id.host) }
        }
        HostSeen::Missing(id) => wait(
            "HostClaimed",
            "HostGone",
            format!("host {} was deleted while the machine used it; delete the Machine", id.host),
        ),
        HostSeen::There(host) if host.claim.is_none() && !cluster.infrastructure_provisioned => {
            wait("HostClaimed", "WaitingForCluster", format!("the infrastructure of cluster {}", cluster.name))
        }
        HostSeen::There(host) => with_host(view, host, &cluster.name, owner.data_secret.as_deref(), now),
    }
}

fn choose(view: &MachineView, failure_domain: Option<&str>) -> Step {
    let Some(image) = &view.image else { return image_not_found(view) };
    if let Err(why) = claimed_image::resolve(view, image) {
        return wait("HostClaimed", "ImageInvalid", why); // before a host is chosen, which others could use meanwhile
    }
    match place::choose(&view.spec, Some(image.spec.architecture), failure_domain, &view.candidates) {
        Ok(host) => Step::Choose {
            id: ProviderId {
                namespace: view.namespace.clone(),
                host: host.name.clone(),
                machine_uid: view.uid.clone(),
            },
            host_uid: host.uid.clone(),
        },
        Err(reasons) => wait("HostClaimed", "NoHostMatches", no_host(&reasons)),
    }
}

fn image_not_found(view: &MachineView) -> Step {
    wait("HostClaimed", "ImageNotFound", format!("OSImage {} (spec.image) does not exist", view.spec.image.name))
}

fn no_host(reasons: &Reasons) -> String {
    format!("a host; {reasons}")
}

fn with_host(view: &MachineView, host: &Chosen, cluster: &str, data_secret: Option<&str>, now: Timestamp) -> Step {
    match &host.claim {
        claim if view.holds(claim.as_ref()) => mine(host),
        Some(claim) => Step::Unchoose { why: format!("host {} went to machine {}", host.id.host, claim.consumer.name) },
        None => match (&host.claimable, &view.image, data_secret) {
            (Ok(()), Some(image), Some(secret)) => match claimed_image::resolve(view, image) {
                Ok(image) => Step::Claim(Box::new(claim(view, host, cluster, secret, image, now))),
                Err(why) => wait("HostClaimed", "ImageInvalid", why),
            },
            (Ok(()), None, _) => image_not_found(view),
            (Ok(()), _, None) => {
                wait("BootstrapDataReady", "WaitingForBootstrapData", "the bootstrap provider to make the user-data")
            }
            (Err(why), ..) => Step::Unchoose { why: format!("host {} is {why}", host.id.host) },
        },
    }
}

fn claim(view: &MachineView, host: &Chosen, cluster: &str, secret: &str, image: ClaimedImage, now: Timestamp) -> Claim {
    Claim {
        consumer: UidReference { namespace: view.namespace.clone(), name: view.name.clone(), uid: view.uid.clone() },
        cluster_name: cluster.to_string(),
        image,
        user_data: LocalReference { name: secret.to_string() },
        hostname: view.name.clone(),
        provider_id: host.id.to_string(),
        claimed_at: now,
    }
}

fn mine(host: &Chosen) -> Step {
    use rackwright_api::host::Phase;
    if let Some(broken) = &host.broken {
        let message =
            format!("host {} is broken ({}); delete the Machine to have it replaced", host.id.host, broken.message);
        return wait(if host.deployed { "Ready" } else { "Provisioned" }, broken.reason.clone(), message);
    }
    match (host.deployed, host.phase, &host.troubles) {
        (true, Some(Phase::Provisioned), _) => Step::Rest,
        (_, _, Some((reason, message))) => {
            wait("Provisioned", reason.clone(), format!("host {}: {message}", host.id.host))
        }
        _ => wait("Provisioned", "Provisioning", format!("host {} to be provisioned", host.id.host)),
    }
}

/// A deleted machine: the host is given back, wiped, and then the machine goes. It goes as well when the host is broken
/// (off and kept out of use, its disks wait for a person) or when the time for it is over: a dead BMC holds nobody for ever.
fn leave(view: &MachineView, now: Timestamp, limits: &Limits) -> Step {
    let HostSeen::There(host) = &view.host else { return Step::LetGo };
    if view.holds(host.claim.as_ref()) {
        return Step::Release(WipeOrder {
            claim_uid: host.id.machine_uid.clone(),
            released_by: view.name.clone(),
            policy: view.spec.wipe.clone().unwrap_or_default().policy,
            ordered_at: now,
        });
    }
    let Some(order) = host.wipe.as_ref().filter(|order| order.claim_uid == host.id.machine_uid) else {
        return Step::LetGo;
    };
    if host.wiped || host.broken.is_some() || now >= order.ordered_at + limits.release {
        return Step::LetGo;
    }
    let what = host.waiting_for.clone().unwrap_or_else(|| "its wipe to begin".into());
    wait("Deleting", "WaitingForWipe", format!("host {}: {what}", host.id.host))
}
