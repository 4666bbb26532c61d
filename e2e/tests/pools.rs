//! A NodePool on racks of machines, run by the real Cluster API core: grown, shrunk, rolled out, rolled back.

use anyhow::{Context, Result, ensure};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rackwright_api::host::OperationKind;
use rackwright_api::{Host, NodePool, OSImage};
use rackwright_e2e::cluster::Cluster;
use rackwright_e2e::racks::{NAMESPACE, OS_IMAGE};
use rackwright_e2e::{Bed, Layout, Level, Look, Narrator, Programs};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);

/// A pool and the cluster it belongs to.
struct Story {
    bed: Bed,
    cluster: Cluster,
}

impl Story {
    /// Three racks of so many machines; a cluster with a control plane and a pool of `replicas`, all Running.
    async fn begin(hosts_per_rack: u8, replicas: i32, rollout: Value) -> Result<Story> {
        let layout = Layout { hosts_per_rack, ..Layout::default() };
        let bed = Bed::start(Programs::from_env()?, Level::Racks(layout), Narrator::stdout()).await?;
        bed.wait_until_available(layout.hosts(), PATIENCE).await?;
        let cluster = bed.create_cluster("demo", 1, 0).await?;
        let story = Story { bed, cluster };
        let extra = json!({
            "replicas": replicas, "rollout": rollout, "spread": { "over": "Rack", "maxSkew": 1 },
            "node": { "labels": { "example.com/tier": "web" } },
        });
        let pool = rackwright_e2e::autoscaler::pool("demo", "web", extra)?;
        story.pools().create(&PostParams::default(), &pool).await?;
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

    /// A pool whose node joins by kubeadm, from a template of Cluster API's own bootstrap provider; and it goes again.
    async fn a_pool_joins_by_kubeadm(&self) -> Result<()> {
        let registration =
            json!({ "kubeletExtraArgs": [{ "name": "provider-id", "value": "{{ ds.meta_data.provider_id }}" }] });
        let template = json!({
            "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfigTemplate",
            "metadata": { "name": "classic", "namespace": NAMESPACE },
            "spec": { "template": { "spec": { "joinConfiguration": { "nodeRegistration": registration } } } },
        });
        rackwright_e2e::objects::apply(&self.bed.client(), &serde_json::from_value(template)?).await?;
        let bootstrap = json!({ "configTemplateRef": { "kind": "KubeadmConfigTemplate", "name": "classic" } });
        let pool =
            rackwright_e2e::autoscaler::pool("demo", "classic", json!({ "replicas": 1, "bootstrap": bootstrap }))?;
        self.pools().create(&PostParams::default(), &pool).await?;
        let status = async || Ok::<_, anyhow::Error>(self.pools().get("classic").await?.status.unwrap_or_default());
        self.bed
            .wait("a node that joined by kubeadm", PATIENCE, async || {
                let status = status().await?;
                Ok(Look::when(status.available_replicas == 1, format!("{:?}", status.waiting_for)))
            })
            .await?;
        self.tell("a pool from a KubeadmConfigTemplate is Running").await?;
        self.pools().delete("classic", &Default::default()).await?;
        self.bed
            .wait("that pool is gone", PATIENCE, async || {
                let left = self.pools().get_opt("classic").await?;
                Ok(Look::when(left.is_none(), format!("{:?}", left.and_then(|pool| pool.status))))
            })
            .await
    }

    /// A cold host and a warm one, timed; and a host that stays warm for a while after it was given back.
    async fn a_warm_host_serves_first(&self) -> Result<()> {
        let cold = self.grow_to_four().await?;
        self.bed.kubectl(&["scale", "nodepool/web", "--replicas=3"]).await?;
        self.settled().await?;

        self.patch(json!({ "idle": { "warm": 1 } })).await?;
        let kept = self.until_warm(1).await?.context("a host is kept warm")?;
        self.tell("one host is kept warm").await?;
        let warm = self.grow_to_four().await?;
        let host = self.bed.host(&kept.name_any()).await?;
        ensure!(host.spec.is_deployed() && host.spec.reservation.is_some(), "the warm host is taken first");
        let tries = host.status.clone().unwrap_or_default().history;
        let last = tries.iter().rfind(|ended| ended.kind == OperationKind::Deploy).context("it was deployed")?;
        ensure!(last.way.is_none() && last.attempt == 1, "no ramdisk was started for it: {tries:?}");
        self.tell(&format!("3 to 4 from a cold host: {cold:.1?}, from a warm one: {warm:.1?}")).await?;

        self.patch(json!({ "idle": { "powerOffAfterSeconds": 3600 } })).await?;
        self.patch(json!({ "idle": { "warm": null } })).await?;
        self.until_warm(0).await?;
        self.bed.kubectl(&["scale", "nodepool/web", "--replicas=3"]).await?;
        self.settled().await?;
        let kept = self.until_warm(1).await?.context("the host that was given back stays warm")?;
        ensure!(
            kept.spec.warm.as_ref().is_some_and(|order| order.until.is_some()),
            "for a while: {:?}",
            kept.spec.warm
        );
        self.patch(json!({ "idle": null })).await?;
        self.until_warm(0).await?;
        let off = async || {
            let power = self.bed.host(&kept.name_any()).await?.status.unwrap_or_default().power;
            Ok(Look::when(power.as_deref() == Some("Off"), format!("{power:?}")))
        };
        self.bed.wait("it is off", PATIENCE, off).await
    }

    /// How long it takes from the order to the node.
    async fn grow_to_four(&self) -> Result<Duration> {
        let began = Instant::now();
        self.bed.kubectl(&["scale", "nodepool/web", "--replicas=4"]).await?;
        self.settled().await?;
        Ok(began.elapsed())
    }

    /// Waits until so many hosts are warm, and gives the first that is kept.
    async fn until_warm(&self, count: i32) -> Result<Option<Host>> {
        self.bed
            .wait(&format!("{count} warm hosts"), PATIENCE, async || {
                let status = self.pools().get("web").await?.status.unwrap_or_default();
                let kept = self.bed.hosts().await?.into_iter().find(|host| host.spec.warm.is_some());
                let said = format!("{} warm, {:?} kept", status.warm, kept.as_ref().map(ResourceExt::name_any));
                let holds = status.warm == count && kept.is_some() == (count > 0);
                Ok(if holds { Look::Seen(kept) } else { Look::NotYet(said) })
            })
            .await
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
    let story = Story::begin(4, 3, json!({})).await?;
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

    story.a_warm_host_serves_first().await?;
    story.a_pool_joins_by_kubeadm().await?;

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
async fn a_bad_canary_goes_back_by_itself_and_a_good_image_reaches_twelve_hosts_rack_by_rack() -> Result<()> {
    let canary = json!({ "steps": [{ "count": 1, "soakSeconds": 5 }], "timeoutSeconds": 45 });
    let mut story = Story::begin(5, 12, json!({ "maxUnavailable": 2, "canary": canary })).await?;
    let before = story.lives().await?;
    assert_eq!(story.per_rack().await?, [4, 4, 4]);

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
    assert_eq!(same, 11, "only the canary was touched: {before:?} {after:?}");
    story.tell("the bad image was tried on one host and taken back").await?;

    story.add_image("node-2", None).await?;
    story.patch(json!({ "image": { "name": "node-2" } })).await?;
    let seen = story.follow_rollout("node-2", &after).await?;
    story.settled().await?;
    let renewed = story.lives().await?;
    assert_eq!(renewed.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "in place: the same hosts");
    assert!(renewed.iter().all(|(host, id)| after.get(host) != Some(id)), "each in a new life");
    assert!(seen.most_missing == 2, "two at a time: {seen:?}");
    let pool = story.pools().get("web").await?;
    pool.status.context("has a status")?.rollout.map_or(Ok(()), |text| Err(anyhow::anyhow!("still {text}")))?;
    story.tell("the good image reached all twelve, on the same hosts").await?;
    story.bed.stop().await;
    Ok(())
}

/// What was seen of a rollout from outside.
#[derive(Debug, Default)]
struct Followed {
    looks: u32,
    most_missing: usize,
}

impl Story {
    /// Looks at the pool's Machines all the time until every host in `hosts` has `image`. Never are more than two of them
    /// without a running Machine, and never in two racks at once. In the middle of it the manager is killed.
    async fn follow_rollout(&mut self, image: &str, hosts: &BTreeMap<String, String>) -> Result<Followed> {
        let racks: BTreeMap<_, _> =
            self.bed.hosts().await?.into_iter().map(|host| (host.name_any(), host.spec.rack)).collect();
        let begun = std::time::Instant::now();
        let (mut seen, mut killed) = (Followed::default(), false);
        loop {
            let machines = self.bed.workers(&self.cluster).await?;
            let runs = |host: &&String| {
                machines.iter().any(|machine| {
                    machine.host().as_ref() == Some(*host) && machine.phase == "Running" && !machine.deleting
                })
            };
            let missing: Vec<_> = hosts.keys().filter(|host| !runs(host)).collect();
            let places: BTreeSet<_> = missing.iter().map(|host| &racks[*host]).collect();
            ensure!(missing.len() <= 2 && places.len() <= 1, "missing at once: {missing:?}");
            seen.looks += 1;
            seen.most_missing = seen.most_missing.max(missing.len());
            let done = self.bed.hosts().await?.iter().filter(|host| runs_image(host, image)).count();
            if done == hosts.len() && missing.is_empty() {
                self.bed.narrator.step(format!("{done} hosts in {} s: {seen:?}", begun.elapsed().as_secs()));
                return Ok(seen);
            }
            if done >= 3 && !missing.is_empty() && !killed {
                killed = true;
                let manager = &mut self.bed.services()?.infrastructure;
                manager.kill().await?;
                manager.start()?;
                manager.ready().await?;
                self.bed.narrator.step(format!("the manager was killed after {done} hosts"));
            }
            ensure!(begun.elapsed() < 3 * PATIENCE, "{done} hosts have {image}, missing {missing:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

fn runs_image(host: &Host, image: &str) -> bool {
    let claimed = host.spec.claim.as_ref().is_some_and(|claim| claim.image.name == image);
    host.spec.reservation.is_some() && claimed && host.spec.is_deployed()
}
