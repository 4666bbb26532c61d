//! Host: one physical server, from the day it is racked to the day it is retired.
//!
//! A person says where it stands, how to reach its BMC and what it must not be used for. Rackwright adds orders
//! (`claim`, `wipe`) and durable facts (`deployed`, `wiped`, `broken`) in fields of their own, in the spec: they must
//! survive a lost status (`clusterctl move` drops it). Everything else in the status can be seen again on the hardware.

mod operation;

pub use operation::{AgentFailure, AgentStatus, AgentStep, EndedTry, Operation, OperationKind, Stage, TryOutcome};

use crate::common::{KeyReference, LocalReference, UidReference};
use crate::image::{ConfigDriveKind, FinalBoot, ImageDigest, ImageFormat};
use crate::installer::ClaimedInstaller;
use crate::machine::ProviderId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
pub use rackwright_protocol::facts::{RootDevice, StaticNetwork, WipePolicy, WipedDisk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One physical server.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "Host",
    plural = "hosts",
    namespaced,
    status = "HostStatus",
    derive = "PartialEq",
    category = "rackwright",
    doc = "One physical server, from the day it is racked to the day it is retired.",
    label("clusterctl.cluster.x-k8s.io/move-hierarchy", ""),
    printcolumn(name = "Rack", type_ = "string", json_path = ".spec.rack"),
    printcolumn(name = "U", type_ = "integer", json_path = ".spec.unit"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Power", type_ = "string", json_path = ".status.power"),
    printcolumn(name = "Consumer", type_ = "string", json_path = ".spec.claim.consumer.name"),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health"),
    printcolumn(name = "Waiting-For", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "BMC", type_ = "string", json_path = ".spec.bmc.address", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// Name of the Rack it stands in.
    #[schemars(length(min = 1, max = 63))]
    pub rack: String,
    /// Lowest rack unit that it fills, counted from the floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unit: Option<i32>,
    /// How to reach its baseboard management controller.
    pub bmc: Bmc,
    /// MAC address of the interface it boots from, lower case, for example `52:54:00:12:34:56`.
    #[serde(rename = "bootMACAddress")]
    #[x_kube(validation = ("self.matches('^([0-9a-f]{2}:){5}[0-9a-f]{2}$')", "bootMACAddress must be six lower-case hex pairs, for example 52:54:00:12:34:56"))]
    #[schemars(length(max = 17))]
    pub boot_mac_address: String,
    /// Which disk the image is written to. Without hints: the only disk, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device: Option<RootDevice>,
    /// Ways to boot the ramdisk, the first that its BMC can do is tried first and the next when that fails. Empty:
    /// VirtualMedia, then HTTPBoot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub boot_ways: Vec<BootWay>,
    /// What is special about its ramdisk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramdisk: Option<Ramdisk>,
    /// What a person wants of its power while no machine uses it. Auto: off.
    #[serde(default)]
    pub power: PowerWish,
    /// Keeps it out of claims; a machine that runs on it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Takes it out of service for good: wiped, powered off, kept as a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire: Option<Retire>,
    /// Set by Rackwright: the NodePool that holds this host, from before it has a machine until after its disks are wiped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// Set by Rackwright: a NodePool wants this free host on, with its image on the disk. A claim takes it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<WarmOrder>,
    /// Set by Rackwright: the machine that uses this host and what it wants on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Set by Rackwright: the order to wipe what the last machine left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<WipeOrder>,
    /// Set by Rackwright: what the agent wrote to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// Set by Rackwright: the last wipe, with its evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wiped: Option<Wiped>,
    /// Set by Rackwright: why it waits for a person. Annotate `rackwright.dev/repaired=WHAT-WAS-DONE` to clear it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// How to reach a BMC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bmc {
    /// `https://10.1.1.7` (Redfish). A path such as `/redfish/v1/Systems/2` picks one of several systems.
    #[x_kube(validation = ("self.startsWith('https://')", "bmc.address must start with https:// (Redfish over TLS)"))]
    #[schemars(length(min = 9, max = 512))]
    pub address: String,
    /// Secret with the keys `username` and `password`; inherited from rack or datacenter when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalReference>,
    /// Which certificate to trust; inherited from rack or datacenter when absent, else the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<BmcTrust>,
}

/// What a rack or datacenter gives to the BMCs in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcDefaults {
    /// Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<LocalReference>,
    /// Which certificate to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<BmcTrust>,
}

/// Which certificate a BMC must show. Set one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.ca) != has(self.pin)").message("set exactly one of trust.ca and trust.pin"))]
pub struct BmcTrust {
    /// ConfigMap key with the authorities, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<KeyReference>,
    /// SHA-256 of the BMC's own certificate (DER), 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.matches('^[0-9a-f]{64}$')", "trust.pin must be the certificate's SHA-256 as 64 lower-case hex digits"))]
    #[schemars(length(max = 64))]
    pub pin: Option<String>,
}

/// A way to boot the ramdisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BootWay {
    /// The BMC shows the media as a CD drive.
    VirtualMedia,
    /// UEFI firmware fetches the media from a URL that the BMC was told.
    HTTPBoot,
    /// The network card asks DHCP and is sent an iPXE script. Needs `rackwright boot --proxy-dhcp`, or DHCP of your own.
    PXE,
}

