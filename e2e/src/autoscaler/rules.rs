//! What must hold of the answers of one scan, whatever happens: each rule once.

use anyhow::{Result, ensure};
use rackwright_autoscaler::wire::instance_status::InstanceState;
use rackwright_autoscaler::wire::{Instance, NodeGroup};
use std::collections::{BTreeMap, BTreeSet};

/// Checks one group's answers. `registered`: provider IDs of the nodes for which the service named this group.
pub fn check(group: &NodeGroup, target: i32, instances: &[Instance], registered: &BTreeSet<String>) -> Result<()> {
    ensure!(group.min_size <= target && target <= group.max_size, "{group:?}: target {target} is out of its bounds");
    let mut seen = BTreeMap::new();
    for instance in instances {
        let status = instance.status.as_ref();
        ensure!(seen.insert(&instance.id, status).is_none(), "{} is listed twice in {}", instance.id, group.id);
        let state = status.map(|status| status.instance_state()).unwrap_or_default();
        ensure!(state != InstanceState::Unspecified, "{}: an instance without a state has no status", instance.id);
        if let Some(error) = status.and_then(|status| status.error_info.as_ref()) {
            ensure!(state == InstanceState::InstanceCreating, "{}: only what is being made can fail", instance.id);
            ensure!(!error.error_code.is_empty(), "{}: an error without a code is dropped", instance.id);
            ensure!([1, 99].contains(&error.instance_error_class), "{error:?}: there is no such class");
            ensure!(!registered.contains(&instance.id), "{}: its node has registered", instance.id);
        }
    }
    let kept = seen
        .values()
        .filter(|status| status.is_some_and(|status| status.instance_state() != InstanceState::InstanceDeleting));
    ensure!(kept.count() == usize::try_from(target)?, "{}: target {target} of {seen:?}", group.id);
    for id in registered {
        ensure!(seen.contains_key(id), "{id} is of {} and not listed there", group.id);
    }
    Ok(())
}
