//! `kubeadm init`: a real control plane on this machine's loopback address.
//!
//! The real kubeadm makes certificates, kubeconfigs and manifests; the kubelet runs the manifests as processes; the real
//! kubeadm then uploads its configuration and the rules for joining. Two things keep it from running as it is: it refuses
//! a loopback address to advertise (so it gets a placeholder, which is replaced in what it wrote), and it writes below
//! `/etc` (so its certificates are led into the host's disk and its manifests taken from a dry run; no root is needed).
//! Add-ons (DNS, kube-proxy) are left out: no pod runs on a simulated machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::http::Request;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::config::{Documents, NodeRegistration, timeout};
use crate::os::host::Host;
use crate::os::kubelet::node::KUBELET_VERSION;
use crate::os::{kubeconfig, process, retry, service};

/// An address for documentation: kubeadm takes it, and nothing can have it.
const PLACEHOLDER: &str = "192.0.2.1";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
const ADMIN: &str = "/etc/kubernetes/super-admin.conf";
const DRY_RUN: &str = "/run/kubeadm/dry-run";
/// As the user wrote it, with the placeholder: for what goes to the cluster.
const CLUSTER_CONFIG: &str = "/run/kubeadm/cluster.yaml";
/// The same with certificates led into the disk: for what is written here.
const LOCAL_CONFIG: &str = "/run/kubeadm/local.yaml";
const MINUTES_4: Duration = Duration::from_secs(240);

/// What the phases need to know.
struct Plan {
    /// Where the control plane listens.
    address: IpAddr,
    for_cluster: Documents,
    for_host: Documents,
    registration: NodeRegistration,
    node_name: String,
    patience: Duration,
}

/// Makes the control plane that `text`, the configuration file, describes.
pub async fn init(host: &Arc<Host>, text: &str) -> anyhow::Result<String> {
    ensure!(!host.disk.exists(&format!("{MANIFESTS}/kube-apiserver.yaml")), "[preflight] {MANIFESTS} is not empty");
    for program in ["etcd", "kube-apiserver", "kube-controller-manager", "kubeadm"] {
        host.program(program).context("[preflight]")?;
    }
    let plan = plan(host, text)?;
    host.disk.write(CLUSTER_CONFIG, plan.for_cluster.to_text().as_bytes(), 0o600)?;
    host.disk.write(LOCAL_CONFIG, plan.for_host.to_text().as_bytes(), 0o600)?;
    host.disk.make_folder(DRY_RUN)?;

    let kubeconfigs = host.disk.real("/etc/kubernetes").to_string_lossy().into_owned();
    phase(host, &["certs", "all"], LOCAL_CONFIG).await?;
    phase(host, &["kubeconfig", "all", "--kubeconfig-dir", &kubeconfigs], LOCAL_CONFIG).await?;
    phase(host, &["etcd", "local", "--dry-run"], LOCAL_CONFIG).await?;
    phase(host, &["control-plane", "all", "--dry-run"], LOCAL_CONFIG).await?;
    phase(host, &["kubelet-start", "--dry-run"], LOCAL_CONFIG).await?;
    place_files(host, plan.address)?;

    service::enable(host)?;
    service::restart(host).await;
    let client = kubeconfig::client(&host.disk, ADMIN).await?;
    ready(host, &client, plan.patience).await?;

    let admin = host.disk.real(ADMIN).to_string_lossy().into_owned();
    bind_admins(&client).await?;
    phase(host, &["upload-config", "all", "--kubeconfig", &admin], CLUSTER_CONFIG).await?;
    phase(host, &["bootstrap-token", "--skip-token-print", "--kubeconfig", &admin], CLUSTER_CONFIG).await?;
    mark_control_plane(host, &client, &plan).await?;
    Ok("Your Kubernetes control-plane has initialized successfully".into())
}

