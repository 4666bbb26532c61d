//! Kubeconfig files of a simulated machine: read with the machine's own paths, and made into clients.

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use std::time::Duration;

use super::host::Disk;

/// A client that acts with the kubeconfig at `path` of the machine.
pub async fn client(disk: &Disk, path: &str) -> anyhow::Result<kube::Client> {
    let text = disk.read_needed(path)?;
    client_of(disk, &text).await.with_context(|| format!("kubeconfig {path}"))
}

/// A client that acts with this kubeconfig, whose paths are the machine's.
pub async fn client_of(disk: &Disk, text: &str) -> anyhow::Result<kube::Client> {
    let mut kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| anyhow::anyhow!("is not readable as a kubeconfig"))?;
    let real = |path: &mut Option<String>| {
        if let Some(path) = path {
            *path = disk.real(path).to_string_lossy().into_owned();
        }
    };
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        real(&mut cluster.certificate_authority);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        real(&mut user.client_certificate);
        real(&mut user.client_key);
        real(&mut user.token_file);
    }
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A simulated machine reaches its cluster directly, whatever the simulator's own environment says.
    config.proxy_url = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(20));
    config.write_timeout = Some(Duration::from_secs(10));
    config.reset_reader_on_write = true;
    Ok(kube::Client::try_from(config)?)
}

/// `cluster` of the current context of a kubeconfig, as it stands there.
pub fn current_cluster(text: &str) -> anyhow::Result<Value> {
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| anyhow::anyhow!("is not readable as a kubeconfig"))?;
    let context = kubeconfig.current_context.as_deref().unwrap_or_default();
    let named = kubeconfig.contexts.iter().find(|named| named.name == context);
    let cluster = named.and_then(|named| named.context.as_ref()).map(|context| context.cluster.as_str());
    let cluster = kubeconfig.clusters.iter().find(|named| Some(named.name.as_str()) == cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref()).context("has no cluster for its current context")?;
    Ok(serde_json::to_value(cluster)?)
}

/// A kubeconfig of one cluster and one user.
pub fn write(cluster: &Value, user: &Value) -> anyhow::Result<String> {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "default-cluster", "cluster": cluster }],
        "users": [{ "name": "default-auth", "user": user }],
        "contexts": [{
            "name": "default-context",
            "context": { "cluster": "default-cluster", "namespace": "default", "user": "default-auth" },
        }],
        "current-context": "default-context",
    });
    Ok(serde_saphyr::to_string(&kubeconfig)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_kubeconfig_is_read_back() {
        let cluster = json!({ "server": "https://127.1.1.1:6443", "certificate-authority": "/etc/ca.crt" });
        let text = write(&cluster, &json!({ "token": "abcdef.0123456789abcdef" })).expect("writable");
        assert_eq!(current_cluster(&text).expect("readable"), cluster);
    }

    #[test]
    fn an_error_does_not_show_the_kubeconfig() {
        let error = current_cluster("{token: secret").expect_err("broken");
        assert!(!format!("{error:#}").contains("secret"));
    }
}
