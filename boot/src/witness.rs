//! Who has read the media of which operation: for the audit log. Knows what this replica saw and nothing more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many operations are remembered.
const OPERATIONS: usize = 2048;
/// How many addresses are remembered for each.
const PEERS: usize = 8;

/// What a read of media is to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// This address has read it before.
    Known,
    /// This address reads it for the first time.
    First,
    /// The same, after the agent on the media has called home: nobody should need it any more.
    Late,
}

/// Remembers readers.
#[derive(Default)]
pub struct Witness {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    clock: u64,
    operations: HashMap<String, (u64, Vec<String>)>,
}

impl Witness {
    /// Notes that `peer` reads media of `operation`, whose agent has called home or not.
    pub fn note(&self, operation: &str, peer: &str, called_home: bool) -> Sighting {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clock += 1;
        let clock = seen.clock;
        if seen.operations.len() >= OPERATIONS && !seen.operations.contains_key(operation) {
            let oldest = seen.operations.iter().min_by_key(|(_, (last, _))| *last).map(|(name, _)| name.clone());
            oldest.map(|name| seen.operations.remove(&name));
        }
        let (last, peers) = seen.operations.entry(operation.into()).or_default();
        *last = clock;
        if peers.iter().any(|known| known == peer) {
            return Sighting::Known;
        }
        if peers.len() < PEERS {
            peers.push(peer.into());
        }
        if called_home { Sighting::Late } else { Sighting::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_once_and_a_late_one_as_such() {
        let witness = Witness::default();
        assert_eq!(witness.note("op", "10.0.0.1", false), Sighting::First);
        assert_eq!(witness.note("op", "10.0.0.1", false), Sighting::Known);
        assert_eq!(witness.note("op", "10.0.0.1", true), Sighting::Known);
        assert_eq!(witness.note("op", "10.0.0.2", true), Sighting::Late);
        assert_eq!(witness.note("other", "10.0.0.2", false), Sighting::First);
    }

    #[test]
    fn what_is_remembered_does_not_grow_without_end() {
        let witness = Witness::default();
        for operation in 0..3 * OPERATIONS {
            for peer in 0..2 * PEERS {
                witness.note(&operation.to_string(), &peer.to_string(), true);
            }
        }
        let seen = witness.seen.lock().expect("not poisoned");
        assert!(seen.operations.len() <= OPERATIONS);
        assert!(seen.operations.values().all(|(_, peers)| peers.len() <= PEERS));
    }
}
