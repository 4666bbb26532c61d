//! Does the one effect of a step. Decides nothing.

use super::decide::Step;
use super::labels;
use super::revision::{Blueprint, FAILED_ANNOTATION};
use super::view::{PoolView, machine_name};
use crate::context::Context;
use crate::infra::machine::claimed_image;
use crate::kubeio::{self, Error, Kind, cached, manager};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Resource, ResourceExt};
use rackwright_api::common::UidReference;
use rackwright_api::conditions::{Said, merge};
use rackwright_api::contract::{CLUSTER_NAME_LABEL, Machine, MachineDeletion};
use rackwright_api::host::{Reservation, WarmOrder};
use rackwright_api::machine::ProviderId;
use rackwright_api::pool::{ConfigTemplateKind, HostLife};
use rackwright_api::{
    Host, MACHINE_FINALIZER, NodePool, POOL_FINALIZER, POOL_LABEL, REVISION_LABEL, RackwrightMachine,
};
use rackwright_placement::Refusal;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What came of a step.
#[derive(Debug)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// It is done.
    Done,
    /// It could not be done; the next pass looks again.
    Failed(String),
}

/// Does the one effect of `step`.
pub async fn act(pool: &NodePool, view: &PoolView, step: &Step, ctx: &Context) -> Outcome {
    match effect(pool, view, step, ctx).await {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Nothing,
        Err(why) => Outcome::Failed(why),
    }
}

async fn effect(pool: &NodePool, view: &PoolView, step: &Step, ctx: &Context) -> Result<bool, String> {
    let namespace = pool.namespace().unwrap_or_default();
    let text = |why: Error| why.to_string();
    match step {
        Step::Rest | Step::Paused | Step::Wait(_) => return Ok(false),
        Step::Hold => {
            let held = kubeio::hold(&ctx.client, manager::POOL, pool, POOL_FINALIZER, json!({})).await;
            ctx.own_writes.note(&held.map_err(text)?);
        }
        Step::LetGo if !view.held => return Ok(false),
        Step::LetGo => {
            kubeio::let_go(&ctx.client, manager::POOL, pool, POOL_FINALIZER).await.map_err(text)?;
        }
        Step::RecordRevision => record_revision(pool, view, ctx).await?,
        Step::ForgetRevision { revision } => delete::<ControllerRevision>(&namespace, revision, ctx).await?,
        Step::FailRevision { revision, why } => {
            let api = Api::<ControllerRevision>::namespaced(ctx.client.clone(), &namespace);
            let found = api.get(revision).await.map_err(|why| why.to_string())?;
            let fields = json!({ "metadata": { "annotations": { FAILED_ANNOTATION: why } } });
            write(&found, fields, ctx).await.map_err(text)?;
            ctx.events
                .warning(pool, "RevisionFailed", format!("Revision {revision} is not used any more: {why}"))
                .await;
        }
        Step::Reserve { host } | Step::Renew { host } => hold(pool, host, step, ctx).await.map_err(text)?,
        Step::Release { life, why } => {
            let mut release = pool.spec.release.clone();
            release.push(life.clone());
            write(pool, json!({ "spec": { "release": release } }), ctx).await.map_err(text)?;
            ctx.events.normal(pool, "HostGivenUp", format!("Host {} is given up: {why}", life.host)).await;
        }
        Step::Warm { host, until } => warm(pool, host, *until, ctx).await.map_err(text)?,
        Step::Cool { host } => cool(pool, host, ctx).await.map_err(text)?,
        Step::Prune(release) => write(pool, json!({ "spec": { "release": release } }), ctx).await.map_err(text)?,
        Step::Free { host } => free(pool, host, ctx).await?,
        Step::Make { life, revision } => make(pool, life, revision, ctx).await?,
        Step::Delete { machine, why } => {
            delete::<Machine>(&namespace, machine, ctx).await?;
            ctx.events.normal(pool, "MachineDeleted", format!("Machine {machine} is deleted: {why}")).await;
        }
        Step::DeleteStray { machine } => {
            delete_stray(&namespace, machine, ctx).await?;
            ctx.events.normal(pool, "StrayDeleted", format!("Machine {machine}: its host is not held any more")).await;
        }
        Step::DeleteInfra { machine } => delete::<RackwrightMachine>(&namespace, machine, ctx).await?,
        Step::MarkRemediating { machine, reason } => {
            tell(&namespace, machine, Said::no("OwnerRemediated", *reason, ""), ctx).await.map_err(text)?;
        }
        Step::MarkUpToDate { machine, up_to_date } => {
            let said = match up_to_date {
                true => Said::yes("UpToDate", "UpToDate", ""),
                false => Said::no("UpToDate", "NotUpToDate", "made from an older revision of its node pool"),
            };
            tell(&namespace, machine, said, ctx).await.map_err(text)?;
        }
        Step::Propagate { machine } => propagate(pool, machine, ctx).await.map_err(text)?,
    }
    Ok(true)
}

