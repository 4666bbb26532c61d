//! Bad input: what each of it is answered with, that it heals once a person mends it, and that it costs nothing and
//! harms nobody else. One bed per theme; inside a theme everything wrong stands at the same time.

use anyhow::{Context, Result, ensure};
use rackwright_api::host::{Host, OperationKind, Phase};
use rackwright_e2e::hosts::phase;
use rackwright_e2e::trouble::Kind::{Datacenter, Host as AHost, Machine, Rack, RackwrightMachine};
use rackwright_e2e::trouble::Named;
use rackwright_e2e::{Bed, Layout, Level, Look, Narrator, Programs};
use rackwright_simulator::faults::{Fault, Silence};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// Long enough for a busy machine with two cores; a case that goes well takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long everything wrong is watched for writes and looks.
const WINDOW: Duration = Duration::from_secs(20);

/// Tells `story` on racks of machines, all of them inspected and Available.
async fn on_racks(racks: u8, hosts_per_rack: u8, story: impl AsyncFnOnce(&mut Bed) -> Result<()>) -> Result<()> {
    let layout = Layout { racks, hosts_per_rack, ..Layout::default() };
    let mut bed = Bed::start(Programs::from_env()?, Level::Racks(layout), Narrator::stdout()).await?;
    bed.wait_until_available(layout.hosts(), PATIENCE).await?;
    bed.wait_until_quiet(PATIENCE).await?;
    bed.narrator.step(format!("{} hosts Available", layout.hosts()));
    let told = story(&mut bed).await;
    match &told {
        Ok(()) => bed.narrator.step("told"),
        Err(_) => bed.keep_folder(),
    }
    bed.stop().await;
    told
}

fn secret(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data })
}

fn image(name: &str, disk: &Value) -> Value {
    json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "OSImage", "metadata": { "name": name },
        "spec": { "disk": disk },
    })
}

/// One Host that says something wrong of its BMC.
struct Wrong {
    case: &'static str,
    host: &'static str,
    /// Merged into the spec of a Host that is registered anew.
    spec: Value,
    reason: &'static str,
    /// Part of what the condition says.
    says: &'static str,
}

