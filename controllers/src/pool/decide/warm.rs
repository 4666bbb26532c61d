//! Which free hosts a pool keeps warm: so many for good, and for a while those that it has given back.
//!
//! A warm host is no replica and nobody's: any pool may take it, and no host is held for it.

use super::super::view::{HostSeen, PoolView, WarmSeen};
use super::{Step, choose};
use jiff::Timestamp;
use rackwright_placement::Refusal;

/// The next order to give or to take back.
pub(super) fn keep(view: &PoolView, now: Timestamp) -> Option<Step> {
    let digest = view.image_digest.as_ref()?; // an image that is not there changes nothing
    let idle = view.spec.idle.clone().unwrap_or_default();
    let wanted = usize::try_from(idle.warm).unwrap_or_default();
    let warm: Vec<_> = orders(view).collect();
    let (usable, useless): (Vec<_>, Vec<_>) = warm.iter().partition(|(host, _)| is_usable(host));
    if let Some((host, _)) = useless.first() {
        return Some(cool(host));
    }
    if let Some((host, order)) = usable.iter().find(|(_, order)| order.digest != *digest) {
        return Some(Step::Warm { host: host.name.clone(), until: order.until });
    }
    let (mut steady, passing): (Vec<_>, Vec<_>) = usable.into_iter().partition(|(_, order)| order.until.is_none());
    let lingers = idle.power_off_after_seconds.is_some_and(|after| after > 0);
    let over = |until: Option<Timestamp>| !lingers || until.is_some_and(|until| until <= now);
    steady.sort_by_key(|(host, order)| (!order.ready, &host.name));
    if steady.len() > wanted {
        return steady.last().map(|(host, _)| cool(host));
    }
    if steady.len() < wanted {
        let next = passing.first().map(|(host, _)| *host).or_else(|| choose::to_warm(view));
        return next.map(|host| Step::Warm { host: host.name.clone(), until: None });
    }
    passing.iter().find(|(_, order)| over(order.until)).map(|(host, _)| cool(host))
}

/// Takes all orders back.
pub(super) fn all_cold(view: &PoolView) -> Option<Step> {
    orders(view).next().map(|(host, _)| cool(host))
}

/// When the next host has been warm for long enough.
pub fn ends(view: &PoolView) -> Option<Timestamp> {
    orders(view).filter_map(|(_, order)| order.until).min()
}

fn cool(host: &HostSeen) -> Step {
    Step::Cool { host: host.name.clone() }
}

/// The pool's own. A claim takes out the order with which its host was kept.
fn orders(view: &PoolView) -> impl Iterator<Item = (&HostSeen, &WarmSeen)> {
    let mine = |host: &HostSeen| host.is_kept_warm() && host.life.is_none();
    view.hosts.iter().filter(move |host| mine(host)).filter_map(|host| Some((host, host.warm.as_ref()?)))
}

/// False when the host will not be free for the pool for long. One that another pool holds is about to be claimed.
fn is_usable(host: &HostSeen) -> bool {
    host.unfit.is_none() && !host.refusal.is_some_and(Refusal::is_lasting)
}
