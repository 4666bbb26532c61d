use super::super::view::*;
use super::world::{World, life, spec};
use super::*;
use rackwright_placement::Refusal;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A pool of 12 on 3 racks of 5, all available.
fn twelve(extra: Value) -> World {
    let mut world = World::new(spec(json!({ "replicas": 12 })), 3, 5);
    world.run(300, |_| {});
    assert_eq!((world.missing(), world.per_rack()), (0, vec![4, 4, 4]));
    world.steps.clear();
    let replicas = world.view.spec.replicas;
    world.view.spec = spec(extra);
    world.view.spec.replicas = replicas;
    world
}

#[test]
fn a_pool_takes_hosts_evenly_from_the_racks_and_no_host_twice() {
    let mut world = World::new(spec(json!({ "replicas": 7 })), 3, 4);
    world.run(200, |_| {});
    assert_eq!(world.missing(), 0);
    let mut racks = world.per_rack();
    racks.sort_unstable();
    assert_eq!(racks, [2, 2, 3]);
    let names: BTreeSet<_> = world.view.machines.iter().map(|machine| &machine.name).collect();
    assert_eq!(names.len(), 7);
    assert_eq!(decide(&world.view, world.now), Step::Rest);
}

#[test]
fn a_pool_that_shrinks_keeps_its_spread_and_gives_the_hosts_back() {
    let mut world = twelve(json!({}));
    world.view.spec.replicas = 6;
    world.run(200, |_| {});
    assert_eq!(world.per_rack(), [2, 2, 2]);
    assert_eq!((world.view.machines.len(), world.deleted()), (6, 6));
    assert_eq!(world.view.spec.release, []);
    assert_eq!(world.view.hosts.iter().filter(|host| host.refusal.is_none()).count(), 9);
}

