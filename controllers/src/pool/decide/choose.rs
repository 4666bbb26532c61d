//! Which free host a pool takes next, which it gives up first, and why it takes none of the others.

use super::super::view::{HostSeen, LifeSeen, PoolView, Released};
use super::{kept, wanted};
use jiff::{SignedDuration, Timestamp};
use rackwright_api::pool::{DeletionOrder, NodePoolSpec};
use rackwright_placement::Refusal;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How many kept lives each place holds, of the places that could hold one.
struct Places<'a> {
    held: BTreeMap<&'a str, i32>,
    fewest: i32,
    max_skew: Option<i32>,
}

impl<'a> Places<'a> {
    fn of(spec: &NodePoolSpec, hosts: &'a [HostSeen]) -> Places<'a> {
        let (mut held, released) = (BTreeMap::new(), Released::of(spec));
        for host in hosts.iter().filter(|host| host.refusal.is_none() || host.life.is_some()) {
            let counts = host.life.as_ref().is_some_and(|life| !released.has(host, life));
            for domain in &host.domains {
                *held.entry(domain.as_str()).or_insert(0) += i32::from(counts);
            }
        }
        let fewest = held.values().copied().min().unwrap_or_default();
        Places { held, fewest, max_skew: spec.spread.as_ref().and_then(|spread| spread.max_skew) }
    }

    fn load(&self, host: &HostSeen) -> i32 {
        host.domains.iter().filter_map(|domain| self.held.get(domain.as_str()).copied()).max().unwrap_or_default()
    }

    fn take(&mut self, host: &'a HostSeen) {
        for domain in &host.domains {
            *self.held.entry(domain.as_str()).or_insert(0) += 1;
        }
    }

    /// True when the spread forbids one more on `host`.
    fn too_many(&self, host: &HostSeen) -> bool {
        self.max_skew.is_some_and(|max_skew| self.load(host) - self.fewest >= max_skew)
    }
}

/// The free host to take next: a warm one, then where the fewest are, then the smallest that will do.
pub(super) fn best(view: &PoolView) -> Option<&HostSeen> {
    let places = Places::of(&view.spec, &view.hosts);
    view.hosts
        .iter()
        .filter(|host| host.is_spare() && !places.too_many(host))
        .min_by_key(|host| (host.coldness(), places.load(host), host.surplus, &host.name))
}

/// The free host to make warm next: the one that would be taken once all that are warm already are.
pub(super) fn to_warm(view: &PoolView) -> Option<&HostSeen> {
    let mut places = Places::of(&view.spec, &view.hosts);
    view.hosts.iter().filter(|host| host.is_spare() && host.is_kept_warm()).for_each(|host| places.take(host));
    view.hosts
        .iter()
        .filter(|host| host.is_spare() && host.warm.is_none())
        .min_by_key(|host| (places.too_many(host), places.load(host), host.surplus, &host.name))
}

/// As many spare hosts as the pool could take at once without breaking its spread, whatever else it does.
pub fn takeable<'a>(spec: &NodePoolSpec, hosts: &'a [HostSeen]) -> Vec<&'a HostSeen> {
    let mut places = Places::of(spec, hosts);
    let mut taken = Vec::new();
    let mut spare: Vec<_> = hosts.iter().filter(|host| host.is_spare()).collect();
    spare.sort_by_key(|host| host.coldness());
    for host in spare {
        if !places.too_many(host) {
            places.take(host);
            taken.push(host);
        }
    }
    taken
}

/// The life to give up first, and why: of those marked, the unhealthy, the ones without a node, of an older revision,
/// in the fullest place, and then as `deletion.order` says. A young reservation without a machine may be the
/// autoscaler's, whose write of `replicas` is still to come: it is let be for a while.
pub(super) fn victim(
    view: &PoolView,
    now: Timestamp,
    unconfirmed: SignedDuration,
) -> Option<(&HostSeen, &LifeSeen, String)> {
    let places = Places::of(&view.spec, &view.hosts);
    let order = view.spec.deletion.as_ref().map(|deletion| deletion.order).unwrap_or_default();
    let revision = &wanted(view).name;
    let rank = |(host, life): &(&HostSeen, &LifeSeen)| {
        let machine = view.machine_of(life);
        let marked = machine.is_some_and(|machine| machine.marked);
        let healthy = machine.is_some_and(|machine| machine.has_node && machine.ready && !machine.unhealthy);
        let outdated = machine.is_some_and(|machine| machine.revision != *revision);
        let age = match order {
            DeletionOrder::Newest => -life.at.as_second(),
            DeletionOrder::Oldest => life.at.as_second(),
        };
        (!marked, healthy, !outdated, Reverse(places.load(host)), age, host.name.clone())
    };
    let young = |(_, life): &(&HostSeen, &LifeSeen)| {
        now.duration_since(life.at) < unconfirmed && view.machine_of(life).is_none()
    };
    let candidates: Vec<_> = kept(view).into_iter().filter(|life| !young(life)).collect();
    let (host, life) = candidates.into_iter().min_by_key(rank)?;
    Some((host, life, format!("the pool has more hosts than its {} replicas", view.spec.replicas)))
}

/// Why no other host is taken: "12 hosts: 7 claimed, 3 in maintenance, 2 with too little memory".
pub fn reasons(view: &PoolView) -> String {
    let places = Places::of(&view.spec, &view.hosts);
    let mut counts = BTreeMap::<Refusal, usize>::new();
    for host in view.hosts.iter().filter(|host| host.life.is_none()) {
        let spread = places.too_many(host).then_some(Refusal::Spread);
        if let Some(refusal) = host.refusal.or(spread) {
            *counts.entry(refusal).or_default() += 1;
        }
    }
    let mine = view.lives().count();
    let all: usize = counts.values().sum::<usize>() + mine;
    let mut parts: Vec<_> = counts.iter().map(|(refusal, count)| format!("{count} {}", refusal.as_text())).collect();
    if mine > 0 {
        parts.insert(0, format!("{mine} in this pool"));
    }
    match all {
        0 => "there are no hosts in this namespace".into(),
        _ => format!("{all} hosts: {}", parts.join(", ")),
    }
}
