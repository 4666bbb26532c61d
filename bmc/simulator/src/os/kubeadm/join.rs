//! `kubeadm join` of a worker: discovery, the kubelet's files, TLS bootstrap, as kubeadm's own phases do it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use serde_json::json;

use super::config::{Documents, NodeRegistration, taint_text, timeout};
use super::discovery::{self, BootstrapToken};
use super::patches::{self, Patch};
use crate::os::host::{Disk, Host};
use crate::os::{kubeconfig, service};

/// Written for the kubelet's TLS bootstrap, removed after it.
const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
const MINUTES_5: Duration = Duration::from_secs(300);

/// Joins as `text`, the configuration file, says.
pub async fn join(host: &Arc<Host>, text: &str) -> anyhow::Result<String> {
    let documents = Documents::parse(text)?;
    let join = documents.get("JoinConfiguration").context("the file has no JoinConfiguration")?;
    if !join["controlPlane"].is_null() {
        bail!("joining as another control plane is not something that a simulated machine can do");
    }
    if host.disk.exists(KUBECONFIG) {
        bail!("[preflight] {KUBECONFIG} exists already");
    }
    let discovery: BootstrapToken = serde_json::from_value(join["discovery"]["bootstrapToken"].clone())
        .context("discovery.bootstrapToken cannot be read (it is the only discovery known here)")?;
    let registration = NodeRegistration::read(join)?;
    let cluster =
        discovery::discover(host, &discovery, timeout(join, "discovery", MINUTES_5)).await.context("[discovery]")?;

    let ca = cluster["certificate-authority-data"].as_str().and_then(|data| STANDARD.decode(data).ok());
    let ca_path = join["caCertPath"].as_str().unwrap_or("/etc/kubernetes/pki/ca.crt");
    if let Some(ca) = ca.filter(|_| !host.disk.exists(ca_path)) {
        host.disk.write(ca_path, &ca, 0o644)?;
    }
    let token = join["discovery"]["tlsBootstrapToken"].as_str().unwrap_or(&discovery.token);
    let bootstrap = kubeconfig::write(&cluster, &json!({ "token": token }))?;
    host.disk.write(BOOTSTRAP_KUBECONFIG, bootstrap.as_bytes(), 0o600)?;

    let client = kubeconfig::client(&host.disk, BOOTSTRAP_KUBECONFIG).await?;
    let node_name = node_name(&registration, &host.hostname);
    refuse_ready_node(&client, &node_name).await?;
    let patches = patches(&host.disk, join["patches"]["directory"].as_str())?;
    write_kubelet_files(host, &client, &registration, &node_name, patches).await?;
    service::enable(host)?;
    service::restart(host).await;
    let limit = timeout(join, "tlsBootstrap", MINUTES_5);
    let joined = tokio::time::timeout(limit, kubeconfig_written(host)).await;
    host.disk.remove(BOOTSTRAP_KUBECONFIG);
    joined.context("[kubelet-wait] the kubelet did not finish its TLS bootstrap")?;
    Ok("This node has joined the cluster".into())
}

async fn kubeconfig_written(host: &Host) {
    while !host.disk.exists(KUBECONFIG) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn node_name(registration: &NodeRegistration, hostname: &str) -> String {
    let given = registration.kubelet_extra_args.get("hostname-override").or(registration.name.as_ref());
    given.map_or(hostname, String::as_str).to_lowercase()
}

async fn refuse_ready_node(client: &kube::Client, name: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get_opt(name).await.with_context(|| format!("[kubelet-start] cannot get Node {name}"))?;
    let conditions = node.and_then(|node| node.status).and_then(|status| status.conditions).unwrap_or_default();
    if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        bail!("[kubelet-start] a Node with name {name:?} and status \"Ready\" exists in the cluster already");
    }
    Ok(())
}

async fn write_kubelet_files(
    host: &Host,
    client: &kube::Client,
    registration: &NodeRegistration,
    node_name: &str,
    patches: Vec<Patch>,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    maps.get("kubeadm-config").await.context("[preflight] cannot get ConfigMap kube-system/kubeadm-config")?;
    let map =
        maps.get("kubelet-config").await.context("[preflight] cannot get ConfigMap kube-system/kubelet-config")?;
    let config = map.data.unwrap_or_default().remove("kubelet").context("kubelet-config has no key kubelet")?;
    let config = patches::apply(&config, patches).context("[patches]")?;
    host.disk.write("/var/lib/kubelet/config.yaml", config.as_bytes(), 0o644)?;
    let flags = kubelet_flags(registration, node_name, &host.hostname);
    host.disk.write("/var/lib/kubelet/kubeadm-flags.env", flags.as_bytes(), 0o644)
}

/// The files of `patches.directory`; a directory that is not there is an error, as in kubeadm.
fn patches(disk: &Disk, directory: Option<&str>) -> anyhow::Result<Vec<Patch>> {
    let Some(directory) = directory else { return Ok(Vec::new()) };
    if !disk.real(directory).is_dir() {
        bail!("[patches] {directory} is no directory");
    }
    let names = [".yaml", ".json"].iter().flat_map(|extension| disk.list(directory, extension));
    names.map(|name| Ok(Patch { text: disk.read_needed(&format!("{directory}/{name}"))?, name })).collect()
}

/// The file that tells the kubelet its flags.
fn kubelet_flags(registration: &NodeRegistration, node_name: &str, hostname: &str) -> String {
    let mut flags = BTreeMap::new();
    if let Some(taints) = registration.taints.as_ref().filter(|taints| !taints.is_empty()) {
        let taints: Vec<String> = taints.iter().map(taint_text).collect();
        flags.insert("register-with-taints", taints.join(","));
    }
    if node_name != hostname {
        flags.insert("hostname-override", node_name.to_string());
    }
    flags.extend(registration.kubelet_extra_args.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let flags: Vec<String> = flags.iter().map(|(name, value)| format!("--{name}={value}")).collect();
    format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", flags.join(" ").replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Taint;

    use super::*;

    #[test]
    fn the_kubelets_flags_come_from_the_node_registration() {
        let taint = Taint { key: "a".into(), value: None, effect: "NoSchedule".into(), time_added: None };
        let registration = NodeRegistration {
            name: Some("Node-9".into()),
            kubelet_extra_args: BTreeMap::from([("provider-id".into(), "x://y".into())]),
            taints: Some(vec![taint]),
        };
        let node_name = node_name(&registration, "host-1");
        assert_eq!(
            kubelet_flags(&registration, &node_name, "host-1"),
            "KUBELET_KUBEADM_ARGS=\"--hostname-override=node-9 --provider-id=x://y --register-with-taints=a:NoSchedule\"\n"
        );
    }
}
