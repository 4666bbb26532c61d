//! Node groups: what the autoscaler may grow and shrink, seen from pools and hosts.
//!
//! `Inventory` is plain data; `Snapshot` holds the finished answers over it. Nothing here reads a clock or does I/O.

pub mod hardware;
mod inventory;
mod snapshot;
mod template;

pub use inventory::{Failure, HostEntry, Inventory, PoolEntry, Reservation, Stage};
pub use rackwright_api::pool::HostLife;
pub use snapshot::{Group, Snapshot};
pub use template::{Capacity, NODE_GROUP};
