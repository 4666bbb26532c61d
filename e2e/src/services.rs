//! Our own three processes, each as its Deployment runs it: with the token of its own ServiceAccount and nothing else.

use crate::accounts::{self, Account};
use crate::bed::Bed;
use crate::network::{Network, Port};
use crate::plane::Plane;
use crate::process::{Launch, Process};
use crate::programs::Programs;
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const READY: Duration = Duration::from_secs(60);

/// How patient our own processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Simulated machines are fast, and so is their failing.
    Quick,
    /// As a platform engineer installs them.
    Stock,
    /// Real machines without hardware virtualization, and faults that must not take half an hour each.
    Metal,
}

/// What the infrastructure manager gets in place of its defaults.
const QUICK: [&str; 8] = [
    "--poll-busy-millis=500",
    "--poll-idle-seconds=5",
    "--poll-unreachable-seconds=5",
    "--retry-seconds=10",
    "--power-seconds=15",
    "--call-home-seconds=60",
    "--operation-seconds=120",
    "--release-seconds=300",
];

/// The same for real machines.
const METAL: [&str; 9] = [
    "--agent-silence-seconds=180",
    "--poll-busy-millis=500",
    "--poll-idle-seconds=5",
    "--poll-unreachable-seconds=5",
    "--retry-seconds=20",
    "--power-seconds=30",
    "--call-home-seconds=120",
    "--operation-seconds=300",
    "--release-seconds=900",
];

/// Where the boot service stands, beyond the bed's own address, and what it is told beyond the ordinary.
#[derive(Clone, Debug, Default)]
pub struct BootSite {
    /// Other addresses by which it is known. When there are any it listens on all of this computer's of IPv4.
    pub addresses: Vec<IpAddr>,
    /// More flags.
    pub args: Vec<String>,
}

/// `rackwright manager` twice, and `rackwright boot`.
pub struct Services {
    /// Hosts, machines, clusters.
    pub infrastructure: Service,
    /// User-data.
    pub bootstrap: Service,
    /// What hosts boot from and report to.
    pub boot: Service,
}

impl Services {
    /// Starts all three and waits until they are ready.
    pub async fn start(
        programs: &Programs,
        plane: &Plane,
        network: &Network,
        folder: &Path,
        pace: Pace,
        boot: &BootSite,
    ) -> Result<Services> {
        let pace = match pace {
            Pace::Quick => &QUICK[..],
            Pace::Stock => &[],
            Pace::Metal => &METAL[..],
        };
        let site = Site { programs, plane, network, folder };
        let (health, metrics) = (Port::InfrastructureHealth, Port::InfrastructureMetrics);
        let infrastructure = site.manager("infrastructure", accounts::INFRASTRUCTURE, health, metrics, pace).await?;
        let (health, metrics) = (Port::BootstrapHealth, Port::BootstrapMetrics);
        let bootstrap = site.manager("bootstrap", accounts::BOOTSTRAP, health, metrics, &[]).await?;
        let mut services = Services { infrastructure, bootstrap, boot: site.boot(boot).await? };
        for service in [&mut services.infrastructure, &mut services.bootstrap, &mut services.boot] {
            service.start()?; // all of them first: they wait for each other's work, not for each other
        }
        for service in [&mut services.infrastructure, &mut services.bootstrap, &mut services.boot] {
            service.ready().await?;
        }
        Ok(services)
    }
}

/// One of our processes; it can be killed and started again.
pub struct Service {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    kubeconfig: PathBuf,
    health: String,
    http: reqwest::Client,
    logs: PathBuf,
    process: Option<Process>,
}

impl Service {
    async fn new(site: &Site<'_>, name: &str, account: Account, args: Vec<String>, health: String) -> Result<Service> {
        let ca = reqwest::Certificate::from_pem(site.plane.authority.pem().as_bytes())?;
        Ok(Service {
            name: name.into(),
            program: site.programs.rackwright.clone(),
            args,
            kubeconfig: accounts::kubeconfig(site.plane, account, site.folder).await?,
            health,
            http: reqwest::Client::builder().tls_certs_only([ca]).build()?,
            logs: site.folder.join("log"),
            process: None,
        })
    }

    /// Starts it. Its log goes on where an earlier life ended.
    pub fn start(&mut self) -> Result<()> {
        let launch = Launch::new(&self.name, &self.program).args(&self.args).env("KUBECONFIG", &self.kubeconfig);
        self.process = Some(launch.env("RUST_LOG", "info,rackwright=debug").env("NO_COLOR", "1").start(&self.logs)?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let process = self.process.as_mut().with_context(|| format!("{} was not started", self.name))?;
        let answers =
            async || self.http.get(&self.health).send().await.is_ok_and(|answer| answer.status().is_success());
        process.ready(READY, answers).await
    }

    /// Kills it with SIGKILL, as a crash or a lost node would.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Process::id)
    }
}

/// What all of them need to be made.
struct Site<'a> {
    programs: &'a Programs,
    plane: &'a Plane,
    network: &'a Network,
    folder: &'a Path,
}

impl Site<'_> {
    async fn manager(
        &self,
        controllers: &str,
        account: Account,
        health: Port,
        metrics: Port,
        pace: &[&str],
    ) -> Result<Service> {
        let mut args = vec![
            "manager".into(),
            format!("--controllers={controllers}"),
            // The infrastructure manager is killed and started again in stories, and a Lease outlives its holder.
            format!("--leader-elect={}", account == accounts::BOOTSTRAP),
            format!("--own-namespace={}", account.namespace),
            format!("--health-addr={}", self.network.at(health)),
            format!("--metrics-addr={}", self.network.at(metrics)),
        ];
        args.extend(pace.iter().map(ToString::to_string));
        let health = format!("http://{}/readyz", self.network.at(health));
        Service::new(self, &format!("rackwright-{controllers}"), account, args, health).await
    }

    async fn boot(&self, boot: &BootSite) -> Result<Service> {
        let pki = self.folder.join("pki");
        let address = self.network.at(Port::Boot);
        let own = IpAddr::from(self.network.management());
        let addresses: Vec<_> = std::iter::once(own).chain(boot.addresses.iter().copied()).collect();
        let (certificate, key) = self.plane.authority.server(&addresses)?.write(&pki, "boot")?;
        let listen = match boot.addresses.is_empty() {
            true => address,
            false => (Ipv4Addr::UNSPECIFIED, address.port()).into(),
        };
        let mut args = vec![
            "boot".into(),
            format!("--listen={listen}"),
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-private-key-file={}", key.display()),
            format!("--ca-file={}", pki.join("ca.crt").display()),
            format!("--key-secret={}/rackwright-boot-key", accounts::BOOT.namespace),
        ];
        args.extend(boot.args.iter().cloned());
        Service::new(self, "rackwright-boot", accounts::BOOT, args, format!("https://{address}/readyz")).await
    }
}

impl Bed {
    /// One more process of ours, not started yet.
    pub(crate) async fn service(
        &self,
        name: &str,
        account: Account,
        args: Vec<String>,
        health: String,
    ) -> Result<Service> {
        let site = Site { programs: &self.programs, plane: &self.plane, network: &self.network, folder: self.folder() };
        Service::new(&site, name, account, args, health).await
    }
}
