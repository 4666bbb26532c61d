//! One loop of a cluster-autoscaler over 15,000 nodes in 1,000 groups: 78,037 calls, one after the other, over loopback; and
//! as many to a bare tonic service. `cargo run --release -p rackwright-autoscaler --example loop`.
#![allow(missing_docs, clippy::print_stdout, reason = "prints figures")]

use async_trait::async_trait;
use jiff::SignedDuration;
use rackwright_autoscaler::groups::*;
use rackwright_autoscaler::plan::Write;
use rackwright_autoscaler::service::{Provider, Store, StoreError};
use rackwright_autoscaler::store::{Deadlines, Objects};
use rackwright_autoscaler::wire::cloud_provider_client::CloudProviderClient;
use rackwright_autoscaler::wire::cloud_provider_server::CloudProviderServer;
use rackwright_autoscaler::wire::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::BufRead;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, body::Body};

type Failure = Box<dyn std::error::Error + Send + Sync>;
const GROUPS: usize = 1000;
const NODES: usize = 15_000;

struct Fixed(Inventory);

#[async_trait]
impl Store for Fixed {
    fn inventory(&self) -> Inventory {
        self.0.clone()
    }
    async fn write(&self, _: &Write) -> Result<(), StoreError> {
        Err(StoreError::NotWritten("nothing is written here".into()))
    }
}

fn inventory() -> Inventory {
    let pool = PoolEntry {
        namespace: "metal".into(),
        name: "workers".into(),
        replicas: NODES as i32,
        bounds: Some((0, 20_000)),
        by_rack: true,
        by_class: true,
        ..PoolEntry::default()
    };
    let host = |n: usize| HostEntry {
        namespace: "metal".into(),
        name: format!("host-{n:05}"),
        class: "amd64-64c-512g".into(),
        rack: format!("rack-{:04}", n % GROUPS),
        arch: "amd64".into(),
        capacity: Capacity { cpu_milli: 64_000, memory: 512 << 30, storage: 1 << 40, ..Capacity::default() },
        reservation: Some(Reservation { pool: "workers".into(), id: format!("{n:032x}"), at: 0 }),
        stage: Stage::Registered,
        fits: [("workers".to_owned(), None)].into(),
        ..HostEntry::default()
    };
    Inventory { pools: vec![pool], hosts: (0..NODES).map(host).collect(), options: false }
}

/// What tonic costs by itself.
#[derive(Clone)]
struct Bare;

struct Answer;

impl UnaryService<NodeGroupTargetSizeRequest> for Answer {
    type Response = NodeGroupTargetSizeResponse;
    type Future = Ready<Result<Response<NodeGroupTargetSizeResponse>, Status>>;
    fn call(&mut self, _: Request<NodeGroupTargetSizeRequest>) -> Self::Future {
        ready(Ok(Response::new(NodeGroupTargetSizeResponse { target_size: 15 })))
    }
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(tonic_prost::ProstCodec::default()).unary(Answer, request).await) })
    }
}

impl NamedService for Bare {
    const NAME: &'static str = "clusterautoscaler.cloudprovider.v1.externalgrpc.CloudProvider";
}

async fn serve(bare: bool) -> Result<(), Failure> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?.port());
    if bare {
        Server::builder().add_service(Bare).serve_with_incoming(incoming).await?;
    } else {
        let provider = Provider::new(Arc::new(Fixed(inventory())), Default::default());
        Server::builder().add_service(CloudProviderServer::new(provider)).serve_with_incoming(incoming).await?;
    }
    Ok(())
}

#[derive(Default)]
struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    async fn of<T>(&mut self, rpc: &'static str, call: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = call.await;
        self.0.entry(rpc).or_default().push(start.elapsed());
        result
    }
}

async fn one_loop(client: &mut CloudProviderClient<Channel>, times: &mut Times) -> Result<(), Failure> {
    times.of("Refresh", client.refresh(RefreshRequest {})).await?;
    let found = times.of("NodeGroups", client.node_groups(NodeGroupsRequest {})).await?.into_inner().node_groups;
    let groups: Vec<_> = found.into_iter().map(|group| group.id).collect();
    for n in 0..NODES + 35 {
        let id = if n < NODES { format!("rackwright://metal/host-{n:05}/{n:032x}") } else { "x".into() };
        let labels = (0..8).map(|n| (format!("example.com/label-{n}"), "value".to_owned())).collect();
        let node = ExternalGrpcNode { provider_id: id, name: format!("host-{n:05}"), labels, ..Default::default() };
        let request = NodeGroupForNodeRequest { node: Some(node) };
        let group = times.of("NodeGroupForNode", client.node_group_for_node(request)).await?.into_inner().node_group;
        if group.unwrap_or_default().id.is_empty() != (n >= NODES) {
            return Err("a node is in the wrong group".into());
        }
    }
    for third in 0..3 {
        for id in &groups {
            let request = NodeGroupTargetSizeRequest { id: id.clone() };
            times.of("NodeGroupTargetSize", client.node_group_target_size(request)).await?;
        }
        for n in 0..if third < 2 { 2 * NODES } else { 0 } {
            let request = NodeGroupAutoscalingOptionsRequest {
                id: groups[n % groups.len()].clone(),
                defaults: Some(NodeGroupAutoscalingOptions::default()),
            };
            // It answers UNIMPLEMENTED.
            let _ = times.of("NodeGroupGetOptions", client.node_group_get_options(request)).await;
        }
    }
    Ok(())
}