async fn write<K: Kind>(object: &K, fields: Value, ctx: &Context) -> Result<(), Error> {
    ctx.own_writes.note(&kubeio::merge(&ctx.client, manager::POOL, object, fields).await?);
    Ok(())
}

async fn record_revision(pool: &NodePool, view: &PoolView, ctx: &Context) -> Result<(), String> {
    let number = view.revisions.iter().map(|revision| revision.number).max().unwrap_or_default() + 1;
    let object = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": view.revision, "labels": { POOL_LABEL: view.name }, "ownerReferences": [pool.controller_owner_ref(&())],
        },
        "revision": number, "data": Blueprint::of(&pool.spec),
    });
    create(ApiResource::erase::<ControllerRevision>(&()), pool, object, ctx).await
}

/// Holds a host that is as it was seen, by a new life.
async fn hold(pool: &NodePool, host: &str, step: &Step, ctx: &Context) -> Result<(), Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let host = Api::<Host>::namespaced(ctx.client.clone(), &namespace).get(host).await?;
    let before = host.spec.reservation.as_ref();
    let expected = match step {
        Step::Renew { .. } => before.is_some_and(|before| before.pool.name == pool.name_any()),
        _ => before.is_none(),
    };
    if !expected || rackwright_placement::unclaimable(&host, before.map(|before| before.id.as_str())).is_some() {
        return Err(Error::Conflict);
    }
    let reservation = Reservation {
        pool: UidReference { namespace, name: pool.name_any(), uid: pool.uid().unwrap_or_default() },
        id: ctx.clock.fresh_id(),
        at: ctx.clock.now(),
    };
    write(&host, json!({ "spec": { "reservation": reservation } }), ctx).await
}

/// Lets a host go. What was made for its life must be gone: caches may not show yet what was made a moment ago, so the
/// API server is asked.
async fn free(pool: &NodePool, host: &str, ctx: &Context) -> Result<(), String> {
    let namespace = pool.namespace().unwrap_or_default();
    let host =
        Api::<Host>::namespaced(ctx.client.clone(), &namespace).get(host).await.map_err(|why| why.to_string())?;
    let held = host.spec.reservation.as_ref().filter(|held| held.pool.name == pool.name_any());
    let Some(held) = held else { return Err("the host is not this pool's".into()) };
    let name = machine_name(&pool.name_any(), &host.name_any(), &held.id);
    if host.is_claimed_by_reservation()
        || exists::<Machine>(&namespace, &name, ctx).await?
        || exists::<RackwrightMachine>(&namespace, &name, ctx).await?
    {
        return Err(format!("machine {name} is not gone yet"));
    }
    let stays_on = pool.spec.idle.as_ref().and_then(|idle| idle.power_off_after_seconds).filter(|after| *after > 0);
    // Its wipe may not be over: that it is busy for another moment is no matter.
    let usable = !rackwright_placement::unclaimable(&host, Some(&held.id)).is_some_and(Refusal::is_lasting);
    let leaves = pool.metadata.deletion_timestamp.is_some();
    let warm = stays_on.filter(|_| usable && !leaves).map(|after| {
        let until = ctx.clock.now() + SignedDuration::from_secs(after);
        order(pool, Some(until), host.spec.warm.as_ref(), ctx)
    });
    let mut spec = json!({ "reservation": null });
    if let Some(warm) = warm {
        spec["warm"] = warm;
    }
    write(&host, json!({ "spec": spec }), ctx).await.map_err(|why| why.to_string())
}

/// Orders that a free host be kept warm, in the place of the pool's last order for it.
async fn warm(pool: &NodePool, host: &str, until: Option<Timestamp>, ctx: &Context) -> Result<(), Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let host = Api::<Host>::namespaced(ctx.client.clone(), &namespace).get(host).await?;
    let others = host.spec.warm.as_ref().is_some_and(|order| order.pool.name != pool.name_any());
    if others || host.spec.claim.is_some() {
        return Err(Error::Conflict);
    }
    write(&host, json!({ "spec": { "warm": order(pool, until, host.spec.warm.as_ref(), ctx) } }), ctx).await
}

