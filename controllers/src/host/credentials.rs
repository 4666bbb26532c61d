//! User names, passwords and authorities of BMCs, held for a short while: a rack of forty shares one Secret, and a fleet
//! must not ask the API server for it at every look. A refused password is asked for anew at once.

use crate::host::view::Problem;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use rackwright_api::common::{KeyReference, LocalReference};
use rackwright_api::host::{BmcDefaults, BmcTrust};
use rackwright_bmc::Trust;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How long what was read is trusted.
const KEPT: SignedDuration = SignedDuration::from_secs(60);

/// Namespace and name of a Secret or ConfigMap.
type Key = (String, String);

/// What was read of Secrets and ConfigMaps, and when.
#[derive(Default)]
pub struct Credentials {
    logins: Mutex<HashMap<Key, (Timestamp, Login)>>,
    authorities: Mutex<HashMap<(Key, String), (Timestamp, String)>>,
}

/// User name and password.
#[derive(Clone)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: SecretString,
}

impl Credentials {
    /// The login in the Secret that `reference` names, or the sentence that tells a person what is missing.
    pub async fn login(
        &self,
        client: &Client,
        namespace: &str,
        reference: Option<&LocalReference>,
        now: Timestamp,
    ) -> Result<Result<Login, Problem>, kube::Error> {
        let Some(reference) = reference else {
            return Ok(Err(problem(
                "CredentialsMissing",
                "spec.bmc.credentialsRef is not set, neither here nor in hostDefaults of the rack or datacenter".into(),
            )));
        };
        let key = (namespace.to_string(), reference.name.clone());
        if let Some(login) = kept(&self.logins, &key, now) {
            return Ok(Ok(login));
        }
        let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(&reference.name).await?;
        let Some(secret) = secret else {
            return Ok(Err(problem(
                "CredentialsMissing",
                format!("Secret {} (spec.bmc.credentialsRef) does not exist", reference.name),
            )));
        };
        let text = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
        };
        let (Some(username), Some(password)) = (text("username"), text("password")) else {
            return Ok(Err(problem(
                "CredentialsMissing",
                format!("Secret {} needs the keys username and password", reference.name),
            )));
        };
        let login = Login { username, password: password.into() };
        keep(&self.logins, key, login.clone(), now);
        Ok(Ok(login))
    }

    /// The trust that `trust` describes, or the sentence that tells a person what is missing.
    pub async fn trust(
        &self,
        client: &Client,
        namespace: &str,
        trust: Option<&BmcTrust>,
        now: Timestamp,
    ) -> Result<Result<Trust, Problem>, kube::Error> {
        match trust {
            Some(BmcTrust { pin: Some(pin), .. }) => Ok(Ok(Trust::Pin(pin.clone()))),
            Some(BmcTrust { ca: Some(reference), .. }) => self.authority(client, namespace, reference, now).await,
            _ => Ok(Ok(Trust::System)),
        }
    }

    async fn authority(
        &self,
        client: &Client,
        namespace: &str,
        reference: &KeyReference,
        now: Timestamp,
    ) -> Result<Result<Trust, Problem>, kube::Error> {
        let key = ((namespace.to_string(), reference.name.clone()), reference.key.clone());
        if let Some(pem) = kept(&self.authorities, &key, now) {
            return Ok(Ok(Trust::Ca(pem)));
        }
        let map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(&reference.name).await?;
        let Some(pem) = map.and_then(|map| map.data?.get(&reference.key).cloned()) else {
            return Ok(Err(problem(
                "TrustMissing",
                format!("ConfigMap {} with key {} (spec.bmc.trust.ca) does not exist", reference.name, reference.key),
            )));
        };
        keep(&self.authorities, key, pem.clone(), now);
        Ok(Ok(Trust::Ca(pem)))
    }

    /// Forgets a login that a BMC refused: the Secret may have been mended since.
    pub fn forget(&self, namespace: &str, reference: Option<&LocalReference>) {
        if let Some(reference) = reference {
            let key = (namespace.to_string(), reference.name.clone());
            self.logins.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }
}

/// The first of `layers` (host, rack, datacenter) that says anything.
pub fn inherited<'a, T>(
    own: Option<&'a T>,
    layers: [Option<&'a BmcDefaults>; 2],
    pick: impl Fn(&'a BmcDefaults) -> Option<&'a T>,
) -> Option<&'a T> {
    own.or_else(|| layers.into_iter().flatten().find_map(pick))
}

fn problem(reason: &'static str, message: String) -> Problem {
    Problem { reason, message }
}

fn kept<K: std::hash::Hash + Eq, V: Clone>(
    map: &Mutex<HashMap<K, (Timestamp, V)>>,
    key: &K,
    now: Timestamp,
) -> Option<V> {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.get(key).filter(|(since, _)| now.duration_since(*since) < KEPT).map(|(_, value)| value.clone())
}

fn keep<K: std::hash::Hash + Eq, V>(map: &Mutex<HashMap<K, (Timestamp, V)>>, key: K, value: V, now: Timestamp) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.retain(|_, (since, _)| now.duration_since(*since) < KEPT); // what nobody asks for any more goes
    map.insert(key, (now, value));
}
