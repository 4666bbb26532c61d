//! Answers hosts: proves who asks, lets the pure parts decide, writes what they decided, and only then answers.
//!
//! A write is always against the version that was decided on, so two replicas cannot both say yes. Secrets pass through
//! here; none is logged.

use crate::media::Media;
use crate::refusal::{Reason, Refusal};
use crate::report::{Meaning, failed, meaning};
use crate::session::{self, Task, agent_of, current, may_open, opened};
use crate::store::{Store, StoreError};
use crate::throttle::Throttle;
use jiff::Timestamp;
use kube::ResourceExt;
use rackwright_api::host::{AgentStatus, Claim, Host};
use rackwright_protocol::Subject;
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::SignedPlan;
use rackwright_protocol::report::{Report, SessionRequest, SessionResponse};
use rackwright_protocol::token::{self, BootKey, Purpose};
use std::future::Future;
use std::sync::{Arc, OnceLock, RwLock};

/// How often a decision is made anew because its object changed meanwhile.
const TRIES: usize = 6;

/// The boot service, apart from HTTP.
pub struct Service<S> {
    store: S,
    key: OnceLock<BootKey>,
    authorities: RwLock<Arc<str>>,
    media: Media,
    progress: Throttle,
}

/// What one try came to.
enum Try<T> {
    Done(T),
    /// The object changed meanwhile.
    Stale,
}

impl<S: Store> Service<S> {
    /// A service that says "not yet" until it has a key. `authorities` (PEM) is what agents shall trust.
    pub fn new(store: S, authorities: &str, media: Media, progress: Throttle) -> Service<S> {
        let authorities = RwLock::new(authorities.into());
        Service { store, key: OnceLock::new(), authorities, media, progress }
    }

    /// The key that the manager makes media and tokens with. The first one stays.
    pub fn set_key(&self, key: BootKey) {
        let _ = self.key.set(key);
    }

    /// What agents shall trust from now on, PEM.
    pub fn set_authorities(&self, authorities: &str) {
        *self.authorities.write().unwrap_or_else(std::sync::PoisonError::into_inner) = authorities.into();
    }

    /// True when hosts can be served.
    pub fn is_ready(&self) -> bool {
        self.key.get().is_some() && self.store.is_ready()
    }

    /// The generic media.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// The reserved area of one host's media; `None` for everybody who has not got its very URL. An error means that it
    /// cannot be told now.
    pub async fn area(
        &self,
        namespace: &str,
        name: &str,
        operation_id: &str,
        secret: &str,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let key = self.key()?;
        if !self.store.is_ready() {
            return Err(unavailable(StoreError::Unavailable("the racks are not known yet".into()))); // right after a start
        }
        let of = |host: &Host| {
            let host_uid = host.uid().unwrap_or_default();
            let subject =
                Subject { namespace: namespace.into(), host: name.into(), host_uid, operation_id: operation_id.into() };
            key.proves(Purpose::Media, &subject.host_uid, operation_id, secret).then_some(subject)
        };
        let seen = self.store.seen(namespace, name);
        if let Some(seen) = &seen {
            match of(seen) {
                None => return Ok(None),
                Some(subject) if current(seen, &subject, Timestamp::now()).is_ok() => {
                    return Ok(self.fill(seen, subject));
                }
                Some(_) => {} // the operation may be newer than what we have seen
            }
        }
        let Some(host) = self.store.read(namespace, name).await.map_err(unavailable)? else { return Ok(None) };
        let subject = of(&host).filter(|subject| current(&host, subject, Timestamp::now()).is_ok());
        Ok(subject.and_then(|subject| self.fill(&host, subject)))
    }

    fn fill(&self, host: &Host, subject: Subject) -> Option<Vec<u8>> {
        let name = subject.host.clone();
        let Some(boot_url) = self.store.place(host).boot_url().map(ToString::to_string) else {
            tracing::warn!(host = name, rack = host.spec.rack, "no media: the rack or its datacenter is not there");
            return None;
        };
        let ca = self.authorities.read().unwrap_or_else(std::sync::PoisonError::into_inner).to_string();
        let token = self.key.get()?.secret(Purpose::Token, &subject.host_uid, &subject.operation_id);
        let config = MediaConfig { boot_url, ca, subject, token, ..MediaConfig::default() };
        rackwright_protocol::media::write(&config)
            .inspect_err(|why| tracing::error!(host = name, %why, "no media: shorten the file with the authorities"))
            .ok()
    }

