//! The reconcilers: each kind is observed, decided on, acted on and recorded, in that order, one effect per pass.
//!
//! A folder per kind, the same five names in each: `observe` reads, `view` is what was read, `decide` is pure and picks
//! one step, `act` does it, `record` writes the status if it changed. See ARCHITECTURE.md, "One pass".

pub mod args;
pub mod bootstrap_config;
pub mod caches;
pub mod context;
pub mod events;
pub mod host;
pub mod infra;
pub mod key;
pub mod kubeio;
pub mod manager;
pub mod metrics;
pub mod pool;
pub mod queue;
pub mod serve;
pub mod topology;
pub mod triggers;

pub use args::ManagerArgs;
pub use context::{Clock, Context, Limits, SystemClock};
