//! The main job, shown: a cluster on racks of machines that were off a minute ago, then a dead host and its replacement,
//! then a pool of nodes that grows and shrinks with its pods.
//!
//! What the demo does the stories under `tests/` check; here it is told.

use crate::autoscaler;
use crate::bed::{Bed, Level};
use crate::cluster::{Cluster, MachineSeen, is_ready};
use crate::metal::cluster::Workers;
use crate::metal::steps::Steps;
use crate::metal::{Firmware, MetalBed, Spec};
use crate::narrator::Narrator;
use crate::programs::Programs;
use crate::racks::Layout;
use crate::wait::Look;
use anyhow::{Context, Result};
use kube::ResourceExt;
use rackwright_api::host::Phase;
use rackwright_simulator::faults::Fault;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a step may take before the demo gives up and says what it saw.
const PATIENCE: Duration = Duration::from_secs(300);
const WORKERS: u32 = 3;

/// What the demo is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Three racks of four simulated machines.
    Simulated,
    /// And one real machine beside them; inside [`crate::metal::sandbox`] only.
    WithMetal,
}

/// Runs the demo until its end or until `interrupted`; then takes everything down. With `keep` its end is `interrupted`.
pub async fn run(
    programs: Programs,
    narrator: Narrator,
    stage: Stage,
    keep: bool,
    interrupted: impl Future<Output = ()>,
) -> Result<()> {
    let mut interrupted = std::pin::pin!(interrupted);
    let set = tokio::select! {
        set = Set::build(programs, stage, narrator.clone()) => set?,
        () = &mut interrupted => return Ok(()), // what was started is dropped, and so killed
    };
    let told = tokio::select! {
        told = tell(&set) => told,
        () = &mut interrupted => Ok(()),
    };
    if told.is_ok() && keep {
        how_to_look_around(set.bed());
        interrupted.await;
    }
    narrator.step("taking everything down");
    set.strike().await;
    told
}

/// The bed on which it is shown.
enum Set {
    Simulated(Box<Bed>),
    WithMetal(Box<MetalBed>),
}

impl Set {
    async fn build(programs: Programs, stage: Stage, narrator: Narrator) -> Result<Set> {
        if stage == Stage::Simulated {
            return Ok(Set::Simulated(Box::new(Bed::start(programs, Level::racks(), narrator).await?)));
        }
        let mut metal = MetalBed::start_with(programs, narrator, &[]).await?;
        metal.add_simulated(Layout::default()).await?;
        metal.add_node_image("PowerCycle").await?;
        metal.add_machine(Spec::new("metal-u01", 1, Firmware::Uefi), json!({})).await?;
        Ok(Set::WithMetal(Box::new(metal)))
    }

    fn bed(&self) -> &Bed {
        match self {
            Set::Simulated(bed) => bed,
            Set::WithMetal(metal) => &metal.bed,
        }
    }

    /// How many of its machines are real.
    fn real(&self) -> u32 {
        u32::from(matches!(self, Set::WithMetal(_)))
    }

    async fn create_cluster(&self) -> Result<Cluster> {
        match self {
            Set::Simulated(bed) => bed.create_cluster("demo", 1, WORKERS).await,
            Set::WithMetal(metal) => {
                metal.create_cluster("demo", Workers::Both { simulated: WORKERS, real: self.real() }).await
            }
        }
    }

    async fn strike(self) {
        match self {
            Set::Simulated(bed) => bed.stop().await,
            Set::WithMetal(metal) => metal.stop().await,
        }
    }
}

async fn tell(set: &Set) -> Result<()> {
    let bed = set.bed();
    let hosts = 12 + set.real() as usize;
    bed.wait_until_available(hosts, PATIENCE).await?;
    bed.narrator.step(format!("inspected: {hosts} Available, all off again"));
    let workers = build(set).await?;
    bury(bed, &workers.0, &workers.1).await?;
    settle(bed).await?;
    autoscaler::show(bed, &workers.0).await?;
    bed.narrator.step("clusterctl describe cluster demo");
    bed.narrator.more(bed.clusterctl.run(&["describe", "cluster", "demo"], &[]).await?);
    // Core v1.14 asks a control-plane provider, and takes "there is none" for an error of its own.
    bed.narrator.more("(Cluster is not Available to core only because no control-plane provider reports for it.)");
    bed.narrator.step("kubectl get hosts");
    bed.narrator.more(bed.kubectl(&["get", "hosts"]).await?);
    Ok(())
}

