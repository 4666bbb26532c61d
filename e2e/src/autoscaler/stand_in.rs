//! Calls the service in the order in which cluster-autoscaler 1.36 does, and decides as it does, on a small scale: one pod
//! fills one node, and an idle node goes after three scans.
//!
//! It binds pods too, for no scheduler runs on a bed; what is bound counts as running.

use super::rules;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use prost::Message;
use rackwright_api::POOL_LABEL;
use rackwright_autoscaler::wire::cloud_provider_client::CloudProviderClient;
use rackwright_autoscaler::wire::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::transport::Channel;

/// How long a group is left alone that failed. The real one waits 5 minutes.
const BACKOFF: Duration = Duration::from_secs(120);
/// Scans for which a node must have been idle.
const IDLE: u32 = 3;
const PODS: &str = "default";

/// What one scan did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Asked a group for more.
    Increased {
        /// The group.
        group: String,
        /// How many.
        delta: i32,
    },
    /// A group could not give more.
    Refused {
        /// The group.
        group: String,
        /// What it said.
        why: String,
    },
    /// Gave up an instance that failed before its node registered.
    GaveUp {
        /// The group.
        group: String,
        /// Code and message.
        why: String,
    },
    /// Took an idle node away.
    Deleted {
        /// The node.
        node: String,
    },
    /// Bound a pod to a node.
    Bound {
        /// The pod.
        pod: String,
        /// The node.
        node: String,
    },
}

impl std::fmt::Display for Did {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Did::Increased { group, delta } => write!(f, "IncreaseSize {group} by {delta}"),
            Did::Refused { group, why } => write!(f, "{group} refuses: {why}"),
            Did::GaveUp { group, why } => write!(f, "DeleteNodes {group}, which failed: {why}"),
            Did::Deleted { node } => write!(f, "DeleteNodes {node}, which is idle"),
            Did::Bound { pod, node } => write!(f, "{pod} runs on {node}"),
        }
    }
}

/// Everything that one scan asked.
struct Seen {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    groups: Vec<NodeGroup>,
    /// Group of each managed node, by the node's name.
    homes: BTreeMap<String, String>,
    instances: BTreeMap<String, Vec<Instance>>,
    targets: BTreeMap<String, i32>,
}

/// A small cluster-autoscaler.
pub struct StandIn {
    client: CloudProviderClient<Channel>,
    workload: Client,
    backoff: BTreeMap<String, Instant>,
    idle: BTreeMap<String, u32>,
    going: BTreeSet<String>,
}

impl StandIn {
    /// One that calls by `client` and looks at `workload`.
    pub fn new(client: CloudProviderClient<Channel>, workload: Client) -> StandIn {
        let (backoff, idle, going) = Default::default();
        StandIn { client, workload, backoff, idle, going }
    }

    /// The connection, for calls that the story makes itself.
    pub fn client(&mut self) -> &mut CloudProviderClient<Channel> {
        &mut self.client
    }

