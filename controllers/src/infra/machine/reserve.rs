//! Hosts that machines have chosen a moment ago and that the caches do not show yet.
//!
//! Only a courtesy: without it two hundred machines would choose the same best host and all but one would try again.
//! Who gets a host is decided by the API server.

use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How long a choice is remembered: longer than a watch event takes.
const KEPT: SignedDuration = SignedDuration::from_secs(30);

/// Choices of the last half minute: host UID to machine UID and host name.
#[derive(Default)]
pub struct Reservations(Mutex<HashMap<String, (String, String, Timestamp)>>);

impl Reservations {
    /// Remembers that `machine` has chosen `host` of this `name`. False when another machine did so before.
    pub fn reserve(&self, host: &str, name: &str, machine: &str, now: Timestamp) -> bool {
        let mut chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.retain(|_, (_, _, since)| now.duration_since(*since) < KEPT);
        match chosen.get(host) {
            Some((other, ..)) if other != machine => false,
            _ => {
                chosen.insert(host.into(), (machine.into(), name.into(), now));
                true
            }
        }
    }

    /// The machine that has chosen `host`, if any did.
    pub fn holder(&self, host: &str, now: Timestamp) -> Option<String> {
        let chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.get(host).filter(|(_, _, since)| now.duration_since(*since) < KEPT).map(|(machine, ..)| machine.clone())
    }

    /// Name of the host that `machine` has chosen, if it did.
    pub fn host_of(&self, machine: &str, now: Timestamp) -> Option<String> {
        let chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mine =
            chosen.values().filter(|(holder, _, since)| holder == machine && now.duration_since(*since) < KEPT);
        mine.next().map(|(_, name, _)| name.clone())
    }

    /// Forgets the choice of `machine`.
    pub fn release(&self, machine: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (holder, ..)| holder != machine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reserved_for_one_machine_until_the_memory_fades() {
        let reservations = Reservations::default();
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        assert!(reservations.reserve("host", "rack", "one", at(0)));
        assert!(reservations.reserve("host", "rack", "one", at(1)));
        assert!(!reservations.reserve("host", "rack", "two", at(2)));
        assert_eq!(reservations.holder("host", at(2)).as_deref(), Some("one"));
        assert!(reservations.reserve("host", "rack", "two", at(40)));
    }
}
