//! The infrastructure manager dies at random moments while hosts are provisioned and given back.
//!
//! The machines' user-data is made by hand, so no workload cluster is needed: what is looked at is who holds which host
//! and what becomes of the disks. `RACKWRIGHT_SEED` plays the moments of one run again.

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use rackwright_api::host::Phase;
use rackwright_api::{Host, RackwrightMachine};
use rackwright_e2e::racks::{NAMESPACE, OS_IMAGE};
use rackwright_e2e::services::Service;
use rackwright_e2e::{Bed, Layout, Level, Look, Narrator, Programs, objects};
use rackwright_simulator::fleet::Fleet;
use rackwright_simulator::machine::{Snapshot, Timing};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(300);
const HOSTS: usize = 12;
const KILLS: usize = 20;
/// Longest life of a manager between two kills, milliseconds; its start is part of it.
const LIFE: u64 = 1500;
/// Machines that are deleted, and machines that are made meanwhile.
const OLD: [&str; 3] = ["old-1", "old-2", "old-3"];
const NEW: [&str; 6] = ["new-1", "new-2", "new-3", "new-4", "new-5", "new-6"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_manager_that_is_killed_twenty_times_mixes_up_no_host_and_no_disk() -> Result<()> {
    let seed = seed();
    // Slow enough that all the kills fall into the work.
    let timing = Timing { post: Duration::from_secs(8), ramdisk_boot: Duration::from_secs(6), ..Timing::default() };
    let layout = Layout { timing, ..Layout::default() };
    let mut bed = Bed::start(Programs::from_env()?, Level::Racks(layout), Narrator::stdout()).await?;
    bed.narrator.step(format!("RACKWRIGHT_SEED={seed}"));
    bed.wait_until_available(HOSTS, PATIENCE).await?;
    objects::apply_all(&bed.client(), CLUSTER).await?;
    make(&bed, &OLD).await?;
    provisioned(&bed, &OLD).await?;
    let released = machines(&bed).await?.into_iter().filter_map(|machine| machine.uid()).collect::<BTreeSet<_>>();
    let used = hosts_of(&bed, &released).await?;
    bed.narrator.step(format!("3 machines run: {used:?}"));

    make(&bed, &NEW).await?;
    bed.kubectl(&[&["delete", "machines", "--wait=false"], &OLD[..]].concat()).await?;
    let mut racks = bed.racks.take().expect("a bed with racks");
    let witness = Witness { bed: &bed, fleet: &racks.fleet, released: &released, settled: AtomicBool::new(false) };
    let killed = AtomicBool::new(false);
    let kill = async {
        let inside = kill(&mut racks.services.infrastructure, &witness, seed).await;
        killed.store(true, Ordering::Relaxed);
        inside
    };
    let (inside, looks) = tokio::try_join!(kill, witness.watch(&killed))?;
    bed.narrator.step(format!("{KILLS} kills, {inside} of them amid the work; {looks} looks, nothing mixed up"));
    ensure!(inside >= KILLS / 2, "the work was over before the kills were: {inside} of {KILLS} were amid it");

    witness.final_state(&used).await?;
    provisioned(&bed, &NEW).await?;
    bed.narrator.step("6 machines run on hosts of their own; 3 hosts were wiped, and no other");
    bed.racks = Some(racks);
    bed.stop().await;
    Ok(())
}

fn seed() -> u64 {
    match std::env::var("RACKWRIGHT_SEED") {
        Ok(text) => text.parse().expect("RACKWRIGHT_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// Kills the manager at [`KILLS`] random moments; gives how many of them were amid the work.
async fn kill(manager: &mut Service, witness: &Witness<'_>, seed: u64) -> Result<usize> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut inside = 0;
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..LIFE))).await;
        inside += usize::from(!witness.settled.load(Ordering::Relaxed));
        manager.kill().await?;
        manager.start()?;
    }
    manager.ready().await?;
    Ok(inside)
}

