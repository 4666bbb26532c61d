//! A NodePool on racks of machines, run by the real Cluster API core: grown, shrunk, rolled out, rolled back.

use anyhow::{Context, Result};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rackwright_api::{NodePool, OSImage};
use rackwright_e2e::cluster::Cluster;
use rackwright_e2e::racks::{NAMESPACE, OS_IMAGE};
use rackwright_e2e::{Bed, Level, Look, Narrator, Programs};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(300);

/// A pool and the cluster it belongs to.
struct Story {
    bed: Bed,
    cluster: Cluster,
}

impl Story {
    /// Three racks of four machines; a cluster with a control plane and a pool of `replicas`, all Running.
    async fn begin(replicas: i32, rollout: Value) -> Result<Story> {
        let bed = Bed::start(Programs::from_env()?, Level::racks(), Narrator::stdout()).await?;
        bed.wait_until_available(12, PATIENCE).await?;
        let cluster = bed.create_cluster("demo", 1, 0).await?;
        let story = Story { bed, cluster };
        let pool = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "NodePool", "metadata": { "name": "web" },
            "spec": {
                "clusterName": "demo", "version": rackwright_e2e::programs::KUBERNETES_VERSION, "replicas": replicas,
                "image": { "name": OS_IMAGE }, "bootstrap": { "config": { "join": "Kubelet" } },
                "spread": { "over": "Rack", "maxSkew": 1 }, "deletion": { "nodeDrainTimeoutSeconds": 10 },
                "node": { "labels": { "example.com/tier": "web" } }, "rollout": rollout,
            },
        });
        story.pools().create(&PostParams::default(), &serde_json::from_value(pool)?).await?;
        story.bed.wait_until_running(&story.cluster, usize::try_from(replicas)?, PATIENCE).await?;
        story.settled().await?;
        let lives = story.lives().await?;
        story.tell(&format!("a pool of {replicas} is Running: {lives:?}")).await?;
        Ok(story)
    }

    async fn tell(&self, text: &str) -> Result<()> {
        self.bed.narrator.step(text);
        self.bed.narrator.more(self.bed.kubectl(&["get", "nodepools", "-o", "wide"]).await?);
        Ok(())
    }

    fn pools(&self) -> Api<NodePool> {
        Api::namespaced(self.bed.client(), NAMESPACE)
    }

    async fn patch(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.pools().patch("web", &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until the pool has nothing to wait for and says so of its newest spec.
    async fn settled(&self) -> Result<NodePool> {
        self.bed
            .wait("the pool is settled", PATIENCE, async || {
                let pool = self.pools().get("web").await?;
                let status = pool.status.clone().unwrap_or_default();
                let said = format!("{:?} {:?} {:?}", status.waiting_for, status.rollout, status.replicas);
                let settled = status.observed_generation == pool.metadata.generation
                    && status.waiting_for.is_none()
                    && status.available_replicas == pool.spec.replicas
                    && status.replicas == pool.spec.replicas
                    && pool.spec.release.is_empty();
                Ok(if settled { Look::Seen(pool) } else { Look::NotYet(said) })
            })
            .await
    }

    /// Hosts of the pool and the identifiers of their lives.
    async fn lives(&self) -> Result<BTreeMap<String, String>> {
        let hosts = self.bed.hosts().await?;
        Ok(hosts.iter().filter_map(|host| Some((host.name_any(), host.spec.reservation.clone()?.id))).collect())
    }

    /// How many hosts of each rack the pool holds.
    async fn per_rack(&self) -> Result<Vec<usize>> {
        let mut racks = BTreeMap::<String, usize>::new();
        for host in self.bed.hosts().await? {
            *racks.entry(host.spec.rack.clone()).or_default() += usize::from(host.spec.reservation.is_some());
        }
        Ok(racks.into_values().collect())
    }

    /// A second image; with `digest`, one that does not fit.
    async fn add_image(&self, name: &str, digest: Option<String>) -> Result<()> {
        let images = Api::<OSImage>::namespaced(self.bed.client(), NAMESPACE);
        let mut spec = images.get(OS_IMAGE).await?.spec;
        if let (Some(disk), Some(digest)) = (&mut spec.disk, digest) {
            disk.digest = digest;
        }
        images.create(&PostParams::default(), &OSImage::new(name, spec)).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_pool_grows_and_shrinks_evenly_over_racks_and_leaves_nothing_behind() -> Result<()> {
    let story = Story::begin(3, json!({})).await?;
    assert_eq!(story.per_rack().await?, [1, 1, 1]);
    let nodes = story.bed.nodes(&story.cluster).await?;
    let labelled = nodes.iter().filter(|node| node.labels().get("example.com/tier").is_some()).count();
    assert_eq!(labelled, 3, "the nodes of the pool carry its labels");

    story.bed.kubectl(&["scale", "nodepool/web", "--replicas=6"]).await?;
    story.settled().await?;
    assert_eq!(story.per_rack().await?, [2, 2, 2]);
    story.tell("grown to 6 by kubectl scale").await?;

    story.bed.kubectl(&["scale", "nodepool/web", "--replicas=3"]).await?;
    story.settled().await?;
    assert_eq!(story.per_rack().await?, [1, 1, 1]);
    story.tell("shrunk to 3").await?;

    // Between them the pool and a MachineDeployment want more than there is: nobody gets a host twice.
    story.bed.kubectl(&["scale", "nodepool/web", "--replicas=8"]).await?;
    story.bed.scale(&story.cluster, 8).await?;
    let taken = story
        .bed
        .wait("every host is used", PATIENCE, async || {
            let hosts = story.bed.hosts().await?;
            let claims: Vec<_> = hosts.iter().filter_map(|host| host.spec.claim.clone()).collect();
            let said = claims.len().to_string();
            Ok(if claims.len() == 12 { Look::Seen(claims) } else { Look::NotYet(said) })
        })
        .await?;
    let consumers: BTreeSet<_> = taken.iter().map(|claim| claim.consumer.uid.clone()).collect();
    assert_eq!(consumers.len(), 12);
    story.tell("a pool and a MachineDeployment share what there is").await?;

    story.pools().delete("web", &Default::default()).await?;
    story.bed.delete_cluster(&story.cluster, PATIENCE).await?;
    story.bed.wait_until_available(12, PATIENCE).await?;
    assert_eq!(story.lives().await?, BTreeMap::new());
    assert!(story.pools().list(&ListParams::default()).await?.items.is_empty());
    story.bed.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_bad_canary_goes_back_by_itself_and_a_good_image_reaches_every_host_in_place() -> Result<()> {
    let canary = json!({ "steps": [{ "count": 1, "soakSeconds": 5 }], "timeoutSeconds": 45 });
    let story = Story::begin(6, json!({ "maxUnavailable": 2, "canary": canary })).await?;
    let before = story.lives().await?;

    story.add_image("bad", Some(format!("sha256:{}", "0".repeat(64)))).await?;
    story.patch(json!({ "image": { "name": "bad" } })).await?;
    let rolled_back = async || {
        let status = story.pools().get("web").await?.status.unwrap_or_default();
        let text = status.rollout.clone().unwrap_or_default();
        Ok(Look::when(text.starts_with("rolled back"), format!("{text} {:?}", status.waiting_for)))
    };
    story.bed.wait("the canary is rolled back", PATIENCE, rolled_back).await?;
    story.settled().await?;
    let after = story.lives().await?;
    let same = before.iter().filter(|(host, id)| after.get(*host) == Some(id)).count();
    assert_eq!(same, 5, "only the canary was touched: {before:?} {after:?}");
    story.tell("the bad image was tried on one host and taken back").await?;

    story.add_image("node-2", None).await?;
    story.patch(json!({ "image": { "name": "node-2" } })).await?;
    let renewed = async || {
        let hosts = story.bed.hosts().await?;
        let claims = hosts
            .iter()
            .filter(|host| host.spec.reservation.is_some())
            .filter_map(|host| Some(host.spec.claim.as_ref()?.image.name.clone()));
        let images: Vec<_> = claims.collect();
        Ok(Look::when(images.len() == 6 && images.iter().all(|image| image == "node-2"), images.join(" ")))
    };
    story.bed.wait("every host has the new image", PATIENCE, renewed).await?;
    story.settled().await?;
    let renewed = story.lives().await?;
    assert_eq!(renewed.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "in place: the same hosts");
    assert!(renewed.iter().all(|(host, id)| after.get(host) != Some(id)), "each in a new life");
    let pool = story.pools().get("web").await?;
    pool.status.context("has a status")?.rollout.map_or(Ok(()), |text| Err(anyhow::anyhow!("still {text}")))?;
    story.tell("the good image reached all six, on the same hosts").await?;
    story.bed.stop().await;
    Ok(())
}
