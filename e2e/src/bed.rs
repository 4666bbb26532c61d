//! One bed: what is started, in which order, and how it ends.

use crate::images::Images;
use crate::narrator::Narrator;
use crate::network::Network;
use crate::plane::Plane;
use crate::process::Process;
use crate::programs::{CLUSTER_API_VERSION, KUBERNETES_VERSION, Programs, RACKWRIGHT_VERSION};
use crate::providers::{self, Clusterctl};
use crate::racks::{self, Layout};
use crate::services::{BootSite, Pace, Services};
use anyhow::{Context, Result, bail};
use kube::Client;
use rackwright_simulator::fleet::Fleet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// How much of a bed is started. Use the least that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// etcd and kube-apiserver: for definitions, admission and roles. Seconds.
    ApiServer,
    /// And the controller manager, `clusterctl init`, and Cluster API's managers.
    ClusterApi,
    /// And our own processes, racks of machines, and their inventory.
    Racks(Layout),
}

impl Level {
    /// Three racks of four.
    pub fn racks() -> Level {
        Level::Racks(Layout::default())
    }
}

/// A bed that differs from the ordinary one; a [`Level`] alone stands for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How much of it is started.
    pub level: Level,
    /// The API server writes down every request but watches ([`crate::bench::audit`]).
    pub audit: bool,
    /// How patient our own processes are.
    pub pace: Pace,
}

impl From<Level> for Options {
    fn from(level: Level) -> Options {
        Options { level, audit: false, pace: Pace::Quick }
    }
}

/// What stands in and around the racks.
pub struct Racks {
    /// How many there are, and how fast.
    pub layout: Layout,
    /// Our own processes.
    pub services: Services,
    /// The machines.
    pub fleet: Fleet,
    /// Where they fetch their image.
    pub images: Images,
}

/// A running bed.
pub struct Bed {
    /// What it runs.
    pub programs: Programs,
    /// Its loopback network.
    pub network: Network,
    /// The management plane.
    pub plane: Plane,
    /// clusterctl with this bed's configuration.
    pub clusterctl: Clusterctl,
    /// Where steps are said.
    pub narrator: Narrator,
    /// Ours, at level [`Level::Racks`].
    pub racks: Option<Racks>,
    // Dropped in this order: who talks goes before who answers, the folder last.
    _cluster_api: Vec<Process>,
    folder: Folder,
}

impl Bed {
    /// Starts a bed up to a level.
    pub async fn start(programs: Programs, options: impl Into<Options>, narrator: Narrator) -> Result<Bed> {
        let Options { level, audit, pace } = options.into();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // an error: somebody else did
        let folder = Folder::new()?;
        let network = Network::take()?;
        let plane = Plane::start(&programs, &network, folder.path(), audit).await?;
        let clusterctl = Clusterctl::new(&programs, &plane.admin, folder.path())?;
        let mut bed =
            Bed { racks: None, _cluster_api: Vec::new(), programs, network, plane, clusterctl, narrator, folder };
        if level != Level::ApiServer {
            bed.install().await?;
        }
        if let Level::Racks(layout) = level {
            bed.racks = Some(bed.fill(layout, pace).await?);
        }
        bed.folder.keep.store(false, Ordering::Relaxed);
        Ok(bed)
    }

    async fn install(&mut self) -> Result<()> {
        self.plane.start_controllers(&self.programs)?;
        self.narrator.step(format!(
            "management plane: etcd, kube-apiserver {KUBERNETES_VERSION}, kube-controller-manager on {}",
            self.network.management()
        ));
        providers::init(&self.plane, &self.clusterctl).await?;
        self.narrator.step(format!(
            "clusterctl init: cluster-api {CLUSTER_API_VERSION}, rackwright {RACKWRIGHT_VERSION} \
             (infrastructure, bootstrap), kubeadm"
        ));
        providers::repoint(&self.plane, &self.network).await?;
        self._cluster_api =
            providers::start_managers(&self.programs, &self.plane, &self.network, self.folder.path()).await?;
        Ok(())
    }

    async fn fill(&self, layout: Layout, pace: Pace) -> Result<Racks> {
        let services = self.start_services(pace, &BootSite::default()).await?;
        let (fleet, images) = self.start_racks(layout).await?;
        Ok(Racks { layout, services, fleet, images })
    }

    /// Starts our own processes, as a bed with racks does by itself.
    pub async fn start_services(&self, pace: Pace, boot: &BootSite) -> Result<Services> {
        let (programs, plane, network, folder) = (&self.programs, &self.plane, &self.network, self.folder.path());
        let services = Services::start(programs, plane, network, folder, pace, boot).await?;
        self.narrator.step("rackwright: two managers and the boot service, each with its own ServiceAccount");
        Ok(services)
    }

    /// Starts the machines and registers them, as a bed with racks does by itself.
    pub async fn start_racks(&self, layout: Layout) -> Result<(Fleet, Images)> {
        let (programs, plane, network, folder) = (&self.programs, &self.plane, &self.network, self.folder.path());
        let fleet = racks::start(programs, plane, network, folder, layout).await?;
        let images = Images::start(network).await?;
        racks::register(plane, network, &fleet, &images).await?;
        self.narrator.step(format!(
            "{} machines in {} racks, all off, each behind its own Redfish BMC on 127.{}.RACK.UNIT:{}",
            layout.hosts(),
            layout.racks,
            network.octet(),
            fleet.port()
        ));
        Ok((fleet, images))
    }

    /// Ends everything in order: machines first, so that none of them outlives what it talks to.
    pub async fn stop(mut self) {
        if let Some(racks) = self.racks.take() {
            racks.fleet.shutdown().await;
        }
    }

    /// The machines.
    pub fn fleet(&self) -> Result<&Fleet> {
        Ok(&self.racks.as_ref().context("this bed has no racks")?.fleet)
    }

    /// Our own processes.
    pub fn services(&mut self) -> Result<&mut Services> {
        Ok(&mut self.racks.as_mut().context("this bed has no racks")?.services)
    }

    /// Client of the management cluster's administrator.
    pub fn client(&self) -> Client {
        self.plane.client.clone()
    }

    /// Folder with logs, kubeconfigs and data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder when the bed ends.
    pub fn keep_folder(&self) {
        self.folder.keep.store(true, Ordering::Relaxed);
    }

    /// Runs kubectl as administrator and gives what it prints; fails with what it says when it fails.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(self.programs.path("kubectl"));
        command.args(args).env("KUBECONFIG", &self.plane.admin).kill_on_drop(true);
        let output = command.output().await.context("kubectl cannot be started")?;
        if !output.status.success() {
            bail!("kubectl {}:\n{}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The folder of one bed. It stays when something failed, because the logs are in it.
struct Folder {
    temporary: Option<TempDir>,
    keep: AtomicBool,
}

impl Folder {
    fn new() -> Result<Folder> {
        let folder = tempfile::Builder::new().prefix("rackwright-bed-").tempdir();
        let folder = folder.context("no temporary folder can be made")?;
        Ok(Folder { temporary: Some(folder), keep: AtomicBool::new(true) })
    }

    fn path(&self) -> &Path {
        self.temporary.as_ref().expect("taken only when it is dropped").path()
    }
}

impl Drop for Folder {
    #[expect(clippy::print_stdout, reason = "a failed test's output is where somebody looks for the logs")]
    fn drop(&mut self) {
        let Some(folder) = self.temporary.take() else { return };
        if self.keep.load(Ordering::Relaxed) || std::thread::panicking() {
            println!("logs of the bed are kept in {}", folder.keep().join("log").display());
        }
    }
}
