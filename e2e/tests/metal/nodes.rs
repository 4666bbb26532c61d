//! The whole job: real machines become nodes of a cluster, run a pod each, and go without a trace.

use anyhow::{Result, ensure};
use rackwright_api::host::Phase;
use rackwright_e2e::cluster::Cluster;
use rackwright_e2e::metal::cluster::Workers;
use rackwright_e2e::metal::node::NODE_RUNS;
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox};
use rackwright_e2e::{Layout, Narrator, Programs};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(300);
/// What a config drive says of m1, and no image does.
const OWN: &[u8] = b"rackwright://default/m1/";

/// The one story of CI.
#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_becomes_a_node_that_runs_a_pod_and_is_given_back_wiped() -> Result<()> {
    sandbox::test(async || one_node(Firmware::Uefi, "PowerCycle").await)
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_with_bios_becomes_a_node_and_is_given_back_wiped() -> Result<()> {
    sandbox::test(async || one_node(Firmware::Bios, "PowerCycle").await)
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_becomes_a_node_without_its_firmware_running_twice() -> Result<()> {
    sandbox::test(async || one_node(Firmware::Uefi, "Kexec").await)
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_empty_machine_becomes_a_node_by_a_ramdisk_that_its_firmware_fetches() -> Result<()> {
    sandbox::test(async || {
        let (metal, cluster) = cluster("PowerCycle", &MetalBed::http_boot()).await?;
        metal.lead_firmware_past_tls().await?;
        node_life(metal, cluster, Firmware::Uefi, json!({ "bootWays": ["HTTPBoot"] })).await
    })
}

/// One machine by virtual media, timed.
async fn one_node(firmware: Firmware, final_boot: &str) -> Result<()> {
    let (metal, cluster) = cluster(final_boot, &[]).await?;
    node_life(metal, cluster, firmware, json!({})).await
}

/// The whole life of one machine; `host` goes into its Host's spec.
async fn node_life(mut metal: MetalBed, cluster: Cluster, firmware: Firmware, host: Value) -> Result<()> {
    metal.add_machine(Spec::new("m1", 1, firmware), host).await?;
    let steps = metal.follow_inspection("m1").await?;
    metal.bed.narrator.step("inspected");
    metal.bed.narrator.more(steps.to_string());

    metal.scale(&cluster, 1).await?;
    let mut steps = metal.follow_deployment("m1", NODE_RUNS).await?;
    metal.follow_node(&cluster, "m1", &mut steps).await?;
    metal.bed.narrator.step("a pod ran on m1");
    metal.bed.narrator.more(steps.to_string());
    metal.bed.wait_until_running(&cluster, 1, PATIENCE).await?;
    ensure!(metal.machine("m1")?.disk_holds(0, OWN)?, "the config drive is on the disk");

    metal.scale(&cluster, 0).await?;
    let steps = metal.follow_wipe("m1").await?;
    metal.bed.narrator.step("wiped and Available");
    metal.bed.narrator.more(steps.to_string());
    given_back(&metal, "m1")?;
    metal.bed.wait_until_running(&cluster, 0, PATIENCE).await.map(drop)
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_that_is_kept_warm_becomes_a_node_without_its_ramdisk_being_started_again() -> Result<()> {
    sandbox::test(async || warm_node(Firmware::Uefi, "Kexec").await)
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_that_is_kept_warm_becomes_a_node_by_way_of_its_firmware() -> Result<()> {
    sandbox::test(async || warm_node(Firmware::Bios, "PowerCycle").await)
}

/// A pool of no nodes keeps the machine warm; a machine of no pool takes it.
async fn warm_node(firmware: Firmware, final_boot: &str) -> Result<()> {
    let (mut metal, cluster) = cluster(final_boot, &[]).await?;
    metal.add_machine(Spec::new("m1", 1, firmware), json!({})).await?;
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    metal.keep_warm(&cluster, "spares", 1).await?;
    let steps = metal.follow_preparation("m1").await?;
    metal.bed.narrator.step("m1 is warm");
    metal.bed.narrator.more(steps.to_string());
    let machine = metal.machine("m1")?;
    ensure!(machine.is_on(), "it waits in its ramdisk");
    ensure!(!machine.disk_holds(0, OWN)?, "it holds nothing of any machine yet");

    metal.scale(&cluster, 1).await?;
    let mut steps = metal.follow_hand_over("m1", NODE_RUNS).await?;
    metal.follow_node(&cluster, "m1", &mut steps).await?;
    metal.bed.narrator.step("a pod ran on m1");
    metal.bed.narrator.more(steps.to_string());
    metal.bed.wait_until_running(&cluster, 1, PATIENCE).await?;

    // Whatever is freed now is to be left off.
    metal.keep_warm(&cluster, "spares", 0).await?;
    metal.scale(&cluster, 0).await?;
    metal.until_phase("m1", Phase::Deprovisioning, PATIENCE).await?;
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    given_back(&metal, "m1")
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn two_empty_machines_become_nodes_at_once_and_go_with_their_cluster() -> Result<()> {
    sandbox::test(async || {
        let (mut metal, cluster) = cluster("PowerCycle", &[]).await?;
        for (name, number, firmware) in [("m1", 1, Firmware::Bios), ("m2", 2, Firmware::Uefi)] {
            metal.add_machine(Spec::new(name, number, firmware), json!({})).await?;
        }
        for name in ["m1", "m2"] {
            metal.until_phase(name, Phase::Available, PATIENCE).await?;
        }
        metal.bed.narrator.step("two machines Available");
        metal.scale(&cluster, 2).await?;
        metal.bed.wait_until_running(&cluster, 2, PATIENCE * 2).await?;
        metal.bed.narrator.step("two workers Running");
        for name in ["m1", "m2"] {
            metal.follow_node(&cluster, name, &mut Default::default()).await?;
        }
        metal.bed.narrator.step("a pod ran on each");
        metal.bed.delete_cluster(&cluster, PATIENCE * 2).await?;
        for name in ["m1", "m2"] {
            metal.until_phase(name, Phase::Available, PATIENCE).await?;
            given_back(&metal, name)?;
        }
        Ok(())
    })
}

/// A cluster whose control plane answers and that has no worker yet; `boot` are more flags of the boot service.
async fn cluster(final_boot: &str, boot: &[String]) -> Result<(MetalBed, Cluster)> {
    let mut metal = MetalBed::start_with(Programs::from_env()?, Narrator::stdout(), boot).await?;
    metal.add_simulated(Layout { racks: 1, hosts_per_rack: 1, ..Layout::default() }).await?;
    metal.add_node_image(final_boot).await?;
    metal.bed.wait_until_available(1, PATIENCE).await?;
    let cluster = metal.create_cluster("demo", Workers::Real).await?;
    metal.bed.wait_until_running(&cluster, 0, PATIENCE).await?;
    metal.bed.narrator.step(format!("the control plane answers: {}", cluster.endpoint));
    Ok((metal, cluster))
}

/// Off, and nothing on the disk: seen from outside.
fn given_back(metal: &MetalBed, name: &str) -> Result<()> {
    let machine = metal.machine(name)?;
    ensure!(!machine.is_on(), "{name} is free and on");
    ensure!(!machine.disk_holds_anything(0)?, "something is left on the disk of {name}");
    Ok(())
}