/// What is special about a host's ramdisk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ramdisk {
    /// Its address, where there is neither DHCP nor router advertisement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<StaticNetwork>,
    /// A shell on the serial console while the ramdisk runs. Whoever can read that console can then read the disks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescue_shell: bool,
}

/// What a person wants of a host's power while no machine uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PowerWish {
    /// Rackwright decides: off while it is free.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

/// Why a host is kept out of claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// For people, for example "DIMM swap".
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

/// How a host is taken out of service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retire {
    /// How its disks are wiped.
    #[serde(default)]
    pub wipe: WipePolicy,
}

/// A NodePool's hold on a host. While it stands, only a machine with its provider ID may claim the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// The NodePool.
    pub pool: UidReference,
    /// Random, new for each life of the host with the pool: `rackwright://NAMESPACE/HOST/ID` is its provider ID.
    pub id: String,
    /// Since when.
    pub at: Timestamp,
}

/// The order to keep a free host warm: its ramdisk runs, has written the image, and waits for a claim. Anybody may claim
/// the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmOrder {
    /// The NodePool.
    pub pool: UidReference,
    /// Random, new for each order.
    pub id: String,
    /// What is written to the disk; absent when an installer writes it, which nothing can be done for ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ClaimedImage>,
    /// Until when, for a host that is kept only for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A machine's hold on a host. While it stands, no other machine may take the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The RackwrightMachine.
    pub consumer: UidReference,
    /// Name of the Cluster that the machine belongs to.
    pub cluster_name: String,
    /// What is written to the disk.
    pub image: ClaimedImage,
    /// Secret in the consumer's namespace with the user-data under key `value`.
    pub user_data: LocalReference,
    /// Host name of the node.
    pub hostname: String,
    /// Provider ID of this life of the host.
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// When it was claimed.
    pub claimed_at: Timestamp,
}

/// An image, resolved when the host was claimed: a later edit of the OSImage does not touch a running host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedImage {
    /// Name of the OSImage.
    pub name: String,
    /// Where the agent fetches it: the disk image, or the installer's kernel.
    pub url: String,
    /// Digest of what is fetched from there.
    pub digest: ImageDigest,
    /// How it is packed.
    pub format: ImageFormat,
    /// Which config drive its operating system reads.
    #[serde(default)]
    pub config_drive: ConfigDriveKind,
    /// How it is started once it is written.
    #[serde(default)]
    pub final_boot: FinalBoot,
    /// The installer, when one is started in place of writing an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installer: Option<ClaimedInstaller>,
}

/// The order to wipe a host after a machine; done when `wiped.claimUID` equals its `claimUID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WipeOrder {
    /// UID of the RackwrightMachine whose traces go (when it claimed the host), or `host/NAME` for a host that retires.
    #[serde(rename = "claimUID")]
    pub claim_uid: String,
    /// Name of that machine, for people.
    pub released_by: String,
    /// How.
    pub policy: WipePolicy,
    /// When it was ordered.
    pub ordered_at: Timestamp,
}

