//! Every recorded run of cluster-autoscaler, sent again to the service over a matching inventory. `Checker` states each
//! rule of the protocol once.

mod support;

use base64::Engine;
use k8s_pb::api::core::v1::Node;
use prost::Message;
use rackwright_autoscaler::groups::*;
use rackwright_autoscaler::service::Provider;
use rackwright_autoscaler::wire::cloud_provider_server::CloudProvider;
use rackwright_autoscaler::wire::*;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use support::{Memory, provider_id};
use tonic::{Code, Request, Response, Status};

struct Replay {
    store: Memory,
    provider: Provider,
    /// The recorded provider IDs, and ours for the same host.
    ids: HashMap<String, String>,
    scenario: String,
    calls: usize,
}

fn inventory(groups: &[Value]) -> Inventory {
    let mut inventory = Inventory::default();
    for group in groups {
        let number = |key: &str| group[key].as_i64().unwrap_or(0) as i32;
        let name = group["id"].as_str().expect("groups have ids").to_owned();
        inventory.pools.push(PoolEntry {
            namespace: "n".into(),
            name: name.clone(),
            replicas: number("target"),
            bounds: Some((number("minSize"), number("maxSize"))),
            ..PoolEntry::default()
        });
        for host in 1..=number("maxSize").max(number("target")) {
            let held = host <= number("target");
            inventory.hosts.push(HostEntry {
                namespace: "n".into(),
                name: format!("{name}-host-{host:02}"),
                arch: "amd64".into(),
                rack: name.clone(),
                capacity: Capacity { cpu_milli: 4000, memory: 16 << 30, storage: 200 << 30, ..Capacity::default() },
                reservation: held.then(|| Reservation { pool: name.clone(), id: "first".into(), at: 0 }),
                stage: if held { Stage::Registered } else { Stage::Creating },
                fits: [(name.clone(), None)].into(),
                price: group["price"].as_f64(),
                ..HostEntry::default()
            });
        }
    }
    inventory
}

fn ours(group: &str) -> String {
    format!("n/{group}")
}

impl Replay {
    fn new(groups: &[Value], scenario: &str) -> Replay {
        let store = Memory::new(inventory(groups));
        if scenario.starts_with("04") {
            store.edit(|all| {
                all.hosts.iter_mut().for_each(|host| {
                    host.fits.entry("rack-a".into()).and_modify(|fit| *fit = Some("in maintenance".into()));
                })
            });
        }
        store.edit(|all| all.options = scenario.starts_with("08b") || scenario.starts_with("15"));
        let provider = Provider::new(Arc::new(store.clone()), Default::default());
        Replay { store, provider, ids: HashMap::new(), scenario: scenario.into(), calls: 0 }
    }

    /// Our ID for a recorded one: the first life of its group that no other recorded ID stands for.
    fn id(&mut self, recorded: &str) -> String {
        if let Some(known) = self.ids.get(recorded) {
            return known.clone();
        }
        let Some((pool, _)) = recorded.strip_prefix("fake://").and_then(|rest| rest.split_once('/')) else {
            return recorded.into();
        };
        let lives = self.store.edit(|all| {
            let of = |host: &HostEntry| {
                let held = host.reservation.as_ref().filter(|held| held.pool == pool)?;
                Some(provider_id(&host.name, &held.id))
            };
            all.hosts.iter().filter_map(of).collect::<Vec<_>>()
        });
        let taken: Vec<_> = self.ids.values().cloned().collect();
        let Some(life) = lives.into_iter().find(|life| !taken.contains(life)) else { return recorded.into() };
        self.ids.insert(recorded.into(), life.clone());
        life
    }

    fn node(&mut self, mut node: ExternalGrpcNode) -> ExternalGrpcNode {
        node.provider_id = self.id(&node.provider_id);
        node
    }

    /// What happened in the world, besides calls.
    async fn did(&mut self, text: &str) {
        if text.contains("egistered") || text.contains("first Node Ready") {
            self.store.edit(|all| {
                for host in
                    all.hosts.iter_mut().filter(|host| host.reservation.is_some() && host.stage == Stage::Creating)
                {
                    host.stage = Stage::Registered;
                }
            });
        } else if text.contains("stock of rack-a is back") {
            self.store
                .edit(|all| all.hosts.iter_mut().for_each(|host| host.fits.values_mut().for_each(|fit| *fit = None)));
        } else if text.contains("no longer listed") || text.contains("objects deleted") {
            self.store.pool_controller();
        }
        self.provider.look_again().await;
    }

    async fn target(&self, group: &str) -> i32 {
        let request = NodeGroupTargetSizeRequest { id: group.into() };
        self.provider
            .node_group_target_size(Request::new(request))
            .await
            .map_or(0, |found| found.into_inner().target_size)
    }