/// Takes the pool's order back.
async fn cool(pool: &NodePool, host: &str, ctx: &Context) -> Result<(), Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let host = Api::<Host>::namespaced(ctx.client.clone(), &namespace).get(host).await?;
    if host.spec.warm.as_ref().is_none_or(|order| order.pool.name != pool.name_any()) {
        return Err(Error::Conflict);
    }
    write(&host, json!({ "spec": { "warm": null } }), ctx).await
}

/// An order, for a merge with the one `before`: what it does not say takes out what that said. For the same image it is the
/// same order, and what was prepared for it still counts.
fn order(pool: &NodePool, until: Option<Timestamp>, before: Option<&WarmOrder>, ctx: &Context) -> Value {
    let (namespace, image) = (pool.namespace().unwrap_or_default(), &pool.spec.image.name);
    let found = cached(&ctx.caches.images.store, &namespace, image);
    let image = found.and_then(|found| claimed_image::of_disk(image, &found));
    let same = before.filter(|before| before.image == image && before.pool.name == pool.name_any());
    let order = WarmOrder {
        pool: UidReference { namespace, name: pool.name_any(), uid: pool.uid().unwrap_or_default() },
        id: same.map_or_else(|| ctx.clock.fresh_id(), |same| same.id.clone()),
        image,
        until,
    };
    let mut fields = json!({ "image": null, "until": null });
    merge_maps(&mut fields, json!(order));
    fields
}

async fn exists<K: Kind>(namespace: &str, name: &str, ctx: &Context) -> Result<bool, String> {
    let found =
        Api::<K>::namespaced(ctx.client.clone(), namespace).get_opt(name).await.map_err(|why| why.to_string())?;
    Ok(found.is_some())
}

/// Deletes the Machine `name`, or its RackwrightMachine when there is no Machine, unless a host is held by its life after
/// all: a cache of hosts that is behind must not cost a node.
async fn delete_stray(namespace: &str, name: &str, ctx: &Context) -> Result<(), String> {
    let text = |why: kube::Error| why.to_string();
    let infra =
        Api::<RackwrightMachine>::namespaced(ctx.client.clone(), namespace).get_opt(name).await.map_err(text)?;
    let id = infra.and_then(|infra| ProviderId::parse(infra.spec.provider_id.as_deref()?));
    if let Some(id) = id {
        let host = Api::<Host>::namespaced(ctx.client.clone(), namespace).get_opt(&id.host).await.map_err(text)?;
        let held = host.and_then(|host| host.spec.reservation).is_some_and(|held| held.id == id.machine_uid);
        if held {
            return Err(format!("host {} is held for machine {name} after all", id.host));
        }
    }
    match exists::<Machine>(namespace, name, ctx).await? {
        true => delete::<Machine>(namespace, name, ctx).await,
        false => delete::<RackwrightMachine>(namespace, name, ctx).await,
    }
}

/// Bootstrap config, RackwrightMachine, Machine: in this order, so that a Machine never names what is not there. One
/// that is there already is left as it is, so the three may be made over several passes.
async fn make(pool: &NodePool, life: &HostLife, revision: &str, ctx: &Context) -> Result<(), String> {
    let namespace = pool.namespace().unwrap_or_default();
    let name = machine_name(&pool.name_any(), &life.host, &life.id);
    let api = Api::<ControllerRevision>::namespaced(ctx.client.clone(), &namespace);
    let found = api.get(revision).await.map_err(|why| why.to_string())?;
    let blueprint =
        Blueprint::from(&found).ok_or_else(|| format!("ControllerRevision {revision} is not one of ours"))?;
    let (kind, config) = config(pool, life, &blueprint, &namespace, ctx).await?;
    let labels = machine_labels(pool, revision);
    let meta = |extra: Value| {
        let mut meta = json!({ "name": name, "labels": labels });
        merge_maps(&mut meta, extra);
        meta
    };
    let resource = ApiResource::from_gvk(&kind);
    let object =
        json!({ "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": meta(json!({})), "spec": config });
    create(resource, pool, object, ctx).await?;
    let provider_id =
        ProviderId { namespace: namespace.clone(), host: life.host.clone(), machine_uid: life.id.clone() };
    let infra = json!({
        "apiVersion": RackwrightMachine::api_version(&()), "kind": "RackwrightMachine",
        "metadata": meta(json!({ "finalizers": [MACHINE_FINALIZER] })),
        "spec": {
            "providerID": provider_id.to_string(),
            "image": blueprint.image, "wipe": pool.spec.wipe,
        },
    });
    create(ApiResource::erase::<RackwrightMachine>(&()), pool, without_null(infra), ctx).await?;
    let machine = json!({
        "apiVersion": Machine::api_version(&()), "kind": "Machine",
        "metadata": meta(json!({
            "annotations": annotations(pool), "ownerReferences": [pool.controller_owner_ref(&())],
        })),
        "spec": {
            "clusterName": pool.spec.cluster_name, "version": blueprint.version,
            "minReadySeconds": pool.spec.min_ready_seconds, "deletion": deletion(pool),
            "bootstrap": { "configRef": { "apiGroup": kind.group, "kind": kind.kind, "name": name } },
            "infrastructureRef": {
                "apiGroup": rackwright_api::INFRASTRUCTURE_GROUP, "kind": "RackwrightMachine", "name": name,
            },
        },
    });
    create(ApiResource::erase::<Machine>(&()), pool, without_null(machine), ctx).await
}

