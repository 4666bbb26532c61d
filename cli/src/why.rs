//! `rackwright why POOL`: which hosts serve a node pool, and why the others do not.
//!
//! The same rules as the pool's reconciler, over what the cluster holds now. Reads only.

use crate::access::Access;
use crate::output::{Absent, Output};
use clap::Args;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use rackwright_api::{Host, NodePool, OSImage};
use rackwright_controllers::pool::observe::{Inventory, hosts};
use rackwright_controllers::pool::view::HostSeen;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::Arc;

/// Tells why a node pool has the hosts that it has, and why none of the others.
#[derive(Args)]
pub struct WhyArgs {
    #[command(flatten)]
    access: Access,
    /// Name of the NodePool.
    pool: String,
    /// Text for people, or JSON or YAML for scripts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// A pool and every host of its namespace.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Why {
    pool: String,
    replicas: i32,
    held: usize,
    spare: usize,
    hosts: Vec<Line>,
}

/// One host that does not serve the pool.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    host: String,
    rack: String,
    /// Absent: it is spare.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The pool keeps it warm.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    kept_warm: bool,
}

/// Prints the answer.
pub async fn run(args: WhyArgs) -> anyhow::Result<()> {
    let (client, namespace) = args.access.client().await?;
    let Some(pool) = Api::<NodePool>::namespaced(client.clone(), &namespace).get_opt(&args.pool).await? else {
        let message =
            format!("namespace {namespace} has no NodePool {}; `kubectl get nodepools -A` lists them", args.pool);
        return Err(Absent(message).into());
    };
    let inventory = Inventory {
        hosts: list(&client, &namespace).await?,
        hardware: list(&client, &namespace).await?,
        racks: list(&client, &namespace).await?,
        datacenters: list(&client, &namespace).await?,
        machines: list(&client, &namespace).await?,
        image: Api::<OSImage>::namespaced(client, &namespace).get_opt(&pool.spec.image.name).await?.map(Arc::new),
    };
    print!("{}", args.output.of(&why(&pool, &inventory), text)?);
    Ok(())
}

async fn list<K>(client: &Client, namespace: &str) -> anyhow::Result<Vec<Arc<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let found = Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    Ok(found.items.into_iter().map(Arc::new).collect())
}

fn why(pool: &NodePool, inventory: &Inventory) -> Why {
    let seen = hosts(pool, inventory);
    let by_name: BTreeMap<_, &Host> = inventory.hosts.iter().map(|host| (host.name_any(), host.as_ref())).collect();
    let line = |seen: &HostSeen| Line {
        host: seen.name.clone(),
        rack: by_name.get(&seen.name).map(|host| host.spec.rack.clone()).unwrap_or_default(),
        why: seen.refusal.map(|refusal| {
            let detail = by_name.get(&seen.name).and_then(|host| detail(&host.spec));
            detail.map_or_else(|| refusal.as_text().into(), |detail| format!("{}: {detail}", refusal.as_text()))
        }),
        kept_warm: seen.is_kept_warm(),
    };
    let mut lines: Vec<_> = seen.iter().filter(|host| host.life.is_none()).map(line).collect();
    lines.sort_by(|a, b| (&a.why, &a.host).cmp(&(&b.why, &b.host)));
    Why {
        pool: pool.name_any(),
        replicas: pool.spec.replicas,
        held: seen.iter().filter(|host| host.life.is_some()).count(),
        spare: lines.iter().filter(|line| line.why.is_none()).count(),
        hosts: lines,
    }
}

/// What a person wrote or was told about the host that matters here.
fn detail(spec: &rackwright_api::host::HostSpec) -> Option<String> {
    let claim = spec.claim.as_ref().map(|claim| format!("by machine {}", claim.consumer.name));
    claim
        .or_else(|| spec.reservation.as_ref().map(|held| format!("pool {}", held.pool.name)))
        .or_else(|| spec.maintenance.as_ref().map(|maintenance| format!("{:?}", maintenance.reason)))
        .or_else(|| spec.broken.as_ref().map(|broken| broken.message.clone()))
}

