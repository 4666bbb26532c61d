//! Cluster Autoscaler's `externalgrpc` provider over the hosts of NodePools.
//!
//! `groups` turns an inventory into the immutable answers of every read; `plan` says what a call that changes something
//! writes, or why not; `service` speaks the protocol over both. Only a `Store` touches the outside. No read does I/O.

pub mod args;
pub mod doctor;
pub mod groups;
pub mod metrics;
pub mod plan;
pub mod quantity;
pub mod serve;
pub mod service;
pub mod store;

pub use args::AutoscalerArgs;
pub use serve::run;

/// The protocol, made from `proto/externalgrpc.proto`.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    tonic::include_proto!("clusterautoscaler.cloudprovider.v1.externalgrpc");
}
