//! What the boot service and the agent on a host say to each other, and the shapes that both the wire and the CRDs hold.
//!
//! A host boots media that only its BMC was given the URL of. The media carries a [`media::MediaConfig`] with a one-time
//! token; the agent trades it for a session and a signed [`plan::Plan`], does what the plan says and nothing else, and
//! sends [`report::Report`]s. Knows no HTTP, no Kubernetes and no BMC.

pub mod facts;
pub mod media;
pub mod plan;
pub mod report;
pub mod token;
pub mod uuid;

use serde::{Deserialize, Serialize};

/// Whose operation something is about: it stands on the media and in every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Namespace of the Host.
    pub namespace: String,
    /// Name of the Host.
    pub host: String,
    /// UID of the Host: a later Host of the same name is another one.
    pub host_uid: String,
    /// The operation.
    pub operation_id: String,
}

/// Path of the session call below the boot service's base URL: POST [`report::SessionRequest`].
pub const SESSION_PATH: &str = "/v1/session";
/// Path of the report call: POST [`report::Report`] with the session as bearer token.
pub const REPORT_PATH: &str = "/v1/report";
/// Path of the call of an agent that waits on a prepared host: POST [`report::NextRequest`] with the session as bearer
/// token.
pub const NEXT_PATH: &str = "/v1/next";
/// How long the boot service may take to answer that call when there is nothing yet.
pub const NEXT_PAUSE: std::time::Duration = std::time::Duration::from_secs(10);
/// Path of the call of an installer: POST [`report::Report`] that it is done or has failed, with the secret for
/// [`token::Purpose::Installed`] as bearer token.
pub const INSTALLED_PATH: &str = "/v1/installed";