/// Kind and spec of a machine's bootstrap config.
async fn config(
    pool: &NodePool,
    life: &HostLife,
    blueprint: &Blueprint,
    namespace: &str,
    ctx: &Context,
) -> Result<(GroupVersionKind, Value), String> {
    let gvk = |version: &str, kind: &str| GroupVersionKind::gvk("bootstrap.cluster.x-k8s.io", version, kind);
    if let Some(config) = &blueprint.bootstrap.config {
        let mut config = config.clone();
        let node = pool.spec.node.clone().unwrap_or_default();
        config.node_labels.extend(node.labels.into_iter().filter(|(key, _)| labels::a_kubelet_may_set(key)));
        let own = place_labels(namespace, &life.host, ctx);
        for (key, value) in own.into_iter().chain([(POOL_LABEL.into(), pool.name_any())]) {
            config.node_labels.entry(key).or_insert(value);
        }
        config.node_taints.extend(node.taints);
        let spec = serde_json::to_value(config).map_err(|why| why.to_string())?;
        return Ok((gvk("v1alpha1", "RackwrightConfig"), spec));
    }
    let reference = blueprint.bootstrap.config_template_ref.as_ref().ok_or("spec.bootstrap names no config")?;
    let (template, made) = match reference.kind {
        ConfigTemplateKind::RackwrightConfigTemplate => {
            (gvk("v1alpha1", "RackwrightConfigTemplate"), gvk("v1alpha1", "RackwrightConfig"))
        }
        ConfigTemplateKind::KubeadmConfigTemplate => {
            (gvk("v1beta2", "KubeadmConfigTemplate"), gvk("v1beta2", "KubeadmConfig"))
        }
    };
    let kind = template.kind.clone();
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), namespace, &ApiResource::from_gvk(&template));
    let found = api.get_opt(&reference.name).await.map_err(|why| why.to_string())?;
    let missing = || format!("{kind} {} (spec.bootstrap.configTemplateRef) does not exist", reference.name);
    let found = found.ok_or_else(missing)?;
    Ok((made, found.data.pointer("/spec/template/spec").cloned().unwrap_or_else(|| json!({}))))
}

fn place_labels(namespace: &str, host: &str, ctx: &Context) -> BTreeMap<String, String> {
    let caches = &ctx.caches;
    let Some(host) = cached(&caches.hosts.store, namespace, host) else { return BTreeMap::new() };
    let rack = cached(&caches.racks.store, namespace, &host.spec.rack);
    let datacenter = rack.as_ref().and_then(|rack| cached(&caches.datacenters.store, namespace, &rack.spec.datacenter));
    let hardware = cached(&caches.hardware.store, namespace, &host.name_any());
    let facts = hardware.as_ref().map(|found| &found.spec.facts);
    let region = datacenter.as_ref().map(|found| found.spec.region.as_str());
    labels::of_place(&host.spec.rack, rack.as_deref(), region, facts)
}

fn machine_labels(pool: &NodePool, revision: &str) -> BTreeMap<String, String> {
    let mut labels = pool.spec.node.clone().unwrap_or_default().labels;
    labels.insert(CLUSTER_NAME_LABEL.into(), pool.spec.cluster_name.clone());
    labels.insert(POOL_LABEL.into(), pool.name_any());
    labels.insert(REVISION_LABEL.into(), revision.into());
    labels
}