/// Compares what the API server says of the hosts with what is on their disks.
struct Witness<'a> {
    bed: &'a Bed,
    fleet: &'a Fleet,
    /// UIDs of the machines that were deleted.
    released: &'a BTreeSet<String>,
    /// Everything is as it was asked for.
    settled: AtomicBool,
}

impl Witness<'_> {
    /// Looks again and again until everything is as it was asked for and `killed` says that nobody will be killed any
    /// more. Gives the number of looks.
    async fn watch(&self, killed: &AtomicBool) -> Result<usize> {
        let (mut looks, begun) = (0, std::time::Instant::now());
        while !(killed.load(Ordering::Relaxed) && self.settled.load(Ordering::Relaxed)) {
            self.look().await?;
            looks += 1;
            if begun.elapsed() > PATIENCE {
                self.bed.keep_folder();
                bail!("not as asked after {} s:\n{}", PATIENCE.as_secs(), self.bed.report().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(looks)
    }

    async fn look(&self) -> Result<()> {
        let before = self.traces();
        let hosts = self.bed.hosts().await?;
        let after = self.traces();
        nobody_holds_two(&hosts)?;
        for host in &hosts {
            ensure!(host.spec.broken.is_none(), "{} is broken: {:?}", host.name_any(), host.spec.broken);
            if let Some(order) = &host.spec.wipe {
                ensure!(self.released.contains(&order.claim_uid), "nobody ordered {order:?} of {}", host.name_any());
            }
            // There before and after the list was made, so there at its moment.
            if let (Some(trace), Some(still)) = (before.get(&host.name_any()), after.get(&host.name_any()))
                && trace == still
            {
                ensure!(
                    owns(host, trace),
                    "{} holds data of {trace}, but its spec is {:#?}",
                    host.name_any(),
                    host.spec
                );
            }
        }
        let in_phase = |wanted| hosts.iter().filter(|host| phase(host) == Some(wanted)).count();
        let settled = in_phase(Phase::Provisioned) == NEW.len() && in_phase(Phase::Available) == HOSTS - NEW.len();
        self.settled.store(settled, Ordering::Relaxed);
        Ok(())
    }

    /// Whose data is on each host's disks, by UID.
    fn traces(&self) -> BTreeMap<String, String> {
        self.fleet.snapshots().iter().filter_map(|machine| Some((machine.name.clone(), trace(machine)?))).collect()
    }

    /// All is as asked; `used`: hosts that the deleted machines had.
    async fn final_state(&self, used: &BTreeSet<String>) -> Result<()> {
        let (hosts, digest) = (self.bed.hosts().await?, self.image_digest().await?);
        for host in hosts {
            let (name, machine) = (host.name_any(), self.fleet.snapshot(&host.name_any())?);
            let wipes = &machine.history.wipes;
            ensure!(wipes.is_empty() != used.contains(&name), "{name} was wiped for {wipes:?}");
            if let Some(last) = wipes.last() {
                ensure!(host.spec.wiped.as_ref().is_some_and(|done| done.operation_id == *last), "{name}: {wipes:?}");
            }
            match &host.spec.claim {
                Some(claim) => {
                    ensure!(trace(&machine).as_ref() == Some(&claim.consumer.uid), "{name}: {machine:#?}");
                    ensure!(machine.powered && machine.image_digest() == Some(&digest), "{name}: {machine:#?}");
                }
                None => ensure!(machine.is_clean() && !machine.powered && !host.spec.needs_wipe(), "{machine:#?}"),
            }
        }
        Ok(())
    }

    async fn image_digest(&self) -> Result<String> {
        let image = Api::<rackwright_api::OSImage>::namespaced(self.bed.client(), NAMESPACE).get(OS_IMAGE).await?;
        Ok(image.spec.disk.context("the image of the bed is one that is written")?.digest)
    }
}

/// UID of the machine whose data stands on the disks of `machine`.
fn trace(machine: &Snapshot) -> Option<String> {
    let drive = machine.disks.iter().find_map(|disk| disk.drive.as_ref())?;
    let meta: serde_json::Value = serde_json::from_str(&drive.meta_data).expect("meta-data is JSON");
    Some(meta["instance-id"].as_str().expect("meta-data has an instance-id").to_string())
}

/// Whether data of the machine with this UID has a reason to be on the disks of `host`: a claim, or an order to wipe it.
fn owns(host: &Host, machine: &str) -> bool {
    let claimed = host.spec.claim.as_ref().is_some_and(|claim| claim.consumer.uid == machine);
    let to_go = host.spec.wipe.as_ref().is_some_and(|order| order.claim_uid == machine) && host.spec.needs_wipe();
    claimed || to_go
}

fn nobody_holds_two(hosts: &[Host]) -> Result<()> {
    let mut holders = BTreeMap::new();
    for host in hosts {
        let Some(claim) = &host.spec.claim else { continue };
        if let Some(other) = holders.insert(&claim.consumer.uid, host.name_any()) {
            bail!("machine {} holds {other} and {}", claim.consumer.name, host.name_any());
        }
    }
    Ok(())
}

fn phase(host: &Host) -> Option<Phase> {
    host.status.as_ref().and_then(|status| status.phase)
}

async fn machines(bed: &Bed) -> Result<Vec<RackwrightMachine>> {
    let api = Api::<RackwrightMachine>::namespaced(bed.client(), NAMESPACE);
    Ok(api.list(&ListParams::default()).await?.items)
}

async fn hosts_of(bed: &Bed, machines: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let held = |host: &Host| host.spec.claim.as_ref().is_some_and(|claim| machines.contains(&claim.consumer.uid));
    Ok(bed.hosts().await?.iter().filter(|host| held(host)).map(Host::name_any).collect())
}

/// Waits until exactly the machines of these names are there, all of them provisioned, each on a host of its own.
async fn provisioned(bed: &Bed, names: &[&str]) -> Result<()> {
    bed.wait(&format!("{names:?} provisioned, and no other machine"), PATIENCE, async || {
        let done = |machine: &RackwrightMachine| {
            let status = machine.status.as_ref()?;
            let provisioned = status.initialization.as_ref()?.provisioned?;
            (provisioned && machine.metadata.deletion_timestamp.is_none()).then(|| status.host.clone())?
        };
        let machines = machines(bed).await?;
        let found: BTreeSet<_> = machines.iter().map(ResourceExt::name_any).collect();
        let hosts: BTreeSet<_> = machines.iter().filter_map(done).collect();
        let as_asked = found.iter().eq(names) && hosts.len() == names.len();
        Ok(Look::when(as_asked, format!("machines {found:?}, hosts {hosts:?}")))
    })
    .await
}

async fn make(bed: &Bed, names: &[&str]) -> Result<()> {
    for name in names {
        objects::apply_all(&bed.client(), &MACHINE.replace("NAME", name).replace("IMAGE", OS_IMAGE)).await?;
    }
    Ok(())
}

const CLUSTER: &str = r##"
{apiVersion: v1, kind: Secret, metadata: {name: user-data}, stringData: {value: "#cloud-config\n{}\n"}}
---
{apiVersion: infrastructure.cluster.x-k8s.io/v1alpha1, kind: RackwrightCluster, metadata: {name: crashes},
 spec: {controlPlaneEndpoint: {host: 192.0.2.1, port: 6443}}}
---
{apiVersion: cluster.x-k8s.io/v1beta2, kind: Cluster, metadata: {name: crashes},
 spec: {infrastructureRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: RackwrightCluster, name: crashes}}}
"##;

const MACHINE: &str = r"
{apiVersion: infrastructure.cluster.x-k8s.io/v1alpha1, kind: RackwrightMachine,
 metadata: {name: NAME, labels: {cluster.x-k8s.io/cluster-name: crashes}}, spec: {image: {name: IMAGE}}}
---
{apiVersion: cluster.x-k8s.io/v1beta2, kind: Machine,
 metadata: {name: NAME, labels: {cluster.x-k8s.io/cluster-name: crashes}},
 spec: {clusterName: crashes, bootstrap: {dataSecretName: user-data},
 infrastructureRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: RackwrightMachine, name: NAME}}}
";
