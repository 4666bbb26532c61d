//! The proof that something wrong costs nothing and harms nobody else: it is not written or looked at all the time, and
//! hosts that are not part of it stay as they were.

use crate::bed::Bed;
use crate::hosts::phase;
use crate::network::Port;
use crate::trouble::{Kind, Named};
use crate::wait::Look;
use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use kube::core::DynamicObject;
use rackwright_api::Host;
use rackwright_api::conditions::find;
use rackwright_api::host::Phase;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the bed's manager looks at a host on which nothing is being done (`--poll-idle-seconds`).
const LOOK: Duration = Duration::from_secs(5);

/// What the infrastructure manager has done so far.
#[derive(Clone, Copy, Debug)]
struct Work {
    host_passes: u64,
    machine_passes: u64,
    failed_passes: u64,
    writes: u64,
}

/// Hosts that a story leaves alone, as they were when it began.
pub struct Bystanders(BTreeMap<String, Bystander>);

#[derive(Debug, PartialEq)]
struct Bystander {
    uid: Option<String>,
    available_since: Option<String>,
    power_ons: u64,
}

impl Bed {
    /// Waits until the manager writes nothing: what was started is told, what is wrong is told.
    pub async fn wait_until_quiet(&self, within: Duration) -> Result<()> {
        self.wait("nothing is written", within, async || {
            let before = self.work().await?.writes;
            tokio::time::sleep(Duration::from_secs(6)).await; // longer than changes of a place are gathered
            let written = self.work().await?.writes - before;
            Ok(Look::when(written == 0, format!("{written} writes in 6 s")))
        })
        .await
    }

    /// Watches `objects` for `window` and fails when one of them is written, when the manager writes anything at all,
    /// when a pass fails, or when it looks at its hosts and machines more often than at idle ones.
    pub async fn stands_still(&self, objects: &[Named], window: Duration) -> Result<()> {
        let begun = tokio::time::Instant::now();
        let (work, before) = (self.work().await?, self.versions(objects).await?);
        while begun.elapsed() < window {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for ((object, before), now) in objects.iter().zip(&before).zip(self.versions(objects).await?) {
                if before.metadata.resource_version != now.metadata.resource_version {
                    let (before, now) = (&before.data["status"], &now.data["status"]);
                    bail!("{object} is written although nothing changes:\n{before:#}\n{now:#}");
                }
            }
        }
        let now = self.work().await?;
        let looks = begun.elapsed().as_secs() / LOOK.as_secs() + 2;
        let hosts = self.hosts().await?.len() as u64;
        let machines =
            self.api(Kind::RackwrightMachine).list_metadata(&ListParams::default()).await?.items.len() as u64;
        let (host_passes, machine_passes) =
            (now.host_passes - work.host_passes, now.machine_passes - work.machine_passes);
        let (written, failed) = (now.writes - work.writes, now.failed_passes - work.failed_passes);
        self.narrator.more(format!(
            "nothing written in {} s; {host_passes} looks at {hosts} hosts, {machine_passes} at {machines} machines",
            begun.elapsed().as_secs()
        ));
        ensure!(written == 0, "{written} writes although nothing changes");
        ensure!(failed == 0, "{failed} passes failed");
        ensure!(host_passes <= hosts * looks, "{host_passes} passes over {hosts} hosts: more than {looks} each");
        ensure!(machine_passes <= machines * looks, "{machine_passes} passes over {machines} machines");
        Ok(())
    }

    async fn versions(&self, objects: &[Named]) -> Result<Vec<DynamicObject>> {
        let mut found = Vec::new();
        for object in objects {
            found.push(self.api(object.kind).get(&object.name).await.with_context(|| object.to_string())?);
        }
        Ok(found)
    }

    async fn work(&self) -> Result<Work> {
        let url = format!("http://{}/metrics", self.network.at(Port::InfrastructureMetrics));
        let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
        let sum = |parts: &[&str]| -> u64 {
            let of = |line: &&str| parts.iter().all(|part| line.contains(part));
            let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
            text.lines().filter(of).filter_map(value).sum()
        };
        let writes = ["create", "update", "patch", "delete"];
        let work = Work {
            host_passes: sum(&["rackwright_passes_total{", r#"kind="Host""#]),
            machine_passes: sum(&["rackwright_passes_total{", r#"kind="RackwrightMachine""#]),
            failed_passes: sum(&["rackwright_passes_total{", r#"result="error""#]),
            writes: writes.iter().map(|verb| sum(&["rackwright_api_requests_total{", &format!("\"{verb}\"")])).sum(),
        };
        // Every host was inspected: a manager that counts nothing would let everything pass.
        ensure!(work.host_passes > 0 && work.writes > 0, "{url} counts nothing: {work:?}");
        Ok(work)
    }

    /// Every Available host but those in `touched`.
    pub async fn bystanders(&self, touched: &[&str]) -> Result<Bystanders> {
        let mut seen = BTreeMap::new();
        for host in self.hosts().await?.into_iter().filter(|host| !touched.contains(&host.name_any().as_str())) {
            ensure!(phase(&host) == Some(Phase::Available), "{} is not Available", host.name_any());
            seen.insert(host.name_any(), self.bystander(&host)?);
        }
        ensure!(!seen.is_empty(), "nobody stands by");
        Ok(Bystanders(seen))
    }

    fn bystander(&self, host: &Host) -> Result<Bystander> {
        let conditions = host.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let available = find(conditions, "Available").filter(|condition| condition.status == "True");
        Ok(Bystander {
            uid: host.uid(),
            available_since: available.map(|condition| condition.last_transition_time.0.to_string()),
            power_ons: self.fleet()?.snapshot(&host.name_any())?.history.power_ons,
        })
    }

    /// Fails unless `bystanders` were Available all the time, were never switched on, and their disks were never written.
    pub async fn are_unharmed(&self, bystanders: &Bystanders) -> Result<()> {
        for (name, before) in &bystanders.0 {
            let now = self.bystander(&self.host(name).await?)?;
            ensure!(now == *before, "host {name} was {before:?} and is {now:?}");
            let machine = self.fleet()?.snapshot(name)?;
            let (images, wipes) = (&machine.history.images, &machine.history.wipes);
            ensure!(machine.is_clean() && images.is_empty() && wipes.is_empty(), "its disks: {machine:#?}");
        }
        self.narrator.more(format!("{} other hosts Available all the time, their disks untouched", bystanders.0.len()));
        Ok(())
    }
}
