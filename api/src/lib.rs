//! The kinds people write, the facts controllers write, and the slice of Cluster API's contract that we read.
//!
//! Decides nothing: shapes, units, names. Knows no client and no protocol of a BMC, so that everything else may
//! depend on it. Cluster API rules followed here are those of contract `v1beta2`
//! (cluster-api docs, "Provider contracts").

#![expect(clippy::duplicated_attributes, reason = "the words of one printcolumn are not duplicates of another's")]

pub mod cluster;
pub mod common;
pub mod conditions;
pub mod config;
pub mod contract;
pub mod crds;
pub mod hardware;
pub mod host;
pub mod image;
pub mod installer;
pub mod log;
pub mod machine;
pub mod pool;
pub mod topology;

pub use cluster::{RackwrightCluster, RackwrightClusterTemplate};
pub use config::{RackwrightConfig, RackwrightConfigTemplate};
pub use hardware::HostHardware;
pub use host::Host;
pub use image::OSImage;
pub use machine::{RackwrightMachine, RackwrightMachineTemplate};
pub use pool::NodePool;
pub use topology::{Datacenter, Rack, Region};

/// API group of the inventory: Region, Datacenter, Rack, Host, HostHardware, OSImage.
pub const GROUP: &str = "rackwright.dev";
/// API group of the infrastructure provider's kinds.
pub const INFRASTRUCTURE_GROUP: &str = "infrastructure.cluster.x-k8s.io";
/// API group of the bootstrap provider's kinds.
pub const BOOTSTRAP_GROUP: &str = "bootstrap.cluster.x-k8s.io";
/// The one version that every kind of ours serves.
pub const VERSION: &str = "v1alpha1";

/// Finalizer on a Host: it is not forgotten while a machine uses it or while it is being wiped.
pub const HOST_FINALIZER: &str = "rackwright.dev/host";
/// Finalizer on a RackwrightMachine: its host is released and wiped first.
pub const MACHINE_FINALIZER: &str = "infrastructure.cluster.x-k8s.io/rackwright-machine";
/// Finalizer on a RackwrightCluster: it goes after its machines.
pub const CLUSTER_FINALIZER: &str = "infrastructure.cluster.x-k8s.io/rackwright-cluster";

/// Finalizer on a NodePool: its machines go and its hosts are given back first.
pub const POOL_FINALIZER: &str = "rackwright.dev/nodepool";
/// Label on everything that is made for a NodePool: the pool's name.
pub const POOL_LABEL: &str = "rackwright.dev/nodepool";
/// Label on a pool's Machines: the name of the ControllerRevision that they were made from.
pub const REVISION_LABEL: &str = "rackwright.dev/revision";
/// Label on a pool's nodes: the rack they stand in.
pub const RACK_LABEL: &str = "rackwright.dev/rack";
/// Label on a pool's nodes: the datacenter they stand in.
pub const DATACENTER_LABEL: &str = "rackwright.dev/datacenter";
/// Label on a pool's nodes that have accelerators: the vendor of the first.
pub const ACCELERATOR_LABEL: &str = "rackwright.dev/accelerator";

/// A person sets this on a broken Host after mending it; the value says what was done and is kept in an event.
pub const REPAIRED_ANNOTATION: &str = "rackwright.dev/repaired";
/// A person sets this on an unclaimed Host to have it inspected again.
pub const INSPECT_ANNOTATION: &str = "rackwright.dev/inspect";