/// CPU seconds and resident MiB of a process.
fn cost(pid: u32) -> Result<(f64, f64), Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok((ticks / 100.0, line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<f64>()? / 1024.0))
}

fn measure(which: &str) -> Result<f64, Failure> {
    let mut child = Command::new(std::env::current_exe()?).arg(which).stdout(Stdio::piped()).spawn()?;
    let result = drive(which, &mut child);
    child.kill()?;
    child.wait()?;
    result
}

fn drive(which: &str, child: &mut std::process::Child) -> Result<f64, Failure> {
    let mut port = String::new();
    std::io::BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let pid = child.id();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{}", port.trim()))?.connect().await?;
        let mut client = CloudProviderClient::new(channel).max_decoding_message_size(4 << 20);
        let mut times = Times::default();
        for _ in 0..2_000 {
            let _ = client.node_group_target_size(NodeGroupTargetSizeRequest { id: "warm".into() }).await;
        }
        let (before, _) = cost(pid)?;
        let start = Instant::now();
        if which == "bare" {
            for _ in 0..78_037 {
                let request = NodeGroupTargetSizeRequest { id: "metal/workers/amd64-64c-512g/rack-0001".into() };
                times.of("bare", client.node_group_target_size(request)).await?;
            }
        } else {
            one_loop(&mut client, &mut times).await?;
        }
        let total = start.elapsed().as_secs_f64();
        let (after, memory) = cost(pid)?;
        let calls: usize = times.0.values().map(Vec::len).sum();
        let cpu = (after - before) / calls as f64 * 1e6;
        println!("{which}: {calls} calls in {total:.2} s, server CPU {cpu:.1} µs a call, RSS {memory:.0} MiB");
        for (rpc, mut all) in times.0 {
            all.sort();
            let at = |part: usize| all[(all.len() - 1) * part / 100].as_micros();
            println!("  {rpc}: {} calls, p50 {} µs, p99 {} µs", all.len(), at(50), at(99));
        }
        Ok(total)
    })
}

/// Kubernetes objects of 15,000 hosts in 50 racks that 20 pools share.
fn objects() -> Result<Objects, Failure> {
    let time = "2026-11-27T12:00:00Z";
    let meta = |name: &str| json!({ "name": name, "namespace": "metal", "uid": name, "generation": 1 });
    let mut objects = Objects::default();
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": time });
    for n in 0..NODES {
        let (name, pool) = (format!("host-{n:05}"), format!("pool-{}", n % 20));
        let reservation =
            json!({ "pool": { "namespace": "metal", "name": pool, "uid": pool }, "id": n.to_string(), "at": time });
        let held = n % 3 != 0;
        objects.stock.hosts.push(Arc::new(serde_json::from_value(json!({
            "metadata": meta(&name),
            "spec": {
                "rack": format!("rack-{:02}", n % 50), "bmc": { "address": "https://10.0.0.1" },
                "bootMACAddress": "52:54:00:12:34:56", "reservation": held.then_some(reservation),
            },
            "status": {
                "phase": "Available", "observedGeneration": 1, "conditions": [condition("Ready"), condition("Reachable")],
            },
        }))?));
        objects.stock.hardware.push(Arc::new(serde_json::from_value(json!({
            "metadata": meta(&name),
            "spec": { "operationID": "o", "inspectedAt": time, "facts": {
                "cpu": { "architecture": "amd64", "cores": 32, "threads": 64 }, "memoryMiB": 524_288,
                "disks": [{ "device": "/dev/sda", "sizeBytes": 1_u64 << 40, "rotational": false }], "nics": [],
            } },
        }))?));
    }
    for n in 0..20 {
        objects.pools.push(Arc::new(serde_json::from_value(json!({
            "metadata": meta(&format!("pool-{n}")),
            "spec": {
                "clusterName": "prod", "version": "v1.36.3", "replicas": 500, "autoscaling": { "min": 0, "max": 1000 },
                "image": { "name": "i" }, "bootstrap": { "config": {} }, "spread": { "over": "Rack", "maxSkew": 2 },
            },
        }))?));
    }
    Ok(objects)
}

/// What every change of a host costs, gathered over 200 ms: all answers are made anew.
fn answers() -> Result<(), Failure> {
    let objects = objects()?;
    let second = SignedDuration::from_secs(60);
    let (deadlines, now) = (Deadlines { image: second, node: second }, "2026-11-27T12:00:01Z".parse()?);
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let inventory = rackwright_autoscaler::store::inventory(&objects, &deadlines, now);
        let seen = start.elapsed();
        let groups = Snapshot::of(&inventory).groups.len();
        times.push((start.elapsed(), seen, groups));
    }
    let (all, seen, groups) = times.into_iter().min().ok_or("no time")?;
    let (pools, ms) = (objects.pools.len(), |time: Duration| time.as_millis());
    println!(
        "answers for {groups} groups of {pools} pools over {NODES} hosts: {} ms, judging hosts {} ms",
        ms(all),
        ms(seen)
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1).as_deref() {
        Some(which) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(which == "bare"))
        }
        None => {
            answers()?;
            let bare = measure("bare")?;
            let service = measure("service")?;
            println!("the service takes {:.2} times what a bare tonic service takes", service / bare);
            Ok(())
        }
    }
}
