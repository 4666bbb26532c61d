//! Machines that do not exist: racks of them, each behind a BMC that speaks Redfish over real TLS.
//!
//! One pure model ([`machine`]) decides what a machine does. Two drivers bring it to life: [`direct`], in process, where
//! the caller moves time (for simulations), and [`fleet`], where machines are reached over the network, boot what their
//! BMC was told to boot and run real programs (for end-to-end tests and the demo). Faults are switched on and off at run
//! time. Nothing here knows which controller it serves.

pub mod admin;
pub mod args;
mod certificates;
pub mod config;
pub mod direct;
pub mod faults;
mod firmware;
pub mod fleet;
pub mod hardware;
mod host;
pub mod machine;
pub mod os;
pub mod redfish;
mod server;
