//! A bed with real machines: the management plane and our processes as every bed has them, the lab on its own network,
//! and a web server with disk images. Both the boot service and the images are reached over a [`Relay`], which can be
//! made slow or cut.

use super::bmc::{PASSWORD, USERNAME};
use super::lab::{Lab, Unit};
use super::lan::{LAB, LAB_V6};
use super::machine::{Machine, Spec};
use super::mirror::Mirror;
use super::relay::Relay;
use super::server::Server;
use crate::bed::{Bed, Level, Racks};
use crate::narrator::Narrator;
use crate::network::Port;
use crate::objects;
use crate::programs::{KUBERNETES_VERSION, Programs};
use crate::racks::Layout;
use crate::services::{BootSite, Pace, Services};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Folder with the ramdisk's media.
pub const RAMDISK: &str = "RACKWRIGHT_RAMDISK";
/// Folder with the node image and its digests.
pub const NODE_IMAGE: &str = "RACKWRIGHT_NODE_IMAGE";
/// Folder with the kernel and the initial ramdisk of debian-installer.
pub const INSTALLER: &str = "RACKWRIGHT_DEBIAN_INSTALLER";
/// The same of an installer that does what a test needs of one.
pub const STAND_IN_INSTALLER: &str = "RACKWRIGHT_STAND_IN_INSTALLER";
/// Rack of all real machines.
pub const RACK: &str = "metal";
/// Where the boot service is reached.
const BOOT_RELAY: u16 = 8444;
/// Where the boot service serves without TLS, when it is told to.
const BOOT_PLAIN: u16 = 8081;
/// Where the images are; they are reached over the relay.
const SERVER: u16 = 8090;
const SERVER_RELAY: u16 = 8091;
/// Where machines find a mirror of Debian.
const MIRROR: u16 = 8092;

/// A running bed with real machines.
pub struct MetalBed {
    // Dropped in this order: machines before what they talk to, the folder last.
    /// Machines, BMCs, network.
    pub lab: Lab,
    services: Option<Services>,
    /// The wire between machines and the boot service.
    pub boot_wire: Relay,
    /// The same for machines that know IPv6 only.
    pub boot_wire_v6: Relay,
    /// The wire to the images.
    pub image_wire: Relay,
    /// The images.
    pub server: Server,
    /// All the rest.
    pub bed: Bed,
}

/// What an image is, for [`MetalBed::add_image`].
#[derive(Clone, Debug, Default)]
pub struct ImageFacts {
    /// `raw`, `raw.zst`, …
    pub format: String,
    /// `sha256:…` of what is served.
    pub digest: String,
    /// `PowerCycle` or `Kexec`.
    pub final_boot: String,
}

impl MetalBed {
    /// Starts it without machines, as a test does.
    pub async fn start(narrator: Narrator) -> Result<MetalBed> {
        MetalBed::start_with(Programs::from_env()?, narrator, &[]).await
    }

    /// Starts it without machines; `boot` are more flags of the boot service.
    pub async fn start_with(programs: Programs, narrator: Narrator, boot: &[String]) -> Result<MetalBed> {
        let ramdisk = std::env::var_os(RAMDISK).map(PathBuf::from);
        let ramdisk = ramdisk.with_context(|| format!("{RAMDISK} is not set: run `cargo xtask e2e-metal`"))?;
        let bed = Bed::start(programs, Level::ClusterApi, narrator).await?;
        let lab = Lab::start(bed.folder()).await?;
        let args = std::iter::once(format!("--ramdisk={}", ramdisk.display())).chain(boot.iter().cloned()).collect();
        let site = BootSite { addresses: vec![LAB.into(), LAB_V6.into()], args };
        let services = bed.start_services(Pace::Metal, &site).await?;
        let at = |port: u16| SocketAddr::from((LAB, port));
        let boot_wire = Relay::start(at(BOOT_RELAY), at(Port::Boot as u16)).await?;
        let boot_wire_v6 = Relay::start((LAB_V6, BOOT_RELAY).into(), at(Port::Boot as u16)).await?;
        let image_wire = Relay::start(at(SERVER_RELAY), at(SERVER)).await?;
        let server = Server::start(at(SERVER)).await?;
        let metal = MetalBed { lab, services: Some(services), boot_wire, boot_wire_v6, image_wire, server, bed };
        for object in site_objects(&metal.bed) {
            metal.apply_json(object).await?;
        }
        metal.bed.narrator.step("a lab: bridge, DHCP, libvirt; the boot service and the images on 172.30.0.1");
        Ok(metal)
    }

