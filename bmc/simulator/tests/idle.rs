//! What a thousand machines cost that do nothing.

use rackwright_simulator::config::FleetConfig;
use rackwright_simulator::fleet::Fleet;
use std::time::Duration;

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

/// Processor time of this process, clock ticks (a hundredth of a second each).
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

async fn start(datacenter: u8, racks: u8, per_rack: u8) -> (Fleet, tempfile::TempDir) {
    let state = tempfile::tempdir().expect("a folder");
    let config = FleetConfig::new(datacenter, state.path().into());
    let config = (0..racks).fold(config, |config, rack| config.with_rack(&format!("rack-{rack}"), per_rack));
    (Fleet::start(config).await.expect("starts"), state)
}

#[tokio::test]
async fn a_thousand_idle_machines_take_no_time_one_task_and_a_few_kib_each() {
    // The first fleet pays for what all share.
    let (first, _first_state) = start(78, 1, 1).await;
    first.shutdown().await;
    let before = resident();
    let (fleet, _state) = start(79, 5, 200).await;
    let each = resident().saturating_sub(before) / 1000;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let begin = ticks();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = ticks() - begin;
    assert_eq!(fleet.hosts().len(), 1000);
    assert!(each < 8 * 1024, "{each} bytes each");
    assert_eq!(tasks, 1, "only the listener");
    assert!(spent <= 2, "{spent} ticks in two idle seconds");
    fleet.shutdown().await;
}
