//! The life of hosts and machines under crashes, stale views, write conflicts and lying BMCs, from a seed.
//!
//! Real passes run against an API server in memory and a fleet in process; chance picks what happens next: a pass, a
//! late watch event, a moment of time, a report of an agent, a fault, a wish of a person, the death of the process.
//! After every step the invariants hold; in the end, when nothing is broken any more, everything is as it was asked.
//!
//! One seed again: `RACKWRIGHT_SEED=7 cargo test -p rackwright-controllers --test simulation`

#![expect(clippy::panic, reason = "a simulation that fails says where and how to see it again")]

mod api_server;
mod invariants;
mod pools;
mod stories;
mod world;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// Steps of one run; all runs together make 100,000.
const STEPS: usize = 2_500;
const SEEDS: u64 = 40;
/// Every so many seeds there are node pools beside the machines of people.
const POOLS: u64 = 4;

#[test]
fn hosts_and_machines_end_as_they_should_whatever_happens_on_the_way() {
    let seeds = match std::env::var("RACKWRIGHT_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("RACKWRIGHT_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    // Each seed is a world and a clock of its own, so as many run at once as there are cores.
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end);
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                while let Some(seed) = take() {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                    runtime.expect("a runtime").block_on(run(seed));
                }
            });
        }
    });
}

async fn run(seed: u64) {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut world = World::new(seed);
    if seed.is_multiple_of(POOLS) {
        world.add_pools();
    }
    for step in 0..STEPS {
        let what = world.step(&mut chance).await;
        if let Err(broken) = invariants::check(&world) {
            panic!("seed {seed}, step {step} ({what}): {broken}\n{}", world.last_steps());
        }
    }
    world.calm();
    for round in 0..700 {
        world.fair_round().await;
        if let Err(broken) = invariants::check(&world) {
            panic!("seed {seed}, calm round {round}: {broken}\n{}", world.last_steps());
        }
        if world.is_settled() {
            break;
        }
    }
    assert!(world.is_settled(), "seed {seed} did not settle:\n{}\n{}", world.unsettled(), world.last_steps());
    // The last change is still to be told by those who saw it: a host that was let go, and pools whose spare it is.
    for _ in 0..2 {
        world.fair_round().await;
    }
    let before = world.api.writes();
    for _ in 0..3 {
        world.fair_round().await;
    }
    assert_eq!(world.api.writes(), before, "seed {seed}: writes although nothing changed\n{}", world.last_steps());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_world() {
    let mut ends = Vec::new();
    for _ in 0..2 {
        let mut chance = SmallRng::seed_from_u64(11);
        let mut world = World::new(11);
        for _ in 0..400 {
            world.step(&mut chance).await;
        }
        ends.push((world.api.list("hosts"), chance.random::<u64>()));
    }
    assert_eq!(ends[0], ends[1]);
}