fn plan(host: &Host, text: &str) -> anyhow::Result<Plan> {
    let mut documents = Documents::parse(text)?;
    let own = host.address.to_string();
    let cluster = documents.get_or_add("ClusterConfiguration");
    ensure!(
        cluster["etcd"]["external"].is_null(),
        "an external etcd is not something that a simulated machine can use"
    );
    if cluster["kubernetesVersion"].as_str().is_none_or(str::is_empty) {
        cluster["kubernetesVersion"] = KUBELET_VERSION.into();
    }
    if cluster["controlPlaneEndpoint"].as_str().is_none_or(str::is_empty) {
        cluster["controlPlaneEndpoint"] = format!("{own}:6443").into();
    }
    let address =
        endpoint_address(cluster["controlPlaneEndpoint"].as_str().unwrap_or_default()).unwrap_or(host.address);
    for names in ["/apiServer/certSANs", "/etcd/local/serverCertSANs", "/etcd/local/peerCertSANs"] {
        push(cluster, names, &address.to_string());
    }
    push(cluster, "/apiServer/certSANs", &own);

    let init = documents.get_or_add("InitConfiguration");
    init["localAPIEndpoint"]["advertiseAddress"] = PLACEHOLDER.into();
    let registration = NodeRegistration::read(init)?;
    let node_name = registration.name.clone().unwrap_or_else(|| host.hostname.clone());
    init["nodeRegistration"]["name"] = node_name.clone().into();
    if let Some(directory) = init["patches"]["directory"].as_str() {
        init["patches"]["directory"] = host.disk.real(directory).to_string_lossy().into();
    }
    let patience = timeout(init, "controlPlaneComponentHealthCheck", MINUTES_4);

    let mut for_host = documents.clone();
    let certificates = host.disk.real("/etc/kubernetes/pki").to_string_lossy().into_owned();
    for_host.get_or_add("ClusterConfiguration")["certificatesDir"] = certificates.into();
    Ok(Plan { address, for_cluster: documents, for_host, registration, node_name, patience })
}

/// The address in `host:port`, when it is one and not a name.
fn endpoint_address(endpoint: &str) -> Option<IpAddr> {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    host.trim_matches(['[', ']']).parse().ok()
}

/// Adds a text to the list at a pointer, all of it made when not there.
fn push(document: &mut Value, pointer: &str, text: &str) {
    let list = pointer.split('/').skip(1).fold(document, |value, key| &mut value[key]);
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|item| item == text)
    {
        list.push(text.into());
    }
}

/// Runs one phase of the real kubeadm.
async fn phase(host: &Arc<Host>, words: &[&str], config: &str) -> anyhow::Result<()> {
    let mut command = process::command(host, "kubeadm")?;
    command.args(["init", "phase"]).args(words).arg("--config").arg(host.disk.real(config));
    command.env("KUBEADM_INIT_DRYRUN_DIR", host.disk.real(DRY_RUN));
    let output = process::output(host, command).await.with_context(|| format!("kubeadm init phase {}", words[0]))?;
    // A dry run prints whole manifests, which nobody wants to read on a console.
    for line in output.lines().filter(|line| line.starts_with('[')) {
        host.say(line);
    }
    Ok(())
}

/// Moves what the dry run made to where it belongs, and puts this machine's address in the placeholder's place.
fn place_files(host: &Host, address: IpAddr) -> anyhow::Result<()> {
    let root = host.disk.root().to_string_lossy().into_owned();
    for name in ["etcd.yaml", "kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"] {
        let text = host.disk.read_needed(&format!("{DRY_RUN}/{name}"))?.replace(&root, "");
        let manifest = adapt_manifest(&text, &address.to_string()).with_context(|| format!("manifest {name}"))?;
        host.disk.write(&format!("{MANIFESTS}/{name}"), manifest.as_bytes(), 0o600)?;
    }
    for name in ["config.yaml", "kubeadm-flags.env", "instance-config.yaml"] {
        let text = host.disk.read_needed(&format!("{DRY_RUN}/{name}"))?;
        host.disk.write(&format!("/var/lib/kubelet/{name}"), text.as_bytes(), 0o644)?;
    }
    for name in host.disk.list("/etc/kubernetes", ".conf") {
        let path = format!("/etc/kubernetes/{name}");
        let text = host.disk.read_needed(&path)?.replace(PLACEHOLDER, &address.to_string());
        host.disk.write(&path, text.as_bytes(), 0o600)?;
    }
    host.disk.remove(DRY_RUN);
    Ok(())
}