    /// Opens the one session of an operation. `peer` is for the audit log.
    pub async fn open_session(&self, request: &SessionRequest, peer: &str) -> Result<SessionResponse, Refusal> {
        let Subject { namespace, host, host_uid, operation_id } = &request.subject;
        if !self.key()?.proves(Purpose::Token, host_uid, operation_id, &request.token) {
            return Err(Refusal::new(Reason::TokenInvalid, "this is not the token of this host and operation"));
        }
        let secret = random_secret()?;
        let answer = self.settle(namespace, host, |host| self.try_open(host, request, secret.clone(), peer)).await;
        match &answer {
            Ok(_) => tracing::info!(namespace, host, operation = operation_id, peer, "session opened"),
            Err(refusal) => {
                tracing::warn!(
                    namespace,
                    host,
                    operation = operation_id,
                    peer,
                    reason = refusal.reason.as_str(),
                    "session refused"
                );
            }
        }
        answer
    }

    async fn try_open(
        &self,
        host: Arc<Host>,
        request: &SessionRequest,
        secret: String,
        peer: &str,
    ) -> Result<Try<SessionResponse>, Refusal> {
        let now = Timestamp::now();
        let agent = opened(&request.subject, token::digest(&secret), now);
        let prepared = match may_open(&host, request, now) {
            Ok(task) => self.user_data(&task).await.map(|user_data| (task, user_data)),
            Err(refusal) => Err(refusal),
        };
        let (task, user_data) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => {
                let Some(failure) = refusal.failure.clone() else { return Err(refusal) };
                return match self.store.write_agent(&host, &failed(&agent, failure)).await {
                    Err(StoreError::Conflict) => Ok(Try::Stale),
                    Err(why) => Err(unavailable(why)),
                    Ok(()) => Err(refusal),
                };
            }
        };
        match self.store.write_agent(&host, &agent).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => return Ok(Try::Stale),
            Err(why) => return Err(unavailable(why)),
        }
        if let Task::Deploy(claim) = &task {
            audit(&host, claim, peer);
        }
        let plan = session::plan(&host, &self.store.place(&host), &request.subject, &task, user_data, now);
        let signed =
            SignedPlan::sign(&plan, &request.token).map_err(|why| unavailable(StoreError::Invalid(why.to_string())))?;
        Ok(Try::Done(SessionResponse { session: secret, plan: signed }))
    }

    async fn user_data(&self, task: &Task<'_>) -> Result<String, Refusal> {
        let Task::Deploy(claim) = task else { return Ok(String::new()) };
        let (namespace, secret) = (&claim.consumer.namespace, &claim.user_data.name);
        let missing = || {
            let message = format!("Secret {namespace}/{secret} with the user-data under key \"value\" is not there");
            Refusal::ending(Reason::UserDataMissing, message)
        };
        self.store.user_data(namespace, secret).await.map_err(unavailable)?.ok_or_else(missing)
    }

    /// Takes one report, sent with the bearer secret `session`.
    pub async fn take_report(&self, session: &str, report: &Report) -> Result<(), Refusal> {
        let Subject { namespace, host, operation_id, .. } = &report.subject;
        let answer = self.settle(namespace, host, |host| self.try_report(host, session, report)).await;
        if let Err(refusal) = &answer {
            tracing::info!(
                namespace,
                host,
                operation = operation_id,
                reason = refusal.reason.as_str(),
                "report refused"
            );
        }
        answer
    }

    async fn try_report(&self, host: Arc<Host>, session: &str, report: &Report) -> Result<Try<()>, Refusal> {
        let written = match meaning(&host, session, report, Timestamp::now()) {
            Ok(Meaning::Known) => Ok(()),
            Ok(Meaning::Progress(agent)) => {
                self.show_progress(&host, &agent).await;
                Ok(())
            }
            Ok(Meaning::Failure(agent)) => self.store.write_agent(&host, &agent).await,
            Ok(Meaning::Hardware(hardware)) => self.store.write_hardware(&host, &hardware).await,
            Ok(Meaning::Results { deployed, wiped }) => {
                self.store.write_results(&host, deployed.as_ref(), wiped.as_ref()).await
            }
            Err(refusal) => return self.give_up(&host, report, refusal).await,
        };
        match written {
            Ok(()) => {
                log_result(&host, report);
                Ok(Try::Done(()))
            }
            Err(StoreError::Conflict) => Ok(Try::Stale),
            Err(StoreError::Invalid(why)) => {
                let message = session::bounded(&format!("what the agent reported is not accepted: {why}"));
                self.give_up(&host, report, Refusal::ending(Reason::ReportInvalid, message)).await
            }
            Err(why) => Err(unavailable(why)),
        }
    }

    /// Writes progress when it is new and not too soon after the last. A deployment that takes less than the interval
    /// costs no write for it.
    async fn show_progress(&self, host: &Host, agent: &AgentStatus) {
        let known = agent_of(host, &agent.operation_id) == Some(agent);
        let young = Timestamp::now().duration_since(agent.since).unsigned_abs() < self.progress.interval();
        if known || young || !self.progress.admits(&agent.operation_id) {
            return;
        }
        // Lossy: whoever wrote in between has something newer to show.
        if let Err(why) = self.store.write_agent(host, agent).await {
            tracing::debug!(host = host.name_any(), %why, "progress not written");
        }
    }

    /// Refuses, after telling the manager when the refusal ends the operation.
    async fn give_up<T>(&self, host: &Host, report: &Report, refusal: Refusal) -> Result<Try<T>, Refusal> {
        let agent = agent_of(host, &report.subject.operation_id);
        let (Some(failure), Some(agent)) = (refusal.failure.clone(), agent) else { return Err(refusal) };
        match self.store.write_agent(host, &failed(agent, failure)).await {
            Ok(()) => Err(refusal),
            Err(StoreError::Conflict) => Ok(Try::Stale),
            Err(why) => Err(unavailable(why)),
        }
    }

    /// Tries with the host as last seen; when that says no or is stale, with the host as it is.
    async fn settle<T, F>(&self, namespace: &str, name: &str, attempt: impl Fn(Arc<Host>) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<Try<T>, Refusal>>,
    {
        if let Some(seen) = self.store.seen(namespace, name) {
            match attempt(seen).await {
                Ok(Try::Done(answer)) => return Ok(answer),
                // Final: it was written, or it does not depend on the version of the host.
                Err(refusal) if refusal.failure.is_some() || refusal.reason == Reason::TokenUsed => {
                    return Err(refusal);
                }
                Ok(Try::Stale) | Err(_) => {}
            }
        }
        for _ in 0..TRIES {
            let Some(host) = self.store.read(namespace, name).await.map_err(unavailable)? else {
                return Err(Refusal::new(Reason::HostGone, "this host was deleted"));
            };
            match attempt(host).await? {
                Try::Done(answer) => return Ok(answer),
                Try::Stale => {}
            }
        }
        Err(Refusal::new(Reason::Unavailable, "the host is being changed all the time; ask again"))
    }

    fn key(&self) -> Result<&BootKey, Refusal> {
        self.key.get().ok_or_else(|| Refusal::new(Reason::Unavailable, "the boot service is starting; ask again"))
    }
}

