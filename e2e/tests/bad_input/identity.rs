//! Hosts that are deleted while a machine uses them, and machines that are registered twice.

use crate::{Order, PATIENCE, WINDOW, on_racks};
use anyhow::{Result, ensure};
use rackwright_e2e::Bed;
use rackwright_e2e::trouble::Kind::{Host, Machine, RackwrightMachine};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_host_that_is_deleted_or_registered_twice_costs_its_machine_nothing() -> Result<()> {
    on_racks(1, 5, async |bed| {
        let bystanders = bed.bystanders(&["rack-a-u01", "rack-a-u02", "rack-a-u03", "rack-a-u04"]).await?;
        bed.register_anew("rack-a-u02", "rack-a-u02", json!({})).await?; // younger than the one that is edited below
        bed.wait_until_true(&Host.named("rack-a-u02"), "Available", PATIENCE).await?;
        for order in [Order::new("kept", "rack-a-u01"), Order::new("twice", "rack-a-u02")] {
            order.place(bed).await?;
            order.admit(bed).await?;
        }
        for machine in ["kept", "twice"] {
            bed.wait_until_provisioned(machine, PATIENCE).await?;
        }
        let before = (bed.fleet()?.snapshot("rack-a-u01")?.run, bed.fleet()?.snapshot("rack-a-u02")?.run);

        bed.delete(&Host.named("rack-a-u01")).await?;
        let message = bed.wait_until_says(&Host.named("rack-a-u01"), "Ready", "Deleting", PATIENCE).await?;
        ensure!(message.contains("RackwrightMachine kept of cluster pool uses it"), "{message}");
        bed.narrator.step(format!("host deleted while claimed: {message}"));
        let [mac, address] = register_twice(bed).await?;
        let hosts = TWINS.iter().map(|(name, _)| Host.named(*name));
        let machines = ["kept", "twice", "greedy"].map(|name| RackwrightMachine.named(name));
        let all: Vec<_> = hosts.chain([Host.named("rack-a-u01"), Host.named("rack-a-u02")]).chain(machines).collect();
        bed.wait_until_quiet(PATIENCE).await?;
        bed.stands_still(&all, WINDOW).await?;

        for twin in ["same-bmc", "same-bmc-slash"] {
            bed.delete(&Host.named(twin)).await?;
            bed.wait_until_gone(&Host.named(twin), PATIENCE).await?;
        }
        bed.change(&Host.named("same-mac"), json!({ "spec": { "bootMACAddress": mac } })).await?;
        bed.change(&Host.named("rack-a-u04"), json!({ "spec": { "bmc": { "address": address } } })).await?;
        bed.wait_until_true(&Host.named("same-mac"), "Available", PATIENCE).await?;
        let host = bed.wait_until_provisioned("greedy", PATIENCE).await?;
        ensure!(host == "rack-a-u04", "the machine for the edited host is on {host}");
        let after = (bed.fleet()?.snapshot("rack-a-u01")?.run, bed.fleet()?.snapshot("rack-a-u02")?.run);
        ensure!(before == after, "the machines were switched: {before:?}, then {after:?}");
        for (machine, host) in [("kept", "rack-a-u01"), ("twice", "rack-a-u02")] {
            bed.wait_until_true(&RackwrightMachine.named(machine), "Ready", PATIENCE).await?;
            let machine = bed.fleet()?.snapshot(host)?;
            ensure!(machine.is_running() && machine.history.wipes.is_empty(), "{machine:#?}");
        }
        bed.narrator.step("two are deleted, two corrected and of use: the machines of the others were never switched");

        bed.delete(&Machine.named("kept")).await?;
        bed.wait_until_gone(&Machine.named("kept"), PATIENCE).await?;
        bed.wait_until_gone(&Host.named("rack-a-u01"), PATIENCE).await?;
        let machine = bed.fleet()?.snapshot("rack-a-u01")?;
        ensure!(machine.is_clean() && machine.history.wipes.len() == 1 && !machine.powered, "{machine:#?}");
        bed.narrator.step("its machine is deleted: the host was wiped, switched off, and is gone");
        bed.are_unharmed(&bystanders).await
    })
    .await
}

/// Hosts that say that they are rack-a-u02, and by what.
const TWINS: [(&str, &str); 4] = [
    ("same-bmc", "bmc.address"),
    ("same-bmc-slash", "bmc.address"),
    ("same-mac", "bootMACAddress"),
    ("rack-a-u04", "bmc.address"), // an older one, which a person gives the address of one in use
];

/// Each of the twins says so and is not claimed. Gives what `same-mac` and `rack-a-u04` should have said.
async fn register_twice(bed: &Bed) -> Result<[String; 2]> {
    let used = bed.host("rack-a-u02").await?.spec;
    let mac = bed.host("rack-a-u03").await?.spec.boot_mac_address;
    let address = bed.host("rack-a-u04").await?.spec.bmc.address;
    for (name, slash, mac) in [("same-bmc", "", "52:54:00:00:00:01"), ("same-bmc-slash", "/", "52:54:00:00:00:02")] {
        bed.apply(json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "metadata": { "name": name },
            "spec": {
                "rack": "rack-a", "bmc": { "address": format!("{}{slash}", used.bmc.address) },
                "bootMACAddress": mac, "rootDevice": { "rotational": false },
            },
        }))
        .await?;
    }
    bed.register_anew("rack-a-u03", "same-mac", json!({ "bootMACAddress": used.boot_mac_address })).await?;
    bed.change(&Host.named("rack-a-u04"), json!({ "spec": { "bmc": { "address": used.bmc.address } } })).await?;
    let greedy = Order::new("greedy", "rack-a-u04");
    greedy.admit(bed).await?;
    greedy.place(bed).await?;
    for (name, field) in TWINS {
        let message = bed.wait_until_says(&Host.named(name), "Ready", "SameMachineTwice", PATIENCE).await?;
        let sentence = format!("spec.{field} is the same as that of host rack-a-u02, which is in use");
        ensure!(message.contains(&sentence), "{name}: {message}");
        bed.narrator.step(format!("{name}: {message}"));
    }
    let machine = RackwrightMachine.named(greedy.machine);
    let message = bed.wait_until_says(&machine, "HostClaimed", "NoHostMatches", PATIENCE).await?;
    ensure!(message.contains("1 not ready"), "{message}");
    bed.narrator.step(format!("the edited one is claimed by nobody: {message}"));
    Ok([mac, address])
}
