//! One thing goes wrong, and everybody gets a turn: what must come of it.

use crate::invariants;
use crate::world::World;
use rackwright_api::conditions::{find, is_true};
use rackwright_api::host::{BootWay, EndedTry, Host, OperationKind, Phase, TryOutcome};
use rackwright_simulator::faults::{Fault, Silence};
use rackwright_simulator::machine::Snapshot;

/// Can be booted every way.
const ANY: &str = "rack-a-u01";
/// Has no virtual drive.
const DRIVELESS: &str = "rack-b-u01";

/// Rounds of ten seconds until `done`.
async fn until(world: &mut World, what: &str, mut done: impl FnMut(&World) -> bool) {
    for _ in 0..900 {
        if done(world) {
            return;
        }
        world.fair_round().await;
        if let Err(broken) = invariants::check(world) {
            panic!("{what}: {broken}\n{}", world.last_steps());
        }
    }
    panic!("{what} did not come about:\n{}\n{}", world.unsettled(), world.last_steps());
}

fn host(world: &World, name: &str) -> Host {
    world.typed_host(name).expect("hosts stay")
}

fn machine(world: &World, name: &str) -> Snapshot {
    world.fleet.snapshot(name).expect("it is there")
}

fn is_available(world: &World, name: &str) -> bool {
    let status = host(world, name).status.unwrap_or_default();
    status.phase == Some(Phase::Available) && is_true(&status.conditions, "Ready")
}

fn history(world: &World, name: &str) -> Vec<EndedTry> {
    host(world, name).status.unwrap_or_default().history
}

/// Way, outcome and reason of each try.
fn told(world: &World, name: &str) -> Vec<(Option<BootWay>, TryOutcome, Option<String>)> {
    history(world, name).into_iter().map(|ended| (ended.way, ended.outcome, ended.reason)).collect()
}

fn failed(way: BootWay, reason: &str) -> (Option<BootWay>, TryOutcome, Option<String>) {
    (Some(way), TryOutcome::Failed, Some(reason.into()))
}

fn succeeded(way: BootWay) -> (Option<BootWay>, TryOutcome, Option<String>) {
    (Some(way), TryOutcome::Succeeded, None)
}

