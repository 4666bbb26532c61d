//! From a system that runs to a node that runs a pod, step by step.

use super::bed::MetalBed;
use super::steps::{Steps, Whose};
use crate::cluster::{Cluster, is_ready};
use crate::wait::Look;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, LogParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;

/// What the node image's own kernel says first.
pub const NODE_RUNS: &str = "node image: its kernel runs";
/// systemd, cloud-init, the container runtime and the kubelet, on a busy lab.
const JOIN: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);

impl MetalBed {
    /// Follows the machine `name`, whose system has just begun to run, until its Node is Ready and a pod on it has said
    /// what it has to say. The Node has the Host's provider ID.
    pub async fn follow_node(&self, cluster: &Cluster, name: &str, steps: &mut Steps) -> Result<()> {
        let host = self.bed.host(name).await?;
        let claim = host.spec.claim.as_ref().context("a host whose system runs is claimed")?;
        let (node, provider_id) = (claim.hostname.clone(), claim.provider_id.clone());
        let workload = self.bed.workload(cluster).await?;
        let requests = Api::<CertificateSigningRequest>::all(workload.clone());
        let nodes = Api::<Node>::all(workload.clone());

        self.until(name, "a certificate request of its kubelet", JOIN, async |_| {
            let names: Vec<_> = requests.list(&ListParams::default()).await?.into_iter().collect();
            Ok(Look::when(names.iter().any(|request| asks_for(request, &node)), format!("{} requests", names.len())))
        })
        .await?;
        steps.step("systemd, cloud-init, kubelet: its certificate request", Whose::System);
        self.until(name, "its Node", JOIN, async |_| Ok(Look::when(nodes.get_opt(&node).await?.is_some(), "none")))
            .await?;
        steps.step("signed; the Node is there", Whose::System);
        let found = self
            .until(name, "its Node Ready", JOIN, async |_| {
                let found = nodes.get(&node).await?;
                Ok(if is_ready(&found) { Look::Seen(found) } else { Look::NotYet("not Ready".into()) })
            })
            .await?;
        steps.step("Node Ready", Whose::System);
        let told = found.spec.and_then(|spec| spec.provider_id);
        ensure!(told.as_deref() == Some(provider_id.as_str()), "{node} has {told:?}, not {provider_id}");
        self.run_pod(workload, name, &node).await?;
        steps.step("a pod ran", Whose::System);
        Ok(())
    }

    /// Runs a pod on `node` of an image that the node brings along, and reads what it says.
    async fn run_pod(&self, workload: Client, name: &str, node: &str) -> Result<()> {
        let pods = Api::<Pod>::namespaced(workload, "default");
        let pod_name = format!("hello-{node}");
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod_name },
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                // The account's token would be waited for; nothing here speaks to the API server.
                "automountServiceAccountToken": false,
                "containers": [{ "name": "hello", "image": "localhost/hello:1", "imagePullPolicy": "Never" }],
            },
        }))?;
        self.until(name, "a pod is taken", SOON, async |_| {
            Ok(match pods.create(&PostParams::default(), &pod).await {
                Ok(_) => Look::Seen(()),
                // The default account of the namespace comes some time after the namespace.
                Err(kube::Error::Api(status)) if status.code == 409 => Look::Seen(()),
                Err(why) => Look::NotYet(why.to_string()),
            })
        })
        .await?;
        self.until(name, "a pod that says hello", JOIN, async |_| {
            let said = pods.logs(&pod_name, &LogParams::default()).await?;
            Ok(Look::when(said.contains("hello"), said))
        })
        .await
    }
}

/// A request made with a bootstrap token names the node in its own body only; so any of them counts.
fn asks_for(request: &CertificateSigningRequest, node: &str) -> bool {
    let user = request.spec.username.as_deref().unwrap_or_default();
    user.starts_with("system:bootstrap:") || user == format!("system:node:{node}")
}
