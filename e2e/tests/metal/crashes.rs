//! Machines on which the ramdisk stops working amid its work.

use super::victim::{
    PATIENCE, SLOWLY, amid_the_image, attempt_that_deploys, bed, ends, nothing_to_boot, until_a_try_fails,
};
use anyhow::{Result, ensure};
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox};
use serde_json::json;

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
        begun_anew(&metal, "AgentSilent").await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_whose_agent_dies_while_an_image_is_written_is_written_anew() -> Result<()> {
    sandbox::test(async || {
        let metal = typed_amid_the_image("/bin/busybox killall -ABRT exe").await?;
        metal.bed.narrator.step("the agent dies amid the image; pid 1 is left");
        metal.until_power("m1", false, PATIENCE).await?;
        begun_anew(&metal, "AgentLost").await
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_whose_kernel_panics_while_an_image_is_written_is_written_anew() -> Result<()> {
    sandbox::test(async || {
        let metal = typed_amid_the_image("echo c > /proc/sysrq-trigger").await?;
        metal.bed.narrator.step("the kernel panics amid the image");
        begun_anew(&metal, "AgentLost").await
    })
}

/// A machine with a rescue shell, and `line` was typed into it when some of the image was on the disk.
async fn typed_amid_the_image(line: &str) -> Result<MetalBed> {
    let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({ "ramdisk": { "rescueShell": true } })).await?;
    metal.image_wire.slow_down(SLOWLY);
    metal.create_machine("struck", "toy", "Discard").await?;
    amid_the_image(&metal).await?;
    metal.machine("m1")?.type_line(line).await?;
    Ok(metal)
}

/// Waits until its first try is over for `reason`, and left nothing to boot, and its second ends well.
async fn begun_anew(metal: &MetalBed, reason: &str) -> Result<()> {
    metal.image_wire.slow_down(0);
    let host = until_a_try_fails(metal, 2 * PATIENCE).await?;
    ensure!(ends(&host).iter().any(|end| end == reason), "{:?}", ends(&host));
    nothing_to_boot(metal).await?;
    let attempt = attempt_that_deploys(metal).await?;
    ensure!(attempt == 2, "it is the second try that ends well, not try {attempt}");
    Ok(())
}
