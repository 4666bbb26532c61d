//! What machines learn from a network, and networks that give no address by DHCPv4.

use super::victim::{PATIENCE, attempt_that_deploys, bed};
use anyhow::{Context, Result, ensure};
use rackwright_api::HostHardware;
use rackwright_api::hardware::Nic;
use rackwright_api::host::Phase;
use rackwright_e2e::Narrator;
use rackwright_e2e::metal::lan::{self, WITHOUT_DHCP};
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox};
use rackwright_e2e::racks::NAMESPACE;
use serde_json::json;
use std::time::Instant;

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_with_an_address_of_its_own_gets_an_image_where_there_is_no_dhcp() -> Result<()> {
    sandbox::test(async || {
        let network = json!({ "address": "172.30.3.9/16" });
        let metal =
            bed(Spec::new("m1", WITHOUT_DHCP, Firmware::Bios), json!({ "ramdisk": { "network": network } })).await?;
        let nic = inspected_nic(&metal).await?;
        ensure!(nic.addresses.iter().any(|address| address.starts_with("172.30.3.9")), "{:?}", nic.addresses);
        metal.create_machine("fixed", "toy", "Discard").await?;
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "it is the first try that ends well, not try {attempt}");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_inspection_finds_the_switch_and_the_port_at_the_other_end_of_the_cable() -> Result<()> {
    sandbox::test(async || {
        let mut metal = MetalBed::start(Narrator::stdout()).await?;
        let _switch = lan::speak_lldp(metal.bed.folder(), "leaf-7")?;
        metal.add_machine(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        let nic = inspected_nic(&metal).await?;
        metal.bed.narrator.step(format!("plugged into {:?}, port {:?}", nic.lldp_switch, nic.lldp_port));
        ensure!(nic.lldp_switch.as_deref() == Some("leaf-7"), "{nic:?}");
        ensure!(nic.lldp_port.is_some_and(|port| port.starts_with("vnet")), "the name of the bridge's port");
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_in_a_network_of_ipv6_alone_is_inspected() -> Result<()> {
    sandbox::test(async || {
        let mut metal = MetalBed::start(Narrator::stdout()).await?;
        metal.boot_by_ipv6().await?;
        metal.add_machine(Spec::new("m1", WITHOUT_DHCP, Firmware::Bios), json!({})).await?;
        let nic = inspected_nic(&metal).await?;
        metal.bed.narrator.step(format!("inspected by way of {:?}", nic.addresses));
        ensure!(nic.addresses.iter().any(|address| address.starts_with("fd30:")), "{:?}", nic.addresses);
        ensure!(!nic.addresses.iter().any(|address| address.starts_with("172.")), "{:?}", nic.addresses);
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn a_machine_whose_clock_stands_in_2001_believes_the_boot_service_all_the_same() -> Result<()> {
    sandbox::test(async || {
        let spec = Spec { clock: Some(1_000_000_000), ..Spec::new("m1", 1, Firmware::Bios) };
        let begun = Instant::now();
        let metal = bed(spec, json!({})).await?;
        metal.until_says("m1", "this machine's clock stands at 2001-09-09", begun, PATIENCE).await?;
        metal.create_machine("late", "toy", "Discard").await?;
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "it is the first try that ends well, not try {attempt}");
        Ok(())
    })
}

/// The network card of m1, once it is inspected.
async fn inspected_nic(metal: &MetalBed) -> Result<Nic> {
    metal.until_phase("m1", Phase::Available, PATIENCE).await?;
    let found = kube::Api::<HostHardware>::namespaced(metal.bed.client(), NAMESPACE).get("m1").await?;
    found.spec.facts.nics.into_iter().next().context("its network card")
}
