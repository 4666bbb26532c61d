//! What this process remembers of a host for a short while, and may forget: power orders given a moment ago, since when
//! something is seen, when progress was told last. A machine takes seconds to show that it obeyed; telling a BMC the same thing at every
//! look wears it out, and some switch a machine that is just coming up off again.

use jiff::{SignedDuration, Timestamp};
use rackwright_bmc::PowerTarget;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The last power order of each host, by UID. Forgotten when the process ends: then an order is given once more.
#[derive(Default)]
pub struct PowerOrders(Mutex<HashMap<String, (PowerTarget, Timestamp)>>);

impl PowerOrders {
    /// True when `target` may be ordered now: another target was ordered last, or `pause` has gone by since. It is
    /// remembered as ordered.
    pub fn is_due(&self, host_uid: &str, target: PowerTarget, now: Timestamp, pause: SignedDuration) -> bool {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.retain(|_, (_, at)| now.duration_since(*at) < pause);
        match orders.get(host_uid) {
            Some((last, _)) if *last == target => false,
            _ => {
                orders.insert(host_uid.into(), (target, now));
                true
            }
        }
    }
}

/// When something was first noticed, or last done, about a host, by UID. Forgotten when the process ends: what is counted
/// from it begins anew then.
#[derive(Default)]
pub struct Since(Mutex<HashMap<String, (String, Timestamp)>>);

impl Since {
    /// Since when `what` is so of the host; `now` when it was not so before.
    pub fn noticed(&self, host_uid: &str, what: &str, now: Timestamp) -> Timestamp {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(host_uid) {
            Some((before, since)) if before == what => *since,
            _ => {
                known.insert(host_uid.into(), (what.into(), now));
                now
            }
        }
    }

    /// It is not so any more.
    pub fn forget(&self, host_uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(host_uid);
    }

    /// True when `what` was not done to the host within `pause`; then it counts as done now.
    pub fn is_due(&self, host_uid: &str, what: &str, now: Timestamp, pause: SignedDuration) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, at)| now.duration_since(*at) < pause);
        if known.get(host_uid).is_some_and(|(before, _)| before == what) {
            return false;
        }
        known.insert(host_uid.into(), (what.into(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noticed_counts_from_the_first_time_until_it_is_over() {
        let since = Since::default();
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        assert_eq!(since.noticed("host", "op-1", at(5)), at(5));
        assert_eq!(since.noticed("host", "op-1", at(9)), at(5));
        assert_eq!(since.noticed("other", "op-1", at(9)), at(9));
        assert_eq!(since.noticed("host", "op-2", at(10)), at(10), "of another operation");
        since.forget("host");
        assert_eq!(since.noticed("host", "op-2", at(12)), at(12));
    }

    #[test]
    fn what_is_done_at_most_once_per_pause_is_due_at_its_end() {
        let (since, pause) = (Since::default(), SignedDuration::from_secs(30));
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        assert!(since.is_due("host", "op", at(0), pause));
        assert!(!since.is_due("host", "op", at(29), pause));
        assert!(since.is_due("host", "op", at(30), pause));
        assert!(since.is_due("host", "next op", at(31), pause));
    }

    #[test]
    fn an_order_is_repeated_only_after_a_pause() {
        let (orders, pause) = (PowerOrders::default(), SignedDuration::from_secs(10));
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        assert!(orders.is_due("host", PowerTarget::On, at(0), pause));
        assert!(!orders.is_due("host", PowerTarget::On, at(9), pause));
        assert!(orders.is_due("other", PowerTarget::On, at(9), pause));
        assert!(orders.is_due("host", PowerTarget::On, at(10), pause));
        assert!(orders.is_due("host", PowerTarget::Off, at(11), pause));
    }
}
