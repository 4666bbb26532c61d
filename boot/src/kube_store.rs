//! The store behind the interface: caches fed by watches, and server-side apply as `rackwright-boot`.

use crate::session::Place;
use crate::store::{KeptLog, Store, StoreError};
use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use rackwright_api::hardware::{Disk, HostHardwareSpec};
use rackwright_api::host::{AgentStatus, ClaimedImage, Deployed, Host, Wiped};
use rackwright_api::{Datacenter, HostHardware, Rack, log};
use rackwright_protocol::token::BootKey;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Field manager of everything that the boot service writes.
pub const MANAGER: &str = "rackwright-boot";
/// How many hosts are read past the cache at the same time: strangers can make us do it.
const READS: usize = 8;

/// The Kubernetes API.
pub struct KubeStore {
    client: Client,
    namespace: Option<String>,
    hosts: reflector::Store<Host>,
    racks: reflector::Store<Rack>,
    datacenters: reflector::Store<Datacenter>,
    reads: Semaphore,
}

/// A watch that feeds a cache for as long as it is polled.
pub type Feed = BoxStream<'static, ()>;

impl KubeStore {
    /// A store of one namespace or all, and the watches that feed it.
    pub fn watched(client: Client, namespace: Option<&str>) -> (KubeStore, Vec<Feed>) {
        let (hosts, host_feed) = cache::<Host>(&client, namespace);
        let (racks, rack_feed) = cache::<Rack>(&client, namespace);
        let (datacenters, datacenter_feed) = cache::<Datacenter>(&client, namespace);
        let store = KubeStore {
            client,
            namespace: namespace.map(Into::into),
            hosts,
            racks,
            datacenters,
            reads: Semaphore::new(READS),
        };
        (store, vec![host_feed, rack_feed, datacenter_feed])
    }

    async fn apply<K>(&self, object: &K, status: bool, fields: Value) -> Result<(), StoreError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let mut body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // Against the version that was decided on: if it changed, or is another object, the decision is void.
            "metadata": {
                "name": object.name_any(),
                "uid": object.uid(),
                "resourceVersion": object.resource_version(),
            },
        });
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
        let api = Api::<K>::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let (name, params, patch) = (object.name_any(), PatchParams::apply(MANAGER).force(), Patch::Apply(body));
        let written = match status {
            true => api.patch_status(&name, &params, &patch).await,
            false => api.patch(&name, &params, &patch).await,
        };
        written.map(drop).map_err(error)
    }
}

fn cache<K>(client: &Client, namespace: Option<&str>) -> (reflector::Store<K>, Feed)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api = match namespace {
        Some(namespace) => Api::<K>::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (store, writer) = reflector::store();
    let feed = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object: &mut K| {
            object.managed_fields_mut().clear();
            object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
        })
        .reflect(writer)
        .map(|event| {
            if let Err(why) = event {
                tracing::warn!(kind = %K::kind(&()), %why, "watch broke off; it is taken up again");
            }
        });
    (store, feed.boxed())
}

#[async_trait]
impl Store for KubeStore {
    fn is_ready(&self) -> bool {
        let ready = |filled: Option<_>| filled.is_some();
        ready(self.hosts.wait_until_ready().now_or_never())
            && ready(self.racks.wait_until_ready().now_or_never())
            && ready(self.datacenters.wait_until_ready().now_or_never())
    }

    fn seen(&self, namespace: &str, name: &str) -> Option<Arc<Host>> {
        self.hosts.get(&ObjectRef::new(name).within(namespace))
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Option<Arc<Host>>, StoreError> {
        let ours = self.namespace.as_deref().is_none_or(|ours| ours == namespace);
        if !(ours && is_name(namespace) && is_name(name)) {
            return Ok(None);
        }
        let _permit = self.reads.acquire().await.map_err(|why| StoreError::Unavailable(why.to_string()))?;
        let api = Api::<Host>::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await.map_err(error)?.map(Arc::new))
    }

    fn place(&self, host: &Host) -> Place {
        let namespace = host.namespace().unwrap_or_default();
        let rack = self.racks.get(&ObjectRef::new(&host.spec.rack).within(&namespace));
        let datacenter = rack
            .as_ref()
            .and_then(|rack| self.datacenters.get(&ObjectRef::new(&rack.spec.datacenter).within(&namespace)));
        Place { rack, datacenter }
    }

    fn by_mac(&self, mac: &str) -> Option<Arc<Host>> {
        self.hosts.find(|host| host.spec.boot_mac_address == mac)
    }

    fn claimed_image(&self, digest: &str) -> Option<ClaimedImage> {
        let found = self.hosts.find(|host| wanted_image(host, digest).is_some())?;
        wanted_image(&found, digest).cloned()
    }

