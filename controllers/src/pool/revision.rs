//! Revisions of a pool: what its machines are made from, kept as `apps/v1` ControllerRevisions.
//!
//! Only what is in a [`Blueprint`] starts a rollout; labels, annotations, timeouts and numbers never do.

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use rackwright_api::common::LocalReference;
use rackwright_api::pool::{NodePoolSpec, PoolBootstrap};
use serde::{Deserialize, Serialize};

/// Annotation on a ControllerRevision that failed: why.
pub const FAILED_ANNOTATION: &str = "rackwright.dev/failed";

/// What a machine is made from, as far as a change of it needs a new machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blueprint {
    /// Kubernetes version.
    pub version: String,
    /// OSImage.
    pub image: LocalReference,
    /// Bootstrap config.
    pub bootstrap: PoolBootstrap,
}

impl Blueprint {
    /// What `spec` describes.
    pub fn of(spec: &NodePoolSpec) -> Blueprint {
        Blueprint { version: spec.version.clone(), image: spec.image.clone(), bootstrap: spec.bootstrap.clone() }
    }

    /// What `revision` holds.
    pub fn from(revision: &ControllerRevision) -> Option<Blueprint> {
        serde_json::from_value(revision.data.clone()?.0).ok()
    }

    /// Name of its ControllerRevision: the same for the same content.
    pub fn name(&self, pool: &str) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let hash = hex::encode(digest(&SHA256, &text));
        format!("{pool}-{}", &hash[..10])
    }
}

/// Why `revision` is not to be used, if so.
pub fn failed(revision: &ControllerRevision) -> Option<String> {
    revision.annotations().get(FAILED_ANNOTATION).cloned()
}
