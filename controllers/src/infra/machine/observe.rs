//! Reads everything that a decision about one machine may rest on. Writes nothing.

use super::view::{AnswersSeen, Chosen, ClusterSeen, HostSeen, MachineView, OwnerSeen};
use crate::context::Context;
use crate::kubeio::{Error, cached, fresh};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use rackwright_api::cluster::FailureDomainKind;
use rackwright_api::common::KeyReference;
use rackwright_api::conditions::find;
use rackwright_api::contract::{self, CLUSTER_NAME_LABEL, Cluster};
use rackwright_api::machine::{MachineAddress, ProviderId};
use rackwright_api::{Host, MACHINE_FINALIZER, OSImage, POOL_LABEL, RackwrightMachine};
use rackwright_placement::{Candidate, Neighbours, Refusal, unclaimable};
use std::collections::HashMap;
use std::sync::Arc;

/// Labels that say who made a machine, most exact first.
const OWNER_LABELS: [&str; 2] = ["cluster.x-k8s.io/deployment-name", "cluster.x-k8s.io/set-name"];

/// What this pass knows of `machine`.
pub async fn observe(machine: &RackwrightMachine, ctx: &Context) -> Result<MachineView, Error> {
    let namespace = machine.namespace().unwrap_or_default();
    let cluster =
        machine.labels().get(CLUSTER_NAME_LABEL).and_then(|name| cached(&ctx.caches.clusters.store, &namespace, name));
    let owner = contract::owner(&machine.metadata, "Machine")
        .and_then(|owner| {
            cached(&ctx.caches.machines.store, &namespace, &owner.name)
                .filter(|found| found.uid().as_ref() == Some(&owner.uid))
        })
        .map(|owner| OwnerSeen {
            data_secret: owner.spec.bootstrap.data_secret_name.clone(),
            failure_domain: owner.spec.failure_domain.clone(),
            node: owner.status.as_ref().and_then(|status| status.node_ref.as_ref()).map(|node| node.name.clone()),
        });
    let deleting = machine.metadata.deletion_timestamp.is_some();
    let paused = contract::is_paused(&machine.metadata, cluster.as_deref());
    let host = find_host(machine, cluster.as_deref(), deleting, ctx).await?;
    let ready = owner.as_ref().is_some_and(|owner| owner.data_secret.is_some());
    let candidates = match host {
        HostSeen::NotChosen if ready && !deleting && !paused => candidates(machine, &namespace, ctx),
        _ => Vec::new(),
    };
    let image = cached(&ctx.caches.images.store, &namespace, &machine.spec.image.name);
    let claims = match &host {
        HostSeen::NotChosen => ready,
        HostSeen::There(host) => host.claim.is_none() && host.claimable.is_ok(),
        HostSeen::Foreign(_) | HostSeen::Missing(_) => false,
    };
    let answers = match &image {
        Some(image) if claims && !deleting && !paused => answers(image, &namespace, ctx).await?,
        _ => AnswersSeen::None,
    };
    Ok(MachineView {
        name: machine.name_any(),
        uid: machine.uid().unwrap_or_default(),
        generation: machine.metadata.generation,
        spec: machine.spec.clone(),
        status: machine.status.clone().unwrap_or_default(),
        created: machine.creation_timestamp().map(|time| time.0),
        deleting,
        held: machine.finalizers().iter().any(|finalizer| finalizer == MACHINE_FINALIZER),
        paused,
        pooled: machine.labels().contains_key(POOL_LABEL),
        owner,
        cluster: cluster.map(|cluster| ClusterSeen {
            name: cluster.name_any(),
            infrastructure_provisioned: cluster.infrastructure_provisioned(),
        }),
        image,
        answers,
        namespace,
        host,
        candidates,
    })
}

/// What a person's own ConfigMap tells the image's installer. Read as it is now: the claim keeps it for good.
async fn answers(image: &OSImage, namespace: &str, ctx: &Context) -> Result<AnswersSeen, Error> {
    let reference = image.spec.installer.as_ref().and_then(|installer| installer.config_map_ref());
    let Some(KeyReference { name, key }) = reference else { return Ok(AnswersSeen::None) };
    let map = Api::<ConfigMap>::namespaced(ctx.client.clone(), namespace).get_opt(name).await?;
    let text = map.and_then(|map| map.data?.remove(key));
    let missing = || AnswersSeen::Missing(format!("ConfigMap {namespace}/{name} with the key {key} does not exist"));
    Ok(text.map_or_else(missing, AnswersSeen::Text))
}

