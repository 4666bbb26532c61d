//! The labels that a pool's nodes register with because of where they stand and what was found in them.
//!
//! The autoscaler promises the same labels for nodes that do not exist yet, so they are made here and nowhere else. Labels
//! that a person asked for go before them.

use rackwright_api::hardware::{Facts, hardware_class};
use rackwright_api::{ACCELERATOR_LABEL, DATACENTER_LABEL, RACK_LABEL, Rack};
use std::collections::BTreeMap;

/// The label that says what fails together (Kubernetes, "Well-Known Labels"): for us that is the rack.
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// Labels of a node on a host in the rack named `rack`, in `region`, whatever pool it is of.
pub fn of_place(
    rack: &str,
    found: Option<&Rack>,
    region: Option<&str>,
    facts: Option<&Facts>,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(ZONE, rack.to_owned()), (RACK_LABEL, rack.to_owned())]);
    if let Some(found) = found {
        labels.insert(DATACENTER_LABEL, found.spec.datacenter.clone());
    }
    if let Some(region) = region {
        labels.insert(REGION, region.into());
    }
    if let Some(facts) = facts {
        labels.insert(INSTANCE_TYPE, hardware_class(facts));
        if let Some(first) = facts.accelerators.first() {
            labels.insert(ACCELERATOR_LABEL, first.vendor.clone());
        }
    }
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// True for labels that a kubelet gives its node. Others come by way of the Machine, or not at all.
pub fn a_kubelet_may_set(key: &str) -> bool {
    let domain = domain(key);
    !domain.ends_with("kubernetes.io") && !domain.ends_with("cluster.x-k8s.io")
}

/// True for labels that reach a node from `spec.node.labels`, by its kubelet or by way of its Machine (Cluster API copies
/// those of three domains: "Metadata propagation").
pub fn reaches_node(key: &str) -> bool {
    let domain = domain(key);
    let copied = ["node-restriction.kubernetes.io", "node.cluster.x-k8s.io"];
    a_kubelet_may_set(key)
        || domain == "node-role.kubernetes.io"
        || copied.iter().any(|suffix| domain == *suffix || domain.ends_with(&format!(".{suffix}")))
}

fn domain(key: &str) -> &str {
    key.split_once('/').map_or("", |(domain, _)| domain)
}