fn text(why: &Why) -> String {
    let others = why.hosts.len() - why.spare;
    let mut text = format!(
        "{}: {} of {} replicas have a host; {} spare; {others} of the namespace's other hosts will not do\n",
        why.pool,
        why.held.min(usize::try_from(why.replicas).unwrap_or_default()),
        why.replicas,
        why.spare
    );
    let width = why.hosts.iter().map(|line| line.host.len()).max().unwrap_or_default();
    let rack = why.hosts.iter().map(|line| line.rack.len()).max().unwrap_or_default();
    for line in &why.hosts {
        let why = line.why.as_deref().unwrap_or(if line.kept_warm { "spare, kept warm" } else { "spare" });
        let _ = writeln!(text, "  {:width$}  {:rack$}  {why}", line.host, line.rack);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn host(name: &str, spec: Value) -> Arc<Host> {
        let yes = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "Known", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let mut host = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host",
            "metadata": { "name": name, "namespace": "metal", "generation": 1 },
            "spec": {
                "rack": "osl1-a01", "bmc": { "address": "https://10.1.1.7" }, "bootMACAddress": "52:54:00:00:00:01",
            },
            "status": { "phase": "Available", "observedGeneration": 1, "conditions": [yes("Reachable"), yes("Ready")] },
        });
        host["spec"].as_object_mut().expect("an object").extend(spec.as_object().cloned().unwrap_or_default());
        Arc::new(serde_json::from_value(host).expect("a Host"))
    }

    fn hardware(name: &str, memory_gib: i64) -> Arc<rackwright_api::HostHardware> {
        let found = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "HostHardware",
            "metadata": { "name": name, "namespace": "metal" },
            "spec": {
                "operationID": "1", "inspectedAt": "2026-01-01T00:00:00Z",
                "facts": {
                    "cpu": { "architecture": "amd64", "cores": 32, "threads": 64 }, "memoryMiB": memory_gib * 1024,
                    "disks": [], "nics": [],
                },
            },
        });
        Arc::new(serde_json::from_value(found).expect("a HostHardware"))
    }

    #[test]
    fn every_host_has_its_reason() {
        let held = |pool: &str| {
            json!({ "reservation": {
                "pool": { "namespace": "metal", "name": pool, "uid": "1" }, "id": "1", "at": "2026-01-01T00:00:00Z",
            } })
        };
        let names = ["osl1-a01-u01", "osl1-a01-u02", "osl1-a01-u03", "osl1-a01-u04", "osl1-a01-u05", "osl1-a01-u06"];
        let maintained = json!({ "maintenance": { "reason": "DIMM swap" } });
        let warm = json!({ "warm": { "pool": { "namespace": "metal", "name": "web", "uid": "1" }, "id": "1" } });
        let specs = [held("web"), held("batch"), maintained, json!({}), json!({}), warm];
        let inventory = Inventory {
            hosts: names.iter().zip(specs).map(|(name, spec)| host(name, spec)).collect(),
            hardware: names.iter().map(|name| hardware(name, if name.ends_with("u05") { 64 } else { 512 })).collect(),
            ..Inventory::default()
        };
        let pool = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "NodePool",
            "metadata": { "name": "web", "namespace": "metal" },
            "spec": {
                "clusterName": "prod", "version": "v1.36.3", "replicas": 3, "image": { "name": "debian" },
                "bootstrap": { "config": {} }, "hardware": { "minMemoryGiB": 256 },
            },
        });
        let pool = serde_json::from_value(pool).expect("a NodePool");
        insta::assert_snapshot!(text(&why(&pool, &inventory)), @r#"
        web: 1 of 3 replicas have a host; 2 spare; 3 of the namespace's other hosts will not do
          osl1-a01-u04  osl1-a01  spare
          osl1-a01-u06  osl1-a01  spare, kept warm
          osl1-a01-u02  osl1-a01  held by a node pool: pool batch
          osl1-a01-u03  osl1-a01  in maintenance: "DIMM swap"
          osl1-a01-u05  osl1-a01  with too little memory
        "#);
    }
}
