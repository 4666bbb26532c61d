//! Waiting for a real machine: often enough to time it, and with its console in the error.

use super::bed::MetalBed;
use super::machine::Machine;
use crate::hosts::phase;
use crate::wait::Look;
use anyhow::{Result, bail};
use rackwright_api::Host;
use rackwright_api::host::Phase;
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// Lines of the console that an error shows.
const TAIL: usize = 25;

impl MetalBed {
    /// Waits until `look` sees `what` of machine `name`. An error of `look` counts as "not yet".
    pub async fn until<T>(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        look: impl AsyncFn(&Machine) -> Result<Look<T>>,
    ) -> Result<T> {
        let machine = self.machine(name)?;
        let begun = Instant::now();
        loop {
            let instead = match look(machine).await {
                Ok(Look::Seen(seen)) => return Ok(seen),
                Ok(Look::NotYet(instead)) => instead,
                Err(why) => format!("{why:#}"),
            };
            if begun.elapsed() > within {
                self.bed.keep_folder();
                bail!(
                    "waited {} s for {name}: {what}\nlast seen: {instead}\n\n{}\nconsole of {name}:\n{}",
                    within.as_secs(),
                    self.bed.report().await,
                    machine.console.tail(TAIL)
                );
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Waits until the Host of machine `name` is as `wanted`; gives it.
    pub async fn until_host(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Host) -> bool,
    ) -> Result<Host> {
        self.until(name, what, within, async |_| {
            let host = self.bed.host(name).await?;
            Ok(match wanted(&host) {
                true => Look::Seen(host),
                false => Look::NotYet(brief(&host)),
            })
        })
        .await
    }

    /// Waits until the Host of machine `name` is in `wanted`; gives it.
    pub async fn until_phase(&self, name: &str, wanted: Phase, within: Duration) -> Result<Host> {
        self.until_host(name, &format!("{wanted:?}"), within, |host| phase(host) == Some(wanted)).await
    }

    /// Waits for a line on the console that holds `text`, since `since`; gives when it was there.
    pub async fn until_says(&self, name: &str, text: &str, since: Instant, within: Duration) -> Result<Instant> {
        self.until(name, &format!("{text:?} on its console"), within, async |machine| {
            Ok(match machine.console.first(text, since) {
                Some(line) => Look::Seen(line.at),
                None => Look::NotYet("other lines".into()),
            })
        })
        .await
    }

    /// Waits until machine `name` is on, or off: QEMU itself, whatever its BMC says.
    pub async fn until_power(&self, name: &str, on: bool, within: Duration) -> Result<()> {
        let what = if on { "on" } else { "off" };
        self.until(name, what, within, async |machine| Ok(Look::when(machine.is_on() == on, "the opposite"))).await
    }
}

/// What a host says of itself in a line.
fn brief(host: &Host) -> String {
    let status = host.status.clone().unwrap_or_default();
    let agent = status.agent.as_ref().map(|agent| format!("{:?} {:?} %", agent.step, agent.percent));
    format!(
        "{:?}, waiting for {}; operation {:?}; agent {agent:?}",
        status.phase,
        status.waiting_for.unwrap_or_default(),
        status.operation.map(|operation| (operation.kind, operation.stage, operation.attempt)),
    )
}