    async fn user_data(&self, namespace: &str, secret: &str) -> Result<Option<String>, StoreError> {
        if !(is_name(namespace) && is_name(secret)) {
            return Ok(None);
        }
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(secret).await.map_err(error)?;
        let value = found.and_then(|secret| secret.data?.remove("value"));
        Ok(value.and_then(|value| String::from_utf8(value.0).ok()))
    }

    async fn write_agent(&self, host: &Host, agent: &AgentStatus) -> Result<(), StoreError> {
        self.apply(host, true, json!({ "status": { "agent": agent } })).await
    }

    async fn write_results(
        &self,
        host: &Host,
        deployed: Option<&Deployed>,
        wiped: Option<&Wiped>,
    ) -> Result<(), StoreError> {
        let mut spec = json!({});
        if let Some(deployed) = deployed {
            spec["deployed"] = json!(deployed);
        }
        if let Some(wiped) = wiped {
            spec["wiped"] = json!(wiped);
        }
        self.apply(host, false, json!({ "spec": spec })).await
    }

    async fn disks(&self, host: &Host) -> Result<Vec<Disk>, StoreError> {
        let api = Api::<HostHardware>::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        let found = api.get_opt(&host.name_any()).await.map_err(error)?;
        let is_ours = |found: &HostHardware| {
            found.owner_references().iter().any(|owner| Some(&owner.uid) == host.metadata.uid.as_ref())
        };
        Ok(found.filter(is_ours).map(|hardware| hardware.spec.facts.disks).unwrap_or_default())
    }

    async fn write_hardware(&self, host: &Host, hardware: &HostHardwareSpec) -> Result<(), StoreError> {
        let body = json!({
            "apiVersion": HostHardware::api_version(&()),
            "kind": HostHardware::kind(&()),
            "metadata": { "name": host.name_any(), "ownerReferences": [host.owner_ref(&())] },
            "spec": hardware,
        });
        let api = Api::<HostHardware>::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&host.name_any(), &params, &Patch::Apply(body)).await.map(drop).map_err(error)
    }

    async fn write_log(&self, host: &Host, kept: &KeptLog) -> Result<(), StoreError> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        let packed = packed.write_all(kept.text.as_bytes()).and_then(|()| packed.finish());
        let packed = packed.map_err(|why| StoreError::Invalid(why.to_string()))?;
        let name = log::config_map_name(&host.name_any());
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": { log::LOG_LABEL: "agent" },
                "annotations": {
                    log::LOG_OPERATION: kept.operation_id,
                    log::LOG_OPERATION_TYPE: kept.operation_type.as_deref().unwrap_or("Unknown"),
                    log::LOG_OUTCOME: kept.outcome,
                    log::LOG_TIME: kept.at.to_string(),
                },
                "ownerReferences": [host.owner_ref(&())],
            },
            "binaryData": { log::LOG_KEY: ByteString(packed) },
        });
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(body)).await.map(drop).map_err(error)
    }
}

/// The image with this digest that `host` is claimed or kept warm for.
fn wanted_image<'a>(host: &'a Host, digest: &str) -> Option<&'a ClaimedImage> {
    let (claim, warm) = (host.spec.claim.as_ref(), host.spec.warm.as_ref());
    let wanted = claim.map(|claim| &claim.image).into_iter().chain(warm.and_then(|order| order.image.as_ref()));
    wanted.into_iter().find(|image| image.digest == digest)
}

/// True for what can be the name of an object (RFC 1123 subdomain). Names come from strangers and become parts of a
/// path at the API server.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= 253 && text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

/// The key behind `NAMESPACE/NAME`; `None` while the manager has not made it.
pub async fn read_key(client: &Client, namespace: &str, name: &str) -> Result<Option<BootKey>, StoreError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(error)?;
    let bytes = found.and_then(|secret| secret.data?.remove("key"));
    let short = || StoreError::Invalid(format!("Secret {namespace}/{name}: key has fewer than 32 bytes"));
    bytes.map(|bytes| BootKey::new(bytes.0).ok_or_else(short)).transpose()
}

fn error(error: kube::Error) -> StoreError {
    match &error {
        kube::Error::Api(status) if status.code == 409 => StoreError::Conflict,
        // An apply to an object that is gone would make a new one, which lacks all that is required.
        kube::Error::Api(status) if status.code == 404 => StoreError::Conflict,
        kube::Error::Api(status) if status.code == 422 || status.code == 400 => {
            StoreError::Invalid(status.message.clone())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_objects_go_into_a_path() {
        for name in ["a", "osl1-a01-u07", "a.b.c", "0"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for text in ["", ".", "..", "../secrets/x", "a/b", "a%2fb", "A", "a_b", "-a", "a-", "ä", "a?b", "a#b", &long] {
            assert!(!is_name(text), "{text}");
        }
    }
}
