//! The main job, end to end: nothing here is pretended except the machines themselves.

use anyhow::Result;
use rackwright_api::host::Phase;
use rackwright_e2e::{Bed, Level, Narrator, Programs};
use rackwright_simulator::faults::Fault;
use std::collections::BTreeSet;
use std::time::Duration;

/// Long enough for a busy machine with two cores; a story that goes well takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Three racks of four machines, all of them inspected and Available.
async fn racks() -> Result<Bed> {
    let bed = Bed::start(Programs::from_env()?, Level::racks(), Narrator::stdout()).await?;
    bed.wait_until_available(12, PATIENCE).await?;
    bed.narrator.step("12 hosts Available");
    Ok(bed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_cluster_is_built_on_racks_of_machines_scaled_and_deleted_without_a_trace() -> Result<()> {
    let bed = racks().await?;

    let cluster = bed.create_cluster("demo", 1, 3).await?;
    let workers = bed.wait_until_running(&cluster, 3, PATIENCE).await?;
    bed.narrator.step("control plane and 3 workers Running");
    let racks: BTreeSet<_> = workers.iter().filter_map(|worker| worker.failure_domain.clone()).collect();
    assert_eq!(racks.len(), 3, "each worker in a rack of its own: {workers:#?}");

    bed.scale(&cluster, 6).await?;
    bed.wait_until_running(&cluster, 6, PATIENCE).await?;
    bed.narrator.step("6 workers Running");
    bed.scale(&cluster, 2).await?;
    bed.wait_until_running(&cluster, 2, PATIENCE).await?;
    bed.narrator.step("2 workers Running, and no node of the other four is left");

    bed.delete_cluster(&cluster, PATIENCE).await?;
    bed.wait_until_available(12, PATIENCE).await?;
    bed.narrator.step("cluster deleted, 12 hosts Available");
    for machine in bed.fleet()?.snapshots() {
        assert!(machine.is_clean() && !machine.powered, "{machine:#?}");
    }
    for host in bed.hosts().await? {
        assert!(host.spec.claim.is_none() && !host.spec.needs_wipe(), "{:#?}", host.spec);
    }
    let used: Vec<_> =
        bed.fleet()?.snapshots().into_iter().filter(|machine| !machine.history.images.is_empty()).collect();
    assert_eq!(used.len(), 7, "1 control plane and 6 workers");
    assert!(used.iter().all(|machine| !machine.history.wipes.is_empty()), "{used:#?}");
    bed.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_host_whose_power_supply_dies_is_replaced_and_not_taken_again() -> Result<()> {
    let bed = racks().await?;
    let cluster = bed.create_cluster("demo", 1, 3).await?;
    let workers = bed.wait_until_running(&cluster, 3, PATIENCE).await?;
    let victim = &workers[0];
    let dead = victim.host().expect("a running machine has a provider ID");

    bed.narrator.step(format!("the power supply of {dead} dies"));
    bed.fleet()?.fault(&dead, Fault::PowerSupplyDead { refuses: true })?;
    let gone = async || {
        let names: Vec<_> = bed.workers(&cluster).await?.into_iter().map(|worker| worker.name).collect();
        Ok(rackwright_e2e::Look::when(!names.contains(&victim.name), names.join(" ")))
    };
    bed.wait("MachineHealthCheck replaces the machine", PATIENCE, gone).await?;
    let workers = bed.wait_until_running(&cluster, 3, PATIENCE).await?;
    bed.narrator.step("3 workers Running again");

    assert!(workers.iter().all(|worker| worker.host().as_ref() != Some(&dead)), "{workers:#?}");
    let host = bed.wait_until_host_is(&dead, Phase::Broken, PATIENCE).await?;
    let broken = host.spec.broken.expect("a broken host says why");
    bed.narrator.step(format!("{dead} is Broken: {}: {}", broken.reason, broken.message));
    assert_eq!(broken.reason, "NoPower", "{broken:#?}");

    // Every other host is taken before anybody is told that there is none; the broken one never is.
    bed.scale(&cluster, 10).await?;
    let workers = bed.wait_until_running(&cluster, 10, PATIENCE).await?;
    assert!(workers.iter().all(|worker| worker.host().as_ref() != Some(&dead)), "{workers:#?}");
    bed.stop().await;
    Ok(())
}
