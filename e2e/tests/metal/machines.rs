//! The main job on real machines: from an empty disk to a system that runs, and back to an empty disk.

use anyhow::{Context, Result, ensure};
use rackwright_api::HostHardware;
use rackwright_api::host::Phase;
use rackwright_e2e::metal::bed::ImageFacts;
use rackwright_e2e::metal::{Firmware, Machine, MetalBed, Spec, sandbox, toy};
use rackwright_e2e::racks::NAMESPACE;
use rackwright_e2e::{Narrator, Programs};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(300);
/// User-data of machines that no cluster waits for; it must be found on the disk, and later not.
const USER_DATA: &str = "#cloud-config\n# the secret of this machine: correct horse battery staple\n{}\n";
const SECRET: &[u8] = b"correct horse battery staple";

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_with_bios_gets_an_image_over_virtual_media_and_is_given_back_wiped() -> Result<()> {
    sandbox::test(async || {
        let metal = MetalBed::start(Narrator::stdout()).await?;
        toy_life(metal, Spec::new("m1", 1, Firmware::Bios), json!({ "bootWays": ["VirtualMedia"] })).await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_with_uefi_gets_an_image_over_virtual_media_and_is_given_back_wiped() -> Result<()> {
    sandbox::test(async || {
        let metal = MetalBed::start(Narrator::stdout()).await?;
        toy_life(metal, Spec::new("m1", 1, Firmware::Uefi), json!({ "bootWays": ["VirtualMedia"] })).await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_gets_an_image_by_way_of_its_network_card_and_is_given_back_wiped() -> Result<()> {
    sandbox::test(async || {
        // iPXE is what network cards in QEMU have in their ROM; the site's DHCP server knows nothing of us.
        let boot = MetalBed::network_boot();
        let metal = MetalBed::start_with(Programs::from_env()?, Narrator::stdout(), &boot).await?;
        let spec = Spec { boot_rom: true, ..Spec::new("m1", 1, Firmware::Bios) };
        toy_life(metal, spec, json!({ "bootWays": ["PXE"] })).await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_gets_an_image_because_its_firmware_fetches_the_ramdisk_and_is_given_back_wiped() -> Result<()> {
    sandbox::test(async || {
        let boot = MetalBed::http_boot();
        let metal = MetalBed::start_with(Programs::from_env()?, Narrator::stdout(), &boot).await?;
        metal.lead_firmware_past_tls().await?;
        toy_life(metal, Spec::new("m1", 1, Firmware::Uefi), json!({ "bootWays": ["HTTPBoot"] })).await
    })
}

/// The whole life of one machine with an image that boots in a moment.
async fn toy_life(mut metal: MetalBed, spec: Spec, host: Value) -> Result<()> {
    let digest = metal.server.add("toy.raw", toy::image()?);
    let facts = ImageFacts { format: "raw".into(), digest, final_boot: "PowerCycle".into() };
    metal.add_image("toy", "toy.raw", &facts).await?;
    metal.prepare_machines(USER_DATA).await?;
    metal.add_machine(spec, host).await?;
    let steps = metal.follow_inspection("m1").await?;
    metal.bed.narrator.step("inspected");
    metal.bed.narrator.more(steps.to_string());
    facts_are_what_the_machine_is_made_of(&metal, "m1").await?;

    metal.create_machine("toy-1", "toy", "Discard").await?;
    let steps = metal.follow_deployment("m1", toy::GREETING).await?;
    metal.bed.narrator.step("the toy system runs");
    metal.bed.narrator.more(steps.to_string());
    metal.until_phase("m1", Phase::Provisioned, PATIENCE).await?;
    let machine = metal.machine("m1")?;
    ensure!(machine.disk_holds(0, toy::MARK)? && machine.disk_holds(0, SECRET)?, "image and user-data are on the disk");

    metal.delete_machine("toy-1").await?;
    let steps = metal.follow_wipe("m1").await?;
    metal.bed.narrator.step("wiped and Available");
    metal.bed.narrator.more(steps.to_string());
    ensure!(!metal.machine("m1")?.is_on(), "a free host is off");
    ensure!(!metal.machine("m1")?.disk_holds_anything(0)?, "nothing is left on the disk");
    Ok(())
}

/// What was found is what QEMU was told.
async fn facts_are_what_the_machine_is_made_of(metal: &MetalBed, name: &str) -> Result<()> {
    let hardware = kube::Api::<HostHardware>::namespaced(metal.bed.client(), NAMESPACE).get(name).await?;
    let Machine { spec, .. } = metal.machine(name)?;
    let facts = hardware.spec.facts;
    let mode = match spec.firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    assert_eq!(facts.boot_mode.as_deref(), Some(mode));
    assert_eq!(facts.system_uuid, Some(spec.uuid()));
    assert_eq!(facts.serial, Some(spec.serial()));
    assert_eq!(facts.cpu.threads, i32::from(spec.cpus));
    let all = i64::from(spec.memory_mib);
    // Firmware keeps some for itself.
    ensure!((all * 9 / 10..=all).contains(&facts.memory_mib), "{} of {all} MiB", facts.memory_mib);
    let disks: Vec<_> = facts.disks.iter().map(|disk| (disk.serial.clone(), disk.size_bytes >> 20)).collect();
    let built: Vec<_> = spec.disks.iter().map(|disk| (Some(disk.serial.clone()), disk.size_mib as i64)).collect();
    assert_eq!(disks, built);
    let nic = facts.nics.iter().find(|nic| nic.mac == spec.mac()).context("its network card")?;
    ensure!(nic.addresses.iter().any(|address| address.starts_with("172.30.2.")), "{:?}", nic.addresses);
    Ok(())
}
