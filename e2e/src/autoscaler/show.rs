//! The demo's part: pods wait, the pool grows for them, and shrinks when they are gone.

use super::{Did, StandIn};
use crate::bed::Bed;
use crate::cluster::Cluster;
use crate::racks::NAMESPACE;
use anyhow::{Result, ensure};
use kube::Api;
use kube::api::PostParams;
use rackwright_api::NodePool;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long each half may take.
const PATIENCE: Duration = Duration::from_secs(300);
const POOL: &str = "elastic";

/// Shows it on `cluster` and leaves no pod behind.
pub async fn show(bed: &Bed, cluster: &Cluster) -> Result<()> {
    let pool = super::pool(&cluster.name, POOL, json!({ "replicas": 0, "autoscaling": { "min": 0, "max": 3 } }))?;
    Api::<NodePool>::namespaced(bed.client(), NAMESPACE).create(&PostParams::default(), &pool).await?;
    let _service = bed.start_autoscaler().await?;
    let mut stand_in = bed.stand_in(cluster).await?;
    bed.narrator.step("rackwright autoscaler serves node pool \"elastic\" (0 to 3 nodes); 2 pods wait for a node");
    for name in ["pod-1", "pod-2"] {
        stand_in.add_pod(name, "20", POOL).await?;
    }
    let mut bound = 0;
    scan(bed, &mut stand_in, async |did| {
        bound += did.iter().filter(|did| matches!(did, Did::Bound { .. })).count();
        Ok(bound == 2)
    })
    .await?;
    bed.narrator.step("both pods run");
    bed.narrator.more(bed.kubectl(&["get", "nodepools"]).await?);
    for name in ["pod-1", "pod-2"] {
        stand_in.remove_pod(name).await?;
    }
    scan(bed, &mut stand_in, async |_| {
        let hosts = bed.hosts().await?;
        Ok(hosts.iter().all(|host| host.spec.reservation.is_none()))
    })
    .await?;
    bed.narrator.step("idle nodes drained, their hosts given back and wiped");
    bed.narrator.more(bed.kubectl(&["get", "nodepools"]).await?);
    Ok(())
}

/// Scans every second and tells what was done, until `done` says so.
async fn scan(bed: &Bed, stand_in: &mut StandIn, mut done: impl AsyncFnMut(&[Did]) -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let did = stand_in.scan().await?;
        did.iter().for_each(|did| bed.narrator.more(did.to_string()));
        if done(&did).await? {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