    /// Adds racks of simulated machines, labelled `pool=simulated`: a workload cluster's control plane runs on one of
    /// them. Before any real machine.
    pub async fn add_simulated(&mut self, layout: Layout) -> Result<()> {
        let (fleet, images) = self.bed.start_racks(layout).await?;
        let services = self.services.take().context("simulated machines were added before")?;
        self.bed.racks = Some(Racks { layout, services, fleet, images });
        self.bed.kubectl(&["label", "hosts", "--all", "pool=simulated"]).await.map(drop)
    }

    /// Ends everything in order, machines first.
    pub async fn stop(self) {
        drop(self.lab);
        self.bed.stop().await;
    }

    /// Our own processes.
    pub fn services(&mut self) -> Result<&mut Services> {
        match &mut self.services {
            Some(services) => Ok(services),
            None => self.bed.services(),
        }
    }

    /// Builds a machine and registers its Host, labelled `pool=metal`; `extra` goes into the Host's spec.
    pub async fn add_machine(&mut self, spec: Spec, extra: Value) -> Result<&Unit> {
        let name = spec.name.clone();
        let unit = self.lab.add(spec, &self.bed.plane.authority).await?;
        let spec = &unit.machine.spec;
        self.bed.narrator.step(format!(
            "{}: {:?}, {} vCPU, {} MiB, empty disk, behind a Redfish BMC on {}",
            spec.name, spec.firmware, spec.cpus, spec.memory_mib, unit.bmc.url
        ));
        self.register(&name, extra).await
    }

    /// Registers the Host of a machine that the lab has.
    pub async fn register(&self, name: &str, extra: Value) -> Result<&Unit> {
        let unit = self.lab.units().iter().find(|unit| unit.machine.spec.name == name);
        let unit = unit.with_context(|| format!("the lab has no machine {name}"))?;
        objects::apply(&self.bed.client(), &serde_json::from_value(host(unit, extra))?).await?;
        Ok(unit)
    }

