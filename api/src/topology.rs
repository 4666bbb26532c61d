//! Where things stand: regions hold datacenters, datacenters hold racks, racks hold hosts.

use crate::host::BmcDefaults;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A geographic region: the widest place that a fault or a rollout can be held to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "Region",
    plural = "regions",
    namespaced,
    status = "PlaceStatus",
    derive = "PartialEq",
    category = "rackwright",
    doc = "A geographic region: the widest place that a fault or a rollout can be held to.",
    label("clusterctl.cluster.x-k8s.io/move", ""),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.available"),
    printcolumn(name = "Provisioned", type_ = "integer", json_path = ".status.provisioned"),
    printcolumn(name = "Broken", type_ = "integer", json_path = ".status.broken"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RegionSpec {
    /// What people call it, for example "Northern Europe".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// A building with racks, power and one place from which its hosts boot.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "Datacenter",
    plural = "datacenters",
    shortname = "dc",
    namespaced,
    status = "PlaceStatus",
    derive = "PartialEq",
    category = "rackwright",
    doc = "A building with racks, power and one place from which its hosts boot.",
    label("clusterctl.cluster.x-k8s.io/move", ""),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.available"),
    printcolumn(name = "Provisioned", type_ = "integer", json_path = ".status.provisioned"),
    printcolumn(name = "Broken", type_ = "integer", json_path = ".status.broken"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterSpec {
    /// Name of the Region it belongs to.
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// Where this site's hosts reach `rackwright boot`.
    pub boot: BootService,
    /// What every host here inherits; a Rack and then the Host itself override it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_defaults: Option<HostDefaults>,
}

/// Where hosts reach the boot service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootService {
    /// Base URL, for example `https://10.1.0.5:8443`. Secrets travel over it, so it must be https.
    #[x_kube(validation = ("self.startsWith('https://')", "boot.url must start with https://: user-data and tokens travel over it"))]
    #[schemars(length(min = 9, max = 512))]
    pub url: String,
    /// Base URL by which firmware fetches media for HTTPBoot, when its own TLS is too old for `url`: the boot service's
    /// `--image-listen` with `--media-in-the-clear`, for example `http://10.1.0.5:8081`. The token in the media then crosses
    /// the network in the clear; the agent speaks TLS all the same. Absent: `url`.
    #[serde(default, rename = "firmwareURL", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "boot.firmwareURL must start with http:// or https://"))]
    #[schemars(length(min = 8, max = 512))]
    pub firmware_url: Option<String>,
}

/// Settings that hosts inherit from their rack or datacenter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostDefaults {
    /// How to log in to BMCs and which certificates to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<BmcDefaults>,
}

/// One rack: the default failure domain, because it shares power feeds and switches.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "Rack",
    plural = "racks",
    namespaced,
    status = "PlaceStatus",
    derive = "PartialEq",
    category = "rackwright",
    doc = "One rack: the default failure domain, because it shares power feeds and switches.",
    label("clusterctl.cluster.x-k8s.io/move", ""),
    printcolumn(name = "Datacenter", type_ = "string", json_path = ".spec.datacenter"),
    printcolumn(name = "Row", type_ = "string", json_path = ".spec.row"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.available"),
    printcolumn(name = "Provisioned", type_ = "integer", json_path = ".status.provisioned"),
    printcolumn(name = "Broken", type_ = "integer", json_path = ".status.broken"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RackSpec {
    /// Name of the Datacenter it stands in.
    #[schemars(length(min = 1, max = 63))]
    pub datacenter: String,
    /// Row in the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Height in rack units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub height_units: Option<i32>,
    /// Power feeds that supply it; hosts on one feed fall together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub power_feeds: Vec<String>,
    /// Top-of-rack switches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<String>,
    /// What every host here inherits; the Host itself overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_defaults: Option<HostDefaults>,
}

/// How the hosts of a place are, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaceStatus {
    /// Hosts in this place.
    #[serde(default)]
    pub hosts: i32,
    /// Hosts that can be claimed now.
    #[serde(default)]
    pub available: i32,
    /// Hosts that run the image of a machine.
    #[serde(default)]
    pub provisioned: i32,
    /// Hosts that wait for a person.
    #[serde(default)]
    pub broken: i32,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: what this place refers to exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
