//! Operating systems that install themselves: Debian's own installer, from Debian's own kernel, with the answers that Rackwright
//! writes for one host; and one that is an installer as far as Rackwright can see, and comes to its end.

use super::victim::{PATIENCE, attempt_that_deploys, bed, ends, given_back, until_a_try_fails};
use anyhow::{Result, ensure};
use rackwright_e2e::metal::mirror::Outside;
use rackwright_e2e::metal::{Firmware, Spec, sandbox};
use serde_json::json;
use std::time::Instant;

/// What debian-installer says when it has read its answers, has set up its network and has believed a mirror's signed lists.
const FETCHES_ITSELF: &str = "Loading additional components";

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn an_installer_gets_its_answers_writes_the_disk_and_reports_that_it_is_done() -> Result<()> {
    sandbox::test(async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.add_stand_in("stand-in", "toy.raw").await?;
        let begun = Instant::now();
        metal.create_machine("installed", "stand-in", "Discard").await?;
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "it is the first try that ends well, not try {attempt}");
        metal.until_says("m1", "#cloud-config", begun, PATIENCE).await?;
        metal.until_says("m1", "rackwright://default/m1/", begun, PATIENCE).await?;
        metal.bed.narrator.step("its user-data and meta-data were where cloud-init looks for them");
        given_back(&metal).await
    })
}

#[test]
#[ignore = "needs QEMU and a mirror of Debian: cargo xtask e2e-metal"]
fn debian_installer_asks_nothing_and_is_given_up_when_its_mirror_breaks() -> Result<()> {
    sandbox::test_beside(Outside::start, async || {
        let metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        let _mirror = metal.add_debian("debian").await?;
        let begun = Instant::now();
        metal.create_machine("installed", "debian", "Discard").await?;
        metal.until_says("m1", FETCHES_ITSELF, begun, PATIENCE).await?;
        metal.bed.narrator.step("debian-installer runs, and nobody had to answer anything");
        let host = until_a_try_fails(&metal, 2 * PATIENCE).await?;
        ensure!(ends(&host).contains(&"InstallerTooSlow".into()), "{:?}", ends(&host));
        ensure!(host.spec.deployed.is_none() && host.spec.broken.is_none(), "{:#?}", host.spec);
        given_back(&metal).await
    })
}
