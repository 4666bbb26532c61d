//! Answers hosts: proves who asks, lets the pure parts decide, writes what they decided, and only then answers.
//!
//! A write is always against the version that was decided on, so two replicas cannot both say yes. Secrets pass through
//! here; none is logged.

use crate::audit;
use crate::images::{self, Images, Offer, Reading};
use crate::installer;
use crate::limits::{Bounds, Limits};
use crate::logbook::Logbook;
use crate::media::{HostMedia, Media};
use crate::refusal::{Reason, Refusal};
use crate::reports::KeepLogs;
use crate::session::{self, Prepared, Secret, Task, agent_of, may_boot, may_open, opened};
use crate::store::{Store, StoreError};
use crate::throttle::Throttle;
use crate::witness::{Sighting, Witness};
use jiff::Timestamp;
use kube::ResourceExt;
use rackwright_api::host::{AgentStatus, Claim, ClaimedImage, Host};
use rackwright_protocol::media::{self, MediaConfig, MediaKind};
use rackwright_protocol::plan::{Image, SignedPlan};
use rackwright_protocol::report::{NextResponse, SessionRequest, SessionResponse};
use rackwright_protocol::token::{self, BootKey, Purpose};
use rackwright_protocol::{NEXT_PAUSE, Subject};
use std::future::Future;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;

/// How often a decision is made anew because its object changed meanwhile.
const TRIES: usize = 6;
/// How often it is looked whether there is something for an agent that waits. Only memory is read.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The boot service, apart from HTTP.
pub struct Service<S> {
    pub(crate) store: S,
    key: OnceLock<BootKey>,
    authorities: RwLock<Arc<str>>,
    media: Media,
    pub(crate) progress: Throttle,
    pub(crate) logbook: Logbook,
    pub(crate) keep_logs: KeepLogs,
    witness: Witness,
    images: Option<Arc<Images>>,
    limits: Arc<Limits>,
}

/// What one try came to.
pub(crate) enum Try<T> {
    Done(T),
    /// The object changed meanwhile.
    Stale,
}

/// Media of one host, for whoever has proven that he has its URL.
pub struct Granted {
    /// The bytes.
    pub media: HostMedia,
    /// The rack that the host stands in.
    pub rack: String,
    subject: Subject,
    kind: MediaKind,
    /// Whether the agent on it has called home.
    called_home: bool,
}

/// Who a plan goes to.
struct Receiver<'a> {
    subject: &'a Subject,
    /// What the agent holds to check the plan with.
    token: &'a str,
    /// For the audit log.
    peer: &'a str,
}

/// Digest of what the host is told to write, when it is not that of the image in claim or order.
fn other_digest(task: &Task<'_>, prepared: &Prepared) -> Option<String> {
    let (wanted, told) = (task.image()?, prepared.image()?);
    (told.digest != wanted.digest).then(|| told.digest.clone())
}

/// The names in the path of media.
#[derive(Clone, Copy, Debug)]
pub struct MediaPath<'a> {
    /// Of the Host.
    pub namespace: &'a str,
    /// Of the Host.
    pub host: &'a str,
    /// The operation.
    pub operation: &'a str,
    /// What proves the right to read it.
    pub secret: &'a str,
    /// What is asked for.
    pub kind: MediaKind,
}

impl<S: Store> Service<S> {
    /// A service that says "not yet" until it has a key. `authorities` (PEM) is what agents shall trust.
    pub fn new(store: S, authorities: &str, media: Media, progress: Throttle) -> Service<S> {
        Service {
            store,
            key: OnceLock::new(),
            authorities: RwLock::new(authorities.into()),
            media,
            progress,
            logbook: Logbook::default(),
            keep_logs: KeepLogs::default(),
            witness: Witness::default(),
            images: None,
            limits: Limits::new(Bounds::default()),
        }
    }

    /// The same service, keeping logs of these operations.
    pub fn keeping_logs(self, keep_logs: KeepLogs) -> Service<S> {
        Service { keep_logs, ..self }
    }

    /// The same service, with images of its own.
    pub fn with_images(self, images: Arc<Images>) -> Service<S> {
        Service { images: Some(images), ..self }
    }