/// The agent's report that an image is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    /// UID of the RackwrightMachine it was written for.
    #[serde(rename = "claimUID")]
    pub claim_uid: String,
    /// The operation that wrote it.
    #[serde(rename = "operationID")]
    pub operation_id: String,
    /// Digest that the agent computed while writing; of an installation, that of the installer's kernel.
    pub digest: ImageDigest,
    /// The disk, for example `/dev/nvme0n1`.
    pub device: String,
    /// How the agent went on: it switched the host off, or started the written system itself.
    #[serde(default)]
    pub final_boot: FinalBoot,
    /// When it was done.
    pub at: Timestamp,
}

/// The agent's report that the disks are wiped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wiped {
    /// UID of the RackwrightMachine whose traces are gone.
    #[serde(rename = "claimUID")]
    pub claim_uid: String,
    /// The operation that wiped it.
    #[serde(rename = "operationID")]
    pub operation_id: String,
    /// Per disk: what was done.
    #[schemars(length(max = 128))]
    pub disks: Vec<WipedDisk>,
    /// When it was done.
    pub at: Timestamp,
}

/// Why a host waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// CamelCase fact, for example `NoPower`.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// What Rackwright last saw and does now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Power as the BMC last reported it: `On`, `Off`, or `?` when it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// `OK`, or the one thing that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// What it waits for and until when; absent when it waits for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What is being done to it, recorded before it is begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// What the agent on it reported; written by the boot service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The last tries that are over, oldest first: at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<EndedTry>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Reachable`, `Healthy`, `Inspected`, `Available`, `Provisioned`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Its BMC is being reached for the first time.
    Registering,
    /// The agent looks at its hardware.
    Inspecting,
    /// It can be claimed.
    Available,
    /// An image is being written for a machine.
    Provisioning,
    /// It runs a machine's image.
    Provisioned,
    /// A machine's traces are being wiped.
    Deprovisioning,
    /// It waits for a person.
    Broken,
    /// It is being wiped for good.
    Retiring,
    /// It is wiped, off, and kept as a record.
    Retired,
}

impl Claim {
    /// True when it is held by the RackwrightMachine of this name with this provider ID.
    pub fn is_held_by(&self, namespace: &str, name: &str, provider_id: &str) -> bool {
        self.provider_id == provider_id && self.consumer.name == name && self.consumer.namespace == namespace
    }
}

impl Reservation {
    /// The provider ID of this life of `host`.
    pub fn provider_id(&self, host: &str) -> String {
        let id = ProviderId { namespace: self.pool.namespace.clone(), host: host.into(), machine_uid: self.id.clone() };
        id.to_string()
    }
}

impl HostStatus {
    /// The operation of an agent that waits on the host for a claim.
    pub fn warm(&self) -> Option<&Operation> {
        self.operation
            .as_ref()
            .filter(|operation| operation.kind == OperationKind::Prepare && operation.stage == Stage::Warm)
    }
}

impl Host {
    /// True when the machine of its reservation's life claims it.
    pub fn is_claimed_by_reservation(&self) -> bool {
        let (held, claim) = (self.spec.reservation.as_ref(), self.spec.claim.as_ref());
        let name = self.metadata.name.as_deref().unwrap_or_default();
        held.zip(claim).is_some_and(|(held, claim)| claim.provider_id == held.provider_id(name))
    }
}

impl HostSpec {
    /// True while the disks may hold what the last machine left.
    pub fn needs_wipe(&self) -> bool {
        match (&self.wipe, &self.wiped) {
            (Some(order), Some(done)) => order.claim_uid != done.claim_uid,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// True when the claim's image is on the disk.
    pub fn is_deployed(&self) -> bool {
        match (&self.claim, &self.deployed) {
            (Some(claim), Some(done)) => claim.consumer.uid == done.claim_uid,
            _ => false,
        }
    }

    /// True when the claim is held by the RackwrightMachine of this name with this provider ID. Its UID is not asked
    /// for: `clusterctl move` gives the machine a new one, and the provider ID holds that of its first life.
    pub fn is_claimed_by(&self, namespace: &str, name: &str, provider_id: &str) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.is_held_by(namespace, name, provider_id))
    }
}