async fn find_host(
    machine: &RackwrightMachine,
    cluster: Option<&Cluster>,
    deleting: bool,
    ctx: &Context,
) -> Result<HostSeen, Error> {
    let Some(text) = &machine.spec.provider_id else { return Ok(HostSeen::NotChosen) };
    let (namespace, name) = (machine.namespace().unwrap_or_default(), machine.name_any());
    let Some(id) = ProviderId::parse(text).filter(|id| id.namespace == namespace) else {
        return Ok(HostSeen::Foreign(text.clone()));
    };
    let seen = cached(&ctx.caches.hosts.store, &namespace, &id.host);
    let settled = !deleting && seen.as_ref().is_some_and(|host| host.spec.is_claimed_by(&namespace, &name, text));
    // Whatever leads to a claim or to letting go rests on the host as it is now, not as the cache has it.
    let host = match seen {
        Some(host) if settled => fresh(&ctx.client, &ctx.own_writes, &host).await?,
        _ => Api::<Host>::namespaced(ctx.client.clone(), &namespace).get_opt(&id.host).await?.map(Arc::new),
    };
    // A provider ID of an earlier UID is this machine's after `clusterctl move`, and then the host knows the machine. One
    // that a node pool gave it is that of the pool's reservation.
    let pool = machine.labels().get(POOL_LABEL);
    let knows = |host: &Host| {
        let reserved = host
            .spec
            .reservation
            .as_ref()
            .is_some_and(|reservation| reservation.id == id.machine_uid && Some(&reservation.pool.name) == pool);
        let ordered =
            host.spec.wipe.as_ref().is_some_and(|order| order.claim_uid == id.machine_uid && order.released_by == name);
        host.spec.is_claimed_by(&namespace, &name, text) || ordered || reserved
    };
    if machine.uid().as_ref() != Some(&id.machine_uid) && !host.as_deref().is_some_and(knows) {
        return Ok(HostSeen::Foreign(text.clone()));
    }
    Ok(match host {
        None => HostSeen::Missing(id),
        Some(host) => HostSeen::There(Box::new(chosen(id, &host, cluster, ctx))),
    })
}

fn chosen(id: ProviderId, host: &Host, cluster: Option<&Cluster>, ctx: &Context) -> Chosen {
    let spec = &host.spec;
    let status = host.status.clone().unwrap_or_default();
    let refusal = unclaimable(host, Some(&id.machine_uid));
    let ready = find(&status.conditions, "Ready");
    let failing = status.agent.as_ref().is_some_and(|agent| {
        agent.failure.is_some() && status.operation.as_ref().is_some_and(|operation| operation.id == agent.operation_id)
    });
    let unreachable = find(&status.conditions, "Reachable").filter(|condition| condition.status == "False");
    let troubles = unreachable
        .or(ready.filter(|_| failing))
        .map(|condition| (condition.reason.clone(), condition.message.clone()));
    Chosen {
        claim: spec.claim.clone(),
        wiped: !spec.needs_wipe(),
        wipe: spec.wipe.clone(),
        deployed: spec.is_deployed(),
        claimable: refusal.map_or(Ok(()), |refusal| Err(refusal.as_text().to_string())),
        broken: spec.broken.clone(),
        phase: status.phase,
        troubles,
        waiting_for: status.waiting_for.clone(),
        failure_domain: failure_domain(host, &id.namespace, cluster, ctx),
        addresses: addresses(host, &id.namespace, ctx),
        id,
    }
}

/// The rack, or the datacenter where the cluster publishes datacenters as its failure domains.
fn failure_domain(host: &Host, namespace: &str, cluster: Option<&Cluster>, ctx: &Context) -> String {
    let infrastructure = cluster.and_then(|cluster| {
        ctx.caches.rackwright_clusters.store.find(|candidate| {
            candidate.namespace().as_deref() == Some(namespace)
                && contract::owner(&candidate.metadata, "Cluster")
                    .is_some_and(|owner| Some(&owner.uid) == cluster.uid().as_ref())
        })
    });
    let kind = infrastructure.and_then(|cluster| cluster.spec.failure_domains.as_ref().map(|domains| domains.from));
    match kind {
        Some(FailureDomainKind::Datacenter) => cached(&ctx.caches.racks.store, namespace, &host.spec.rack)
            .map_or_else(|| host.spec.rack.clone(), |rack| rack.spec.datacenter.clone()),
        _ => host.spec.rack.clone(),
    }
}