fn annotations(pool: &NodePool) -> BTreeMap<String, String> {
    pool.spec.node.clone().unwrap_or_default().annotations
}

fn deletion(pool: &NodePool) -> Option<MachineDeletion> {
    pool.spec.deletion.as_ref().map(|deletion| MachineDeletion {
        node_drain_timeout_seconds: deletion.node_drain_timeout_seconds,
        node_volume_detach_timeout_seconds: deletion.node_volume_detach_timeout_seconds,
        node_deletion_timeout_seconds: deletion.node_deletion_timeout_seconds,
    })
}

/// True when what may change in place on `machine` is as `pool` says. What others wrote on it is not our concern, nor
/// are timeouts that the pool leaves to Cluster API's defaults.
pub fn propagated(pool: &NodePool, machine: &Machine) -> bool {
    let node = pool.spec.node.clone().unwrap_or_default();
    let has = |wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| found.get(key) == Some(value))
    };
    let wanted = deletion(pool).unwrap_or_default();
    let found = machine.spec.deletion.clone().unwrap_or_default();
    let same = |wanted: Option<i32>, found: Option<i32>| wanted.is_none() || wanted == found;
    has(&node.labels, machine.labels())
        && has(&node.annotations, machine.annotations())
        && same(wanted.node_drain_timeout_seconds, found.node_drain_timeout_seconds)
        && same(wanted.node_volume_detach_timeout_seconds, found.node_volume_detach_timeout_seconds)
        && same(wanted.node_deletion_timeout_seconds, found.node_deletion_timeout_seconds)
        && same(pool.spec.min_ready_seconds, machine.spec.min_ready_seconds)
}

async fn propagate(pool: &NodePool, name: &str, ctx: &Context) -> Result<(), Error> {
    let namespace = pool.namespace().unwrap_or_default();
    let machine = Api::<Machine>::namespaced(ctx.client.clone(), &namespace).get(name).await?;
    let node = pool.spec.node.clone().unwrap_or_default();
    let fields = json!({
        "metadata": { "labels": node.labels, "annotations": node.annotations },
        "spec": { "minReadySeconds": pool.spec.min_ready_seconds, "deletion": deletion(pool) },
    });
    write(&machine, without_null(fields), ctx).await
}

/// Sets one condition on a Machine and leaves all others as they are.
async fn tell(namespace: &str, name: &str, said: Said, ctx: &Context) -> Result<(), Error> {
    let api = Api::<Machine>::namespaced(ctx.client.clone(), namespace);
    let machine = api.get(name).await?;
    let before = machine.status.clone().unwrap_or_default().conditions;
    let kind = said.kind;
    let mut conditions: Vec<_> = before.iter().filter(|condition| condition.type_ != kind).cloned().collect();
    conditions.extend(merge(&before, &[said], machine.metadata.generation, ctx.clock.now()));
    let fields = json!({
        "metadata": { "resourceVersion": machine.resource_version() }, "status": { "conditions": conditions },
    });
    let params = kube::api::PatchParams { field_manager: Some(manager::POOL.into()), ..Default::default() };
    ctx.own_writes.note(&api.patch_status(name, &params, &kube::api::Patch::Merge(fields)).await?);
    Ok(())
}

/// Makes `object`; one that is there already and carries this pool's label will do.
async fn create(resource: ApiResource, pool: &NodePool, object: Value, ctx: &Context) -> Result<(), String> {
    let namespace = pool.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &resource);
    let object: DynamicObject = serde_json::from_value(object).map_err(|why| why.to_string())?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = api.get(&object.name_any()).await.map_err(|why| why.to_string())?;
            match found.labels().get(POOL_LABEL) == Some(&pool.name_any()) {
                true => Ok(()),
                false => Err(format!("{} {} is there already and not this pool's", resource.kind, object.name_any())),
            }
        }
        Err(why) => Err(format!("{} {}: {why}", resource.kind, object.name_any())),
    }
}

async fn delete<K: Kind>(namespace: &str, name: &str, ctx: &Context) -> Result<(), String> {
    match Api::<K>::namespaced(ctx.client.clone(), namespace).delete(name, &DeleteParams::default()).await {
        Ok(either) => {
            either.map_left(|object| ctx.own_writes.note(&object));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(why) => Err(why.to_string()),
    }
}

fn merge_maps(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// An absent field and `null` are not the same to a Go reader.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_null(value)))
                .collect::<Map<_, _>>(),
        ),
        other => other,
    }
}
