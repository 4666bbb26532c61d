//! How workload clusters are reached: by the Secret `NAME-kubeconfig`, one client per cluster, kept as long as that
//! Secret does not change.
//!
//! A cluster that does not answer is left alone for a while, twice as long each time: a thousand configs of one dead
//! cluster cost it, and us, one try and not a thousand.

use super::grants::{self, Grant};
use super::tokens::SeenTokens;
use super::view::Problem;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a kubeconfig is used before its Secret is looked at again.
const KEPT: SignedDuration = SignedDuration::from_secs(30);
/// How long what nobody asks for any more is kept.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);
/// One request, from the first byte to the last.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one pass may try a cluster that failed before another one does.
const TRY: SignedDuration = SignedDuration::from_secs(30);
/// The first pause after a failure; it doubles up to the last.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(5);
const LAST_PAUSE: SignedDuration = SignedDuration::from_mins(2);

/// Namespace and name of a Cluster.
type Key = (String, String);

/// Ways into workload clusters, and the tokens seen there; shared by all passes.
#[derive(Default)]
pub struct Workloads {
    known: Mutex<HashMap<Key, Known>>,
    /// Tokens that this process has seen.
    pub tokens: SeenTokens,
}

/// What is known of one cluster.
struct Known {
    read: Timestamp,
    version: Option<String>,
    access: Option<Access>,
    trouble: Option<Trouble>,
}

/// The last failure.
struct Trouble {
    problem: Problem,
    /// When the cluster may be tried again; one pass then does, and moves this on for the others.
    again: Timestamp,
    /// One pass is trying.
    trying: bool,
    pause: SignedDuration,
}

/// The way into one workload cluster.
#[derive(Clone)]
pub struct Access {
    client: Client,
    server: String,
    ca_pem: String,
    key: Key,
    joinable: Arc<AtomicBool>,
}

impl Access {
    /// Certificate(s) of the cluster's CA.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

impl Workloads {
    /// The way into the cluster `name`, or what is missing for it. Reads at most two Secrets, and mostly none.
    pub async fn access(
        &self,
        management: &Client,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Result<Access, Problem>, kube::Error> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(known) = self.recall(&key, now) {
            return Ok(known);
        }
        let secrets = Api::<Secret>::namespaced(management.clone(), namespace);
        let secret_name = format!("{name}-kubeconfig");
        let Some(secret) = secrets.get_opt(&secret_name).await? else {
            return Ok(Err(Problem {
                reason: "WaitingForKubeconfig",
                message: format!("Secret {secret_name} to be made by the control plane or Cluster API"),
            }));
        };
        if let Some(access) = self.recall_version(&key, secret.resource_version(), now) {
            return Ok(Ok(access));
        }
        let ca = secrets.get_opt(&format!("{name}-ca")).await?;
        let access = match build(&key, &secret, ca.as_ref()).await {
            Ok(access) => access,
            Err(why) => {
                let message = format!("Secret {secret_name} cannot be used: {why}");
                return Ok(Err(Problem { reason: "KubeconfigUnusable", message }));
            }
        };
        self.keep(key, secret.resource_version(), access.clone(), now);
        Ok(Ok(access))
    }

    /// What is known without asking: a way in that was looked at a moment ago, or a failure that is not yet to be tried
    /// again.
    fn recall(&self, key: &Key, now: Timestamp) -> Option<Result<Access, Problem>> {
        let mut known = self.lock();
        let known = known.get_mut(key)?;
        match &mut known.trouble {
            Some(trouble) if now < trouble.again => return Some(Err(trouble.problem.clone())),
            Some(trouble) => (trouble.again, trouble.trying) = (now + TRY, true),
            None => {}
        }
        known.access.clone().filter(|_| now.duration_since(known.read) < KEPT).map(Ok)
    }

    fn recall_version(&self, key: &Key, version: Option<String>, now: Timestamp) -> Option<Access> {
        let mut known = self.lock();
        let known = known.get_mut(key).filter(|known| known.version == version)?;
        known.read = now;
        known.access.clone()
    }

    fn keep(&self, key: Key, version: Option<String>, access: Access, now: Timestamp) {
        let mut known = self.lock();
        known.retain(|_, known| now.duration_since(known.read) < FORGOTTEN);
        // A pause that was earned with another kubeconfig says nothing about this one.
        known.insert(key, Known { read: now, version, access: Some(access), trouble: None });
    }