#[test]
fn those_marked_for_deletion_go_first_and_then_the_unhealthy() {
    let mut world = twelve(json!({}));
    world.view.machines[7].marked = true;
    world.view.machines[3].ready = false;
    let expected: Vec<_> = [7, 3].map(|at: usize| world.view.machines[at].name.clone()).into();
    for fewer in [11, 10] {
        world.view.spec.replicas = fewer;
        world.run(60, |_| {});
    }
    let deleted: Vec<_> = (world.steps.iter())
        .filter_map(|step| match step {
            Step::Delete { machine, .. } => Some(machine.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, expected);
}

#[test]
fn an_in_place_rollout_goes_two_at_a_time_and_never_through_two_racks_at_once() {
    let mut world = twelve(json!({ "rollout": { "maxUnavailable": 2 } }));
    let hosts: BTreeSet<_> = world.view.lives().map(|(host, _)| host.name.clone()).collect();
    world.view.revision = "r2".into();
    world.run(2000, |world| {
        assert!(world.missing() <= 2, "{} are missing", world.missing());
        assert!(world.disturbed().len() <= 1, "{:?} are disturbed at once", world.disturbed());
    });
    assert_eq!((world.revisions(), world.missing(), world.deleted()), (BTreeSet::from(["r2"]), 0, 12));
    assert_eq!(world.view.lives().map(|(host, _)| host.name.clone()).collect::<BTreeSet<_>>(), hosts);
}

#[test]
fn a_canary_that_fails_is_rolled_back_and_the_others_are_never_touched() {
    let canary = json!({ "steps": [{ "count": 1, "soakSeconds": 60 }], "timeoutSeconds": 200 });
    let mut world = twelve(json!({ "rollout": { "maxUnavailable": 4, "canary": canary } }));
    world.view.revision = "r2".into();
    world.bad.insert("r2".into());
    world.run(1000, |world| assert!(world.missing() <= 1));
    assert_eq!((world.revisions(), world.missing()), (BTreeSet::from(["r1"]), 0));
    assert_eq!(world.deleted(), 2, "the canary, and its way back");
    assert!(progress(&world.view, world.now).is_some_and(|progress| progress.text == "rolled back to r1"));
}

#[test]
fn a_canary_soaks_before_the_rest_follows() {
    let canary = json!({ "steps": [{ "count": 1, "soakSeconds": 300 }, { "percent": 25, "soakSeconds": 300 }] });
    let mut world = twelve(json!({ "rollout": { "maxUnavailable": 4, "canary": canary } }));
    world.view.revision = "r2".into();
    world.run(400, |_| {});
    assert_eq!(world.deleted(), 1);
    assert!(
        progress(&world.view, world.now).is_some_and(|at| at.text == "canary 1: 1 of 12"),
        "{:?}",
        progress(&world.view, world.now)
    );
    world.run(400, |_| {});
    assert_eq!(world.deleted(), 3);
    world.run(3000, |_| {});
    assert_eq!((world.revisions(), world.missing(), world.deleted()), (BTreeSet::from(["r2"]), 0, 12));
}

#[test]
fn a_paused_rollout_stands_still_and_goes_on() {
    let mut world = twelve(json!({ "rollout": { "paused": true } }));
    world.view.revision = "r2".into();
    world.run(500, |_| {});
    assert_eq!(world.deleted(), 0);
    world.view.spec.rollout = None;
    world.run(3000, |_| {});
    assert_eq!(world.revisions(), BTreeSet::from(["r2"]));
}

#[test]
fn on_delete_waits_for_a_person() {
    let mut world = twelve(json!({ "rollout": { "strategy": "OnDelete" } }));
    world.view.revision = "r2".into();
    world.run(1000, |_| {});
    assert_eq!((world.deleted(), world.revisions()), (0, BTreeSet::from(["r1"])));
    assert!(world.view.machines.iter().all(|machine| machine.up_to_date == Some(false)));
}

#[test]
fn a_surge_uses_spare_hosts_and_never_misses_a_node() {
    let mut world = twelve(json!({ "rollout": { "strategy": "Surge", "maxSurge": 2 } }));
    world.view.revision = "r2".into();
    world.run(3000, |world| {
        assert_eq!(world.missing(), 0);
        assert!(kept(&world.view).len() <= 14);
    });
    assert_eq!((world.revisions(), world.view.machines.len()), (BTreeSet::from(["r2"]), 12));
}

#[test]
fn a_surge_without_spares_goes_one_by_one_in_place() {
    let mut world = twelve(json!({ "rollout": { "strategy": "Surge" } }));
    for host in world.view.hosts.iter_mut().filter(|host| host.life.is_none()) {
        host.refusal = Some(Refusal::Maintenance);
    }
    world.view.revision = "r2".into();
    world.run(4000, |world| assert!(world.missing() <= 1));
    assert_eq!(world.revisions(), BTreeSet::from(["r2"]));
}

#[test]
fn unhealthy_machines_are_replaced_one_at_a_time_on_other_hosts() {
    let mut world = twelve(json!({}));
    for at in [0, 5] {
        let machine = &mut world.view.machines[at];
        (machine.unhealthy, machine.ready, machine.available) = (true, false, None);
        machine.remediation = Some("WaitingForRemediation".into());
    }
    world.run(20, |_| {});
    assert_eq!(world.deleted(), 1);
    let told: Vec<_> = world.view.machines.iter().filter_map(|machine| machine.remediation.as_deref()).collect();
    assert_eq!(told, ["MachineDeleting", "RemediationDeferred"], "the one that has to wait is told so");
    world.run(600, |_| {});
    assert_eq!((world.deleted(), world.missing()), (2, 0));
}

#[test]
fn a_host_that_breaks_before_its_machine_claims_it_is_given_up_for_another() {
    let mut world = World::new(spec(json!({ "replicas": 1 })), 2, 1);
    world.run(5, |_| {});
    let host = world.view.hosts.iter_mut().find(|host| host.life.is_some()).expect("one is held");
    let (name, life) = (host.name.clone(), host.life.as_mut().expect("is held"));
    (life.claimed, life.unclaimable) = (false, Some(Refusal::Broken));
    world.run(300, |_| {});
    assert_eq!(world.missing(), 0);
    assert!(world.view.lives().all(|(host, _)| host.name != name));
}

#[test]
fn a_pool_without_enough_hosts_says_why_and_takes_the_next_that_is_free() {
    let mut world = World::new(spec(json!({ "replicas": 5 })), 2, 2);
    world.view.hosts[0].refusal = Some(Refusal::Maintenance);
    world.run(200, |_| {});
    let Step::Wait(wait) = decide(&world.view, world.now) else { panic!("waits") };
    assert_eq!(
        (wait.reason, wait.message.as_str()),
        ("NoHostMatches", "2 hosts; 4 hosts: 3 in this pool, 1 in maintenance")
    );
    world.view.hosts[0].refusal = None;
    world.run(200, |_| {});
    assert_eq!(world.view.machines.len(), 4);
}

#[test]
fn a_strict_spread_leaves_a_replica_without_a_host() {
    let strict = json!({ "replicas": 4, "spread": { "over": "Rack", "maxSkew": 1 } });
    let mut world = World::new(spec(strict), 2, 3);
    world.view.hosts.retain(|host| host.name != "b2" && host.name != "b3");
    world.run(200, |_| {});
    assert_eq!(world.per_rack(), [2, 1]);
    assert!(reasons(&world.view).contains("1 in places that hold their share already"), "{}", reasons(&world.view));
}

#[test]
fn a_young_reservation_beyond_replicas_is_let_be_and_an_old_one_freed() {
    let mut world = World::new(spec(json!({ "replicas": 0 })), 1, 1);
    world.run(5, |_| {});
    let at = world.now;
    world.view.hosts[0].refusal = Some(Refusal::Reserved);
    world.view.hosts[0].life = Some(life("a1", "1".into(), at));
    let mut view = world.view.clone();
    assert_ne!(decide(&view, at), Step::Free { host: "a1".into() });
    let later = at + UNCONFIRMED;
    assert!(matches!(decide(&view, later), Step::Release { .. }));
    view.spec.replicas = 1;
    assert!(matches!(decide(&view, at), Step::Make { .. }));
}

#[test]
fn a_deleted_pool_goes_after_its_machines_and_hosts() {
    let mut world = twelve(json!({}));
    world.view.deleting = true;
    world.run(100, |_| {});
    assert_eq!((world.view.machines.len(), world.view.lives().count()), (0, 0));
    assert_eq!(decide(&world.view, world.now), Step::LetGo);
}

#[test]
fn a_paused_pool_is_left_alone() {
    let mut world = twelve(json!({ "paused": true }));
    world.view.spec.replicas = 3;
    assert_eq!(decide(&world.view, world.now), Step::Paused);
}

#[test]
fn counts_and_percentages_are_rounded_as_asked() {
    let percent = |text: &str| IntOrString::String(text.into());
    for (value, up, expected) in [
        (IntOrString::Int(3), true, Some(3)),
        (percent("5%"), false, Some(0)),
        (percent("5%"), true, Some(1)),
        (percent("50%"), false, Some(6)),
        (percent("many"), true, None),
    ] {
        assert_eq!(resolve(Some(&value), 12, up), expected, "{value:?}");
    }
}

#[test]
fn names_are_short_and_differ_from_life_to_life() {
    let long = machine_name(&"p".repeat(60), &"h".repeat(60), "0123456789");
    assert!(long.len() <= 63, "{long}");
    assert_ne!(machine_name("web", "a1", "aaaaaa-1"), machine_name("web", "a1", "bbbbbb-1"));
}

#[test]
fn what_could_be_taken_at_once_keeps_the_spread() {
    let strict = World::new(spec(json!({ "spread": { "over": "Rack", "maxSkew": 2 } })), 3, 4);
    let names = |world: &World| {
        takeable(&world.view.spec, &world.view.hosts).iter().map(|host| host.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&strict), ["a1", "a2", "b1", "b2", "c1", "c2"]);
    let loose = World::new(spec(json!({})), 3, 4);
    assert_eq!(names(&loose).len(), 12);
}

#[test]
fn old_revisions_are_forgotten_but_never_one_that_is_needed() {
    let mut world = twelve(json!({ "revisionHistoryLimit": 2, "rollout": { "maxUnavailable": 12 } }));
    for number in 2..8 {
        world.view.revision = format!("r{number}");
        world.run(600, |_| {});
    }
    let names = |world: &World| world.view.revisions.iter().map(|found| found.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world), ["r4", "r5", "r6", "r7"], "two old ones, the one to go back to, the one that runs");

    // One that a machine still has stays, however old.
    world.view.machines[0].revision = "r4".into();
    world.view.spec.rollout = serde_json::from_value(json!({ "strategy": "OnDelete" })).expect("a rollout");
    for number in 8..12 {
        world.view.revision = format!("r{number}");
        world.run(60, |_| {});
    }
    assert!(
        names(&world).contains(&"r4".to_string()) && names(&world).contains(&"r7".to_string()),
        "{:?}",
        names(&world)
    );
}

#[test]
fn what_was_made_for_a_life_that_is_over_goes() {
    let mut world = twelve(json!({}));
    let host = world.view.hosts.iter_mut().find(|host| host.life.is_some()).expect("one is held");
    let life = host.life.take().expect("is held");
    let stray = machine_name("web", &host.name, &life.id);
    host.refusal = Some(Refusal::Claimed);
    world.view.infra.push("web-a1-nobody".into());
    assert_eq!(decide(&world.view, world.now), Step::DeleteStray { machine: stray });
    world.view.machines.clear();
    world.view.hosts.iter_mut().for_each(|host| host.life = None);
    assert_eq!(decide(&world.view, world.now), Step::DeleteStray { machine: "web-a1-nobody".into() });
}
