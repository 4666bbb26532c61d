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
use overlay::Overlay;
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
                // Its status may have changed meanwhile, its spec may not.
                let change = |found: Option<&NodePool>| match found.filter(|found| convert::version(found) == *version)
                {
                    None => Change::Conflict,
                    Some(found) => {
                        let all: Vec<_> = found.spec.release.iter().chain(release).collect();
                        Change::Make(json!({ "spec": { "replicas": replicas, "release": all } }))
                    }
                };
                self.change(&self.pools, namespace, pool, change).await
            }
        }
    }

    async fn reserve(&self, namespace: &str, name: &str, pool: &str, id: &str) -> Result<(), StoreError> {
        let uid = self.pool_uid(namespace, pool).ok_or_else(|| StoreError::Conflict(format!("NodePool {pool}")))?;
        let pool = UidReference { namespace: namespace.into(), name: pool.into(), uid };
        self.change(&self.hosts, namespace, name, |host: Option<&Host>| {
            let free = host.is_some_and(|host| host.spec.reservation.is_none() && unclaimable(host, None).is_none());
            let held = Reservation { pool: pool.clone(), id: id.into(), at: Timestamp::now() };
            if free { Change::Make(json!({ "spec": { "reservation": held } })) } else { Change::Conflict }
        })
        .await
    }

    /// Takes life `id` off a host, unless a machine claims the host by it already.
    async fn free(&self, namespace: &str, name: &str, id: &str) -> Result<(), StoreError> {
        self.change(&self.hosts, namespace, name, |host: Option<&Host>| {
            let held = host.filter(|host| host.spec.reservation.as_ref().is_some_and(|held| held.id == id));
            match held {
                None => Change::Nothing,
                Some(host) if host.is_claimed_by_reservation() => Change::Conflict,
                Some(_) => Change::Make(json!({ "spec": { "reservation": null } })),
            }
        })
        .await
    }

    /// Makes the change that `of` wants of the object as it is now; looks again when somebody else wrote it in between,
    /// its status perhaps.
    async fn change<K: kubeio::Kind>(
        &self,
        overlay: &Overlay<K>,
        namespace: &str,
        name: &str,
        of: impl Fn(Option<&K>) -> Change,
    ) -> Result<(), StoreError> {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let conflict = || StoreError::Conflict(format!("{} {name}", K::kind(&())));
        for _ in 0..TRIES {
            let found = api.get_opt(name).await.map_err(not_read)?;
            let (fields, object) = match (of(found.as_ref()), found) {
                (Change::Make(fields), Some(object)) => (fields, object),
                (Change::Nothing, _) => return Ok(()),
                (Change::Conflict, _) | (Change::Make(_), None) => return Err(conflict()),
            };
            match self.merge(&object, fields).await {
                Ok(written) => {
                    overlay.note(written);
                    return Ok(());
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(conflict())
    }

    async fn merge<K: kubeio::Kind>(&self, object: &K, fields: Value) -> Result<K, StoreError> {
        kubeio::merge(&self.client, manager::AUTOSCALER, object, fields).await.map_err(|error| match error {
            Error::Conflict => StoreError::Conflict(object.name_any()),
            Error::Api(kube::Error::Api(status)) if status.code < 500 => StoreError::NotWritten(status.message.clone()),
            Error::Api(error) => StoreError::Unknown(error.to_string()),
        })
    }
}

/// What becomes of an object.
enum Change {
    /// It is as wanted already.
    Nothing,
    /// Fields of it, as a merge patch.
    Make(Value),
    /// It is not what the write rests on.
    Conflict,
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