/// The one line that says who got user-data: what it was is not in it.
fn audit(host: &Host, claim: &Claim, peer: &str) {
    tracing::info!(
        target: "rackwright::audit",
        namespace = host.namespace(),
        host = host.name_any(),
        machine = claim.consumer.name,
        machine_uid = claim.consumer.uid,
        secret = claim.user_data.name,
        peer,
        "user-data handed out"
    );
}

fn log_result(host: &Host, report: &Report) {
    use rackwright_protocol::report::Event;
    let (host, operation) = (host.name_any(), &report.subject.operation_id);
    match &report.event {
        Event::Progress { .. } | Event::Log { .. } => {}
        Event::InstallerStarting => tracing::info!(host, operation, "handed over to the installer"),
        Event::Inspected { .. } => tracing::info!(host, operation, "inspected"),
        Event::Deployed { device, .. } => tracing::info!(host, operation, device, "deployed"),
        Event::Wiped { disks } => tracing::info!(host, operation, disks = disks.len(), "wiped"),
        Event::Failed { reason, .. } => tracing::warn!(host, operation, reason, "the agent gave up"),
    }
}

/// What hosts are told when we cannot read or write; the cause is for our own log.
fn unavailable(why: StoreError) -> Refusal {
    tracing::warn!(%why, "a host is told to ask again");
    Refusal::new(Reason::Unavailable, "the boot service cannot reach its store; ask again")
}

fn random_secret() -> Result<String, Refusal> {
    use base64::Engine;
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Refusal::new(Reason::Unavailable, "no random numbers; ask again"))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
