//! Picks the one next step for a cluster. Pure and total.

use super::view::ClusterView;

/// The one next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Somebody else's: nothing is read into it and nothing written.
    Ignore,
    /// Nobody may touch it.
    Paused,
    /// Nothing to do now: condition, reason and sentence.
    Wait(&'static str, &'static str, String),
    /// Hold it with our finalizer.
    Hold,
    /// All is as it should be.
    Rest,
    /// Let a deleted cluster go.
    LetGo,
}

/// The one next step for the cluster in `view`.
pub fn decide(view: &ClusterView) -> Step {
    if view.managed_elsewhere {
        return Step::Ignore;
    }
    if view.paused {
        return Step::Paused;
    }
    if view.deleting {
        return match view.machines {
            0 if view.held => Step::LetGo,
            0 => Step::Ignore,
            machines => {
                Step::Wait("Deleting", "WaitingForMachines", format!("{machines} RackwrightMachines to be deleted"))
            }
        };
    }
    if !view.owned {
        return Step::Wait("EndpointSet", "WaitingForOwner", "the Cluster controller to set itself as owner".into());
    }
    if !view.held {
        return Step::Hold;
    }
    if view.spec.control_plane_endpoint.is_none() && view.cluster_endpoint.is_none() {
        let message =
            "spec.controlPlaneEndpoint, here or on the Cluster: a virtual address or load balancer that you provide";
        return Step::Wait("EndpointSet", "WaitingForEndpoint", message.into());
    }
    if view.spec.failure_domains.is_some() && view.places.is_empty() {
        let message = "racks or datacenters that spec.failureDomains.selector selects; an empty selector selects none";
        return Step::Wait("FailureDomainsReady", "NoPlaceSelected", message.into());
    }
    Step::Rest
}