    /// Makes the OSImage `name` of a file that [`MetalBed::server`] serves as `file`.
    pub async fn add_image(&self, name: &str, file: &str, facts: &ImageFacts) -> Result<()> {
        let image = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "OSImage", "metadata": { "name": name },
            "spec": {
                "kubernetesVersion": KUBERNETES_VERSION,
                "disk": {
                    "url": format!("http://{LAB}:{SERVER_RELAY}/{file}"),
                    "digest": facts.digest,
                    "format": facts.format,
                },
                "finalBoot": facts.final_boot,
            },
        });
        self.apply_json(image).await
    }

    /// Makes the OSImage of the node image, for workers on real machines.
    pub async fn add_node_image(&self, final_boot: &str) -> Result<()> {
        let folder = std::env::var_os(NODE_IMAGE).map(PathBuf::from);
        let folder = folder.with_context(|| format!("{NODE_IMAGE} is not set: run `cargo xtask e2e-metal`"))?;
        let sums = std::fs::read_to_string(folder.join("sha256sums.txt")).context("the node image has no digests")?;
        let file = "node-amd64.raw.zst";
        let sum = sums.lines().find_map(|line| line.strip_suffix(file)?.split_whitespace().next());
        let digest = format!("sha256:{}", sum.with_context(|| format!("no digest of {file}"))?);
        self.server.add_file(file, &folder.join(file))?;
        let facts = ImageFacts { format: "raw.zst".into(), digest, final_boot: final_boot.into() };
        self.add_image(super::cluster::NODE_IMAGE, file, &facts).await
    }

    /// Makes the OSImage `name` that debian-installer installs, with the answers that Rackwright writes; its kernel and initial
    /// ramdisk are those of Debian's own package. The mirror that it installs from ends with what is given.
    pub async fn add_debian(&self, name: &str) -> Result<Mirror> {
        let mirror = Mirror::start((LAB, MIRROR).into()).await?;
        self.add_installer(name, INSTALLER, &["console=ttyS0", "DEBIAN_FRONTEND=text"]).await?;
        Ok(mirror)
    }

    /// Makes the OSImage `name` that an installer installs which brings the file `image` of [`MetalBed::server`] to the disk.
    pub async fn add_stand_in(&self, name: &str, image: &str) -> Result<()> {
        let image = format!("stand-in.image=http://{LAB}:{SERVER_RELAY}/{image}");
        self.add_installer(name, STAND_IN_INSTALLER, &["console=ttyS0", &image]).await
    }

    async fn add_installer(&self, name: &str, folder: &str, arguments: &[&str]) -> Result<()> {
        let home = std::env::var_os(folder).map(PathBuf::from);
        let home = home.with_context(|| format!("{folder} is not set: run `cargo xtask e2e-metal`"))?;
        let file = |file: &str| -> Result<Value> {
            let data = std::fs::read(home.join(file)).with_context(|| format!("{file} of an installer"))?;
            Ok(json!({ "url": format!("http://{LAB}:{SERVER_RELAY}/{file}"), "digest": self.server.add(file, data) }))
        };
        self.apply_json(json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "OSImage", "metadata": { "name": name },
            "spec": {
                "kubernetesVersion": KUBERNETES_VERSION,
                "installer": {
                    "kernel": file("linux")?,
                    "initrd": file("initrd.gz")?,
                    "kernelArguments": arguments,
                    "preseed": { "mirror": { "host": format!("{LAB}:{MIRROR}"), "directory": "/debian" } },
                },
            },
        }))
        .await
    }

    /// Flags of the boot service for firmware that speaks HTTP only.
    pub fn http_boot() -> Vec<String> {
        vec![format!("--image-listen={LAB}:{BOOT_PLAIN}"), "--media-in-the-clear".into()]
    }

    /// Flags of the boot service for network boot: a listener without TLS, and answers to network cards.
    pub fn network_boot() -> Vec<String> {
        let listen = format!("--image-listen={LAB}:{BOOT_PLAIN}");
        vec![listen, format!("--proxy-dhcp={LAB}"), "--ipxe=/usr/lib/ipxe".into()]
    }

    /// Firmware fetches its media without TLS: Debian's OVMF offers no cipher suite with an ephemeral elliptic curve, and the
    /// boot service takes no other. Before any machine.
    pub async fn lead_firmware_past_tls(&self) -> Result<()> {
        self.patch_datacenter(&json!({ "firmwareURL": format!("http://{LAB}:{BOOT_PLAIN}") })).await
    }

    /// Lets machines find the boot service by IPv6. Before any machine.
    pub async fn boot_by_ipv6(&self) -> Result<()> {
        self.patch_datacenter(&json!({ "url": format!("https://[{LAB_V6}]:{BOOT_RELAY}") })).await
    }

    async fn patch_datacenter(&self, boot: &Value) -> Result<()> {
        let patch = json!({ "spec": { "boot": boot } }).to_string();
        self.bed.kubectl(&["patch", "datacenter", "metal", "--type=merge", "-p", &patch]).await.map(drop)
    }

    /// The same URL of the boot service without the wire in between, which hides who asks.
    pub fn past_the_wire(&self, url: &str) -> String {
        url.replace(&format!(":{BOOT_RELAY}/"), &format!(":{}/", Port::Boot as u16))
    }

    /// The machine called `name`.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        self.lab.machine(name)
    }
}

/// What a platform engineer would write for this site.
fn site_objects(bed: &Bed) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "metal-bmc" },
            "stringData": { "username": USERNAME, "password": PASSWORD },
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "metal-bmc-ca" },
            "data": { "ca.crt": bed.plane.authority.pem() },
        }),
        json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Region", "metadata": { "name": "metal" }, "spec": {},
        }),
        json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Datacenter", "metadata": { "name": "metal" },
            "spec": {
                "region": "metal",
                "boot": { "url": format!("https://{LAB}:{BOOT_RELAY}") },
                "hostDefaults": { "bmc": {
                    "credentialsRef": { "name": "metal-bmc" },
                    "trust": { "ca": { "name": "metal-bmc-ca", "key": "ca.crt" } },
                } },
            },
        }),
        json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Rack", "metadata": { "name": RACK },
            "spec": { "datacenter": "metal" },
        }),
    ]
}

fn host(unit: &Unit, extra: Value) -> Value {
    let spec = &unit.machine.spec;
    let mut host = json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host",
        "metadata": { "name": spec.name, "labels": { "pool": "metal" } },
        "spec": {
            "rack": RACK,
            "unit": spec.number,
            "bmc": { "address": unit.bmc.url },
            "bootMACAddress": spec.mac(),
        },
    });
    if let (Some(spec), Value::Object(extra)) = (host["spec"].as_object_mut(), extra) {
        spec.extend(extra);
    }
    host
}
