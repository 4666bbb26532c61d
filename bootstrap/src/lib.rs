//! From what a node should be to the user-data that makes it so.
//!
//! Pure: no client, no clock, no chance, no Kubernetes type. The same input gives the same bytes, so that a rendered
//! text can be compared, and every refusal names the field of the RackwrightConfig that a person has to change.
//!
//! What comes out is a cloud-config that cloud-init first renders with jinja and then reads as YAML. Text that a
//! person wrote reaches the node exactly as written: it can neither end the YAML early nor be taken for jinja. The one
//! exception is the static network, where jinja is offered on purpose (`input::Interface`).

mod ca;
mod cloud_config;
pub mod input;
pub mod installer;
mod kubeadm;
mod kubelet;
mod names;
mod network;
mod quantity;
mod token;
mod validate;
mod yaml;

pub use ca::ca_cert_hashes;
pub use cloud_config::{SENTINEL, UserData, render};
pub use input::BootstrapInput;
pub use token::BootstrapToken;

/// Why no user-data can be made from an input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct RenderError {
    /// Path of the field as a person wrote it, for example `nodeLabels[team]`.
    pub field: String,
    /// What is wrong with it, in words that say what would be right. Holds no secret.
    pub why: String,
}

impl RenderError {
    fn new(field: impl Into<String>, why: impl Into<String>) -> RenderError {
        RenderError { field: field.into(), why: why.into() }
    }
}
