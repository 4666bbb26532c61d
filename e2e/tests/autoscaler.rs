//! A cluster that grows and shrinks with its pods: a stand-in calls `rackwright autoscaler serve` as cluster-autoscaler
//! does, and the hosts are claimed, imaged, joined, drained, wiped and given back by the real Cluster API core.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use k8s_pb::api::core::v1::Node as Template;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use prost::Message;
use rackwright_api::{Host, NodePool};
use rackwright_autoscaler::quantity::amount;
use rackwright_autoscaler::wire::*;
use rackwright_e2e::autoscaler::{self, Did, StandIn};
use rackwright_e2e::cluster::{Cluster, is_ready};
use rackwright_e2e::racks::NAMESPACE;
use rackwright_e2e::{Bed, Level, Look, Narrator, Programs};
use rackwright_simulator::faults::Fault;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(300);
/// More than half of a simulated machine's processors: one pod fills one node.
const CPU: &str = "20";

struct Story {
    bed: Bed,
    cluster: Cluster,
    stand_in: StandIn,
}

impl Story {
    fn pools(&self) -> Api<NodePool> {
        Api::namespaced(self.bed.client(), NAMESPACE)
    }

    async fn replicas(&self) -> Result<i32> {
        Ok(self.pools().get("web").await?.spec.replicas)
    }

    /// Scans until `done` says so, and gives everything that was done meanwhile.
    async fn scan_until(&mut self, what: &str, done: impl AsyncFn(&Story, &[Did]) -> Result<bool>) -> Result<Vec<Did>> {
        let begun = std::time::Instant::now();
        let mut did = Vec::new();
        while !done(self, &did).await? {
            ensure!(begun.elapsed() < PATIENCE, "{what}: not within {} s; {did:#?}", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_secs(1)).await;
            match self.stand_in.scan().await {
                Ok(now) => did.extend(now),
                // While the service is away the real one skips a loop.
                Err(why) if is_away(&why) => {}
                Err(why) => return Err(why.context(format!("{did:#?}"))),
            }
        }
        self.bed.narrator.step(format!("{what} after {} s", begun.elapsed().as_secs()));
        did.iter().for_each(|did| self.bed.narrator.more(did.to_string()));
        Ok(did)
    }

    async fn worker_nodes(&self) -> Result<Vec<Node>> {
        let nodes = self.bed.nodes(&self.cluster).await?;
        Ok(nodes.into_iter().filter(|node| node.labels().contains_key("rackwright.dev/nodepool")).collect())
    }

    async fn held(&self) -> Result<BTreeMap<String, Host>> {
        let hosts = self.bed.hosts().await?;
        Ok(hosts
            .into_iter()
            .filter(|host| host.spec.reservation.is_some())
            .map(|host| (host.name_any(), host))
            .collect())
    }

    async fn group(&mut self, rack: &str) -> Result<NodeGroup> {
        let groups = self.stand_in.client().node_groups(NodeGroupsRequest {}).await?.into_inner().node_groups;
        let found = groups.iter().find(|group| group.id.ends_with(&format!("/{rack}")));
        found.cloned().with_context(|| format!("no group of {rack} in {groups:?}"))
    }

