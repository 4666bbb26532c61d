//! Racks of simulated machines, and the inventory that a platform engineer would write for them.

use crate::images::Images;
use crate::network::{Everywhere, Network, Port};
use crate::objects;
use crate::plane::Plane;
use crate::programs::{KUBERNETES_VERSION, Programs};
use anyhow::Result;
use rackwright_simulator::config::FleetConfig;
use rackwright_simulator::fleet::{Fleet, HostEntry};
use rackwright_simulator::machine::Timing;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Namespace of the inventory and of the clusters.
pub const NAMESPACE: &str = "default";
/// Name of the one OSImage.
pub const OS_IMAGE: &str = "node";

/// How many racks there are and how many machines stand in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// At most 26: they are called `rack-a` to `rack-z`.
    pub racks: u8,
    /// In units 1, 2, …
    pub hosts_per_rack: u8,
    /// How long their firmware and loaders take.
    pub timing: Timing,
    /// Time between two heartbeats of a node.
    pub heartbeat: Duration,
}

impl Default for Layout {
    fn default() -> Self {
        // A heartbeat often enough that a dead node is noticed in seconds.
        Layout { racks: 3, hosts_per_rack: 4, timing: Timing::default(), heartbeat: Duration::from_secs(2) }
    }
}

impl Layout {
    fn rack_names(self) -> impl Iterator<Item = String> {
        ('a'..='z').take(self.racks.into()).map(|letter| format!("rack-{letter}"))
    }

    /// How long a node may be silent before it counts as dead.
    pub fn grace_period(self) -> Duration {
        self.heartbeat * 6
    }

    /// Number of machines.
    pub fn hosts(self) -> usize {
        usize::from(self.racks) * usize::from(self.hosts_per_rack)
    }
}

/// Starts the machines, all of them off with empty disks.
pub async fn start(
    programs: &Programs,
    plane: &Plane,
    network: &Network,
    folder: &Path,
    layout: Layout,
) -> Result<Fleet> {
    let mut config = FleetConfig::new(network.octet(), folder.join("machines"));
    for rack in layout.rack_names() {
        config = config.with_rack(&rack, layout.hosts_per_rack);
    }
    config.timing = layout.timing;
    config.listen_port = network.everywhere(Everywhere::Bmcs);
    config.media_ca = Some(plane.authority.pem().into());
    config.programs = Some(programs.bin.clone());
    config.os.lease_interval = layout.heartbeat;
    Fleet::start(config).await
}

/// Applies region, datacenter, racks and hosts, the BMCs' account and authority, and the image.
pub async fn register(plane: &Plane, network: &Network, fleet: &Fleet, images: &Images) -> Result<()> {
    let mut hosts = fleet.hosts();
    let mut inventory = site(network, fleet, images)?;
    inventory.extend(hosts.iter().map(host));
    hosts.dedup_by(|a, b| a.rack == b.rack);
    inventory.extend(hosts.iter().map(|host| rack(&host.rack)));
    for object in inventory {
        objects::apply(&plane.client, &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

fn site(network: &Network, fleet: &Fleet, images: &Images) -> Result<Vec<Value>> {
    use rackwright_simulator::config::Credentials;
    let Credentials { username, password } = Credentials::default();
    Ok(vec![
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "bmc" },
            "stringData": { "username": username, "password": password },
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "bmc-ca" },
            "data": { "ca.crt": fleet.ca_pem() },
        }),
        json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Region", "metadata": { "name": "lab" }, "spec": {},
        }),
        json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Datacenter", "metadata": { "name": "dc1" },
            "spec": {
                "region": "lab",
                "boot": { "url": format!("https://{}", network.at(Port::Boot)) },
                "hostDefaults": { "bmc": {
                    "credentialsRef": { "name": "bmc" },
                    "trust": { "ca": { "name": "bmc-ca", "key": "ca.crt" } },
                } },
            },
        }),
        json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "OSImage", "metadata": { "name": OS_IMAGE },
            "spec": {
                "kubernetesVersion": KUBERNETES_VERSION,
                "disk": { "url": images.url, "digest": images.digest, "format": "raw" },
            },
        }),
    ])
}

fn rack(name: &str) -> Value {
    json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Rack", "metadata": { "name": name },
        "spec": { "datacenter": "dc1" },
    })
}

fn host(host: &HostEntry) -> Value {
    json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host", "metadata": { "name": host.name },
        "spec": {
            "rack": host.rack,
            "unit": host.unit,
            "bmc": { "address": host.bmc_url },
            "bootMACAddress": host.boot_mac,
            // The fast disk of the two that every machine has.
            "rootDevice": { "rotational": false },
        },
    })
}