impl Wrong {
    /// `Reachable` and `Ready` name what is wrong.
    async fn is_told(&self, bed: &Bed) -> Result<()> {
        let host = AHost.named(self.host);
        let message = bed.wait_until_says(&host, "Reachable", self.reason, PATIENCE).await.context(self.case)?;
        ensure!(message.contains(self.says), "{}: {message}", self.case);
        let ready = bed.wait_until_says(&host, "Ready", self.reason, PATIENCE).await.context(self.case)?;
        ensure!(ready.contains(self.says), "{}: Ready: {ready}", self.case);
        bed.narrator.step(format!("{}: {}: {message}", self.case, self.reason));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_bmc_that_cannot_be_used_is_named_and_used_once_it_is_mended() -> Result<()> {
    on_racks(1, 8, async |bed| {
        let others_pin = bed.fleet()?.certificate_sha256("rack-a-u08")?;
        let wrong = [
            Wrong {
                case: "wrong password",
                host: "rack-a-u01",
                spec: json!({ "bmc": { "credentialsRef": { "name": "wrong" } } }),
                reason: "BMCPasswordRefused",
                says: "refused the user name or password",
            },
            Wrong {
                case: "missing Secret",
                host: "rack-a-u02",
                spec: json!({ "bmc": { "credentialsRef": { "name": "missing" } } }),
                reason: "CredentialsMissing",
                says: "Secret missing (spec.bmc.credentialsRef) does not exist",
            },
            Wrong {
                case: "Secret without a password",
                host: "rack-a-u03",
                spec: json!({ "bmc": { "credentialsRef": { "name": "half" } } }),
                reason: "CredentialsMissing",
                says: "Secret half needs the keys username and password",
            },
            Wrong {
                case: "another certificate than the pinned one",
                host: "rack-a-u04",
                spec: json!({ "bmc": { "trust": { "pin": others_pin } } }),
                reason: "BMCCertificateRefused",
                says: "certificate is not trusted",
            },
        ];
        let touched = ["rack-a-u01", "rack-a-u02", "rack-a-u03", "rack-a-u04", "rack-a-u05", "rack-a-u06"];
        let bystanders = bed.bystanders(&touched).await?;

        bed.apply(secret("wrong", json!({ "username": "admin", "password": "wrong" }))).await?;
        bed.apply(secret("half", json!({ "username": "admin" }))).await?;
        bed.fleet()?.fault("rack-a-u05", Fault::Unreachable { how: Silence::Silent })?;
        bed.fleet()?.fault("rack-a-u06", Fault::Unreachable { how: Silence::Resets })?;
        for wrong in &wrong {
            bed.register_anew(wrong.host, wrong.host, wrong.spec.clone()).await.context(wrong.case)?;
        }
        for wrong in &wrong {
            wrong.is_told(bed).await?;
            ensure!(phase(&bed.host(wrong.host).await?) == Some(Phase::Registering), "{}: too far", wrong.case);
        }
        for (case, host) in [("silent BMC", "rack-a-u05"), ("BMC that resets", "rack-a-u06")] {
            let wrong = Wrong { case, host, spec: json!({}), reason: "BMCUnreachable", says: "no answer" };
            wrong.is_told(bed).await?;
            bed.wait_until_says(&AHost.named(host), "Available", "BMCUnreachable", PATIENCE).await.context(case)?;
        }
        let all: Vec<Named> = touched.iter().map(|host| AHost.named(*host)).collect();
        bed.wait_until_quiet(PATIENCE).await?;
        bed.stands_still(&all, WINDOW).await?;

        let manager = bed.services()?.infrastructure.id();
        bed.apply(secret("wrong", json!({ "username": "admin", "password": "simulated" }))).await?;
        let mended = Instant::now();
        bed.wait_until_true(&AHost.named("rack-a-u01"), "Reachable", Duration::from_secs(60)).await?;
        ensure!(bed.services()?.infrastructure.id() == manager, "the manager was restarted");
        bed.narrator.step(format!("right password: used after {} s", mended.elapsed().as_secs()));
        bed.apply(secret("missing", json!({ "username": "admin", "password": "simulated" }))).await?;
        bed.apply(secret("half", json!({ "username": "admin", "password": "simulated" }))).await?;
        let own_pin = bed.fleet()?.certificate_sha256("rack-a-u04")?;
        bed.change(&AHost.named("rack-a-u04"), json!({ "spec": { "bmc": { "trust": { "pin": own_pin } } } })).await?;
        bed.fleet()?.heal("rack-a-u05", Fault::Unreachable { how: Silence::Silent })?;
        bed.fleet()?.heal("rack-a-u06", Fault::Unreachable { how: Silence::Resets })?;
        for host in &all {
            bed.wait_until_true(host, "Available", PATIENCE).await?;
            bed.wait_until_true(host, "Ready", PATIENCE).await?;
        }
        bed.narrator.step("everything mended: 8 hosts Available");
        bed.are_unharmed(&bystanders).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_place_an_image_or_a_host_that_does_not_exist_is_named_and_waited_for() -> Result<()> {
    on_racks(2, 3, async |bed| {
        let (lost, stray) = ("rack-a-u01", "rack-a-u02");
        let bystanders = bed.bystanders(&[lost, stray, "rack-a-u03", "rack-b-u01"]).await?;
        bed.create_pool().await?;
        bed.put_user_data("alone").await?;

        bed.apply(json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Rack", "metadata": { "name": "rack-y" },
            "spec": { "datacenter": "dc-y" },
        }))
        .await?;
        bed.register_anew(lost, lost, json!({ "rack": "rack-x" })).await?;
        bed.register_anew(stray, stray, json!({ "rack": "rack-y" })).await?;
        let maintenance = json!({ "spec": { "maintenance": { "reason": "DIMM swap" } } });
        bed.change(&AHost.named("rack-a-u03"), maintenance).await?;
        for (host, sentence) in [
            (lost, "Rack rack-x (spec.rack) does not exist"),
            (stray, "Datacenter dc-y of rack rack-y (spec.datacenter) does not exist"),
        ] {
            for condition in ["Ready", "Reachable"] {
                let message = bed.wait_until_says(&AHost.named(host), condition, "PlaceMissing", PATIENCE).await?;
                ensure!(message.contains(sentence), "{host}: {condition}: {message}");
            }
            bed.narrator.step(format!("{host}: PlaceMissing: {sentence}"));
        }
        let message = bed.wait_until_says(&Rack.named("rack-y"), "Ready", "DatacenterMissing", PATIENCE).await?;
        ensure!(message.contains("Datacenter dc-y (spec.datacenter) does not exist"), "{message}");

        let nowhere =
            json!({ "image": { "name": "node" }, "host": { "selector": { "matchLabels": { "for": "it" } } } });
        bed.order_machine("nowhere", "alone", nowhere).await?;
        let large = json!({ "image": { "name": "node" }, "host": { "hardware": { "minMemoryGiB": 1024 } } });
        bed.order_machine("large", "alone", large).await?;
        bed.order_machine("imageless", "alone", json!({ "image": { "name": "later" } })).await?;
        for (machine, reasons) in [
            ("nowhere", "6 hosts: 1 in maintenance, 2 not available yet, 3 with other labels"),
            ("large", "6 hosts: 1 in maintenance, 2 not available yet, 3 with too little memory"),
        ] {
            no_host_matches(bed, machine, reasons).await.with_context(|| format!("no host for {machine}"))?;
        }
        let machine = RackwrightMachine.named("imageless");
        let message = bed.wait_until_says(&machine, "HostClaimed", "ImageNotFound", PATIENCE).await?;
        ensure!(message.contains("OSImage later (spec.image) does not exist"), "{message}");
        bed.wait_until_says(&Machine.named("imageless"), "InfrastructureReady", "ImageNotFound", PATIENCE).await?;
        bed.narrator.step(format!("unknown image: {message}"));

        let machines = ["nowhere", "large", "imageless"].map(|name| RackwrightMachine.named(name));
        let all = [&machines[..], &[AHost.named(lost), AHost.named(stray), Rack.named("rack-y")]].concat();
        bed.wait_until_quiet(PATIENCE).await?;
        bed.stands_still(&all, WINDOW).await?;
        bed.are_unharmed(&bystanders).await?;

        bed.change(&AHost.named("rack-b-u01"), json!({ "metadata": { "labels": { "for": "it" } } })).await?;
        let host = bed.wait_until_provisioned("nowhere", PATIENCE).await?;
        ensure!(host == "rack-b-u01", "the machine for a labelled host is on {host}");
        bed.narrator.step(format!("{host} fits now: provisioned"));
        for name in ["rack-x", "rack-y"] {
            bed.apply(json!({
                "apiVersion": "rackwright.dev/v1alpha1", "kind": "Rack", "metadata": { "name": name },
                "spec": { "datacenter": "dc-y" },
            }))
            .await?;
        }
        copy_datacenter(bed, "dc1", "dc-y").await?;
        for host in [lost, stray] {
            bed.wait_until_true(&AHost.named(host), "Available", PATIENCE).await?;
        }
        bed.wait_until_true(&Rack.named("rack-y"), "Ready", PATIENCE).await?;
        bed.narrator.step("rack and datacenter are made: their hosts are Available");
        // Only what just came up may be taken: the others prove that nothing happened to them.
        let disk = bed.kubectl(&["get", "osimage", "node", "--output=jsonpath={.spec.disk}"]).await?;
        for host in ["rack-b-u02", "rack-b-u03"] {
            bed.change(&AHost.named(host), json!({ "spec": { "maintenance": { "reason": "kept out" } } })).await?;
        }
        bed.apply(image("later", &serde_json::from_str(&disk)?)).await?;
        let host = bed.wait_until_provisioned("imageless", PATIENCE).await?;
        ensure!([lost, stray].contains(&host.as_str()), "the machine without an image is on {host}");
        bed.narrator.step(format!("the image is made: provisioned on {host}"));
        Ok(())
    })
    .await
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

/// A datacenter like `old`, in a region that does not exist, which it says and which stops nobody.
async fn copy_datacenter(bed: &Bed, old: &str, new: &str) -> Result<()> {
    let spec = bed.kubectl(&["get", "datacenter", old, "--output=jsonpath={.spec}"]).await?;
    let mut spec: Value = serde_json::from_str(&spec)?;
    spec["region"] = json!("atlantis");
    bed.apply(json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Datacenter", "metadata": { "name": new }, "spec": spec,
    }))
    .await?;
    let message = bed.wait_until_says(&Datacenter.named(new), "Ready", "RegionMissing", PATIENCE).await?;
    ensure!(message.contains("Region atlantis (spec.region) does not exist"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn an_image_or_user_data_that_is_wrong_breaks_no_host_and_is_tried_again() -> Result<()> {
    on_racks(1, 8, async |bed| {
        // Each machine has a host of its own, so that which host says what is known beforehand.
        let cases = [
            ("torn", "ImageDigestMismatch"),
            ("absent", "ImageUnavailable"),
            ("unborn", "UserDataMissing"),
            ("robbed", "UserDataMissing"),
            ("undecided", "SeveralDisksMatch"),
        ];
        let hosts = ["rack-a-u01", "rack-a-u02", "rack-a-u03", "rack-a-u04", "rack-a-u05"];
        let bystanders = bed.bystanders(&hosts).await?;
        bed.change(&AHost.named("rack-a-u05"), json!({ "spec": { "rootDevice": null } })).await?;
        bed.create_pool().await?;
        let disk: Value =
            serde_json::from_str(&bed.kubectl(&["get", "osimage", "node", "--output=jsonpath={.spec.disk}"]).await?)?;
        let mut torn = disk.clone();
        torn["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
        let mut absent = disk.clone();
        absent["url"] = json!(absent["url"].as_str().context("no URL")?.replace("node.raw", "absent.raw"));
        bed.apply(image("torn", &torn)).await?;
        bed.apply(image("absent", &absent)).await?;
        bed.put_user_data("alone").await?;
        bed.put_user_data("robbed").await?;

        for (name, image, user_data) in [
            ("torn", "torn", "alone"),
            ("absent", "absent", "alone"),
            ("unborn", "node", "unborn"),
            ("robbed", "node", "robbed"),
            ("undecided", "node", "alone"),
        ] {
            let own = json!({ "selector": { "matchLabels": { "for": name } } });
            bed.order_machine(name, user_data, json!({ "image": { "name": image }, "host": own })).await?;
        }
        bed.wait_until_says(&RackwrightMachine.named("robbed"), "HostClaimed", "NoHostMatches", PATIENCE).await?;
        bed.kubectl(&["delete", "secret", "robbed"]).await?;
        for (host, (name, _)) in hosts.iter().zip(cases) {
            bed.change(&AHost.named(*host), json!({ "metadata": { "labels": { "for": name } } })).await?;
        }
        for (host, (name, reason)) in hosts.iter().zip(cases) {
            is_tried_again(bed, host, name, reason).await.with_context(|| format!("{name} on {host}"))?;
        }

        let objects = hosts.iter().map(|host| AHost.named(*host));
        let objects: Vec<_> = objects.chain(cases.iter().map(|(name, _)| RackwrightMachine.named(*name))).collect();
        wait_for_pause(bed, &hosts).await?;
        bed.stands_still(&objects, WINDOW).await?;
        for host in hosts {
            let host = bed.host(host).await?;
            ensure!(host.spec.broken.is_none() && phase(&host) == Some(Phase::Provisioning), "{:#?}", host.status);
        }
        bed.narrator.step("after three tries no host is Broken");
        bed.are_unharmed(&bystanders).await?;

        bed.put_user_data("unborn").await?;
        bed.put_user_data("robbed").await?;
        bed.change(&AHost.named("rack-a-u05"), json!({ "spec": { "rootDevice": { "rotational": false } } })).await?;
        for name in ["torn", "absent"] {
            bed.delete(&Machine.named(name)).await?;
        }
        for name in ["torn", "absent"] {
            bed.wait_until_gone(&Machine.named(name), PATIENCE).await?;
        }
        for host in ["rack-a-u01", "rack-a-u02"] {
            let after = bed.wait_until_host_is(host, Phase::Available, PATIENCE).await?;
            let machine = bed.fleet()?.snapshot(host)?;
            ensure!(!after.spec.needs_wipe() && !machine.powered, "{machine:#?}");
            ensure!(machine.is_clean() && !machine.history.wipes.is_empty(), "not wiped: {machine:#?}");
            ensure!(machine.history.images.is_empty() && machine.history.disk_boots == 0, "ran: {machine:#?}");
        }
        bed.narrator.step("machines with a wrong image are deleted: their hosts are wiped and Available");
        for (name, host) in [("unborn", "rack-a-u03"), ("robbed", "rack-a-u04"), ("undecided", "rack-a-u05")] {
            let found = bed.wait_until_provisioned(name, PATIENCE).await.with_context(|| name)?;
            ensure!(found == host, "{name} moved to {found}");
            let machine = bed.fleet()?.snapshot(host)?;
            ensure!(machine.history.images.len() == 1 && machine.history.wipes.is_empty(), "{machine:#?}");
        }
        bed.narrator.step("the others are mended: provisioned on the hosts that they had");
        bed.are_unharmed(&bystanders).await
    })
    .await
}

/// `reason` stands on the host, on the RackwrightMachine, and on the Machine.
async fn is_tried_again(bed: &Bed, host: &str, name: &str, reason: &str) -> Result<()> {
    let message = bed.wait_until_says(&AHost.named(host), "Ready", reason, PATIENCE).await?;
    bed.wait_until_says(&RackwrightMachine.named(name), "Provisioned", reason, PATIENCE).await?;
    let machine = bed.wait_until_says(&Machine.named(name), "InfrastructureReady", reason, PATIENCE).await?;
    ensure!(machine.contains(host), "the Machine does not name {host}: {machine}");
    bed.narrator.step(format!("{name}: {reason}: {message}"));
    Ok(())
}

/// Waits until each of `hosts` has failed for the third time or more and rests for longer than the window.
async fn wait_for_pause(bed: &Bed, hosts: &[&str]) -> Result<()> {
    bed.wait("every host between its third or a later try and the next", PATIENCE, async || {
        for name in hosts {
            let left = rest(&bed.host(name).await?);
            if left.is_none_or(|left| left < WINDOW + Duration::from_secs(2)) {
                return Ok(Look::NotYet(format!("{name}: {left:?}")));
            }
        }
        Ok(Look::Seen(()))
    })
    .await
}

/// Time until a deployment that has failed thrice or more is tried again (`--retry-seconds` of the bed, once per try).
fn rest(host: &Host) -> Option<Duration> {
    let status = host.status.as_ref()?;
    let operation = status.operation.as_ref().filter(|operation| operation.kind == OperationKind::Deploy)?;
    let agent = status.agent.as_ref().filter(|agent| agent.operation_id == operation.id && agent.failure.is_some())?;
    let retry = Duration::from_secs(10) * u32::try_from(operation.attempt).ok().filter(|attempt| *attempt >= 3)?;
    (SystemTime::from(agent.since) + retry).duration_since(SystemTime::now()).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_host_that_is_deleted_or_registered_twice_costs_its_machine_nothing() -> Result<()> {
    on_racks(1, 5, async |bed| {
        let bystanders = bed.bystanders(&["rack-a-u01", "rack-a-u02", "rack-a-u03"]).await?;
        bed.create_pool().await?;
        bed.put_user_data("alone").await?;
        for (name, host) in [("kept", "rack-a-u01"), ("twice", "rack-a-u02")] {
            bed.change(&AHost.named(host), json!({ "metadata": { "labels": { "for": name } } })).await?;
            let own = json!({ "selector": { "matchLabels": { "for": name } } });
            bed.order_machine(name, "alone", json!({ "image": { "name": "node" }, "host": own })).await?;
        }
        for name in ["kept", "twice"] {
            bed.wait_until_provisioned(name, PATIENCE).await?;
        }
        let before = (bed.fleet()?.snapshot("rack-a-u01")?.run, bed.fleet()?.snapshot("rack-a-u02")?.run);

        bed.delete(&AHost.named("rack-a-u01")).await?;
        let message = bed.wait_until_says(&AHost.named("rack-a-u01"), "Ready", "Deleting", PATIENCE).await?;
        ensure!(message.contains("RackwrightMachine kept of cluster pool uses it"), "{message}");
        bed.narrator.step(format!("host deleted while claimed: {message}"));

        let older = bed.host("rack-a-u02").await?;
        let mut same_bmc = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "metadata": { "name": "same-bmc" },
            "spec": { "rack": "rack-a", "bmc": { "address": older.spec.bmc.address },
                      "bootMACAddress": "52:54:00:00:00:01", "rootDevice": { "rotational": false } },
        });
        bed.apply(same_bmc.clone()).await?;
        same_bmc["metadata"]["name"] = json!("same-bmc-slash");
        same_bmc["spec"]["bmc"]["address"] = json!(format!("{}/", older.spec.bmc.address));
        same_bmc["spec"]["bootMACAddress"] = json!("52:54:00:00:00:02");
        bed.apply(same_bmc).await?;
        let own_mac = bed.host("rack-a-u03").await?.spec.boot_mac_address;
        bed.register_anew("rack-a-u03", "same-mac", json!({ "bootMACAddress": older.spec.boot_mac_address })).await?;
        let twins = [("same-bmc", "bmc.address"), ("same-bmc-slash", "bmc.address"), ("same-mac", "bootMACAddress")];
        for (twin, field) in twins {
            let message = bed.wait_until_says(&AHost.named(twin), "Ready", "SameMachineTwice", PATIENCE).await?;
            ensure!(message.contains(&format!("spec.{field} is the same as that of host rack-a-u02")), "{message}");
            bed.narrator.step(format!("{twin}: {message}"));
        }
        let names = ["rack-a-u01", "rack-a-u02", "same-bmc", "same-bmc-slash", "same-mac"];
        let mut all: Vec<_> = names.iter().map(|name| AHost.named(*name)).collect();
        all.extend(["kept", "twice"].map(|name| RackwrightMachine.named(name)));
        bed.wait_until_quiet(PATIENCE).await?;
        bed.stands_still(&all, WINDOW).await?;

        for twin in ["same-bmc", "same-bmc-slash"] {
            bed.delete(&AHost.named(twin)).await?;
            bed.wait_until_gone(&AHost.named(twin), PATIENCE).await?;
        }
        bed.change(&AHost.named("same-mac"), json!({ "spec": { "bootMACAddress": own_mac } })).await?;
        bed.wait_until_true(&AHost.named("same-mac"), "Available", PATIENCE).await?;
        tokio::time::sleep(Duration::from_secs(7)).await; // longer than between two looks at a host
        let after = (bed.fleet()?.snapshot("rack-a-u01")?.run, bed.fleet()?.snapshot("rack-a-u02")?.run);
        ensure!(before == after, "the machines were switched: {before:?}, then {after:?}");
        for host in ["rack-a-u01", "rack-a-u02"] {
            let machine = bed.fleet()?.snapshot(host)?;
            ensure!(machine.is_running() && machine.history.wipes.is_empty(), "{machine:#?}");
        }
        for name in ["kept", "twice"] {
            bed.wait_until_true(&RackwrightMachine.named(name), "Ready", PATIENCE).await?;
        }
        bed.narrator
            .step("the newer are deleted, the corrected one is Available: both machines run on, never switched");

        bed.delete(&Machine.named("kept")).await?;
        bed.wait_until_gone(&Machine.named("kept"), PATIENCE).await?;
        bed.wait_until_gone(&AHost.named("rack-a-u01"), PATIENCE).await?;
        let machine = bed.fleet()?.snapshot("rack-a-u01")?;
        ensure!(machine.is_clean() && machine.history.wipes.len() == 1 && !machine.powered, "{machine:#?}");
        bed.narrator.step("its machine is deleted: the host was wiped, switched off, and is gone");
        bed.are_unharmed(&bystanders).await
    })
    .await
}