    /// The rights that nodes lack in the cluster. Asked once per cluster, until they lack none.
    pub async fn missing_grants(&self, access: &Access, now: Timestamp) -> Result<Vec<&'static Grant>, Problem> {
        if access.joinable.load(Ordering::Acquire) {
            return Ok(vec![]);
        }
        let missing = self.ask(access, now, grants::missing(&access.client)).await?;
        access.joinable.store(missing.is_empty(), Ordering::Release);
        Ok(missing)
    }

    /// Awaits a request to the cluster, which `request` makes of its client. A failure is remembered, and its cluster
    /// left alone for a while.
    pub async fn with<T, F>(
        &self,
        access: &Access,
        now: Timestamp,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.ask(access, now, request(access.client.clone())).await
    }

    async fn ask<T>(
        &self,
        access: &Access,
        now: Timestamp,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Problem> {
        match request.await {
            Ok(answer) => {
                if let Some(known) = self.lock().get_mut(&access.key) {
                    known.trouble = None;
                }
                Ok(answer)
            }
            Err(error) => Err(self.note_trouble(access, &error, now)),
        }
    }

    fn note_trouble(&self, access: &Access, error: &kube::Error, now: Timestamp) -> Problem {
        let problem = problem(&access.server, error);
        tracing::warn!(namespace = access.key.0, cluster = access.key.1, why = %problem.message, "workload cluster");
        if let Some(known) = self.lock().get_mut(&access.key) {
            let pause = match &known.trouble {
                None => FIRST_PAUSE,
                Some(trouble) if trouble.trying => (trouble.pause * 2).min(LAST_PAUSE),
                Some(trouble) => trouble.pause, // it failed beside the try that was counted
            };
            known.trouble = Some(Trouble { problem: problem.clone(), again: now + pause, trying: false, pause });
        }
        problem
    }

    /// When the cluster is to be tried again, if it is being left alone.
    pub fn again(&self, namespace: &str, name: &str) -> Option<Timestamp> {
        let known = self.lock();
        known.get(&(namespace.to_owned(), name.to_owned()))?.trouble.as_ref().map(|trouble| trouble.again)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same failure always gives the same sentence.
fn problem(server: &str, error: &kube::Error) -> Problem {
    if let kube::Error::Api(status) = error {
        let message: String = status.message.chars().take(256).collect();
        return Problem {
            reason: "WorkloadClusterRefuses",
            message: format!("{server} answers {} {message}", status.code),
        };
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Problem { reason: "WorkloadClusterUnreachable", message: format!("{server} does not answer: {cause}") }
}

async fn build(key: &Key, secret: &Secret, ca: Option<&Secret>) -> Result<Access, String> {
    let text = text(secret, "value").ok_or("it has no key value with text in it")?;
    // What a parser says of a kubeconfig may quote it.
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| "key value is not a kubeconfig")?;
    check_self_contained(&kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|_| "its current context does not lead to a cluster and a user with data that can be read")?;
    config.connect_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    config.write_timeout = Some(TIMEOUT);
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let ca_pem = ca
        .and_then(|ca| self::text(ca, "tls.crt"))
        .map(str::to_owned)
        .or_else(|| config.root_cert.as_ref().map(|certificates| to_pem(certificates)))
        .ok_or_else(|| format!("neither it nor Secret {}-ca holds the cluster's CA", key.1))?;
    let client = Client::try_from(config).map_err(|_| "its certificates or keys cannot be read")?;
    Ok(Access { client, server, ca_pem, key: key.clone(), joinable: Arc::default() })
}

/// A kubeconfig may name programs to run and files to read; one that comes out of a Secret must do neither, or whoever
/// may write Secrets commands this process.
fn check_self_contained(kubeconfig: &Kubeconfig) -> Result<(), String> {
    for user in kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref()) {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("it names a program to run".into());
        }
        if user.token_file.is_some() || user.client_certificate.is_some() || user.client_key.is_some() {
            return Err("it names a file; certificates, keys and tokens must be inside of it".into());
        }
    }
    let mut clusters = kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref());
    match clusters.any(|cluster| cluster.certificate_authority.is_some()) {
        true => Err("it names a file; the CA's certificate must be inside of it".into()),
        false => Ok(()),
    }
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok().filter(|text| !text.trim().is_empty())
}

/// PEM of DER certificates.
fn to_pem(certificates: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    let block = |der: &Vec<u8>| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<String> =
            body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    certificates.iter().map(block).collect()
}