    /// Each group: bounds hold, instances are its own and unique, target = claimed and promised.
    async fn rules_of_groups(&self) {
        let all = ok(self.provider.node_groups(Request::new(NodeGroupsRequest {})).await).node_groups;
        for group in all {
            let target = self.target(&group.id).await;
            assert!(group.min_size <= target && target <= group.max_size, "{}: {group:?} {target}", self.scenario);
            let request = NodeGroupNodesRequest { id: group.id.clone() };
            let instances = ok(self.provider.node_group_nodes(Request::new(request)).await).instances;
            let mut ids: Vec<_> = instances.iter().map(|found| &found.id).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), instances.len(), "{}: an instance is listed twice", self.scenario);
            let deleting =
                instances.iter().filter(|found| found.status.as_ref().is_some_and(|s| s.instance_state == 3));
            assert_eq!(target, (instances.len() - deleting.count()) as i32, "{}: {}", self.scenario, group.id);
            for instance in &instances {
                // Not as a node that is there: that would be news to the service.
                let fake = ("k8s.io/cluster-autoscaler/fake-node-reason".to_owned(), "unregistered".to_owned());
                let (provider_id, annotations) = (instance.id.clone(), [fake].into());
                let node = Some(ExternalGrpcNode { provider_id, annotations, ..ExternalGrpcNode::default() });
                let found = self.provider.node_group_for_node(Request::new(NodeGroupForNodeRequest { node })).await;
                assert_eq!(ok(found).node_group.unwrap_or_default().id, group.id);
            }
        }
    }

    async fn call(&mut self, method: &str, line: &Value) {
        self.calls += 1;
        let bytes = line["req_b64"]
            .as_str()
            .map(|text| base64::engine::general_purpose::STANDARD.decode(text).expect("recorded messages are base64"));
        let key = line["key"].as_str().unwrap_or_default().to_owned();
        let p = self.provider.clone();
        match method {
            "Refresh" => drop(ok(p.refresh(Request::new(RefreshRequest {})).await)),
            "Cleanup" => drop(ok(p.cleanup(Request::new(CleanupRequest {})).await)),
            "NodeGroups" => drop(ok(p.node_groups(Request::new(NodeGroupsRequest {})).await)),
            "GPULabel" => assert!(!ok(p.gpu_label(Request::new(GpuLabelRequest {})).await).label.is_empty()),
            "GetAvailableGPUTypes" => {
                drop(ok(p.get_available_gpu_types(Request::new(GetAvailableGpuTypesRequest {})).await));
            }
            "NodeGroupForNode" => {
                let recorded = match &bytes {
                    Some(bytes) => decode::<NodeGroupForNodeRequest>(bytes).node.unwrap_or_default(),
                    None => {
                        let id = key.rsplit_once("-host-").map(|(group, n)| format!("fake://{group}/host-{n}"));
                        ExternalGrpcNode {
                            provider_id: id.unwrap_or_default(),
                            name: key,
                            ..ExternalGrpcNode::default()
                        }
                    }
                };
                let node = self.node(recorded.clone());
                let ours = node.provider_id.starts_with("rackwright://");
                let request = Request::new(NodeGroupForNodeRequest { node: Some(node) });
                let found = ok(p.node_group_for_node(request).await).node_group.unwrap_or_default().id;
                // A foreign or simulated node has the empty group; a host that has been given back has none either.
                assert!(ours || found.is_empty(), "{}: {} is in {found}", self.scenario, recorded.name);
            }
            "NodeGroupTargetSize" => {
                let id = bytes.map_or(key, |bytes| decode::<NodeGroupTargetSizeRequest>(&bytes).id);
                let _ = ok(p.node_group_target_size(Request::new(NodeGroupTargetSizeRequest { id: ours(&id) })).await);
            }
            "NodeGroupNodes" => {
                let id = bytes.map_or(key, |bytes| decode::<NodeGroupNodesRequest>(&bytes).id);
                drop(ok(p.node_group_nodes(Request::new(NodeGroupNodesRequest { id: ours(&id) })).await));
            }
            "NodeGroupTemplateNodeInfo" => {
                let id = bytes.map_or(key, |bytes| decode::<NodeGroupTemplateNodeInfoRequest>(&bytes).id);
                let request = NodeGroupTemplateNodeInfoRequest { id: ours(&id) };
                template_is_complete(&ok(p.node_group_template_node_info(Request::new(request)).await));
            }
            "NodeGroupGetOptions" => {
                let mut request: NodeGroupAutoscalingOptionsRequest = bytes.map(|b| decode(&b)).unwrap_or_default();
                request.id = ours(&request.id);
                match p.node_group_get_options(Request::new(request)).await {
                    Err(status) => assert_eq!(status.code(), Code::Unimplemented),
                    Ok(found) => {
                        let options = found.into_inner().node_group_autoscaling_options.unwrap_or_default();
                        assert_eq!(options.max_node_provision.is_some(), options.max_node_provision_legacy.is_some());
                    }
                }
            }
            "PricingNodePrice" => {
                let mut request: PricingNodePriceRequest = bytes.map(|b| decode(&b)).unwrap_or_default();
                let node = request.node.get_or_insert_default();
                node.name = node.name.replace("template-node-for-", "template-node-for-n/");
                assert!(ok(p.pricing_node_price(Request::new(request)).await).price > 0.0);
            }
            "PricingPodPrice" => {
                let request: PricingPodPriceRequest = bytes.map(|b| decode(&b)).unwrap_or_default();
                assert!(ok(p.pricing_pod_price(Request::new(request)).await).price > 0.0);
            }
            "NodeGroupIncreaseSize" => {
                let request: NodeGroupIncreaseSizeRequest = decode(&bytes.expect("writes are recorded whole"));
                let (group, delta) = (ours(&request.id), request.delta);
                let before = self.target(&group).await;
                let request = NodeGroupIncreaseSizeRequest { id: group.clone(), delta };
                let result = p.node_group_increase_size(Request::new(request)).await;
                let grown = if line["status"].is_null() {
                    ok(result);
                    delta
                } else {
                    assert_eq!(result.expect_err("there is no stock").code(), Code::ResourceExhausted);
                    0
                };
                assert_eq!(self.target(&group).await, before + grown, "all or nothing, before the answer");
                if self.scenario.starts_with("05") && group == "n/rack-a" {
                    let failure = Failure { reason: "NoPower".into(), message: "off".into(), out_of_resources: true };
                    self.store.edit(|all| {
                        for host in all.hosts.iter_mut().filter(|h| h.reservation.is_some()) {
                            host.stage = Stage::Failed(failure.clone());
                        }
                    });
                    self.provider.look_again().await;
                }
            }
            "NodeGroupDeleteNodes" => {
                let request: NodeGroupDeleteNodesRequest = decode(&bytes.expect("writes are recorded whole"));
                let nodes: Vec<_> = request.nodes.into_iter().map(|node| self.node(node)).collect();
                let group = ours(&request.id);
                let request = NodeGroupDeleteNodesRequest { nodes, id: group.clone() };
                ok(p.node_group_delete_nodes(Request::new(request.clone())).await);
                let after = self.target(&group).await;
                ok(p.node_group_delete_nodes(Request::new(request)).await);
                assert_eq!(self.target(&group).await, after, "a second DeleteNodes changes nothing");
            }
            "NodeGroupDecreaseTargetSize" => {
                let request: NodeGroupDecreaseTargetSizeRequest = decode(&bytes.expect("writes are recorded whole"));
                let (group, delta) = (ours(&request.id), request.delta);
                let before = self.target(&group).await;
                let request = NodeGroupDecreaseTargetSizeRequest { id: group.clone(), delta };
                ok(p.node_group_decrease_target_size(Request::new(request)).await);
                assert_eq!(self.target(&group).await, before + delta);
            }
            other => unreachable!("{other} is no RPC of the protocol"),
        }
        if matches!(
            method,
            "NodeGroupIncreaseSize" | "NodeGroupDeleteNodes" | "NodeGroupDecreaseTargetSize" | "Refresh"
        ) {
            self.rules_of_groups().await;
        }
    }
}

