//! Kubeconfig files: who talks to which API server.

use crate::pki::Certificate;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// An API server and the authority that vouches for it.
#[derive(Clone, Debug)]
pub struct Server {
    /// For example `https://127.9.255.1:6443`.
    pub url: String,
    /// PEM.
    pub ca: String,
}

impl Server {
    /// Writes a kubeconfig that logs in with a client certificate.
    pub fn with_certificate(&self, path: &Path, user: &Certificate) -> Result<PathBuf> {
        self.write(
            path,
            json!({
                "client-certificate-data": STANDARD.encode(&user.pem),
                "client-key-data": STANDARD.encode(&user.key_pem),
            }),
        )
    }

    /// Writes a kubeconfig that logs in with a token.
    pub fn with_token(&self, path: &Path, token: &str) -> Result<PathBuf> {
        self.write(path, json!({ "token": token }))
    }

    fn write(&self, path: &Path, user: Value) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "bed",
                "cluster": { "server": self.url, "certificate-authority-data": STANDARD.encode(&self.ca) },
            }],
            "users": [{ "name": "bed", "user": user }],
            "contexts": [{ "name": "bed", "context": { "cluster": "bed", "user": "bed" } }],
            "current-context": "bed",
        });
        // JSON is YAML, and every reader of kubeconfigs takes it.
        fs::write(path, serde_json::to_string_pretty(&config)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path.to_path_buf())
    }
}

/// A client with what the kubeconfig `text` says.
pub async fn client(text: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(text).context("this is no kubeconfig")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
