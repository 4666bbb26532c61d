//! The `Store` over Kubernetes: what watches of the management cluster have seen, and the writes that hold and free hosts.
//!
//! A write that succeeded is seen at once, before a watch brings it. Each write has a deadline far below the autoscaler's
//! own, and is refused when what it rests on is no longer so. Never lists, never deletes, never writes a status.

mod convert;
mod overlay;
mod watched;

pub use convert::{Deadlines, Objects, inventory};
pub use watched::Watched;

use crate::groups::Inventory;
use crate::plan::Write;
use crate::service::{Store, StoreError};
use async_trait::async_trait;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use rackwright_api::common::UidReference;
use rackwright_api::host::Reservation;
use rackwright_api::{Host, NodePool};
use rackwright_controllers::kubeio::{self, Error, manager};
use rackwright_placement::unclaimable;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A write that has not been answered by then may or may not stand.
const WRITE: Duration = Duration::from_secs(2);
/// How often a write is tried again that met another writer of something else in the same object.
const TRIES: usize = 8;

/// One workload cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    /// Namespace of the Cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl std::str::FromStr for ClusterKey {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterKey, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(ClusterKey { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(format!("{text:?} is not NAMESPACE/CLUSTER")),
        }
    }
}

/// Pools and hosts of one workload cluster.
pub struct KubeStore {
    /// What is seen.
    pub watched: Arc<Watched>,
    /// Whose pools.
    pub cluster: ClusterKey,
}

#[async_trait]
impl Store for KubeStore {
    fn inventory(&self) -> Inventory {
        self.watched.inventory(&self.cluster, Timestamp::now())
    }

    async fn write(&self, write: &Write) -> Result<(), StoreError> {
        match tokio::time::timeout(WRITE, self.watched.write(write)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unknown(format!("the API server did not answer within {} s", WRITE.as_secs()))),
        }
    }
}

impl Watched {
    async fn write(&self, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Reserve { namespace, host, pool, id } => self.reserve(namespace, host, pool, id).await,
            Write::Free { namespace, life } => self.free(namespace, &life.host, &life.id).await,
            Write::Pool { namespace, pool, version, replicas, release } => {
                let change = |found: &NodePool| {
                    let mut all = found.spec.release.clone();
                    all.extend(release.iter().cloned());
                    json!({ "spec": { "replicas": replicas, "release": all } })
                };
                self.change_pool(namespace, pool, version, change).await
            }
        }
    }

    async fn reserve(&self, namespace: &str, name: &str, pool: &str, id: &str) -> Result<(), StoreError> {
        let uid = self.pool_uid(namespace, pool).ok_or_else(|| StoreError::Conflict(format!("NodePool {pool}")))?;
        let api = Api::<Host>::namespaced(self.client.clone(), namespace);
        for _ in 0..TRIES {
            let found = api.get_opt(name).await.map_err(not_read)?;
            let free = found.filter(|host| host.spec.reservation.is_none() && unclaimable(host, None).is_none());
            let Some(host) = free else { return Err(StoreError::Conflict(format!("host {name}"))) };
            let pool = UidReference { namespace: namespace.into(), name: pool.into(), uid: uid.clone() };
            let reservation = Reservation { pool, id: id.into(), at: Timestamp::now() };
            match self.merge(&host, json!({ "spec": { "reservation": reservation } })).await {
                Err(StoreError::Conflict(_)) => continue, // perhaps its status was written; look again
                Ok(written) => return self.hosts.note(written),
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict(format!("host {name}")))
    }

    /// Takes life `id` off a host, unless a machine claims the host by it already.
    async fn free(&self, namespace: &str, name: &str, id: &str) -> Result<(), StoreError> {
        let api = Api::<Host>::namespaced(self.client.clone(), namespace);
        for _ in 0..TRIES {
            let Some(host) = api.get_opt(name).await.map_err(not_read)? else { return Ok(()) };
            let held = host.spec.reservation.as_ref().filter(|held| held.id == id);
            let Some(held) = held else { return Ok(()) };
            let provider_id = held.provider_id(name);
            if host.spec.claim.as_ref().is_some_and(|claim| claim.provider_id == provider_id) {
                return Err(StoreError::Conflict(format!("host {name}")));
            }
            match self.merge(&host, json!({ "spec": { "reservation": null } })).await {
                Err(StoreError::Conflict(_)) => continue,
                Ok(written) => return self.hosts.note(written),
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict(format!("host {name}")))
    }

    /// Changes a pool whose spec is still of generation `version`; its status may have changed meanwhile.
    async fn change_pool(
        &self,
        namespace: &str,
        name: &str,
        version: &str,
        change: impl Fn(&NodePool) -> Value,
    ) -> Result<(), StoreError> {
        let api = Api::<NodePool>::namespaced(self.client.clone(), namespace);
        for _ in 0..TRIES {
            let found = api.get_opt(name).await.map_err(not_read)?;
            let same = found.filter(|found| convert::version(found) == version);
            let Some(pool) = same else { return Err(StoreError::Conflict(format!("NodePool {name}"))) };
            match self.merge(&pool, change(&pool)).await {
                Err(StoreError::Conflict(_)) => continue,
                Ok(written) => return self.pools.note(written),
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict(format!("NodePool {name}")))
    }

    async fn merge<K: kubeio::Kind>(&self, object: &K, fields: Value) -> Result<K, StoreError> {
        kubeio::merge(&self.client, manager::AUTOSCALER, object, fields).await.map_err(|error| match error {
            Error::Conflict => StoreError::Conflict(object.name_any()),
            Error::Api(kube::Error::Api(status)) if status.code < 500 => StoreError::NotWritten(status.message.clone()),
            Error::Api(error) => StoreError::Unknown(error.to_string()),
        })
    }
}

fn not_read(error: kube::Error) -> StoreError {
    StoreError::NotWritten(format!("API server: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_with_its_namespace() {
        let key: ClusterKey = "metal/prod.eu".parse().expect("a key");
        assert_eq!(key.to_string(), "metal/prod.eu");
        for wrong in ["prod", "/prod", "metal/", "a/b/c"] {
            assert!(wrong.parse::<ClusterKey>().is_err(), "{wrong}");
        }
    }
}
