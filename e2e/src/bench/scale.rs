//! What a machine costs until it runs: a MachineDeployment of Cluster API's own is scaled from none to many at once.
//!
//! Time depends on the computer, which here carries the management plane, a workload control plane and every simulated
//! machine at once. Writes do not: they are counted from the API server's audit log, per account, so nothing is left out.

use super::Report;
use super::audit::{Mark, Outcome, Request, Requests};
use super::usage::{Usage, mebibytes};
use crate::accounts::{BOOT, BOOTSTRAP, INFRASTRUCTURE};
use crate::bed::{Bed, Level, Options};
use crate::narrator::Narrator;
use crate::programs::Programs;
use crate::racks::Layout;
use crate::services::Pace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one step may take, at most.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Until what follows from a machine that runs is written, too.
const SETTLE: Duration = Duration::from_secs(30);
/// Machines stand in so many racks.
const RACKS: u8 = 10;
/// What the writes of our three processes per Machine may come to.
const WRITES: f64 = 10.0;

/// Our own accounts.
const OURS: [&str; 3] = [INFRASTRUCTURE.name, BOOTSTRAP.name, BOOT.name];
/// Cluster API's core manager, by its program.
const CORE: &str = "capi-core";

/// Scales from 0 to `machines`; gives the report, and all writes per account and resource as text.
pub async fn run(programs: Programs, narrator: Narrator, machines: u16) -> Result<(Report, String)> {
    // One for the control plane.
    let hosts_per_rack = (machines + 1).div_ceil(u16::from(RACKS));
    let hosts_per_rack = u8::try_from(hosts_per_rack).ok().filter(|hosts| *hosts <= 250);
    let hosts_per_rack = hosts_per_rack.context("at most 2499 machines: a rack has 250 addresses")?;
    let layout = Layout { racks: RACKS, hosts_per_rack, heartbeat: Duration::from_secs(10), ..Layout::default() };
    let options = Options { level: Level::Racks(layout), audit: true, pace: Pace::Stock };
    let mut bed = Bed::start(programs, options, narrator).await?;
    bed.wait_until_available(layout.hosts(), PATIENCE).await?;
    bed.narrator.step(format!("{} hosts Available", layout.hosts()));
    let cluster = bed.create_cluster("bench", 1, 0).await?;
    // It would replace machines that a busy computer starts too slowly.
    bed.kubectl(&["delete", "machinehealthcheck", "--all"]).await?;
    bed.wait_until_running(&cluster, 0, PATIENCE).await?;
    bed.narrator.step("control plane Running; no worker yet");

    let manager = bed.services()?.infrastructure.id().context("the manager ended")?;
    let (before, mark, begun) = (Usage::of(manager)?, Mark::now(bed.folder())?, Instant::now());
    bed.scale(&cluster, machines.into()).await?;
    let workers = bed.wait_until_running(&cluster, machines.into(), PATIENCE).await?;
    let took = begun.elapsed();
    bed.narrator.step(format!("{} workers Running, their nodes Ready", workers.len()));
    tokio::time::sleep(SETTLE).await;
    let (after, requests) = (Usage::of(manager)?, mark.since(bed.folder())?);
    let hosts: std::collections::BTreeSet<_> = workers.iter().filter_map(|worker| worker.host()).collect();
    ensure!(hosts.len() == usize::from(machines), "{} hosts for {machines} machines", hosts.len());
    bed.stop().await;

    let mut report = Report::default();
    report.tell("Machines", format!("0 to {machines}"));
    report.tell("until all are Running and their nodes Ready", format!("{:.0} s", took.as_secs_f64()));
    report.tell("processor time of our manager", format!("{:.1} s", (after.cpu - before.cpu).as_secs_f64()));
    report.tell("most memory of our manager", mebibytes(after.memory_peak));
    count(&mut report, &requests, machines.into());
    Ok((report, breakdown(&requests, machines.into())))
}

fn count(report: &mut Report, requests: &Requests, machines: f64) {
    let per_machine = |wanted: &dyn Fn(&Request) -> bool| requests.count(wanted) as f64 / machines;
    let ours = |request: &Request| OURS.contains(&request.who.as_str());
    let is_event = |request: &Request| request.what == "events";
    let writes = per_machine(&|request| ours(request) && request.is_write() && !is_event(request));
    report.hold("our writes per Machine", format!("{writes:.2}"), format!("≤ {WRITES}"), writes <= WRITES);
    for who in OURS {
        let writes = per_machine(&|request| request.who == who && request.is_write() && !is_event(request));
        report.tell(format!("  {who}"), format!("{writes:.2}"));
    }
    let events = |who: &dyn Fn(&Request) -> bool| {
        let events = per_machine(&|request| who(request) && request.is_write() && is_event(request));
        format!("{events:.2}")
    };
    report.tell("our events per Machine", events(&ours));
    let lost = per_machine(&|request| ours(request) && request.outcome != Outcome::Done);
    report.tell("our refused requests per Machine", format!("{lost:.2}"));
    let reads = |verb: &'static str| per_machine(&move |request| ours(request) && request.verb == verb);
    report.tell("our GETs per Machine", format!("{:.2}", reads("get")));
    report.tell("our LISTs in all", format!("{:.0}", reads("list") * machines));
    let core = |request: &Request| request.who == CORE;
    let writes = per_machine(&|request| core(request) && request.is_write() && !is_event(request));
    report.tell("writes per Machine of Cluster API's core", format!("{writes:.2}"));
    report.tell("events per Machine of Cluster API's core", events(&core));
}

/// Every kind of request that is made at least once per ten Machines, per account.
fn breakdown(requests: &Requests, machines: f64) -> String {
    let mut by_account = BTreeMap::<&str, Vec<String>>::new();
    for (request, count) in requests.iter() {
        let each = count as f64 / machines;
        if each >= 0.1 {
            let refused = if request.outcome == Outcome::Done { "" } else { "  refused" };
            let line = format!("{each:>7.2}  {:<7} {}{refused}", request.verb, request.what);
            by_account.entry(&request.who).or_default().push(line);
        }
    }
    let mut text = String::from("requests per Machine, by account:\n");
    for (account, lines) in by_account {
        text += &format!("{account}\n{}\n", lines.join("\n"));
    }
    text
}
