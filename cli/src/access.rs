//! Access to the management cluster, as kubectl has it.

use anyhow::Context;
use clap::Args;
use kube::Client;
use std::path::PathBuf;

/// Which cluster and namespace.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// Kubeconfig of the management cluster.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    pub namespace: Option<String>,
}

impl Access {
    /// A client, and the namespace to look at.
    pub async fn client(&self) -> anyhow::Result<(Client, String)> {
        let client = rackwright_controllers::serve::client(self.kubeconfig.as_deref(), &Default::default())
            .await
            .context("no access to the management cluster; set --kubeconfig")?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_string());
        Ok((client, namespace))
    }
}