fn decode<T: Message + Default>(bytes: &[u8]) -> T {
    T::decode(bytes).expect("recorded messages have the protocol's shape")
}

fn ok<T>(result: Result<Response<T>, Status>) -> T {
    result.expect("this call is always answered").into_inner()
}

fn template_is_complete(found: &NodeGroupTemplateNodeInfoResponse) {
    assert_eq!(found.node_bytes, found.node_info_legacy, "both generations say the same");
    let node = Node::decode(found.node_bytes.as_slice()).expect("the template is a bare Node");
    let status = node.status.expect("a template has a status");
    for part in [&status.capacity, &status.allocatable] {
        for name in ["cpu", "memory", "pods", "ephemeral-storage"] {
            assert!(part.contains_key(name), "{name} is missing");
        }
    }
    assert_eq!(status.conditions[0].status.as_deref(), Some("True"));
    let labels = node.metadata.expect("a template has metadata").labels;
    assert_eq!(labels.get("kubernetes.io/os").map(String::as_str), Some("linux"));
    assert!(!labels.contains_key("kubernetes.io/hostname"), "the hostname is the autoscaler's");
}

#[tokio::test]
async fn every_recorded_run_is_answered_by_the_rules() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the traces are there").flatten().map(|f| f.path()).collect();
    files.sort();
    assert_eq!(files.len(), 25);
    let mut calls = 0;
    for file in files {
        let scenario = file.file_name().and_then(|name| name.to_str()).expect("names are text").to_owned();
        let bytes = zstd::decode_all(std::fs::File::open(&file).expect("it opens")).expect("it is zstd");
        let text = String::from_utf8(bytes).expect("it is text");
        let mut replay: Option<Replay> = None;
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("each line is JSON");
            if let Some(groups) = line["groups"].as_array().filter(|_| line["did"] == "cluster prepared") {
                replay = Some(Replay::new(groups, &scenario));
            } else if let (Some(replay), Some(text)) = (&mut replay, line["did"].as_str()) {
                replay.did(text).await;
            } else if let (Some(replay), Some(method)) = (&mut replay, line["method"].as_str()) {
                replay.call(method, &line).await;
            }
        }
        let replayed = replay.expect("a run begins with its cluster").calls;
        assert!(replayed > 0, "{scenario} has calls");
        calls += replayed;
    }
    assert!(calls > 3_576, "{calls} calls were sent again");
}
