//! What does not exist: a host that fits, an image, a rack, a datacenter, a region.

use crate::{Order, PATIENCE, USER_DATA, WINDOW, make_image, on_racks};
use anyhow::{Context, Result, ensure};
use rackwright_e2e::Bed;
use rackwright_e2e::racks::OS_IMAGE;
use rackwright_e2e::trouble::Kind::{Datacenter, Host, Machine, Rack, RackwrightMachine};
use serde_json::{Value, json};

/// Its rack does not exist.
const LOST: &str = "rack-a-u01";
/// The datacenter of its rack does not exist.
const STRAY: &str = "rack-a-u02";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_place_an_image_or_a_host_that_does_not_exist_is_named_and_waited_for() -> Result<()> {
    on_racks(2, 3, async |bed| {
        let bystanders = bed.bystanders(&[LOST, STRAY, "rack-a-u03", "rack-b-u01"]).await?;
        let maintenance = json!({ "spec": { "maintenance": { "reason": "DIMM swap" } } });
        bed.change(&Host.named("rack-a-u03"), maintenance).await?;
        let nowhere = Order::new("nowhere", "rack-b-u01");
        let imageless = Order { image: "later", ..Order::new("imageless", LOST) };

        misplace(bed).await?;
        nowhere.place(bed).await?;
        imageless.place(bed).await?;
        imageless.admit(bed).await?;
        let needs = json!({ "image": { "name": OS_IMAGE }, "host": { "hardware": { "minMemoryGiB": 1024 } } });
        bed.order_machine("large", USER_DATA, needs).await?;
        for (machine, reasons) in [
            ("nowhere", "6 hosts: 1 in maintenance, 2 not available yet, 3 with other labels"),
            ("large", "6 hosts: 1 in maintenance, 2 not available yet, 3 with too little memory"),
        ] {
            no_host_matches(bed, machine, reasons).await.with_context(|| format!("no host for {machine}"))?;
        }
        image_not_found(bed, "imageless").await.context("unknown image")?;

        let machines = ["nowhere", "large", "imageless"].map(|name| RackwrightMachine.named(name));
        let all = [&machines[..], &[Host.named(LOST), Host.named(STRAY), Rack.named("rack-y")]].concat();
        bed.wait_until_quiet(PATIENCE).await?;
        bed.stands_still(&all, WINDOW).await?;

        nowhere.admit(bed).await?;
        let host = bed.wait_until_provisioned("nowhere", PATIENCE).await?;
        ensure!(host == nowhere.host, "the machine is on {host}, which does not fit");
        bed.narrator.step(format!("{host} fits now: provisioned"));
        make_places(bed).await?;
        make_image(bed, "later", "", None).await?;
        let host = bed.wait_until_provisioned("imageless", PATIENCE).await?;
        ensure!(host == imageless.host, "the machine is on {host}, which does not fit");
        bed.narrator.step(format!("the image is made: provisioned on {host}"));
        bed.are_unharmed(&bystanders).await
    })
    .await
}

async fn make_rack(bed: &Bed, name: &str, datacenter: &str) -> Result<()> {
    bed.apply(json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Rack", "metadata": { "name": name },
        "spec": { "datacenter": datacenter },
    }))
    .await
}

/// Registers two hosts in places that do not exist; they say which.
async fn misplace(bed: &Bed) -> Result<()> {
    make_rack(bed, "rack-y", "dc-y").await?;
    bed.register_anew(LOST, LOST, json!({ "rack": "rack-x" })).await?;
    bed.register_anew(STRAY, STRAY, json!({ "rack": "rack-y" })).await?;
    for (host, sentence) in [
        (LOST, "Rack rack-x (spec.rack) does not exist"),
        (STRAY, "Datacenter dc-y of rack rack-y (spec.datacenter) does not exist"),
    ] {
        for condition in ["Ready", "Reachable"] {
            let message = bed.wait_until_says(&Host.named(host), condition, "PlaceMissing", PATIENCE).await?;
            ensure!(message.contains(sentence), "{host}: {condition}: {message}");
        }
        bed.narrator.step(format!("{host}: PlaceMissing: {sentence}"));
    }
    let message = bed.wait_until_says(&Rack.named("rack-y"), "Ready", "DatacenterMissing", PATIENCE).await?;
    ensure!(message.contains("Datacenter dc-y (spec.datacenter) does not exist"), "{message}");
    Ok(())
}

/// `reasons` stand on the RackwrightMachine, in its event, and on the Machine.
async fn no_host_matches(bed: &Bed, name: &str, reasons: &str) -> Result<()> {
    let machine = RackwrightMachine.named(name);
    let message = bed.wait_until_says(&machine, "HostClaimed", "NoHostMatches", PATIENCE).await?;
    ensure!(message.contains(reasons), "{message}");
    let note = bed.event(&machine, "NoHostMatches").await?;
    ensure!(note.contains(reasons), "the event says {note}");
    let message = bed.wait_until_says(&Machine.named(name), "InfrastructureReady", "NoHostMatches", PATIENCE).await?;
    ensure!(message.contains(reasons), "the Machine says {message}");
    bed.narrator.step(format!("{name}: NoHostMatches: {reasons}"));
    Ok(())
}

/// The image's name stands on the RackwrightMachine and on the Machine.
async fn image_not_found(bed: &Bed, name: &str) -> Result<()> {
    for (object, condition) in
        [(RackwrightMachine.named(name), "HostClaimed"), (Machine.named(name), "InfrastructureReady")]
    {
        let message = bed.wait_until_says(&object, condition, "ImageNotFound", PATIENCE).await?;
        ensure!(message.contains("OSImage later (spec.image) does not exist"), "{object}: {message}");
    }
    bed.narrator.step(format!("{name}: ImageNotFound"));
    Ok(())
}

/// Makes what was missing; the hosts in it become Available. The new datacenter is in a region that does not exist,
/// which it says and which stops nobody.
async fn make_places(bed: &Bed) -> Result<()> {
    let spec = bed.kubectl(&["get", "datacenter", "dc1", "--output=jsonpath={.spec}"]).await?;
    let mut spec: Value = serde_json::from_str(&spec)?;
    spec["region"] = json!("atlantis");
    make_rack(bed, "rack-x", "dc1").await?;
    bed.apply(json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Datacenter", "metadata": { "name": "dc-y" }, "spec": spec,
    }))
    .await?;
    let message = bed.wait_until_says(&Datacenter.named("dc-y"), "Ready", "RegionMissing", PATIENCE).await?;
    ensure!(message.contains("Region atlantis (spec.region) does not exist"), "{message}");
    for host in [LOST, STRAY] {
        bed.wait_until_true(&Host.named(host), "Available", PATIENCE).await?;
    }
    bed.wait_until_true(&Rack.named("rack-y"), "Ready", PATIENCE).await?;
    bed.narrator.step("rack and datacenter are made: their hosts are Available");
    Ok(())
}
