//! A fleet at run time: racks of machines on one listener, each reachable by Redfish on its own loopback address.

use crate::certificates::Authority;
use crate::config::FleetConfig;
use crate::faults::Fault;
use crate::hardware::Spec;
use crate::host::{Host, Site};
use crate::machine::Snapshot;
use crate::server::{self, Hosts};
use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use rackwright_bmc::{Access, Trust};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::net::TcpListener;
use url::Url;

/// A running fleet. Dropping it stops it; [`Fleet::shutdown`] also waits until everything is gone.
pub struct Fleet {
    site: Arc<Site>,
    hosts: BTreeMap<String, Arc<Host>>,
    port: u16,
}

/// One machine, as an inventory names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostEntry {
    /// For example `rack-a-u01`.
    pub name: String,
    /// Rack.
    pub rack: String,
    /// Lowest height unit in the rack.
    pub unit: u8,
    /// `https://127.10.1.1:8443`, without a slash at its end.
    pub bmc_url: String,
    /// MAC address of the boot interface, lower case.
    #[serde(rename = "bootMACAddress")]
    pub boot_mac: String,
    /// SMBIOS system UUID, lower case.
    pub uuid: String,
    /// Address of the host; its BMC has the same.
    pub address: IpAddr,
}

/// No machine has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no host {0}")]
pub struct NoSuchHost(pub String);

impl Fleet {
    /// Starts it: all machines are off, their disks empty. BMCs answer when this returns.
    ///
    /// # Errors
    /// A configuration that makes no sense, a port that is taken, a state folder that cannot be written.
    pub async fn start(config: FleetConfig) -> anyhow::Result<Fleet> {
        let (specs, timing) = (config.specs()?, config.paced()?);
        prepare_state(&config).await?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, config.listen_port))
            .await
            .with_context(|| format!("listening on port {}", config.listen_port))?;
        let port = listener.local_addr()?.port();
        let site = Arc::new(Site::new(config, Authority::new()?));
        let host = |spec: Spec| (spec.name.clone(), Arc::new(Host::new(spec, site.clone(), timing)));
        let hosts: BTreeMap<String, Arc<Host>> = specs.into_iter().map(host).collect();
        let by_address: Hosts = hosts.values().map(|host| (host.spec.address, host.clone())).collect();
        site.tasks.spawn(server::serve(listener, by_address, site.clone()));
        Ok(Fleet { site, hosts, port })
    }

    /// All machines, in the order of their names.
    pub fn hosts(&self) -> Vec<HostEntry> {
        self.hosts.values().map(|host| entry(&host.spec, self.port)).collect()
    }

    /// Port of every BMC.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority that vouches for every BMC, PEM.
    pub fn ca_pem(&self) -> &str {
        self.site.authority.pem()
    }

    /// SHA-256 of that BMC's certificate, 64 lower-case hex digits: what a pin is compared with.
    pub fn certificate_sha256(&self, host: &str) -> anyhow::Result<String> {
        Ok(hex::encode(digest(&SHA256, &self.host(host)?.identity()?.certificate)))
    }

    /// How to reach that BMC.
    pub fn access(&self, host: &str) -> Result<Access, NoSuchHost> {
        let (credentials, url) = (&self.site.config.credentials, bmc_url(&self.host(host)?.spec, self.port));
        Ok(Access {
            address: Url::parse(&url).expect("an address and a port make a URL"),
            username: credentials.username.clone(),
            password: credentials.password.clone().into(),
            trust: Trust::Ca(self.ca_pem().into()),
        })
    }

    /// Something breaks on that machine.
    pub fn fault(&self, host: &str, fault: Fault) -> Result<(), NoSuchHost> {
        self.host(host)?.break_down(fault);
        tracing::info!(host, ?fault, "broken");
        Ok(())
    }

    /// Every fault of that kind is mended on that machine, whatever its parameters.
    pub fn heal(&self, host: &str, fault: Fault) -> Result<(), NoSuchHost> {
        self.host(host)?.heal(fault);
        tracing::info!(host, ?fault, "mended");
        Ok(())
    }

    /// The truth about that machine.
    pub fn snapshot(&self, host: &str) -> Result<Snapshot, NoSuchHost> {
        Ok(self.host(host)?.snapshot())
    }

    /// The truth about all machines, in the order of their names.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.hosts.values().map(|host| host.snapshot()).collect()
    }

    /// Cuts all power and waits until no task and no process of the fleet is left.
    pub async fn shutdown(&self) {
        self.site.stop.cancel();
        self.site.tasks.close();
        self.site.tasks.wait().await;
    }

    fn host(&self, name: &str) -> Result<&Arc<Host>, NoSuchHost> {
        self.hosts.get(name).ok_or_else(|| NoSuchHost(name.into()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.site.stop.cancel();
    }
}

fn entry(spec: &Spec, port: u16) -> HostEntry {
    HostEntry {
        name: spec.name.clone(),
        rack: spec.rack.clone(),
        unit: spec.unit,
        bmc_url: bmc_url(spec, port),
        boot_mac: spec.boot_mac().into(),
        uuid: spec.uuid().into(),
        address: spec.address.into(),
    }
}

fn bmc_url(spec: &Spec, port: u16) -> String {
    format!("https://{}:{port}", spec.address)
}

/// New machines have empty disks: what an earlier fleet left in its state folder goes.
async fn prepare_state(config: &FleetConfig) -> anyhow::Result<()> {
    let hosts = config.state_dir.join("hosts");
    match tokio::fs::remove_dir_all(&hosts).await {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            return Err(why).with_context(|| format!("emptying {}", hosts.display()));
        }
        _ => {}
    }
    tokio::fs::create_dir_all(&hosts).await.with_context(|| format!("creating {}", hosts.display()))
}
