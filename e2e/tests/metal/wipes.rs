//! Wipes that are none: the host stays out of use until a person has seen to it.

use super::victim::{PATIENCE, attempt_that_deploys, bed};
use anyhow::{Context, Result, ensure};
use rackwright_api::Host;
use rackwright_api::host::Phase;
use rackwright_e2e::metal::machine::{Bus, DiskSpec};
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox, toy};
use serde_json::json;

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_with_a_disk_that_cannot_be_wiped_is_kept_for_a_person() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks.push(DiskSpec { read_only: true, ..DiskSpec::new(64, "WORNOUT") });
        let metal = bed(spec, json!({ "rootDevice": { "serial": "DISK001A" } })).await?;
        metal.create_machine("last", "toy", "Discard").await?;
        attempt_that_deploys(&metal).await?;
        broken_by_its_wipe(&metal, "WipeFailed", "vdb").await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_with_a_disk_that_fails_amid_its_wipe_is_kept_for_a_person() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks[0].size_mib = 128; // all of it is overwritten, on an emulated processor
        spec.disks.push(DiskSpec { room_mib: Some(20), ..DiskSpec::new(64, "FAILING") });
        let metal = bed(spec, json!({ "rootDevice": { "serial": "DISK001A" } })).await?;
        metal.create_machine("last", "toy", "Overwrite").await?;
        attempt_that_deploys(&metal).await?;
        broken_by_its_wipe(&metal, "WipeFailed", "vdb").await?;
        ensure!(!metal.machine("m1")?.disk_holds_anything(0)?, "the disk before it is wiped");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_disk_that_was_pulled_out_is_missed_until_a_person_says_that_it_is_gone_for_good() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks.push(DiskSpec::new(64, "PULLED"));
        let metal = bed(spec, json!({ "rootDevice": { "serial": "DISK001A" } })).await?;
        metal.create_machine("last", "toy", "Discard").await?;
        attempt_that_deploys(&metal).await?;
        metal.machine("m1")?.pull_disk(1)?;
        metal.bed.narrator.step("its second disk is pulled out");
        broken_by_its_wipe(&metal, "DiskMissing", "PULLED").await?;
        ensure!(!metal.machine("m1")?.disk_holds_anything(0)?, "the disk that is there is wiped");
        metal.bed.kubectl(&["annotate", "host", "m1", "rackwright.dev/repaired=took the disk out for good"]).await?;
        metal.until_host("m1", "its wipe", 2 * PATIENCE, |host: &Host| host.spec.wiped.is_some()).await?;
        metal.until_phase("m1", Phase::Available, PATIENCE).await?;
        metal.bed.narrator.step("looked at anew, wiped, Available");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_nvme_disk_is_formatted_by_its_controller_and_the_record_says_so() -> Result<()> {
    sandbox::test(async || {
        let mut spec = Spec::new("m1", 1, Firmware::Bios);
        spec.disks[0].size_mib = 128;
        spec.disks.push(DiskSpec { bus: Bus::Nvme, ..DiskSpec::new(256, "NVME0001") });
        let metal = bed(spec, json!({ "rootDevice": { "serial": "DISK001A" } })).await?;
        metal.machine("m1")?.fill_disk(1, &toy::MARK.repeat(1 << 16))?;
        metal.create_machine("last", "toy", "SecureErase").await?;
        attempt_that_deploys(&metal).await?;
        metal.delete_machine("last").await?;
        let host = metal.until_host("m1", "its wipe", 2 * PATIENCE, |host: &Host| host.spec.wiped.is_some()).await?;
        metal.until_phase("m1", Phase::Available, PATIENCE).await?;
        let wiped = host.spec.wiped.context("it is there")?;
        for disk in &wiped.disks {
            metal.bed.narrator.step(format!("{}: {}: {:?}", disk.device, disk.method, disk.verified));
        }
        let nvme =
            wiped.disks.iter().find(|disk| disk.serial.as_deref() == Some("NVME0001")).context("its NVMe disk")?;
        ensure!(nvme.method.starts_with("nvme-format"), "{nvme:?}");
        let machine = metal.machine("m1")?;
        ensure!(!machine.disk_holds(1, toy::MARK)?, "nothing of what was on it is left");
        ensure!(!machine.disk_holds_anything(0)?, "a disk that cannot erase itself is overwritten");
        Ok(())
    })
}

/// Takes the machine of m1 away, whose wipe then breaks the host for `reason`, with `word` in the message.
async fn broken_by_its_wipe(metal: &MetalBed, reason: &str, word: &str) -> Result<()> {
    metal.delete_machine("last").await?;
    let host = metal.until_phase("m1", Phase::Broken, 4 * PATIENCE).await?;
    let broken = host.spec.broken.context("it says why")?;
    metal.bed.narrator.step(format!("m1 is Broken: {}: {}", broken.reason, broken.message));
    ensure!(broken.reason == reason && broken.message.contains(word), "{broken:?}");
    ensure!(host.spec.wiped.is_none(), "nothing vouches for a wipe that was none: {:?}", host.spec.wiped);
    metal.until_power("m1", false, PATIENCE).await
}