#[tokio::test(start_paused = true)]
async fn a_cd_that_never_boots_gives_way_to_a_url() {
    let mut world = World::new(1);
    world.fleet.fault(ANY, Fault::MediaUnreadable);
    until(&mut world, "inspected", |world| is_available(world, ANY)).await;
    let tries = [failed(BootWay::VirtualMedia, "RamdiskSilent"), succeeded(BootWay::HTTPBoot)];
    assert_eq!(told(&world, ANY), tries);
    let seen = machine(&world, ANY);
    assert_eq!(
        (seen.history.http_boots, seen.media.is_none(), seen.powered),
        (1, true, false),
        "and the drive is empty"
    );
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_drive_is_booted_by_a_url_from_the_start() {
    let mut world = World::new(1);
    until(&mut world, "inspected", |world| is_available(world, DRIVELESS)).await;
    assert_eq!(told(&world, DRIVELESS), [succeeded(BootWay::HTTPBoot)]);
}

#[tokio::test(start_paused = true)]
async fn media_that_is_ejected_early_costs_minutes_and_not_the_time_to_call_home() {
    let mut world = World::new(1);
    world.fleet.fault(ANY, Fault::EjectsEarly { once_read: false });
    until(&mut world, "inspected", |world| is_available(world, ANY)).await;
    assert_eq!(told(&world, ANY), [failed(BootWay::VirtualMedia, "MediaEjectedEarly"), succeeded(BootWay::HTTPBoot)]);
    let first = &history(&world, ANY)[0];
    assert!(first.ended_at.duration_since(first.started_at).as_secs() < 240, "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ramdisk_that_runs_from_memory_needs_no_media() {
    let mut world = World::new(1);
    world.fleet.fault(ANY, Fault::EjectsEarly { once_read: true });
    until(&mut world, "inspected", |world| is_available(world, ANY)).await;
    assert_eq!(told(&world, ANY), [succeeded(BootWay::VirtualMedia)]);
}

#[tokio::test(start_paused = true)]
async fn firmware_that_boots_its_disk_whatever_it_is_told_ends_with_a_person() {
    let mut world = World::new(1);
    world.fleet.fault(ANY, Fault::IgnoresBootOverride);
    let was_broken = |world: &World| {
        let failed = history(world, ANY).into_iter().filter(|ended| ended.outcome == TryOutcome::Failed).count();
        failed >= 3 && is_available(world, ANY) // a person mended it
    };
    until(&mut world, "given up and mended", was_broken).await;
    let ways: Vec<_> = told(&world, ANY).into_iter().filter(|ended| ended.1 == TryOutcome::Failed).collect();
    let (cd, url) = (failed(BootWay::VirtualMedia, "RamdiskSilent"), failed(BootWay::HTTPBoot, "RamdiskSilent"));
    assert_eq!(ways, [cd.clone(), url, cd]);
}

#[tokio::test(start_paused = true)]
async fn a_bmc_that_tells_of_another_machine_stops_everything_until_a_person_has_looked() {
    let mut world = World::new(1);
    world.fleet.fault(ANY, Fault::WrongUuid);
    for _ in 0..120 {
        world.fair_round().await;
    }
    let status = host(&world, ANY).status.unwrap_or_default();
    assert_eq!(find(&status.conditions, "Ready").map(|ready| ready.reason.as_str()), Some("WrongMachine"));
    assert!(host(&world, ANY).spec.broken.is_none() && !machine(&world, ANY).powered);
    assert!(machine(&world, ANY).history.media_boots <= 6, "it is not tried again and again");
    world.fleet.heal(ANY, Fault::WrongUuid);
    until(&mut world, "inspected", |world| is_available(world, ANY)).await;
    world.fleet.fault(ANY, Fault::WrongUuid);
    until(&mut world, "seen", |world| !is_available(world, ANY)).await;
    let said = host(&world, ANY).status.unwrap_or_default().conditions;
    assert_eq!(find(&said, "Healthy").map(|is| is.reason.as_str()), Some("WrongMachine"));
}

/// A machine of that image runs on a host, on which one.
async fn run(world: &mut World, image: &str) -> String {
    until(world, "all inspected", |world| world.is_settled()).await;
    world.make_machine("web-1", image);
    until(world, "provisioned", |world| world.is_settled()).await;
    let claimed = world.hosts().into_iter().find(|host| host.spec.is_deployed()).expect("one is claimed");
    claimed.metadata.name.expect("named")
}

fn deployments(world: &World, name: &str) -> Vec<TryOutcome> {
    let deploys = |ended: &EndedTry| ended.kind == OperationKind::Deploy;
    history(world, name).into_iter().filter(deploys).map(|ended| ended.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_system_that_the_ramdisk_starts_runs_without_another_power_on() {
    for hold in [false, true] {
        let mut world = World::new(1);
        for spec in world.fleet.specs().iter().filter(|_| hold) {
            world.fleet.fault(&spec.name, Fault::HoldsMediaWhileOn);
        }
        let name = run(&mut world, "debian-kexec").await;
        let seen = machine(&world, &name);
        assert!(seen.is_running(), "{seen:?}");
        assert_eq!((seen.history.kexecs, seen.history.power_ons), (1, 2), "one to inspect, one to deploy");
        assert_eq!(deployments(&world, &name), [TryOutcome::Succeeded]);
        assert_eq!(seen.media.is_some(), hold && seen.history.http_boots == 0, "the drive lets go when it can");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_drive_held_while_the_host_was_on_comes_out_when_it_went_off() {
    let mut world = World::new(1);
    for spec in world.fleet.specs() {
        world.fleet.fault(&spec.name, Fault::HoldsMediaWhileOn);
        if spec.rack == "rack-b" {
            world.fleet.fault(&spec.name, Fault::PowerSupplyDead { refuses: true }); // not one without a drive
        }
    }
    until(&mut world, "others inspected", |world| is_available(world, ANY) && is_available(world, "rack-c-u01")).await;
    world.make_machine("web-1", "debian-kexec");
    let running = |world: &World| {
        let deployed = world.hosts().into_iter().find(|host| {
            host.spec.is_deployed() && host.status.as_ref().is_some_and(|status| status.operation.is_none())
        });
        deployed.and_then(|host| host.metadata.name)
    };
    until(&mut world, "provisioned", |world| running(world).is_some()).await;
    let name = running(&world).expect("it runs");
    assert!(machine(&world, &name).media.is_some());
    world.fleet.fault(&name, Fault::PowerSupplyDead { refuses: true });
    world.fleet.heal(&name, Fault::PowerSupplyDead { refuses: true });
    until(&mut world, "on again", |world| machine(world, &name).is_running()).await;
    assert_eq!(machine(&world, &name).media, None);
}

/// The host that pool blue keeps warm.
async fn warmed(world: &mut World) -> String {
    world.add_pools();
    until(world, "all inspected and two warm", |world| world.is_settled()).await;
    let kept: Vec<_> =
        world.hosts().into_iter().filter_map(|host| Some((host.spec.warm?, host.metadata.name?))).collect();
    assert_eq!(kept.len(), 2, "one for each pool: {kept:?}");
    kept.into_iter().find(|(order, _)| order.pool.name == "blue").expect("blue has one").1
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_a_warm_host_starts_no_ramdisk_and_reads_no_media() {
    let mut world = World::new(1);
    let name = warmed(&mut world).await;
    let before = machine(&world, &name);
    assert!(before.powered && !before.is_running() && before.media.is_none(), "{before:?}");
    world.resize("blue", 1);
    until(&mut world, "provisioned", |world| world.is_settled()).await;
    assert!(host(&world, &name).spec.is_deployed(), "it is the first that is taken");
    let after = machine(&world, &name);
    assert!(after.is_running());
    let boots = |seen: &Snapshot| seen.history.media_boots + seen.history.http_boots;
    assert_eq!(boots(&after), boots(&before));
    let last = history(&world, &name).pop().expect("a try");
    assert_eq!((last.kind, last.way, last.outcome), (OperationKind::Deploy, None, TryOutcome::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_warm_host_whose_agent_is_gone_is_deployed_as_a_cold_one() {
    let mut world = World::new(1);
    let name = warmed(&mut world).await;
    let call = world.fleet.calls().into_iter().find(|call| call.machine == name).expect("its agent waits");
    world.fleet.panic(&call).expect("it is on");
    world.resize("blue", 1);
    until(&mut world, "provisioned", |world| world.is_settled()).await;
    let tries: Vec<_> =
        history(&world, &name).into_iter().filter(|ended| ended.kind == OperationKind::Deploy).collect();
    let told: Vec<_> = tries.iter().map(|ended| (ended.outcome, ended.attempt, ended.reason.as_deref())).collect();
    assert_eq!(told, [(TryOutcome::Failed, 1, Some("WarmAgentSilent")), (TryOutcome::Succeeded, 1, None)]);
    assert!(tries[0].ended_at.duration_since(tries[0].started_at).as_secs() <= 60, "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn a_warm_host_serves_a_machine_of_no_pool_as_well() {
    let mut world = World::new(1);
    let name = warmed(&mut world).await;
    for spec in world.fleet.specs().into_iter().filter(|spec| spec.name != name) {
        world.fleet.fault(&spec.name, Fault::Unreachable { how: Silence::Silent });
    }
    let alone = |world: &World| {
        let others = world.hosts().into_iter().filter(|host| host.metadata.name.as_deref() != Some(&name));
        others.into_iter().all(|host| !is_true(&host.status.unwrap_or_default().conditions, "Reachable"))
    };
    until(&mut world, "all others silent", alone).await;
    world.make_machine("web-1", "debian");
    until(&mut world, "provisioned", |world| host(world, &name).spec.is_deployed()).await;
    assert_eq!(host(&world, &name).spec.warm, None, "the claim has taken the order out");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_costs_few_writes() {
    let mut world = World::new(1);
    until(&mut world, "all inspected", |world| world.is_settled()).await;
    let before = world.api.writes();
    world.make_machine("web-1", "debian"); // two writes of the test itself
    until(&mut world, "provisioned", |world| world.is_settled()).await;
    let writes = world.api.writes() - before - 2;
    assert!(writes <= 10, "{writes} writes, of manager and boot service together");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_every_half_minute_however_often_an_agent_reports_it() {
    let mut world = World::new(1);
    let waiting = |world: &World| host(world, ANY).status.and_then(|status| status.waiting_for).unwrap_or_default();
    let mut told = vec![waiting(&world)];
    for round in 0..60 {
        world.round_of_progress(round).await;
        told.push(waiting(&world));
    }
    told.dedup();
    let progress: Vec<_> = told.iter().filter(|text| text.starts_with("image")).collect();
    // Of ten minutes one is quiet, and the machine has to start first.
    assert!((15..=20).contains(&progress.len()), "{progress:#?}");
}
