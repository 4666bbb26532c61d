//! A small fleet, quick in everything.

#![allow(dead_code, clippy::panic, reason = "each test file uses its part, and a helper of tests may fail them")]

pub mod boot;

use rackwright_simulator::config::FleetConfig;
use rackwright_simulator::fleet::Fleet;
use rackwright_simulator::machine::{Snapshot, Timing};
use std::time::Duration;

/// The machine that tests are about.
pub const HOST: &str = "rack-a-u01";
/// One beside it.
pub const OTHER: &str = "rack-a-u02";

/// Two machines that start in milliseconds, and the folder that they live in.
pub async fn fleet(media_ca: Option<String>) -> (Fleet, tempfile::TempDir) {
    let state = tempfile::tempdir().expect("a folder");
    let timing = Timing {
        post: Duration::from_millis(30),
        ramdisk_boot: Duration::from_millis(10),
        disk_boot: Duration::from_millis(10),
        power_off: Duration::from_millis(30),
    };
    let config = FleetConfig { timing, media_ca, ..FleetConfig::new(77, state.path().into()) };
    (Fleet::start(config.with_rack("rack-a", 2)).await.expect("starts"), state)
}

/// Waits until the machine is as wanted.
pub async fn until(fleet: &Fleet, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    for _ in 0..500 {
        let snapshot = fleet.snapshot(HOST).expect("it is there");
        if wanted(&snapshot) {
            return snapshot;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in 10 s: {what}: {:?}", fleet.snapshot(HOST))
}
