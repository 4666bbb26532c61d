//! Our programs under their own accounts: each gets a kubeconfig with a token of its own ServiceAccount, so a test that
//! passes is a test that its role is enough. None of them is ever an administrator.

use crate::plane::Plane;
use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use std::path::{Path, PathBuf};

/// A ServiceAccount of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Namespace that the provider is installed in.
    pub namespace: &'static str,
    /// Name of the ServiceAccount.
    pub name: &'static str,
}

/// The infrastructure manager.
pub const INFRASTRUCTURE: Account = Account { namespace: "rackwright-system", name: "rackwright-manager" };
/// The boot service.
pub const BOOT: Account = Account { namespace: "rackwright-system", name: "rackwright-boot" };
/// The service for cluster-autoscalers.
pub const AUTOSCALER: Account = Account { namespace: "rackwright-system", name: "rackwright-autoscaler" };
/// The bootstrap manager.
pub const BOOTSTRAP: Account =
    Account { namespace: "rackwright-bootstrap-system", name: "rackwright-bootstrap-manager" };

/// Writes a kubeconfig for `account` into `folder`.
pub async fn kubeconfig(plane: &Plane, account: Account, folder: &Path) -> Result<PathBuf> {
    let api = Api::<ServiceAccount>::namespaced(plane.client.clone(), account.namespace);
    let day = 24 * 60 * 60;
    let spec = TokenRequestSpec { expiration_seconds: Some(day), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = api.create_token_request(account.name, &PostParams::default(), &request).await;
    let answer = answer.with_context(|| format!("no token for {}/{}", account.namespace, account.name))?;
    let token =
        answer.status.and_then(|status| status.token).context("a token request was answered without a token")?;
    plane.server.with_token(&folder.join(format!("{}.conf", account.name)), &token)
}
