//! What a fleet costs while nothing happens: memory, processor time and requests of the infrastructure manager.
//!
//! The settings are those of an installation, so each host is looked at about once a minute. Nothing of what is looked at
//! changes, so nothing may be written.

use super::Report;
use super::usage::{Usage, between, mebibytes, requests};
use crate::bed::{Bed, Level, Options, Racks};
use crate::narrator::Narrator;
use crate::network::Port;
use crate::programs::Programs;
use crate::racks::Layout;
use crate::services::{BootSite, Pace};
use anyhow::{Context, Result};
use kube::ResourceExt;
use rackwright_simulator::machine::Timing;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long until all hosts are inspected, at most.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Until a process that has nothing to do yet has come to rest.
const CALM: Duration = Duration::from_secs(10);
/// Until every host was looked at once more since it became Available: the longest pause between two looks, and some more.
const SETTLE: Duration = Duration::from_secs(90);
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(120);

/// Registers `layout` and measures once all its hosts are Available.
pub async fn run(programs: Programs, narrator: Narrator, racks: u8, hosts_per_rack: u8) -> Result<Report> {
    let timing = Timing {
        post: Duration::from_millis(200),
        ramdisk_boot: Duration::from_millis(200),
        disk_boot: Duration::from_millis(200),
        power_off: Duration::from_millis(50),
    };
    let layout = Layout { racks, hosts_per_rack, timing, ..Layout::default() };
    let options = Options { level: Level::ClusterApi, audit: false, pace: Pace::Stock };
    let mut bed = Bed::start(programs, options, narrator).await?;
    let services = bed.start_services(options.pace, &BootSite::default()).await?;
    let manager = services.infrastructure.id().context("the manager ended")?;
    tokio::time::sleep(CALM).await;
    let empty = Usage::of(manager)?;
    bed.narrator.step(format!("empty manager: {}", mebibytes(empty.memory)));

    let (fleet, images) = bed.start_racks(layout).await?;
    bed.racks = Some(Racks { layout, services, fleet, images });
    bed.wait_until_available(layout.hosts(), PATIENCE).await?;
    bed.narrator.step(format!("{} hosts Available; settling for {} s", layout.hosts(), SETTLE.as_secs()));
    tokio::time::sleep(SETTLE).await;

    let before = Look::now(&bed, manager).await?;
    bed.narrator.step(format!("measuring for {} s", MEASURED.as_secs()));
    tokio::time::sleep(MEASURED).await;
    let after = Look::now(&bed, manager).await?;
    bed.stop().await;
    Ok(report(layout.hosts(), &empty, &before, &after))
}

/// What is compared.
struct Look {
    usage: Usage,
    requests: BTreeMap<String, u64>,
    /// Version of every host.
    versions: BTreeMap<String, Option<String>>,
}

impl Look {
    async fn now(bed: &Bed, manager: u32) -> Result<Look> {
        let versions = bed.hosts().await?.iter().map(|host| (host.name_any(), host.resource_version())).collect();
        let requests = requests(bed.network.at(Port::InfrastructureMetrics)).await?;
        Ok(Look { usage: Usage::of(manager)?, requests, versions })
    }
}

fn report(hosts: usize, empty: &Usage, before: &Look, after: &Look) -> Report {
    let minutes = MEASURED.as_secs_f64() / 60.0;
    let asked = between(&before.requests, &after.requests);
    let of = |verbs: &[&str]| verbs.iter().filter_map(|verb| asked.get(*verb)).sum::<u64>();
    let (writes, lists) = (of(&["create", "update", "patch", "delete", "other"]), of(&["list"]));
    let changed = before.versions.iter().filter(|(name, version)| after.versions.get(*name) != Some(version)).count();

    let mut report = Report::default();
    report.tell("hosts, all Available", hosts.to_string());
    report.tell("memory of the manager before there were hosts", mebibytes(empty.memory));
    let above = after.usage.memory.saturating_sub(empty.memory);
    report.compare("memory of the manager above that", mebibytes(above), "< 60 MiB");
    report.tell("most memory it ever had", mebibytes(after.usage.memory_peak));
    let cpu = (after.usage.cpu - before.usage.cpu).as_secs_f64();
    report.tell("processor time per minute", format!("{:.2} s", cpu / minutes));
    report.hold(format!("API writes in {minutes} min"), writes.to_string(), "0", writes == 0);
    report.hold(format!("API LISTs in {minutes} min"), lists.to_string(), "0", lists == 0);
    report.tell(format!("API GETs in {minutes} min"), of(&["get"]).to_string());
    report.tell(format!("API watches begun in {minutes} min"), of(&["watch"]).to_string());
    report.hold("hosts whose resourceVersion changed", changed.to_string(), "0", changed == 0);
    report
}