    /// Puts all hosts of a rack into maintenance, or takes them out again.
    async fn maintenance(&self, rack: &str, on: bool) -> Result<()> {
        let api = Api::<Host>::namespaced(self.bed.client(), NAMESPACE);
        let wanted = if on { json!({ "reason": "new switch" }) } else { json!(null) };
        for host in self.bed.hosts().await?.into_iter().filter(|host| host.spec.rack == rack) {
            let patch = Patch::Merge(json!({ "spec": { "maintenance": wanted } }));
            api.patch(&host.name_any(), &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }
}

fn is_away(why: &anyhow::Error) -> bool {
    why.downcast_ref::<tonic::Status>().is_some_and(|status| status.code() == Code::Unavailable)
}

fn increased<'a>(did: &'a [Did], rack: &str) -> Vec<&'a Did> {
    let of = |group: &str| group.ends_with(&format!("/{rack}"));
    did.iter().filter(|did| matches!(did, Did::Increased { group, .. } if of(group))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_cluster_grows_and_shrinks_with_its_pods_whatever_breaks_meanwhile() -> Result<()> {
    let bed = Bed::start(Programs::from_env()?, Level::racks(), Narrator::stdout()).await?;
    bed.wait_until_available(12, PATIENCE).await?;
    let cluster = bed.create_cluster("demo", 1, 0).await?;
    bed.wait_until_running(&cluster, 0, PATIENCE).await?;
    let labels = json!({ "labels": { "example.com/tier": "web", "node.cluster.x-k8s.io/tier": "web" } });
    let sizes = json!({ "min": 0, "max": 6 });
    let pool = autoscaler::pool("demo", "web", json!({ "replicas": 0, "autoscaling": sizes, "node": labels }))?;
    let pools = Api::<NodePool>::namespaced(bed.client(), NAMESPACE);
    pools.create(&PostParams::default(), &pool).await?;
    let mut service = bed.start_autoscaler().await?;
    only_its_own_autoscaler_is_answered(&bed).await?;
    let stand_in = bed.stand_in(&cluster).await?;
    let mut story = Story { bed, cluster, stand_in };

    // From nothing: two pods wait, two hosts of the first rack are claimed, imaged and joined.
    let first = story.group("rack-a").await?;
    let template = template(&mut story.stand_in, &first.id).await?;
    story.stand_in.add_pod("web-1", CPU, "web").await?;
    story.stand_in.add_pod("web-2", CPU, "web").await?;
    let bound = |did: &[Did], count: usize| did.iter().filter(|did| matches!(did, Did::Bound { .. })).count() == count;
    let did = story.scan_until("two pods run", async |_, did| Ok(bound(did, 2))).await?;
    assert_eq!(increased(&did, "rack-a").len(), 1, "one order for both: {did:?}");
    assert_eq!(story.replicas().await?, 2);
    for node in story.worker_nodes().await? {
        keeps_the_promise(&template, &node)?;
    }
    story.bed.narrator.more(story.bed.kubectl(&["get", "nodepools", "-o", "wide"]).await?);

    // More than the rack has: all or nothing, and the reasons.
    let request = NodeGroupIncreaseSizeRequest { id: first.id.clone(), delta: 4 };
    let refused = story.stand_in.client().node_group_increase_size(request).await.expect_err("too few hosts");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("held by a pool"), "{}", refused.message());
    assert_eq!((story.replicas().await?, story.held().await?.len()), (2, 2));

    // Idle: the nodes go, their machines with them, and the hosts come back wiped.
    story.stand_in.remove_pod("web-1").await?;
    story.stand_in.remove_pod("web-2").await?;
    let gone = async |story: &Story, _: &[Did]| {
        Ok(story.held().await?.is_empty() && story.worker_nodes().await?.is_empty() && story.replicas().await? == 0)
    };
    story.scan_until("both idle nodes are gone", gone).await?;
    story.bed.wait_until_available(11, PATIENCE).await?;

    // The first rack has nothing to give, and in the second every host hangs in POST. The service and the manager are
    // killed while one is on its way. The third rack it is.
    story.maintenance("rack-a", true).await?;
    for unit in 1..=4 {
        story.bed.fleet()?.fault(&format!("rack-b-u0{unit}"), Fault::HangsInPost)?;
    }
    story.stand_in.add_pod("web-3", CPU, "web").await?;
    let did = story
        .scan_until("a host of rack-b is claimed", async |_, did| Ok(!increased(did, "rack-b").is_empty()))
        .await?;
    assert!(increased(&did, "rack-a").is_empty());
    service.kill().await?;
    story.bed.services()?.infrastructure.kill().await?;
    story.bed.narrator.step("the autoscaler's service and the manager are killed");
    service.start()?;
    story.bed.services()?.infrastructure.start()?;
    service.ready().await?;
    story.bed.services()?.infrastructure.ready().await?;
    let did = story.scan_until("the pod runs on another rack", async |_, did| Ok(bound(did, 1))).await?;
    assert!(did.iter().any(|did| matches!(did, Did::GaveUp { group, .. } if group.ends_with("/rack-b"))), "{did:?}");
    assert_eq!(increased(&did, "rack-c").len(), 1, "{did:?}");
    assert_eq!(story.replicas().await?, 1, "what failed is not counted any more");
    let nodes = story.worker_nodes().await?;
    assert!(nodes.len() == 1 && is_ready(&nodes[0]));

    // Nothing stays behind.
    for unit in 1..=4 {
        story.bed.fleet()?.heal(&format!("rack-b-u0{unit}"), Fault::HangsInPost)?;
    }
    story.maintenance("rack-a", false).await?;
    story.pools().delete("web", &Default::default()).await?;
    story
        .bed
        .wait("the pool is gone", PATIENCE, async || {
            let left = story.pools().get_opt("web").await?;
            let waits = left.as_ref().and_then(|pool| pool.status.clone()).unwrap_or_default().waiting_for;
            Ok(Look::when(left.is_none(), format!("{waits:?}")))
        })
        .await?;
    story.bed.delete_cluster(&story.cluster, PATIENCE).await?;
    assert!(story.held().await?.is_empty());
    drop(service);
    story.bed.stop().await;
    Ok(())
}

/// A certificate of another cluster, of two, or none at all gets nothing.
async fn only_its_own_autoscaler_is_answered(bed: &Bed) -> Result<()> {
    for clusters in [&["other"][..], &["demo", "other"], &[]] {
        let answer = bed.call_autoscaler(clusters).await?.node_groups(NodeGroupsRequest {}).await;
        let code = answer.map(|answer| answer.into_inner()).expect_err("nothing is given away").code();
        // Without a certificate there is not even a connection, and how that looks is the library's affair.
        ensure!(clusters.is_empty() || code == Code::PermissionDenied, "{clusters:?}: {code:?}");
    }
    let answer = bed.call_autoscaler(&["demo"]).await?.node_groups(NodeGroupsRequest {}).await?.into_inner();
    let groups: Vec<_> = answer.node_groups.iter().map(|group| group.debug.as_str()).collect();
    ensure!(groups.len() == 3, "one group per rack: {groups:#?}");
    bed.narrator.step("three groups, for the cluster's own autoscaler only");
    groups.iter().for_each(|group| bed.narrator.more(*group));
    Ok(())
}

async fn template(stand_in: &mut StandIn, id: &str) -> Result<Template> {
    let request = NodeGroupTemplateNodeInfoRequest { id: id.into() };
    let answer = stand_in.client().node_group_template_node_info(request).await?.into_inner();
    Ok(Template::decode(answer.node_bytes.as_slice())?)
}

/// What the template promised before there was a node, the node has: every label, and no less of anything.
fn keeps_the_promise(template: &Template, node: &Node) -> Result<()> {
    for (key, value) in &template.metadata.as_ref().context("metadata")?.labels {
        ensure!(node.labels().get(key) == Some(value), "{key}={value} was promised; {:?}", node.labels());
    }
    let promised = &template.status.as_ref().context("status")?.allocatable;
    let has = node.status.as_ref().and_then(|status| status.allocatable.clone()).context("allocatable")?;
    for (name, quantity) in promised {
        let promised = quantity.string.as_deref().and_then(amount).context("no quantity")?;
        let real = has.get(name).and_then(|real| amount(&real.0)).with_context(|| format!("the node has no {name}"))?;
        ensure!(real >= promised && real <= promised * 1.1, "{name}: {promised} promised, {real} there");
    }
    Ok(())
}
