use super::world::{World, spec};
use super::*;
use jiff::SignedDuration;
use rackwright_placement::Refusal;
use serde_json::json;

fn pool(extra: serde_json::Value) -> World {
    let mut fields = json!({ "replicas": 2, "idle": { "warm": 2 } });
    let (Some(into), Some(from)) = (fields.as_object_mut(), extra.as_object()) else { panic!("objects") };
    into.extend(from.clone());
    World::new(spec(fields), 3, 3)
}

fn kept(world: &World) -> Vec<&str> {
    world.view.hosts.iter().filter(|host| host.is_kept_warm()).map(|host| host.name.as_str()).collect()
}

/// As the pool's `Free` leaves it.
fn given_back(world: &mut World, host: &str, seconds: i64) {
    let until = Some(world.now + SignedDuration::from_secs(seconds));
    let host = world.view.hosts.iter_mut().find(|found| found.name == host).expect("a host of the world");
    let digest = Some("sha256:1".into());
    host.warm = Some(super::super::view::WarmSeen { mine: true, digest, until, ready: true });
}

#[test]
fn as_many_hosts_as_the_pool_wants_are_warm_where_it_would_place_next() {
    let mut world = pool(json!({}));
    world.run(300, |_| {});
    assert_eq!(world.per_rack(), [1, 1, 0]);
    assert_eq!(kept(&world), ["a2", "c1"], "the empty rack first, and then the next in turn");
    let warmed = world.steps.iter().filter(|step| matches!(step, Step::Warm { .. })).count();
    assert_eq!(warmed, 2, "each is ordered once");
}

#[test]
fn warm_hosts_are_taken_first_and_others_become_warm_in_their_place() {
    let mut world = pool(json!({}));
    world.run(300, |_| {});
    let before: Vec<String> = kept(&world).into_iter().map(Into::into).collect();
    world.view.spec.replicas = 4;
    world.run(300, |_| {});
    for host in &before {
        assert!(world.view.lives().any(|(held, _)| held.name == *host), "{host} is held");
    }
    assert_eq!(kept(&world).len(), 2);
    assert!(kept(&world).iter().all(|host| !before.contains(&host.to_string())), "a claim takes the order out");
}

#[test]
fn warm_hosts_never_stretch_a_strict_spread() {
    let mut world = pool(json!({ "spread": { "over": "Rack", "maxSkew": 1 } }));
    world.run(300, |_| {});
    world.view.spec.replicas = 7;
    world.run(900, |world| {
        let counts = world.per_rack();
        assert!(counts.iter().max().expect("racks") - counts.iter().min().expect("racks") <= 1, "{counts:?}");
    });
    assert_eq!(world.view.lives().count(), 7);
}

#[test]
fn another_image_is_ordered_anew_and_fewer_warm_hosts_go_cold() {
    let mut world = pool(json!({}));
    world.run(300, |_| {});
    world.view.image_digest = Some(Some("sha256:2".into()));
    world.run(100, |_| {});
    let digests: Vec<_> = world.view.hosts.iter().filter_map(|host| host.warm.as_ref()?.digest.clone()).collect();
    assert_eq!(digests, ["sha256:2", "sha256:2"]);
    world.view.image_digest = None;
    assert_eq!(decide(&world.view, world.now), Step::Rest, "an image that is not there changes nothing");
    world.view.image_digest = Some(Some("sha256:2".into()));
    world.view.spec.idle = None;
    world.run(100, |_| {});
    assert!(kept(&world).is_empty());
}

#[test]
fn a_host_that_falls_out_goes_cold_and_another_takes_its_place() {
    let mut world = pool(json!({}));
    world.run(300, |_| {});
    let out = world.view.hosts.iter_mut().find(|host| host.is_kept_warm()).expect("one is warm");
    out.refusal = Some(Refusal::Broken);
    let out = out.name.clone();
    world.run(300, |_| {});
    assert_eq!(kept(&world).len(), 2);
    assert!(!kept(&world).contains(&out.as_str()));
}

#[test]
fn a_host_of_another_pools_warmth_is_taken_last_and_never_warmed() {
    let mut world = pool(json!({ "replicas": 9, "idle": { "warm": 3 } }));
    let foreign = super::super::view::WarmSeen { mine: false, digest: None, until: None, ready: true };
    world.view.hosts[0].warm = Some(foreign.clone());
    let mut taken = Vec::new();
    world.run(600, |world| {
        if let Some(Step::Reserve { host }) = world.steps.last() {
            taken.push(host.clone());
        }
        taken.dedup();
    });
    assert_eq!(taken.last().map(String::as_str), Some("a1"), "{taken:?}");
    assert!(!world.steps.iter().any(|step| matches!(step, Step::Warm { host, .. } if host == "a1")));
}

#[test]
fn a_host_that_was_given_back_stays_warm_for_a_while_and_serves_meanwhile() {
    let mut world = pool(json!({ "idle": { "powerOffAfterSeconds": 600 } }));
    world.run(300, |_| {});
    given_back(&mut world, "c1", 600);
    world.run(500, |_| {});
    assert_eq!(kept(&world), ["c1"]);
    assert_eq!(warmth_ends(&world.view), world.view.hosts.iter().find_map(|host| host.warm.as_ref()?.until));
    world.run(200, |_| {});
    assert!(kept(&world).is_empty(), "its time is over");
    given_back(&mut world, "c1", 600);
    let idle = world.view.spec.idle.take();
    world.run(10, |_| {});
    assert!(kept(&world).is_empty(), "nobody wants that any more");
    world.view.spec.idle = idle;
    given_back(&mut world, "c1", 600);
    world.view.spec.idle.as_mut().expect("is set").warm = 1;
    world.run(1000, |_| {});
    assert_eq!(kept(&world), ["c1"], "it is one of those that are wanted for good");
}

#[test]
fn a_pool_that_is_deleted_takes_its_orders_back_before_it_goes() {
    let mut world = pool(json!({ "replicas": 0 }));
    world.run(300, |_| {});
    assert_eq!(kept(&world).len(), 2);
    world.view.deleting = true;
    world.run(100, |_| {});
    assert!(kept(&world).is_empty());
    assert_eq!(decide(&world.view, world.now), Step::LetGo);
}
