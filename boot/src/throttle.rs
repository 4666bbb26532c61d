//! Keeps progress from being written more often than somebody could read it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many entries are kept before those that have run out are thrown away.
const PRUNE_AT: usize = 1024;

/// Admits each key once per interval.
pub struct Throttle {
    interval: Duration,
    admitted: Mutex<HashMap<String, Instant>>,
}

impl Throttle {
    /// Once per `interval`.
    pub fn new(interval: Duration) -> Throttle {
        Throttle { interval, admitted: Mutex::default() }
    }

    /// The shortest time between two.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// True when `key` was not admitted within the interval; then it is now.
    pub fn admits(&self, key: &str) -> bool {
        let now = Instant::now();
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.get(key).is_some_and(|last| now.duration_since(*last) < self.interval) {
            return false;
        }
        if admitted.len() >= PRUNE_AT {
            admitted.retain(|_, last| now.duration_since(*last) < self.interval);
        }
        admitted.insert(key.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_admitted_once_per_interval() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert_eq!([throttle.admits("a"), throttle.admits("b"), throttle.admits("a")], [true, true, false]);
        let throttle = Throttle::new(Duration::ZERO);
        assert_eq!([throttle.admits("a"), throttle.admits("a")], [true, true]);
    }

    #[test]
    fn entries_that_have_run_out_do_not_pile_up() {
        let throttle = Throttle::new(Duration::ZERO);
        for key in 0..5000 {
            throttle.admits(&key.to_string());
        }
        assert!(throttle.admitted.lock().expect("not poisoned").len() <= PRUNE_AT);
    }
}
