//! The labels that a pool's nodes register with because of where they stand and what was found in them.
//!
//! The autoscaler promises the same labels for nodes that do not exist yet, so they are made here and nowhere else. Labels
//! that a person asked for go before them.

use kube::ResourceExt;
use rackwright_api::hardware::{Facts, hardware_class};
use rackwright_api::{ACCELERATOR_LABEL, DATACENTER_LABEL, Datacenter, POOL_LABEL, RACK_LABEL, Rack};
use std::collections::BTreeMap;

/// The label that says what fails together (Kubernetes, "Well-Known Labels"): for us that is the rack.
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// Labels of a node of `pool` on a host in the rack named `rack`.
pub fn of_place(
    pool: &str,
    rack: &str,
    found: Option<&Rack>,
    datacenter: Option<&Datacenter>,
    facts: Option<&Facts>,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(POOL_LABEL, pool.into()), (ZONE, rack.into()), (RACK_LABEL, rack.into())]);
    if let Some(found) = found {
        labels.insert(DATACENTER_LABEL, found.spec.datacenter.clone());
    }
    if let Some(datacenter) =
        datacenter.filter(|datacenter| found.is_some_and(|found| found.spec.datacenter == datacenter.name_any()))
    {
        labels.insert(REGION, datacenter.spec.region.clone());
    }
    if let Some(facts) = facts {
        labels.insert(INSTANCE_TYPE, hardware_class(facts));
        if let Some(first) = facts.accelerators.first() {
            labels.insert(ACCELERATOR_LABEL, first.vendor.clone());
        }
    }
    labels.into_iter().map(|(key, value): (&str, String)| (key.to_owned(), value)).collect()
}