    /// The same service, giving out no more than this at once.
    pub fn limited(self, bounds: Bounds) -> Service<S> {
        Service { limits: Limits::new(bounds), ..self }
    }

    /// How much goes out at once.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The key that the manager makes media and tokens with. The first one stays.
    pub fn set_key(&self, key: BootKey) {
        let _ = self.key.set(key);
    }

    /// What agents shall trust from now on, PEM.
    pub fn set_authorities(&self, authorities: &str) {
        *self.authorities.write().unwrap_or_else(PoisonError::into_inner) = authorities.into();
        if let Some(images) = &self.images {
            images.set_authorities(authorities);
        }
    }

    /// True when hosts can be served.
    pub fn is_ready(&self) -> bool {
        self.key.get().is_some() && self.store.is_ready()
    }

    /// The media at `path`; `None` for everybody who has not got its very URL, and when its operation is over. An error
    /// means that it cannot be told now.
    pub async fn media(&self, path: MediaPath<'_>) -> Result<Option<Granted>, Refusal> {
        let key = self.key()?;
        let MediaPath { namespace, host: name, operation: operation_id, secret, .. } = path;
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
                Some(subject) if may_boot(seen, &subject, Timestamp::now()) => {
                    return Ok(self.grant(seen, subject, path));
                }
                Some(_) => {} // the operation may be newer than what we have seen
            }
        }
        let Some(host) = self.store.read(namespace, name).await.map_err(unavailable)? else { return Ok(None) };
        let subject = of(&host).filter(|subject| may_boot(&host, subject, Timestamp::now()));
        Ok(subject.and_then(|subject| self.grant(&host, subject, path)))
    }

    /// The host whose network card has this MAC address, when it is to be told what to boot.
    pub fn host_that_boots(&self, mac: &str) -> Option<Arc<Host>> {
        self.store.by_mac(mac).filter(|host| session::boots_by_pxe(host, Timestamp::now()))
    }

    /// The iPXE script for that network card. It holds the secret of the host's media.
    pub fn pxe_script(&self, mac: &str) -> Option<Granted> {
        let host = self.host_that_boots(mac)?;
        let operation = host.status.as_ref()?.operation.as_ref()?;
        let (namespace, name) = (host.namespace().unwrap_or_default(), host.name_any());
        let host_uid = host.uid()?;
        let secret = self.key.get()?.secret(Purpose::Media, &host_uid, &operation.id);
        let path = MediaPath {
            namespace: &namespace,
            host: &name,
            operation: &operation.id,
            secret: &secret,
            kind: MediaKind::Ipxe,
        };
        let operation_id = operation.id.clone();
        let subject = Subject { namespace: namespace.clone(), host: name.clone(), host_uid, operation_id };
        self.grant(&host, subject, path)
    }

    fn grant(&self, host: &Host, subject: Subject, path: MediaPath<'_>) -> Option<Granted> {
        let area = self.area(host, &subject)?;
        let other = |kind| media::path(path.namespace, path.host, path.operation, path.secret, kind);
        let Some(media) = self.media.of_host(path.kind, area, other) else {
            tracing::warn!(host = subject.host, kind = ?path.kind, "no media: --ramdisk does not hold this kind");
            return None;
        };
        let called_home = agent_of(host, &subject.operation_id).is_some();
        Some(Granted { media, rack: host.spec.rack.clone(), subject, kind: path.kind, called_home })
    }

    fn area(&self, host: &Host, subject: &Subject) -> Option<Vec<u8>> {
        let name = &subject.host;
        let Some(boot_url) = self.store.place(host).boot_url().map(ToString::to_string) else {
            tracing::warn!(host = name, rack = host.spec.rack, "no media: the rack or its datacenter is not there");
            return None;
        };
        let ca = self.authorities.read().unwrap_or_else(PoisonError::into_inner).to_string();
        let token = self.key.get()?.secret(Purpose::Token, &subject.host_uid, &subject.operation_id);
        let ramdisk = host.spec.ramdisk.clone().unwrap_or_default();
        let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
        let operation = operation.filter(|operation| operation.id == subject.operation_id);
        let config = MediaConfig {
            boot_url,
            ca,
            subject: subject.clone(),
            token,
            began_at: operation.map(|operation| operation.started_at),
            network: ramdisk.network,
            boot_mac: Some(host.spec.boot_mac_address.clone()),
            rescue_shell: ramdisk.rescue_shell,
        };
        media::write(&config)
            .inspect_err(|why| tracing::error!(host = name, %why, "no media: shorten the file with the authorities"))
            .ok()
    }

    /// Says in the audit log that the host's own part of `granted` goes to `peer`.
    pub fn audit_media(&self, granted: &Granted, peer: &str) {
        let (subject, kind) = (&granted.subject, granted.kind.extension());
        match self.witness.note(&subject.operation_id, peer, granted.called_home) {
            Sighting::Known => {}
            Sighting::First => audit::media(subject, kind, peer),
            Sighting::Late => audit::late_media(subject, kind, peer),
        }
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
            Ok(_) => {}
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
        let mut agent = opened(&request.subject, token::digest(&secret), now);
        let prepared = match may_open(&host, request, now) {
            Ok(task) => self.prepared(&host, &request.subject, &task).await.map(|prepared| (task, prepared)),
            Err(refusal) => Err(refusal),
        };
        let (task, prepared) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => {
                return self.give_up(&host, &request.subject, Some(&agent), refusal).await;
            }
        };
        agent.image_digest = other_digest(&task, &prepared);
        let to = Receiver { subject: &request.subject, token: &request.token, peer };
        Ok(match self.hand_out(&host, &task, prepared, &agent, to, now).await? {
            Try::Done(plan) => Try::Done(SessionResponse { session: secret, plan }),
            Try::Stale => Try::Stale,
        })
    }

    /// Writes down who works for whom, and then makes the plan.
    async fn hand_out(
        &self,
        host: &Host,
        task: &Task<'_>,
        prepared: Prepared,
        agent: &AgentStatus,
        to: Receiver<'_>,
        now: Timestamp,
    ) -> Result<Try<SignedPlan>, Refusal> {
        match self.store.write_agent(host, agent).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => return Ok(Try::Stale),
            Err(why) => return Err(unavailable(why)),
        }
        audit::session(to.subject, task.name(), to.peer);
        if let Task::Deploy(claim) = task {
            audit::user_data(host, claim, to.peer);
        }
        self.keep_earlier_log(host, to.subject).await;
        let plan = session::plan(host, &self.store.place(host), to.subject, task, prepared, now);
        let signed = SignedPlan::sign(&plan, to.token);
        signed.map(Try::Done).map_err(|why| unavailable(StoreError::Invalid(why.to_string())))
    }

    /// What an agent that waits on a prepared host is to do next, as soon as there is something; `None`: nothing yet.
    pub async fn next(&self, session: &str, subject: &Subject, peer: &str) -> Result<Option<NextResponse>, Refusal> {
        let until = Instant::now() + NEXT_PAUSE;
        loop {
            let (namespace, name) = (&subject.namespace, &subject.host);
            let answer = self.settle(namespace, name, |host| self.try_next(host, session, subject, peer)).await;
            match answer {
                Ok(None) if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(next) => return Ok(next),
                Err(refusal) => {
                    let (operation, reason) = (&subject.operation_id, refusal.reason.as_str());
                    tracing::info!(namespace, host = name, operation, peer, reason, "no next plan");
                    return Err(refusal);
                }
            }
        }
    }

    async fn try_next(
        &self,
        host: Arc<Host>,
        session: &str,
        subject: &Subject,
        peer: &str,
    ) -> Result<Try<Option<NextResponse>>, Refusal> {
        let now = Timestamp::now();
        let Some((operation, task)) = session::may_take_over(&host, subject, session, now)? else {
            return Ok(Try::Done(None));
        };
        let (operation_id, secret) = (operation.id.clone(), random_secret()?);
        let own = Subject { operation_id: operation_id.clone(), ..subject.clone() };
        let mut agent = opened(&own, token::digest(&secret), now);
        let prepared = match self.prepared(&host, &own, &task).await {
            Ok(prepared) => prepared,
            Err(refusal) => return self.give_up(&host, &own, Some(&agent), refusal).await,
        };
        agent.image_digest = other_digest(&task, &prepared);
        // Of the media that the agent was booted from: it has no other.
        let token = self.key()?.secret(Purpose::Token, &subject.host_uid, &subject.operation_id);
        let to = Receiver { subject: &own, token: &token, peer };
        Ok(match self.hand_out(&host, &task, prepared, &agent, to, now).await? {
            Try::Done(plan) => Try::Done(Some(NextResponse { operation_id, session: secret, plan })),
            Try::Stale => Try::Stale,
        })
    }

    /// Whatever the plan for `task` needs that may turn out to be missing or wrong.
    async fn prepared(&self, host: &Host, subject: &Subject, task: &Task<'_>) -> Result<Prepared, Refusal> {
        let image = task.image().map(|image| self.image_for(host, image)).transpose()?.flatten();
        let claim = match task {
            Task::Deploy(claim) => claim,
            Task::Prepare(_) => return Ok(Prepared::Prepare(image)),
            Task::Wipe(_) => return self.store.disks(host).await.map(Prepared::Wipe).map_err(unavailable),
            Task::Inspect => return Ok(Prepared::Nothing),
        };
        let Some(installer) = &claim.image.installer else {
            return Ok(Prepared::Deploy { user_data: Secret(self.user_data(claim).await?), image });
        };
        let user_data = self.user_data(claim).await?;
        let authorities = self.authorities.read().unwrap_or_else(PoisonError::into_inner).clone();
        let token = self.key()?.secret(Purpose::Installed, &subject.host_uid, &subject.operation_id);
        let caller = installer::Caller { subject, authorities: &authorities, token };
        let place = self.store.place(host);
        let install = installer::install(host, &place, claim, installer, user_data, caller)?;
        Ok(Prepared::Install(Box::new(install)))
    }

    async fn user_data(&self, claim: &Claim) -> Result<String, Refusal> {
        let (namespace, secret) = (&claim.consumer.namespace, &claim.user_data.name);
        let missing = || {
            let message = format!("Secret {namespace}/{secret} with the user-data under key \"value\" is not there");
            Refusal::ending(Reason::UserDataMissing, message)
        };
        self.store.user_data(namespace, secret).await.map_err(unavailable)?.ok_or_else(missing)
    }

    /// What the host is to fetch in the place of `image`; `None` when that itself.
    fn image_for(&self, host: &Host, image: &ClaimedImage) -> Result<Option<Image>, Refusal> {
        let Some(images) = &self.images else {
            let why = "this image has to be unpacked for the host, and the boot service has no folder for that: \
                       start it with --image-cache";
            let refuse = images::needs_us(image);
            return if refuse { Err(Refusal::ending(Reason::ImageUnavailable, why)) } else { Ok(None) };
        };
        let place = self.store.place(host);
        match images.offer(image, place.boot_url().unwrap_or_default(), &host.spec.rack) {
            Offer::Fetch(image) => Ok(Some(image)),
            Offer::Preparing { percent } => Err(images::preparing(percent)),
            Offer::Failed(failure) => Err(Refusal::ending(failure.reason, session::bounded(&failure.message))),
        }
    }

    /// The image that is served as `file`, of the one that claims know by the digest `source`.
    pub async fn image(&self, source: &str, file: &str) -> Result<Reading, Refusal> {
        let Some(images) = &self.images else {
            return Err(Refusal::new(Reason::ImageUnknown, "images are not served here"));
        };
        images.open_file(source, file, || self.store.claimed_image(source)).await
    }

    /// Tries with the host as last seen; when that says no or is stale, with the host as it is.
    pub(crate) async fn settle<T, F>(
        &self,
        namespace: &str,
        name: &str,
        attempt: impl Fn(Arc<Host>) -> F,
    ) -> Result<T, Refusal>
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

    pub(crate) fn key(&self) -> Result<&BootKey, Refusal> {
        self.key.get().ok_or_else(|| Refusal::new(Reason::Unavailable, "the boot service is starting; ask again"))
    }
}

/// What hosts are told when we cannot read or write; the cause is for our own log.
pub(crate) fn unavailable(why: StoreError) -> Refusal {
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