/// The manifest's command line, made to run beside others on this machine: every server on the control plane's own
/// address, none on a port that a second control plane would want.
fn adapt_manifest(text: &str, address: &str) -> anyhow::Result<String> {
    let mut pod: Value = serde_saphyr::from_str(text).context("is no YAML")?;
    let command = pod["spec"]["containers"][0]["command"].as_array_mut().context("has no command")?;
    let mut words: Vec<String> =
        command.iter().filter_map(Value::as_str).map(|word| at_address(word, address)).collect();
    let program = words.first().cloned().unwrap_or_default();
    for Flag { name, value, yields } in flags_of(&program, address).with_context(|| format!("starts {program:?}"))? {
        let flag = format!("--{name}=");
        if !(yields && words.iter().any(|word| word.starts_with(&flag))) {
            words.retain(|word| !word.starts_with(&flag));
            words.push(format!("{flag}{value}"));
        }
    }
    *command = words.into_iter().map(Value::String).collect();
    Ok(serde_saphyr::to_string(&pod)?)
}

/// A flag that a control-plane program gets here.
struct Flag<'a> {
    name: &'static str,
    value: &'a str,
    /// Whether one that the user gave stays.
    yields: bool,
}

fn flags_of<'a>(program: &str, address: &'a str) -> Option<Vec<Flag<'a>>> {
    let must = |name, value| Flag { name, value, yields: false };
    let may = |name, value| Flag { name, value, yields: true };
    match program {
        "etcd" => Some(vec![must("unsafe-no-fsync", "true")]),
        "kube-apiserver" => Some(vec![
            // kubeadm's rule is the API server's, too: what is advertised must not be a loopback address.
            must("advertise-address", PLACEHOLDER),
            must("bind-address", address),
            must("endpoint-reconciler-type", "none"),
        ]),
        // At its default rate it needs 5 s to start its controllers.
        "kube-controller-manager" => {
            Some(vec![must("secure-port", "0"), may("kube-api-qps", "200"), may("kube-api-burst", "400")])
        }
        "kube-scheduler" => Some(vec![must("secure-port", "0")]),
        _ => None,
    }
}

/// Replaces the placeholder and 127.0.0.1; a list that then has one value twice keeps it once.
fn at_address(word: &str, address: &str) -> String {
    let word = word.replace(PLACEHOLDER, address).replace("127.0.0.1", address);
    let Some((flag, values)) = word.split_once('=').filter(|(_, values)| values.contains("://")) else { return word };
    let mut once: Vec<&str> = Vec::new();
    for value in values.split(',') {
        if !once.contains(&value) {
            once.push(value);
        }
    }
    format!("{flag}={}", once.join(","))
}

async fn ready(host: &Host, client: &kube::Client, patience: Duration) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + patience;
    while let Err(error) = client.request_text(Request::get("/readyz").body(Vec::new())?).await {
        ensure!(tokio::time::Instant::now() < deadline, "[wait-control-plane] {error}; see /var/log/pods");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    host.say("[wait-control-plane] the API server is ready");
    Ok(())
}

/// What `kubeadm init` does for admin.conf when it first uses it.
async fn bind_admins(client: &kube::Client) -> anyhow::Result<()> {
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = serde_json::from_value(json!({
        "metadata": { "name": "kubeadm:cluster-admins" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins" }],
    }))?;
    match bindings.create(&PostParams::default(), &binding).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => other.map(drop).context("cannot bind kubeadm:cluster-admins"),
    }
}

/// Phase `mark-control-plane`, which has no `--kubeconfig` of its own.
async fn mark_control_plane(host: &Host, client: &kube::Client, plan: &Plan) -> anyhow::Result<()> {
    let nodes: &Api<Node> = &Api::all(client.clone());
    retry::for_at_most(host, "kubeadm: [mark-control-plane]", plan.patience, || async move {
        let node = nodes.get(&plan.node_name.to_lowercase()).await?;
        let patch = json!({
            "metadata": {
                "resourceVersion": node.metadata.resource_version,
                "labels": {
                    "node-role.kubernetes.io/control-plane": "",
                    "node.kubernetes.io/exclude-from-external-load-balancers": "",
                },
            },
            "spec": { "taints": taints(plan, node.spec.and_then(|spec| spec.taints).unwrap_or_default()) },
        });
        nodes.patch(&plan.node_name.to_lowercase(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    })
    .await
    .context("[mark-control-plane]")
}

fn taints(plan: &Plan, has: Vec<Taint>) -> Vec<Taint> {
    let own = || Taint {
        key: "node-role.kubernetes.io/control-plane".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let mut taints = plan.registration.taints.clone().unwrap_or_else(|| vec![own()]);
    taints.extend(has.into_iter().filter(|taint| {
        !plan.registration.taints.iter().flatten().any(|own| (&own.key, &own.effect) == (&taint.key, &taint.effect))
    }));
    taints
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
