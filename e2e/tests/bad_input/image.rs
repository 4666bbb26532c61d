//! Deployments that a person must mend: a wrong image, user-data that is not there, a disk that nobody chose.

use crate::{Order, PATIENCE, USER_DATA, WINDOW, make_image, on_racks};
use anyhow::{Context, Result, ensure};
use rackwright_api::Host;
use rackwright_api::host::{OperationKind, Phase};
use rackwright_e2e::hosts::phase;
use rackwright_e2e::racks::OS_IMAGE;
use rackwright_e2e::trouble::Kind;
use rackwright_e2e::{Bed, Look};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// A deployment that fails until a person mends something.
struct Failing {
    order: Order<'static>,
    reason: &'static str,
}

/// Every machine has a host of its own, so that it is known beforehand which host says what.
const FAILING: [Failing; 5] = [
    failing("torn", "rack-a-u01", "torn", USER_DATA, "ImageDigestMismatch"),
    failing("absent", "rack-a-u02", "absent", USER_DATA, "ImageUnavailable"),
    failing("unborn", "rack-a-u03", OS_IMAGE, "unborn", "UserDataMissing"),
    failing("robbed", "rack-a-u04", OS_IMAGE, "robbed", "UserDataMissing"),
    failing("undecided", "rack-a-u05", OS_IMAGE, USER_DATA, "SeveralDisksMatch"),
];

const fn failing(
    machine: &'static str,
    host: &'static str,
    image: &'static str,
    user_data: &'static str,
    reason: &'static str,
) -> Failing {
    Failing { order: Order { machine, host, image, user_data }, reason }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn an_image_or_user_data_that_is_wrong_breaks_no_host_and_is_tried_again() -> Result<()> {
    on_racks(1, 8, async |bed| {
        let bystanders = bed.bystanders(&FAILING.map(|failing| failing.order.host)).await?;
        order_all(bed).await?;
        for failing in &FAILING {
            failing.is_told(bed).await.with_context(|| failing.order.machine)?;
        }

        wait_for_pause(bed).await?;
        let hosts = FAILING.map(|failing| Kind::Host.named(failing.order.host));
        let machines = FAILING.map(|failing| Kind::RackwrightMachine.named(failing.order.machine));
        bed.stands_still(&[hosts, machines].concat(), WINDOW).await?;
        for failing in &FAILING {
            let host = bed.host(failing.order.host).await?;
            ensure!(host.spec.broken.is_none() && phase(&host) == Some(Phase::Provisioning), "{:#?}", host.status);
        }
        bed.narrator.step("after three tries no host is Broken");

        let [torn, absent, mended @ ..] = FAILING.map(|failing| failing.order);
        bed.put_user_data("unborn").await?;
        bed.put_user_data("robbed").await?;
        let fast = json!({ "spec": { "rootDevice": { "rotational": false } } });
        bed.change(&Kind::Host.named("rack-a-u05"), fast).await?;
        give_up(bed, [torn, absent]).await?;
        for order in mended {
            let host = bed.wait_until_provisioned(order.machine, PATIENCE).await.context(order.machine)?;
            ensure!(host == order.host, "{} moved to {host}", order.machine);
            let machine = bed.fleet()?.snapshot(&host)?;
            ensure!(machine.history.images.len() == 1 && machine.history.wipes.is_empty(), "{machine:#?}");
        }
        bed.narrator.step("the others are mended: provisioned on the hosts that they had");
        bed.are_unharmed(&bystanders).await
    })
    .await
}

/// Everything is ordered before any host fits, so that a Secret can be there then and gone when it is needed.
async fn order_all(bed: &Bed) -> Result<()> {
    make_image(bed, "torn", "", Some(&format!("sha256:{}", "0".repeat(64)))).await?;
    make_image(bed, "absent", ".absent", None).await?;
    bed.change(&Kind::Host.named("rack-a-u05"), json!({ "spec": { "rootDevice": null } })).await?;
    bed.put_user_data("robbed").await?;
    for failing in &FAILING {
        failing.order.place(bed).await?;
    }
    let robbed = Kind::RackwrightMachine.named("robbed");
    bed.wait_until_says(&robbed, "HostClaimed", "NoHostMatches", PATIENCE).await?;
    bed.kubectl(&["delete", "secret", "robbed"]).await?;
    for failing in &FAILING {
        failing.order.admit(bed).await?;
    }
    Ok(())
}

impl Failing {
    /// The reason stands on the host, on the RackwrightMachine, and on the Machine.
    async fn is_told(&self, bed: &Bed) -> Result<()> {
        let Order { machine, host, .. } = self.order;
        let message = bed.wait_until_says(&Kind::Host.named(host), "Ready", self.reason, PATIENCE).await?;
        bed.narrator.step(format!("{machine}: {}: {message}", self.reason));
        let ours = Kind::RackwrightMachine.named(machine);
        bed.wait_until_says(&ours, "Provisioned", self.reason, PATIENCE).await?;
        let core = Kind::Machine.named(machine);
        let message = bed.wait_until_says(&core, "InfrastructureReady", self.reason, PATIENCE).await?;
        ensure!(message.contains(host), "the Machine does not name {host}: {message}");
        Ok(())
    }
}

/// Waits until each host has failed for the third time or more and rests for longer than the window.
async fn wait_for_pause(bed: &Bed) -> Result<()> {
    bed.wait("every host between its third or a later try and the next", PATIENCE, async || {
        for failing in &FAILING {
            let left = rest(&bed.host(failing.order.host).await?);
            if left.is_none_or(|left| left < WINDOW + Duration::from_secs(2)) {
                return Ok(Look::NotYet(format!("{}: {left:?}", failing.order.host)));
            }
        }
        Ok(Look::Seen(()))
    })
    .await
}

/// Time until a deployment that has failed thrice or more is tried again (`--retry-seconds` of the bed, once per try).
fn rest(host: &Host) -> Option<Duration> {
    let status = host.status.as_ref()?;
    let operation = status.operation.as_ref().filter(|operation| operation.kind == OperationKind::Deploy)?;
    let agent = status.agent.as_ref().filter(|agent| agent.operation_id == operation.id && agent.failure.is_some())?;
    let retry = Duration::from_secs(10) * u32::try_from(operation.attempt).ok().filter(|attempt| *attempt >= 3)?;
    (SystemTime::from(agent.since) + retry).duration_since(SystemTime::now()).ok()
}

/// Deletes machines whose image is wrong: they go, and their hosts come back wiped, never having run anything.
async fn give_up(bed: &Bed, orders: [Order<'_>; 2]) -> Result<()> {
    for order in &orders {
        bed.delete(&Kind::Machine.named(order.machine)).await?;
    }
    for order in &orders {
        bed.wait_until_gone(&Kind::Machine.named(order.machine), PATIENCE).await?;
        let host = bed.wait_until_host_is(order.host, Phase::Available, PATIENCE).await?;
        let machine = bed.fleet()?.snapshot(order.host)?;
        ensure!(!host.spec.needs_wipe() && !machine.powered, "{machine:#?}");
        ensure!(machine.is_clean() && !machine.history.wipes.is_empty(), "not wiped: {machine:#?}");
        ensure!(machine.history.images.is_empty() && machine.history.disk_boots == 0, "ran: {machine:#?}");
    }
    bed.narrator.step("machines with a wrong image are deleted: their hosts are wiped and Available");
    Ok(())
}
