//! Nodes that the autoscaler itself has spoken of. It sees a node the moment it registers; Cluster API writes that down a
//! little later, and until then nobody else here knows.
//!
//! Every loop of the autoscaler begins with `Refresh` and names every node in `NodeGroupForNode` before anything is changed, so what
//! was named in this loop or the last is all that is remembered, and a restart of the service forgets nothing that matters.

use crate::groups::{Inventory, Snapshot, Stage};
use crate::wire::ExternalGrpcNode;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// On a placeholder: why it is none of the cluster's nodes (cluster-autoscaler, `clusterstate`).
const FAKE: &str = "k8s.io/cluster-autoscaler/fake-node-reason";

/// Provider IDs of nodes that were named before they were known to have registered.
#[derive(Default)]
pub struct Named(Mutex<Loops>);

#[derive(Default)]
struct Loops {
    this: HashSet<String>,
    last: HashSet<String>,
}

impl Named {
    /// A loop begins.
    pub fn begin(&self) {
        let mut loops = self.loops();
        loops.last = std::mem::take(&mut loops.this);
    }

    /// The autoscaler names a node.
    pub fn note(&self, node: &ExternalGrpcNode, snapshot: &Snapshot) {
        if snapshot.is_awaited(&node.provider_id) && !node.annotations.contains_key(FAKE) {
            self.loops().this.insert(node.provider_id.clone());
        }
    }

    /// What was named has registered, whatever is known otherwise.
    pub fn tell(&self, inventory: &mut Inventory) {
        let loops = self.loops();
        if loops.this.is_empty() && loops.last.is_empty() {
            return;
        }
        for host in inventory.hosts.iter_mut().filter(|host| host.stage != Stage::Registered) {
            let own = host.reservation.as_ref().map(|held| host.provider_id(held));
            if own.is_some_and(|own| loops.this.contains(&own) || loops.last.contains(&own)) {
                host.stage = Stage::Registered;
            }
        }
    }

    fn loops(&self) -> MutexGuard<'_, Loops> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