    /// A pod that asks for `cpu` and waits for a node of `pool`.
    pub async fn add_pod(&self, name: &str, cpu: &str, pool: &str) -> Result<()> {
        let pod = json!({
            "metadata": { "name": name },
            "spec": {
                "automountServiceAccountToken": false,
                "nodeSelector": { POOL_LABEL: pool },
                "containers": [{ "name": "c", "image": "none", "resources": { "requests": { "cpu": cpu } } }],
            },
        });
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod)?).await.context("pod")?;
        Ok(())
    }

    /// Takes a pod away at once: nobody runs it.
    pub async fn remove_pod(&self, name: &str) -> Result<()> {
        let params = kube::api::DeleteParams::default().grace_period(0);
        self.pods().delete(name, &params).await?;
        Ok(())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.workload.clone(), PODS)
    }

    /// One loop. An error is a broken rule, or a service that does not answer.
    pub async fn scan(&mut self) -> Result<Vec<Did>> {
        let seen = self.ask().await?;
        let mut did = self.give_up_failed(&seen).await?;
        did.extend(self.bind(&seen).await?);
        if did.is_empty() {
            did.extend(self.scale_up(&seen).await?);
        }
        if did.is_empty() {
            did.extend(self.scale_down(&seen).await?);
        }
        Ok(did)
    }

    async fn ask(&mut self) -> Result<Seen> {
        let nodes = Api::<Node>::all(self.workload.clone()).list(&ListParams::default()).await?.items;
        let pods = self.pods().list(&ListParams::default()).await?.items;
        self.client.refresh(RefreshRequest {}).await?;
        let groups = self.client.node_groups(NodeGroupsRequest {}).await?.into_inner().node_groups;
        let mut homes = BTreeMap::new();
        let mut registered = BTreeMap::<String, BTreeSet<String>>::new();
        for node in &nodes {
            let request = NodeGroupForNodeRequest { node: Some(as_asked(node)) };
            let group = self.client.node_group_for_node(request).await?.into_inner().node_group.unwrap_or_default();
            if !group.id.is_empty() {
                registered.entry(group.id.clone()).or_default().insert(provider_id(node));
                homes.insert(node.name_any(), group.id);
            }
        }
        let instances = self.instances(&groups).await?;
        for group in homes.values() {
            let request = NodeGroupAutoscalingOptionsRequest { id: group.clone(), defaults: Some(Default::default()) };
            let answer = self.client.node_group_get_options(request).await;
            let code = answer.err().map(|status| status.code());
            ensure!(code == Some(Code::Unimplemented), "GetOptions is answered: kubernetes/autoscaler#10245");
        }
        let mut targets = BTreeMap::new();
        for group in &groups {
            let request = NodeGroupTargetSizeRequest { id: group.id.clone() };
            let target = self.client.node_group_target_size(request).await?.into_inner().target_size;
            let none = BTreeSet::new();
            // Answers come from one moment each; between two of them the world may have moved.
            if let Err(why) =
                rules::check(group, target, &instances[&group.id], registered.get(&group.id).unwrap_or(&none))
            {
                self.check_again(group, why).await?;
            }
            targets.insert(group.id.clone(), target);
        }
        Ok(Seen { nodes, pods, groups, homes, instances, targets })
    }

    /// A rule that is broken twice in a row is broken.
    async fn check_again(&mut self, group: &NodeGroup, why: anyhow::Error) -> Result<()> {
        let groups = self.client.node_groups(NodeGroupsRequest {}).await?.into_inner().node_groups;
        let Some(group) = groups.into_iter().find(|found| found.id == group.id) else { return Ok(()) };
        let request = NodeGroupTargetSizeRequest { id: group.id.clone() };
        let target = self.client.node_group_target_size(request).await?.into_inner().target_size;
        let instances = self.instances(std::slice::from_ref(&group)).await?;
        rules::check(&group, target, &instances[&group.id], &BTreeSet::new()).context(why)
    }

    /// Instances of all groups, asked for side by side.
    async fn instances(&mut self, groups: &[NodeGroup]) -> Result<BTreeMap<String, Vec<Instance>>> {
        let mut asked = tokio::task::JoinSet::new();
        for group in groups {
            let (mut client, id) = (self.client.clone(), group.id.clone());
            asked.spawn(async move {
                let answer = client.node_group_nodes(NodeGroupNodesRequest { id: id.clone() }).await?;
                Ok::<_, tonic::Status>((id, answer.into_inner().instances))
            });
        }
        Ok(asked.join_all().await.into_iter().collect::<Result<_, _>>()?)
    }

    /// Instances with an error are deleted, and their group is left alone for a while.
    async fn give_up_failed(&mut self, seen: &Seen) -> Result<Vec<Did>> {
        let mut did = Vec::new();
        for (group, instances) in &seen.instances {
            for instance in instances {
                let error = instance.status.as_ref().and_then(|status| status.error_info.clone());
                let Some(error) = error.filter(|_| !self.going.contains(&instance.id)) else { continue };
                let reason = ("k8s.io/cluster-autoscaler/fake-node-reason".to_owned(), "create-error".to_owned());
                let node = ExternalGrpcNode {
                    provider_id: instance.id.clone(),
                    name: instance.id.clone(),
                    annotations: [reason].into(),
                    ..ExternalGrpcNode::default()
                };
                let request = NodeGroupDeleteNodesRequest { id: group.clone(), nodes: vec![node] };
                self.client.node_group_delete_nodes(request).await?;
                self.going.insert(instance.id.clone());
                self.backoff.insert(group.clone(), Instant::now() + BACKOFF);
                let why = format!("{}: {}", error.error_code, error.error_message);
                did.push(Did::GaveUp { group: group.clone(), why });
            }
        }
        Ok(did)
    }

    /// Binds each pod that waits to a node that is Ready, without a taint, and has room.
    async fn bind(&mut self, seen: &Seen) -> Result<Vec<Did>> {
        let mut did = Vec::new();
        let mut free: Vec<_> = seen.nodes.iter().filter(|node| is_open(node) && self.is_idle(seen, node)).collect();
        for pod in seen.pods.iter().filter(|pod| is_waiting(pod)) {
            let Some(place) = free.iter().position(|node| selects(pod, node.labels())) else { continue };
            let node = free.swap_remove(place);
            let (pod, node) = (pod.name_any(), node.name_any());
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            let _: serde_json::Value =
                self.pods().create_subresource("binding", &pod, &PostParams::default(), &binding).await?;
            did.push(Did::Bound { pod, node });
        }
        Ok(did)
    }

    /// Asks the first group that has room for as many nodes as pods wait beyond those that are on their way.
    async fn scale_up(&mut self, seen: &Seen) -> Result<Vec<Did>> {
        let waiting = seen.pods.iter().filter(|pod| is_waiting(pod)).count();
        let now = Instant::now();
        let usable = |id: &String| self.backoff.get(id).is_none_or(|until| *until <= now);
        // A node that has registered and is not Ready yet is still on its way.
        let open: BTreeSet<_> = seen.nodes.iter().filter(|node| is_open(node)).map(|node| node.name_any()).collect();
        let there = |id: &String| seen.homes.iter().filter(|(node, home)| *home == id && open.contains(*node)).count();
        let upcoming: usize = (seen.targets.iter())
            .filter(|(id, _)| usable(id))
            .map(|(id, target)| usize::try_from(*target).unwrap_or_default().saturating_sub(there(id)))
            .sum();
        let needed = i32::try_from(waiting.saturating_sub(upcoming))?;
        if needed == 0 {
            return Ok(Vec::new());
        }
        let mut chosen = None;
        let room = |group: &&NodeGroup| usable(&group.id) && group.max_size > seen.targets[&group.id];
        let candidates: Vec<_> = seen.groups.iter().filter(room).collect();
        for group in candidates {
            let labels = self.promised(&group.id).await?;
            if seen.pods.iter().any(|pod| is_waiting(pod) && selects(pod, &labels)) {
                chosen = Some(group);
                break;
            }
        }
        let Some(group) = chosen else { return Ok(Vec::new()) };
        let delta = needed.min(group.max_size - seen.targets[&group.id]);
        let request = NodeGroupIncreaseSizeRequest { id: group.id.clone(), delta };
        let group = group.id.clone();
        Ok(vec![match self.client.node_group_increase_size(request).await {
            Ok(_) => Did::Increased { group, delta },
            Err(status) => {
                self.backoff.insert(group.clone(), Instant::now() + BACKOFF);
                Did::Refused { group, why: format!("{:?}: {}", status.code(), status.message()) }
            }
        }])
    }

    /// Labels of the node that a group would have.
    async fn promised(&mut self, id: &str) -> Result<BTreeMap<String, String>> {
        let request = NodeGroupTemplateNodeInfoRequest { id: id.into() };
        let answer = self.client.node_group_template_node_info(request).await?.into_inner();
        let node = k8s_pb::api::core::v1::Node::decode(answer.node_bytes.as_slice())?;
        Ok(node.metadata.unwrap_or_default().labels.into_iter().collect())
    }

    /// Taints and deletes one node that has been idle for a while.
    async fn scale_down(&mut self, seen: &Seen) -> Result<Vec<Did>> {
        let waits = seen.pods.iter().any(is_waiting);
        let mut chosen = None;
        for node in &seen.nodes {
            let Some(group) = seen.homes.get(&node.name_any()) else { continue };
            let idle = self.is_idle(seen, node) && is_open(node) && !waits && !self.going.contains(&provider_id(node));
            let scans = self.idle.entry(node.name_any()).or_default();
            *scans = if idle { *scans + 1 } else { 0 };
            let min = seen.groups.iter().find(|found| found.id == *group).map_or(0, |found| found.min_size);
            if *scans >= IDLE && seen.targets.get(group).is_some_and(|target| *target > min) {
                chosen = Some((node, group.clone()));
            }
        }
        let Some((node, group)) = chosen else { return Ok(Vec::new()) };
        let mut taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        taints.push(serde_json::from_value(json!({
            "key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule",
        }))?);
        let patch = Patch::Merge(json!({ "spec": { "taints": taints } }));
        Api::<Node>::all(self.workload.clone()).patch(&node.name_any(), &PatchParams::default(), &patch).await?;
        let request = NodeGroupDeleteNodesRequest { id: group, nodes: vec![as_asked(node)] };
        self.client.node_group_delete_nodes(request).await?;
        self.going.insert(provider_id(node));
        Ok(vec![Did::Deleted { node: node.name_any() }])
    }

    fn is_idle(&self, seen: &Seen, node: &Node) -> bool {
        let on = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        !seen.pods.iter().any(|pod| on(pod).as_deref() == Some(&node.name_any()))
    }
}

fn is_waiting(pod: &Pod) -> bool {
    pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none())
}

/// Whether a node with these labels is one that the pod asks for.
fn selects(pod: &Pod, labels: &BTreeMap<String, String>) -> bool {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Ready, and open to any pod.
fn is_open(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    crate::cluster::is_ready(node) && taints.is_empty()
}

fn provider_id(node: &Node) -> String {
    node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default()
}

fn as_asked(node: &Node) -> ExternalGrpcNode {
    ExternalGrpcNode {
        provider_id: provider_id(node),
        name: node.name_any(),
        labels: node.labels().clone().into_iter().collect(),
        annotations: node.annotations().clone().into_iter().collect(),
    }
}
