//! Power orders given a moment ago. A machine takes seconds to show that it obeyed; telling a BMC the same thing at every
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

#[cfg(test)]
mod tests {
    use super::*;

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
