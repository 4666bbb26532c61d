//! The test bed: a real control plane, real Cluster API, our own programs under their own accounts, and racks of
//! machines that do not exist; and the verbs in which the stories under `tests/` are told.
//!
//! Every bed owns one loopback network, 127.N.0.0/16, so any number of them run side by side. Whatever a bed starts
//! ends with it, also when it is killed.

pub mod accounts;
pub mod autoscaler;
pub mod bed;
pub mod bench;
pub mod cluster;
pub mod demo;
pub mod harm;
pub mod hosts;
pub mod images;
pub mod kubeconfig;
pub mod metal;
pub mod narrator;
pub mod network;
pub mod objects;
pub mod pki;
pub mod plane;
pub mod process;
pub mod programs;
pub mod providers;
pub mod racks;
pub mod services;
pub mod trouble;
pub mod wait;

pub use bed::{Bed, Level};
pub use narrator::Narrator;
pub use programs::Programs;
pub use racks::Layout;
pub use wait::Look;