fn addresses(host: &Host, namespace: &str, ctx: &Context) -> Vec<MachineAddress> {
    let address = |kind: &str, address: &str| MachineAddress { kind: kind.into(), address: address.into() };
    let hostname = host.spec.claim.iter().map(|claim| address("Hostname", &claim.hostname));
    let facts = cached(&ctx.caches.hardware.store, namespace, &host.name_any());
    let mut all: Vec<_> = hostname.collect();
    for nic in facts.iter().flat_map(|hardware| &hardware.spec.facts.nics) {
        all.extend(nic.addresses.iter().map(|ip| address("InternalIP", ip.split('/').next().unwrap_or(ip))));
    }
    all.truncate(32);
    all
}

fn candidates(machine: &RackwrightMachine, namespace: &str, ctx: &Context) -> Vec<Candidate> {
    let now = ctx.clock.now();
    let uid = machine.uid().unwrap_or_default();
    let hosts = ctx.caches.hosts.store.state_filter(|host| host.namespace().as_deref() == Some(namespace));
    let datacenters: HashMap<String, String> = (ctx.caches.racks.store.state().iter())
        .filter(|rack| rack.namespace().as_deref() == Some(namespace))
        .map(|rack| (rack.name_any(), rack.spec.datacenter.clone()))
        .collect();
    let siblings = siblings(machine, namespace, ctx);
    let rack_of: HashMap<String, String> = hosts.iter().map(|host| (host.name_any(), host.spec.rack.clone())).collect();
    let mut in_rack = HashMap::<&str, i32>::new();
    let mut in_datacenter = HashMap::<&str, i32>::new();
    for rack in siblings.iter().filter_map(|host| rack_of.get(host)) {
        *in_rack.entry(rack).or_default() += 1;
        *in_datacenter.entry(datacenters.get(rack).map_or("", String::as_str)).or_default() += 1;
    }
    let chosen_by_others = chosen_by_others(&uid, namespace, ctx);
    let candidate = |host: &Arc<Host>| {
        let host_uid = host.uid().unwrap_or_default();
        let reserved = ctx.reservations.holder(&host_uid, now).is_some_and(|holder| holder != uid);
        let taken = unclaimable(host, None)
            .or((reserved || chosen_by_others.contains(&host.name_any())).then_some(Refusal::Claimed));
        let datacenter = datacenters.get(&host.spec.rack).cloned().unwrap_or_default();
        Candidate {
            name: host.name_any(),
            uid: host_uid,
            labels: host.labels().clone(),
            rack: host.spec.rack.clone(),
            taken,
            facts: cached(&ctx.caches.hardware.store, namespace, &host.name_any())
                .map(|hardware| hardware.spec.facts.clone()),
            neighbours: Neighbours {
                rack: in_rack.get(host.spec.rack.as_str()).copied().unwrap_or_default(),
                datacenter: in_datacenter.get(datacenter.as_str()).copied().unwrap_or_default(),
            },
            datacenter,
            kept_warm: host.spec.warm.is_some(),
        }
    };
    hosts.iter().map(candidate).collect()
}

/// Names of the hosts that machines of the same owner have, with those chosen a moment ago.
fn siblings(machine: &RackwrightMachine, namespace: &str, ctx: &Context) -> Vec<String> {
    let group = |machine: &RackwrightMachine| {
        let labels = machine.labels();
        let owner = OWNER_LABELS.iter().find_map(|label| labels.get(*label)).cloned();
        (labels.get(CLUSTER_NAME_LABEL).cloned(), owner, labels.contains_key(contract::CONTROL_PLANE_LABEL))
    };
    let (own, uid) = (group(machine), machine.uid());
    let others = ctx.caches.rackwright_machines.store.state_filter(|other| {
        other.uid() != uid && other.namespace().as_deref() == Some(namespace) && group(other) == own
    });
    let known =
        others.iter().filter_map(|other| ProviderId::parse(other.spec.provider_id.as_deref()?)).map(|id| id.host);
    let reserved = others.iter().filter_map(|other| {
        let holder = other.uid()?;
        other.spec.provider_id.is_none().then(|| ctx.reservations.host_of(&holder, ctx.clock.now()))?
    });
    known.chain(reserved).collect()
}

fn chosen_by_others(uid: &str, namespace: &str, ctx: &Context) -> std::collections::HashSet<String> {
    let machines =
        ctx.caches.rackwright_machines.store.state_filter(|other| {
            other.namespace().as_deref() == Some(namespace) && other.uid().as_deref() != Some(uid)
        });
    machines
        .iter()
        .filter_map(|other| ProviderId::parse(other.spec.provider_id.as_deref()?))
        .map(|id| id.host)
        .collect()
}
