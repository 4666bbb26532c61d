//! What goes wrong on the way to a disk: each ends in the right state, with a reason on the Host, and never in a success
//! that is none.

use anyhow::{Context, Result, ensure};
use rackwright_api::Host;
use rackwright_api::host::{OperationKind, Phase};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::{Access, Bmc, BootDevice, Connect, PowerTarget, Trust};
use rackwright_e2e::Narrator;
use rackwright_e2e::metal::bed::ImageFacts;
use rackwright_e2e::metal::bmc::{PASSWORD, USERNAME};
use rackwright_e2e::metal::machine::DiskSpec;
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox, toy};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);
/// Slow enough that there is time to do harm while an image is written, bytes a second.
const SLOWLY: u64 = 6 << 20;

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_image_that_is_not_the_one_that_was_asked_for_is_never_booted() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        let facts = ImageFacts { digest: format!("sha256:{}", "0".repeat(64)), ..toy_facts(&metal, "PowerCycle")? };
        metal.add_image("other", "toy.raw", &facts).await?;
        metal.create_machine("victim", "other", "Discard").await?;
        told(&metal, "ImageDigestMismatch").await?;
        nothing_to_boot(&metal).await?;
        given_back(&metal).await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_transfer_that_is_cut_at_10_and_50_and_90_percent_goes_on_where_it_was() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        let percent = |part: u64| toy::SIZE as u64 * part / 100;
        metal.image_wire.cut_at(&[percent(10), percent(50), percent(90)]);
        metal.create_machine("cut", "toy", "Discard").await?;
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "the try that was cut is the one that ends well, not try {attempt}");
        ensure!(metal.image_wire.cuts() == 3, "{} cuts were made", metal.image_wire.cuts());
        let passed = metal.image_wire.passed();
        ensure!(passed < percent(115), "{passed} bytes of {}: it began anew", toy::SIZE);
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_boot_service_that_dies_while_an_image_is_written_is_not_missed() -> Result<()> {
    sandbox::test(async || {
        let mut metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.image_wire.slow_down(SLOWLY);
        metal.create_machine("survivor", "toy", "Discard").await?;
        amid_the_image(&metal).await?;
        metal.services()?.boot.kill().await?;
        metal.bed.narrator.step("the boot service is killed amid the image");
        tokio::time::sleep(Duration::from_secs(3)).await;
        metal.services()?.boot.start()?;
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "no second try was needed, but try {attempt} was the one");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_that_loses_its_power_while_an_image_is_written_is_written_anew() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.image_wire.slow_down(SLOWLY);
        metal.create_machine("phoenix", "toy", "Discard").await?;
        amid_the_image(&metal).await?;
        metal.machine("m1")?.cut_power()?;
        metal.bed.narrator.step("the power goes amid the image");
        nothing_to_boot(&metal).await?;
        metal.image_wire.slow_down(0);
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 2, "it is the second try that ends well, not try {attempt}");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_image_that_is_larger_than_the_disk_is_refused() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks[0].size_mib = 32;
        refused(spec, json!({}), "ImageTooLarge").await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn no_disk_is_written_when_none_is_meant() -> Result<()> {
    sandbox::test(async || {
        let hints = json!({ "rootDevice": { "serial": "NO-SUCH-DISK" } });
        refused(Spec::new("m1", 1, Firmware::Bios), hints, "NoDiskMatches").await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn no_disk_is_written_when_two_are_meant() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks.push(DiskSpec::new(4 << 10, "DISK001B"));
        refused(spec, json!({}), "SeveralDisksMatch").await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn the_ramdisk_of_one_machine_does_nothing_on_another() -> Result<()> {
    sandbox::test(async || {
        let mut metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        let stranger = metal.lab.add(Spec::new("stranger", 2, Firmware::Bios), &metal.bed.plane.authority).await?;
        let other = client(&stranger.bmc.url, metal.bed.plane.authority.pem()).await?;
        let own = client(&metal.lab.units()[0].bmc.url, metal.bed.plane.authority.pem()).await?;
        let begun = Instant::now();
        metal.create_machine("mine", "toy", "Discard").await?;
        metal.until_power("m1", true, PATIENCE).await?;
        metal.machine("m1")?.cut_power()?; // before its own ramdisk can use the token
        let url = own.media().await?.url.context("its media is still in")?;
        other.insert_media(&url).await?;
        other.set_boot(BootDevice::Cd).await?;
        other.set_power(PowerTarget::On).await?;
        metal.until_says("stranger", "WrongMachine", begun, PATIENCE).await?;
        metal.bed.narrator.step("the stranger was told that the media is not for it");
        metal.until_power("stranger", false, PATIENCE).await?;
        ensure!(!metal.machine("stranger")?.disk_holds_anything(0)?, "nothing was written to the stranger's disk");
        attempt_that_deploys(&metal).await.map(drop)
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_system_whose_kernel_cannot_be_started_at_once_is_started_by_its_firmware() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.add_image("eager", "toy.raw", &toy_facts(&metal, "Kexec")?).await?;
        metal.create_machine("eager-1", "eager", "Discard").await?;
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "an image without a kernel to start is no failure, but try {attempt} was the one");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_with_a_disk_that_cannot_be_wiped_is_kept_for_a_person() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks.push(DiskSpec { read_only: true, ..DiskSpec::new(64, "WORNOUT") });
        let metal = bed(spec, json!({ "rootDevice": { "serial": "DISK001A" } })).await?;
        metal.create_machine("last", "toy", "Discard").await?;
        attempt_that_deploys(&metal).await?;
        metal.bed.kubectl(&["delete", "machines", "--all", "--wait=false"]).await?;
        let host = metal.until_phase("m1", Phase::Broken, 2 * PATIENCE).await?;
        let broken = host.spec.broken.context("it says why")?;
        metal.bed.narrator.step(format!("m1 is Broken: {}: {}", broken.reason, broken.message));
        ensure!(broken.reason == "WipeFailed" && broken.message.contains("vdb"), "{broken:?}");
        ensure!(host.spec.wiped.is_none(), "nothing vouches for a wipe that was none: {:?}", host.spec.wiped);
        metal.until_power("m1", false, PATIENCE).await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_old_system_that_boots_because_the_cd_went_too_early_is_not_taken_for_the_ramdisk() -> Result<()> {
    sandbox::test(async || {
        let mut metal = MetalBed::start(Narrator::stdout()).await?;
        metal.lab.add(Spec::new("m1", 1, Firmware::Bios), &metal.bed.plane.authority).await?;
        metal.machine("m1")?.fill_disk(0, &toy::image()?)?;
        let begun = Instant::now();
        metal.register("m1", json!({})).await?;
        let bmc = client(&metal.lab.units()[0].bmc.url, metal.bed.plane.authority.pem()).await?;
        metal.until_power("m1", true, PATIENCE).await?;
        metal.machine("m1")?.take_cd_out()?;
        bmc.eject_media().await?;
        metal.bed.narrator.step("the CD is taken out as soon as the machine is on");
        metal.until_says("m1", toy::GREETING, begun, PATIENCE).await?;
        let host = metal.until_host("m1", "the end of its first try", PATIENCE, |host| !ends(host).is_empty()).await?;
        metal.bed.narrator.step(format!("its old system ran; the first try ended: {:?}", ends(&host)));
        ensure!(["MediaEjectedEarly", "RamdiskSilent"].contains(&ends(&host)[0].as_str()), "{:?}", ends(&host));
        metal.until_phase("m1", Phase::Available, PATIENCE).await?;
        ensure!(metal.machine("m1")?.disk_holds(0, toy::MARK)?, "an inspection leaves the disk as it is");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_that_hangs_while_an_image_is_written_is_written_anew() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.image_wire.slow_down(SLOWLY);
        metal.create_machine("frozen", "toy", "Discard").await?;
        amid_the_image(&metal).await?;
        metal.machine("m1")?.hang()?;
        metal.bed.narrator.step("the machine hangs amid the image: on, and silent");
        nothing_to_boot(&metal).await?;
        metal.image_wire.slow_down(0);
        // No longer than an operation may take (`--operation-seconds`).
        let second = |host: &Host| ends(host).iter().any(|reason| reason != "-");
        let host = metal.until_host("m1", "the end of its first try", 2 * PATIENCE, second).await?;
        metal.bed.narrator.step(format!("noticed: {:?}", ends(&host)));
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 2, "it is the second try that ends well, not try {attempt}");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_old_system_that_boots_because_the_bmc_forgot_what_to_boot_is_not_taken_for_the_new_one() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.machine("m1")?.fill_disk(0, &toy::image()?)?;
        let front = &metal.lab.units()[0].bmc.front;
        front.forget_boot_device(true);
        let begun = Instant::now();
        metal.create_machine("late", "toy", "Discard").await?;
        metal.until_says("m1", toy::GREETING, begun, PATIENCE).await?;
        metal.bed.narrator.step("the BMC says that it boots the CD; the old system runs");
        front.forget_boot_device(false);
        let second = |host: &Host| ends(host).iter().any(|reason| reason != "-");
        let host = metal.until_host("m1", "the end of its first try", PATIENCE, second).await?;
        let told = ends(&host);
        metal.bed.narrator.step(format!("after {} s: {told:?}", begun.elapsed().as_secs()));
        ensure!(told.iter().any(|reason| reason == "RamdiskSilent"), "nothing but its silence tells: {told:?}");
        ensure!(host.spec.deployed.is_none() && host.spec.broken.is_none(), "{:#?}", host.spec);
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 2, "it is the second try that ends well, not try {attempt}");
        Ok(())
    })
}

/// Why the tries of a host ended that are over; "-" for those that ended well.
fn ends(host: &Host) -> Vec<String> {
    let history = host.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default();
    history.iter().map(|ended| ended.reason.clone().unwrap_or_else(|| "-".into())).collect()
}

/// One machine, Available, and the toy image.
async fn bed(spec: Spec, host: Value) -> Result<MetalBed> {
    let mut metal = MetalBed::start(Narrator::stdout()).await?;
    metal.server.add("toy.raw", toy::image()?);
    metal.add_image("toy", "toy.raw", &toy_facts(&metal, "PowerCycle")?).await?;
    metal.prepare_machines("#cloud-config\n{}\n").await?;
    metal.add_machine(spec, host).await?;
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    metal.bed.narrator.step("m1 is Available");
    Ok(metal)
}

fn toy_facts(metal: &MetalBed, final_boot: &str) -> Result<ImageFacts> {
    let digest = metal.server.digest("toy.raw").context("the toy image is served")?;
    Ok(ImageFacts { format: "raw".into(), digest, final_boot: final_boot.into() })
}

/// A machine that cannot be provisioned for `reason` is told so, has nothing on its disks, and can be given back.
async fn refused(spec: Spec, host: Value, reason: &str) -> Result<()> {
    let disks = spec.disks.len();
    let metal = bed(spec, host).await?;
    metal.create_machine("refused", "toy", "Discard").await?;
    told(&metal, reason).await?;
    for disk in 0..disks {
        ensure!(!metal.machine("m1")?.disk_holds_anything(disk)?, "nothing was written to disk {disk}");
    }
    given_back(&metal).await
}

/// Waits until a condition of the Host says `reason`, and it is neither Provisioned nor Broken.
async fn told(metal: &MetalBed, reason: &str) -> Result<()> {
    let host = metal.until_host("m1", reason, PATIENCE, |host| message(host, reason).is_some()).await?;
    metal.bed.narrator.step(format!("m1: {reason}: {}", message(&host, reason).unwrap_or_default()));
    ensure!(host.spec.deployed.is_none() && host.spec.broken.is_none(), "{:#?}", host.spec);
    Ok(())
}

/// What the conditions of a host say for `reason`.
fn message(host: &Host, reason: &str) -> Option<String> {
    let conditions = &host.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.reason == reason).map(|condition| condition.message.clone())
}

/// Firmware finds neither a boot sector nor a partition table, whatever else is there.
async fn nothing_to_boot(metal: &MetalBed) -> Result<()> {
    let mut start = [0; 1024];
    std::io::Read::read_exact(&mut std::fs::File::open(metal.machine("m1")?.disk(0)?)?, &mut start)?;
    ensure!(start.iter().all(|byte| *byte == 0), "the disk of a deployment that did not end well could be booted");
    Ok(())
}

/// Deletes the Machine and waits until the host is free, off and empty.
async fn given_back(metal: &MetalBed) -> Result<()> {
    metal.bed.kubectl(&["delete", "machines", "--all", "--wait=false"]).await?;
    metal.until_host("m1", "its release", PATIENCE, |host| host.spec.claim.is_none()).await?;
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    let machine = metal.machine("m1")?;
    ensure!(!machine.is_on() && !machine.disk_holds_anything(0)?, "a free host is off and its disk is empty");
    metal.bed.narrator.step("m1 is given back: off, empty, Available");
    Ok(())
}

/// Waits until some of the image is on the disk and some is not.
async fn amid_the_image(metal: &MetalBed) -> Result<()> {
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
async fn attempt_that_deploys(metal: &MetalBed) -> Result<i32> {
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

async fn client(url: &str, ca: &str) -> Result<Arc<dyn Bmc>> {
    let access = Access {
        address: url.parse()?,
        username: USERNAME.into(),
        password: PASSWORD.to_owned().into(),
        trust: Trust::Ca(ca.into()),
    };
    Ok(RedfishConnector::new(RedfishConfig::default()).bmc(&access).await?)
}