/// From machines that are off to a cluster.
async fn build(set: &Set) -> Result<(Cluster, Vec<MachineSeen>)> {
    let bed = set.bed();
    let cluster = set.create_cluster().await?;
    let count = WORKERS + set.real();
    bed.narrator.step(format!("cluster \"demo\": 1 control plane, {count} workers, {} on real machines", set.real()));
    let control_plane = bed
        .wait("the control plane answers", PATIENCE, async || {
            bed.nodes(&cluster).await?;
            let machines = bed.machines(&cluster).await?;
            Ok(match machines.into_iter().find(|machine| machine.control_plane && machine.provider_id.is_some()) {
                Some(machine) => Look::Seen(machine),
                None => Look::NotYet("no control-plane machine with a host".into()),
            })
        })
        .await?;
    let host = control_plane.host().unwrap_or_default();
    bed.narrator
        .step(format!("control plane answers: {}  (machine {} on {host})", cluster.endpoint, control_plane.name));
    let workers = bed.wait_until_running(&cluster, count as usize, PATIENCE).await?;
    let mut racks: Vec<_> = workers.iter().filter_map(|worker| worker.failure_domain.clone()).collect();
    racks.sort();
    racks.dedup();
    bed.narrator.step(format!("{count} of {count} workers Ready, on {} racks", racks.len()));
    if let Set::WithMetal(metal) = set {
        metal.follow_node(&cluster, "metal-u01", &mut Steps::default()).await?;
        bed.narrator.step("a pod ran on metal-u01: real firmware, kernel, containerd and kubelet");
    }
    draw(bed).await?;
    Ok((cluster, workers))
}

/// A power supply dies; nobody is asked to do anything.
async fn bury(bed: &Bed, cluster: &Cluster, workers: &[MachineSeen]) -> Result<()> {
    // Of those that are simulated: `demo-workers-…` comes after `demo-metal-…`.
    let victim = workers.last().context("there are workers")?;
    let dead = victim.host().context("a running machine has a host")?;
    bed.narrator.step(format!("pulling the power of {dead} …"));
    bed.fleet()?.fault(&dead, Fault::PowerSupplyDead { refuses: true })?;

    bed.wait("the node is NotReady", PATIENCE, async || {
        let nodes = bed.nodes(cluster).await?;
        let silent = nodes.iter().any(|node| Some(node.name_any()) == victim.node && !is_ready(node));
        Ok(Look::when(silent, "every node is Ready"))
    })
    .await?;
    bed.narrator.step(format!("node {} is NotReady", victim.node.as_deref().unwrap_or_default()));

    bed.wait("MachineHealthCheck acts", PATIENCE, async || {
        let machines = bed.workers(cluster).await?;
        let condemned = machines.iter().all(|machine| machine.name != victim.name || machine.deleting);
        Ok(Look::when(condemned, "the machine stands"))
    })
    .await?;
    let condemned = Instant::now();
    bed.narrator.step(format!("MachineHealthCheck: machine {} goes", victim.name));

    let after = bed.wait_until_running(cluster, workers.len(), PATIENCE).await?;
    let known: Vec<_> = workers.iter().map(|worker| &worker.name).collect();
    let new = after.iter().find(|worker| !known.contains(&&worker.name)).context("one of the machines is new")?;
    bed.narrator.step(format!(
        "replaced by {} on {}, Ready {} s later",
        new.name,
        new.host().unwrap_or_default(),
        condemned.elapsed().as_secs()
    ));
    let host = bed.wait_until_host_is(&dead, Phase::Broken, PATIENCE).await?;
    let why = host.spec.broken.map(|broken| format!("{}: {}", broken.reason, broken.message)).unwrap_or_default();
    bed.narrator.step(format!("{dead} is Broken ({why}), kept for a person"));
    draw(bed).await
}

/// Cluster API counts a machine as available some seconds after its node is Ready.
async fn settle(bed: &Bed) -> Result<()> {
    bed.wait("every worker counts as available", PATIENCE, async || {
        let path = "--output=jsonpath={.status.availableReplicas}";
        let available = bed.kubectl(&["get", "machinedeployment", "demo-workers", path]).await?;
        Ok(Look::when(available == WORKERS.to_string(), format!("{available} available")))
    })
    .await
}

/// The racks as `rackwright tree` draws them.
async fn draw(bed: &Bed) -> Result<()> {
    let mut command = tokio::process::Command::new(&bed.programs.rackwright);
    command.arg("tree").env("KUBECONFIG", &bed.plane.admin).kill_on_drop(true);
    let output = command.output().await.context("`rackwright tree` cannot be started")?;
    bed.narrator.more(String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn how_to_look_around(bed: &Bed) {
    let (bin, admin) = (bed.programs.bin.display(), bed.plane.admin.display());
    bed.narrator.step("it stays up until Ctrl-C; in another terminal:");
    bed.narrator.more(format!("export KUBECONFIG={admin} PATH={bin}:$PATH"));
    bed.narrator.more("kubectl get hosts,racks,machines,rackwrightmachines");
    bed.narrator.more("kubectl describe host rack-a-u01");
    bed.narrator.more("kubectl scale machinedeployment demo-workers --replicas=6");
    bed.narrator.more(format!("{} tree", bed.programs.rackwright.display()));
    bed.narrator.more("clusterctl describe cluster demo --show-conditions=all");
    bed.narrator.more("clusterctl get kubeconfig demo > demo.conf && kubectl --kubeconfig demo.conf get nodes");
    bed.narrator.more(format!("logs: {}", bed.folder().join("log").display()));
}
