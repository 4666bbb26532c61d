//! What goes wrong on the way to a disk: each ends in the right state, with a reason on the Host, and never in a success
//! that is none.

use super::victim::{
    PATIENCE, SLOWLY, amid_the_image, attempt_that_deploys, bed, client, ends, given_back, nothing_to_boot, told,
    toy_facts, until_a_try_fails,
};
use anyhow::{Result, ensure};
use rackwright_api::host::Phase;
use rackwright_e2e::Narrator;
use rackwright_e2e::metal::bed::ImageFacts;
use rackwright_e2e::metal::machine::DiskSpec;
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox, toy};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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
        let host = until_a_try_fails(&metal, PATIENCE).await?;
        let told = ends(&host);
        ensure!(told.iter().any(|reason| reason == "RamdiskSilent"), "nothing but its silence tells: {told:?}");
        ensure!(host.spec.deployed.is_none() && host.spec.broken.is_none(), "{:#?}", host.spec);
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 2, "it is the second try that ends well, not try {attempt}");
        Ok(())
    })
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
