//! Writes to the API server: server-side apply with a field manager per writer, always against the version that was read.
//!
//! Optimistic locking makes the writes of a stale pass harmless: they are refused, and it looks again. Acts on hardware are
//! not writes; whoever does one asks for the object first. Nothing here decides what to write.

use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a pass could not read or write.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object changed since it was read: look again.
    #[error("the object changed since it was read")]
    Conflict,
    /// The API server refused or did not answer: try again later.
    #[error("API server: {0}")]
    Api(#[source] kube::Error),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Error {
        match &error {
            kube::Error::Api(status) if status.code == 409 => Error::Conflict,
            _ => Error::Api(error),
        }
    }
}

/// Field managers, one per writer, so that no two take each other's fields away.
pub mod manager {
    /// The host reconciler's fields: finalizer, status.
    pub const HOST: &str = "rackwright-host";
    /// `spec.broken` of a Host.
    pub const BREAK: &str = "rackwright-break";
    /// `spec.claim` and `spec.wipe` of a Host.
    pub const CLAIM: &str = "rackwright-claim";
    /// A RackwrightMachine's fields.
    pub const MACHINE: &str = "rackwright-machine";
    /// A RackwrightCluster's fields.
    pub const CLUSTER: &str = "rackwright-cluster";
    /// A RackwrightConfig's fields.
    pub const CONFIG: &str = "rackwright-config";
    /// What the autoscaler's service writes: holds on hosts, and how many nodes a pool wants.
    pub const AUTOSCALER: &str = "rackwright-autoscaler";
    /// Everything that a node pool writes.
    pub const POOL: &str = "rackwright-pool";
    /// Status of regions, datacenters and racks.
    pub const PLACES: &str = "rackwright-places";
}

/// Kinds of ours and of Cluster API that live in a namespace.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Applies `fields` (top-level keys such as `spec`) to `object`; fields that this manager set before and leaves out now
/// are removed. Refused with [`Error::Conflict`] when the object changed since `object` was read.
pub async fn apply<K: Kind>(client: &Client, manager: &str, object: &K, fields: Value) -> Result<K, Error> {
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = Patch::Apply(body(object, fields));
    Ok(api.patch(&object.name_any(), &PatchParams::apply(manager).force(), &patch).await?)
}

/// As [`apply`], on the status.
pub async fn apply_status<K: Kind>(
    client: &Client,
    manager: &str,
    object: &K,
    status: &impl Serialize,
) -> Result<K, Error> {
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = Patch::Apply(body(object, json!({ "status": status })));
    Ok(api.patch_status(&object.name_any(), &PatchParams::apply(manager).force(), &patch).await?)
}

/// Holds `object` with `finalizer`. Other `fields` ride along.
pub async fn hold<K: Kind>(
    client: &Client,
    manager: &str,
    object: &K,
    finalizer: &str,
    mut fields: Value,
) -> Result<K, Error> {
    fields["metadata"]["finalizers"] = json!([finalizer]);
    apply(client, manager, object, fields).await
}

/// Changes `fields` of `object` by a JSON merge patch (RFC 7386: null removes); refused when the object changed since it
/// was read. For what must go whoever wrote it: leaving a field out of an apply removes it only for its own manager, and
/// after a restore from a backup every field is somebody else's.
pub async fn merge<K: Kind>(client: &Client, manager: &str, object: &K, mut fields: Value) -> Result<K, Error> {
    fields["metadata"]["resourceVersion"] = json!(object.resource_version());
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
    Ok(api.patch(&object.name_any(), &params, &Patch::Merge(fields)).await?)
}

/// Takes `finalizer` off `object`, and no other.
pub async fn let_go<K: Kind>(client: &Client, manager: &str, object: &K, finalizer: &str) -> Result<K, Error> {
    let left: Vec<_> = object.finalizers().iter().filter(|other| *other != finalizer).collect();
    merge(client, manager, object, json!({ "metadata": { "finalizers": left } })).await
}

fn body<K: Kind>(object: &K, fields: Value) -> Value {
    let mut body = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {} });
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    body["metadata"]["name"] = json!(object.name_any());
    body["metadata"]["resourceVersion"] = json!(object.resource_version());
    body["metadata"]["uid"] = json!(object.uid());
    body
}

/// The newest version of each object that this process wrote. A pass that reads an older one from a cache would act on
/// the past; it reads the API server instead.
#[derive(Default)]
pub struct OwnWrites(Mutex<HashMap<String, u128>>);

impl OwnWrites {
    /// Remembers that `object` was written in this version.
    pub fn note<K: Kind>(&self, object: &K) {
        let (Some(key), Some(version)) = (key(object.meta()), version(object.meta())) else { return };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, version);
    }

    /// True when `object` is older than what this process wrote. A cache that caught up ends the memory of it.
    pub fn is_older<K: Kind>(&self, object: &K) -> bool {
        let (Some(key), Some(version)) = (key(object.meta()), version(object.meta())) else { return false };
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&key) {
            Some(newest) if *newest > version => true,
            Some(_) => {
                written.remove(&key);
                false
            }
            None => false,
        }
    }
}

/// UID, so that a new object of an old name starts anew.
fn key(meta: &ObjectMeta) -> Option<String> {
    meta.uid.clone()
}

/// Versions are compared as numbers (KEP-5504, Kubernetes 1.35).
pub fn version(meta: &ObjectMeta) -> Option<u128> {
    meta.resource_version.as_deref()?.parse().ok()
}

/// `object` as it is now: from the cache, or from the API server when the cache is behind this process's own writes.
/// `None` when it is gone.
pub async fn fresh<K: Kind>(client: &Client, writes: &OwnWrites, object: &Arc<K>) -> Result<Option<Arc<K>>, Error> {
    if !writes.is_older(object.as_ref()) {
        return Ok(Some(object.clone()));
    }
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let found = api.get_opt(&object.name_any()).await?;
    Ok(found.filter(|found| found.uid() == object.uid()).map(Arc::new))
}

/// The object of this name in `store`.
pub fn cached<K: Kind>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>> {
    store.get(&ObjectRef::new(name).within(namespace))
}
