//! What stories about trouble share: one machine called m1, an image that boots in a moment, and how it ends.

use anyhow::{Context, Result, ensure};
use rackwright_api::Host;
use rackwright_api::host::{OperationKind, Phase};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::{Access, Bmc, Connect, Trust};
use rackwright_e2e::Narrator;
use rackwright_e2e::metal::bed::ImageFacts;
use rackwright_e2e::metal::bmc::{PASSWORD, USERNAME};
use rackwright_e2e::metal::{MetalBed, Spec, toy};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(240);
/// Slow enough that there is time to do harm while an image is written, bytes a second.
pub const SLOWLY: u64 = 6 << 20;

/// Why the tries of a host ended that are over; "-" for those that ended well.
pub fn ends(host: &Host) -> Vec<String> {
    let history = host.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default();
    history.iter().map(|ended| ended.reason.clone().unwrap_or_else(|| "-".into())).collect()
}

/// Waits until a try of m1 has failed; gives the host, and says how its tries ended.
pub async fn until_a_try_fails(metal: &MetalBed, within: Duration) -> Result<Host> {
    let failed = |host: &Host| ends(host).iter().any(|reason| reason != "-");
    let host = metal.until_host("m1", "the end of its first try", within, failed).await?;
    metal.bed.narrator.step(format!("noticed: {:?}", ends(&host)));
    Ok(host)
}

/// One machine, Available, and the toy image.
pub async fn bed(spec: Spec, host: Value) -> Result<MetalBed> {
    let mut metal = MetalBed::start(Narrator::stdout()).await?;
    metal.server.add("toy.raw", toy::image()?);
    metal.add_image("toy", "toy.raw", &toy_facts(&metal, "PowerCycle")?).await?;
    metal.prepare_machines("#cloud-config\n{}\n").await?;
    metal.add_machine(spec, host).await?;
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    metal.bed.narrator.step("m1 is Available");
    Ok(metal)
}

pub fn toy_facts(metal: &MetalBed, final_boot: &str) -> Result<ImageFacts> {
    let digest = metal.server.digest("toy.raw").context("the toy image is served")?;
    Ok(ImageFacts { format: "raw".into(), digest, final_boot: final_boot.into() })
}

/// Waits until a condition of the Host says `reason`, and it is neither Provisioned nor Broken.
pub async fn told(metal: &MetalBed, reason: &str) -> Result<()> {
    let host = metal.until_host("m1", reason, PATIENCE, |host| message(host, reason).is_some()).await?;
    metal.bed.narrator.step(format!("m1: {reason}: {}", message(&host, reason).unwrap_or_default()));
    ensure!(host.spec.deployed.is_none() && host.spec.broken.is_none(), "{:#?}", host.spec);
    Ok(())
}

/// What the conditions of a host say for `reason`.
pub fn message(host: &Host, reason: &str) -> Option<String> {
    let conditions = &host.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.reason == reason).map(|condition| condition.message.clone())
}

/// Firmware finds neither a boot sector nor a partition table, whatever else is there.
pub async fn nothing_to_boot(metal: &MetalBed) -> Result<()> {
    let mut start = [0; 1024];
    std::io::Read::read_exact(&mut std::fs::File::open(metal.machine("m1")?.disk(0)?)?, &mut start)?;
    ensure!(start.iter().all(|byte| *byte == 0), "the disk of a deployment that did not end well could be booted");
    Ok(())
}

/// Deletes the Machine and waits until the host is free, off and empty.
pub async fn given_back(metal: &MetalBed) -> Result<()> {
    metal.bed.kubectl(&["delete", "machines", "--all", "--wait=false"]).await?;
    metal.until_host("m1", "its release", PATIENCE, |host| host.spec.claim.is_none()).await?;
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    let machine = metal.machine("m1")?;
    ensure!(!machine.is_on() && !machine.disk_holds_anything(0)?, "a free host is off and its disk is empty");
    metal.bed.narrator.step("m1 is given back: off, empty, Available");
    Ok(())
}

/// Waits until some of the image is on the disk and some is not.
pub async fn amid_the_image(metal: &MetalBed) -> Result<()> {
    metal.image_wire.cut_at(&[]);
    metal
        .until("m1", "a part of the image", PATIENCE, async |_| {
            let passed = metal.image_wire.passed();
            let amid = (toy::SIZE as u64 / 4..toy::SIZE as u64 / 2).contains(&passed);
            Ok(rackwright_e2e::Look::when(amid, format!("{passed} bytes")))
        })
        .await
}

/// Waits until the toy system runs on m1 and its host is Provisioned; gives which try that was.
pub async fn attempt_that_deploys(metal: &MetalBed) -> Result<i32> {
    let begun = Instant::now();
    let attempt = std::sync::atomic::AtomicI32::new(0);
    metal
        .until_host("m1", "a deployment", PATIENCE, |host| {
            let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
            if let Some(operation) = operation.filter(|operation| operation.kind == OperationKind::Deploy) {
                attempt.store(operation.attempt, std::sync::atomic::Ordering::Relaxed);
            }
            host.spec.deployed.is_some()
        })
        .await?;
    metal.until_says("m1", toy::GREETING, begun, PATIENCE).await?;
    metal.until_phase("m1", Phase::Provisioned, PATIENCE).await?;
    ensure!(metal.machine("m1")?.disk_holds(0, toy::MARK)?, "the whole image is on the disk");
    metal.bed.narrator.step("m1 is Provisioned and runs the toy system");
    Ok(attempt.into_inner())
}

pub async fn client(url: &str, ca: &str) -> Result<Arc<dyn Bmc>> {
    let access = Access {
        address: url.parse()?,
        username: USERNAME.into(),
        password: PASSWORD.to_owned().into(),
        trust: Trust::Ca(ca.into()),
    };
    Ok(RedfishConnector::new(RedfishConfig::default()).bmc(&access).await?)
}
