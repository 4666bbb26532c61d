//! Images for hosts: fetched once from where an OSImage says, however many hosts want them, kept in a folder, and
//! unpacked where agents do not understand the format. Only images that some host's claim names are fetched.
//!
//! `upstream` and `oci` bring a file, `unpack` and `qcow2` change it, `cache` keeps it, `job` is what waiters see.

mod cache;
mod digest;
mod job;
mod oci;
mod qcow2;
mod unpack;
mod upstream;

pub use job::Reading;
pub use upstream::Patience;

use crate::refusal::{Reason, Refusal};
use cache::Cache;
use digest::is_digest;
use job::{Done, State};
use rackwright_api::host::ClaimedImage;
use rackwright_api::image::ImageFormat;
use rackwright_protocol::plan::Image;
use reqwest::{Certificate, Client, Url};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use upstream::Source;

/// Path of images below the base URL: `/images/DIGEST-IN-THE-CLAIM/DIGEST-OF-WHAT-IS-SERVED.FORMAT`.
pub const PATH: &str = "/images";

/// How the image part of the service is set up.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Images that agents understand come from here, too, and not from where the OSImage says.
    pub proxy: bool,
    /// Port of a plain-http listener for images; absent: they are served where everything else is.
    pub port: Option<u16>,
    /// How long things may take.
    pub patience: Patience,
}

/// Why an image cannot be had. `reason` is one that the manager leaves to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `ImageUnavailable`, `ImageDigestMismatch` or `ImageUnreadable`.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl Failure {
    fn new(reason: Reason, message: impl Into<String>) -> Failure {
        Failure { reason, message: message.into() }
    }

    fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(Reason::ImageUnavailable, message)
    }

    fn unreadable(message: impl Into<String>) -> Failure {
        Failure::new(Reason::ImageUnreadable, message)
    }
}

/// What a host is told to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// This.
    Fetch(Image),
    /// Nothing yet.
    Preparing {
        /// How much is done.
        percent: u8,
    },
    /// It is not to be had.
    Failed(Failure),
}

/// Images, and what is being done to get them.
pub struct Images {
    cache: Arc<Cache>,
    options: ImageOptions,
    authorities: Mutex<Arc<str>>,
    jobs: Mutex<HashMap<String, watch::Receiver<State>>>,
}

impl Images {
    /// Images in `folder`, of at most `capacity` bytes. `authorities` (PEM) are trusted beside the system's.
    pub fn open(folder: &Path, capacity: u64, authorities: &str, options: ImageOptions) -> std::io::Result<Images> {
        let cache = Arc::new(Cache::open(folder, capacity)?);
        tracing::info!(folder = %folder.display(), capacity = cache.capacity(), "image cache");
        Ok(Images { cache, options, authorities: Mutex::new(authorities.into()), jobs: Mutex::default() })
    }

    /// Whom to trust from now on, PEM.
    pub fn set_authorities(&self, authorities: &str) {
        *self.authorities.lock().unwrap_or_else(PoisonError::into_inner) = authorities.into();
    }

    /// What a host of `rack` is told to fetch for `image`; never waits. `boot_url` is where hosts reach us.
    pub fn offer(self: &Arc<Images>, image: &ClaimedImage, boot_url: &str, rack: &str) -> Offer {
        let as_is = !needs_us(image);
        if as_is && !self.options.proxy {
            return Offer::Fetch(told(image));
        }
        let state = self.look(image).borrow().clone();
        let served = match state {
            State::Failed(failure, _) => return Offer::Failed(failure),
            State::Done(done) => done.digest,
            _ if as_is => image.digest.clone(),
            State::Fetching(fetching) if image.format != ImageFormat::Qcow2 => fetching.digest,
            state => return Offer::Preparing { percent: state.percent() },
        };
        let format = if image.format == ImageFormat::Qcow2 { ImageFormat::RawZst } else { image.format };
        match self.url(boot_url, &image.digest, &served, format, rack) {
            Some(url) => Offer::Fetch(Image { url, digest: served, format }),
            None => Offer::Failed(Failure::unavailable(format!("{boot_url} is no URL"))),
        }
    }

    /// The image that is served as `file` and known to claims by the digest `source`. Waits a while for it to begin.
    /// `claimed` is asked when it is not here: only what a host's claim names is fetched.
    pub async fn open_file(
        self: &Arc<Images>,
        source: &str,
        file: &str,
        claimed: impl FnOnce() -> Option<ClaimedImage>,
    ) -> Result<Reading, Refusal> {
        let unknown = || Refusal::new(Reason::ImageUnknown, "no host is to have this image");
        let (digest, _) = file.split_once('.').filter(|(digest, _)| is_digest(digest)).ok_or_else(unknown)?;
        for name in [digest.to_string(), unpack::name(source, digest)] {
            if let Some(cached) = self.cache.get(&name) {
                return Ok(Reading { cached, digest: digest.into(), growing: None });
            }
        }
        let image = claimed().filter(|image| image.digest == source).ok_or_else(unknown)?;
        let mut state = self.look(&image);
        let begun = state.wait_for(|state| match state {
            State::Begun | State::Unpacking { .. } => false,
            State::Fetching(fetching) => image.format != ImageFormat::Qcow2 && fetching.length.is_some(),
            State::Done(_) | State::Failed(..) => true,
        });
        let begun = tokio::time::timeout(self.options.patience.wait, begun).await;
        let begun = begun.map_err(|_| preparing(0))?.map_err(|_| preparing(0))?.clone();
        let another = || {
            let why = "this replica makes another file of the image; a new try will be told of that one";
            Refusal::new(Reason::ImageUnknown, why)
        };
        match begun {
            State::Fetching(fetching) if fetching.digest == digest => {
                let length = fetching.length.unwrap_or_default();
                let cached = cache::Cached { file: fetching.file, length };
                Ok(Reading { cached, digest: digest.into(), growing: Some(state) })
            }
            State::Done(done) if done.digest == digest => {
                let cached = self.cache.get(&done.name).ok_or_else(|| preparing(0))?;
                Ok(Reading { cached, digest: digest.into(), growing: None })
            }
            State::Failed(failure, _) => Err(Refusal::new(failure.reason, failure.message)),
            _ => Err(another()),
        }
    }

    /// How far `image` is; begins to get it when nobody has.
    fn look(self: &Arc<Images>, image: &ClaimedImage) -> watch::Receiver<State> {
        let key = key(image);
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = jobs.get(&key)
            && self.is_of_use(&state.borrow(), state)
        {
            return state.clone();
        }
        let (tell, state) = watch::channel(self.cached(image).map_or(State::Begun, State::Done));
        if matches!(*state.borrow(), State::Begun) {
            let (images, image) = (self.clone(), image.clone());
            tokio::spawn(async move { images.run(&image, tell).await });
        }
        jobs.insert(key, state.clone());
        state
    }

    fn is_of_use(&self, state: &State, channel: &watch::Receiver<State>) -> bool {
        match state {
            State::Done(done) => self.cache.get(&done.name).is_some(),
            State::Failed(_, since) => since.elapsed() < self.options.patience.grudge,
            _ => channel.has_changed().is_ok(), // an error: whoever worked on it is gone
        }
    }

    /// What is in the cache already of `image`.
    fn cached(&self, image: &ClaimedImage) -> Option<Done> {
        if image.format == ImageFormat::Qcow2 {
            let name = self.cache.find(&format!("{}.", image.digest))?;
            let digest = unpack::digest_of(&name, &image.digest)?.to_string();
            return Some(Done { name, digest });
        }
        self.cache.get(&image.digest).map(|_| Done { name: image.digest.clone(), digest: image.digest.clone() })
    }

    async fn run(&self, image: &ClaimedImage, tell: watch::Sender<State>) {
        let begun = Instant::now();
        let made = self.make(image, &tell).await;
        match &made {
            Ok(done) => {
                tracing::info!(image = image.name, digest = done.digest, took = ?begun.elapsed(), "image ready")
            }
            Err(failure) => tracing::warn!(image = image.name, why = failure.message, "image not to be had"),
        }
        tell.send_replace(made.map_or_else(|failure| State::Failed(failure, Instant::now()), State::Done));
    }

    async fn make(&self, image: &ClaimedImage, tell: &watch::Sender<State>) -> Result<Done, Failure> {
        let client = self.client()?;
        let source = locate(&client, image).await?;
        let cached = match self.cache.get(&source.digest) {
            Some(cached) => cached,
            None => upstream::fetch(&client, &source, &self.cache, &key(image), &self.options.patience, tell).await?,
        };
        if image.format != ImageFormat::Qcow2 {
            return Ok(Done { name: source.digest.clone(), digest: source.digest });
        }
        tell.send_replace(State::Unpacking { percent: 0 });
        let (cache, digest, tell) = (self.cache.clone(), image.digest.clone(), tell.clone());
        let unpacking = tokio::task::spawn_blocking(move || {
            unpack::unpack(&cached, &digest, &cache, |percent| drop(tell.send_replace(State::Unpacking { percent })))
        });
        unpacking.await.map_err(|why| Failure::unreadable(why.to_string()))?
    }

    fn client(&self) -> Result<Client, Failure> {
        let broken = |why: reqwest::Error| Failure::unavailable(upstream::chain(&why));
        let authorities = self.authorities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let authorities = Certificate::from_pem_bundle(authorities.as_bytes()).map_err(broken)?;
        let Patience { connect, silence, .. } = self.options.patience;
        let client = Client::builder().tls_certs_merge(authorities).connect_timeout(connect).read_timeout(silence);
        client.build().map_err(broken)
    }

    fn url(&self, boot_url: &str, source: &str, served: &str, format: ImageFormat, rack: &str) -> Option<String> {
        let mut url = Url::parse(boot_url).ok()?;
        if let Some(port) = self.options.port {
            url.set_scheme("http").ok()?;
            url.set_port(Some(port)).ok()?;
        }
        let base = url.path().trim_end_matches('/').to_string();
        url.set_path(&format!("{base}{PATH}/{source}/{served}.{}", ending(format)));
        url.query_pairs_mut().append_pair("rack", rack);
        Some(url.to_string())
    }
}

/// True when an agent cannot fetch the image itself.
pub fn needs_us(image: &ClaimedImage) -> bool {
    image.format == ImageFormat::Qcow2 || image.url.starts_with("oci:")
}

/// The image as the claim has it.
pub fn told(image: &ClaimedImage) -> Image {
    Image { url: image.url.clone(), digest: image.digest.clone(), format: image.format }
}

/// What a host is told while its image is not ready.
pub fn preparing(percent: u8) -> Refusal {
    Refusal::new(Reason::ImagePreparing, format!("the image is being fetched and unpacked ({percent} %); ask again"))
}

/// Which job gets this image: one for all who want the same.
fn key(image: &ClaimedImage) -> String {
    match image.format {
        ImageFormat::Qcow2 => format!("{}.qcow2", image.digest),
        _ => image.digest.clone(),
    }
}

async fn locate(client: &Client, image: &ClaimedImage) -> Result<Source, Failure> {
    if let Some(reference) = oci::Reference::parse(&image.url) {
        return reference?.locate(client, &image.digest).await;
    }
    let url = Url::parse(&image.url).map_err(|why| Failure::unavailable(format!("{}: {why}", image.url)))?;
    Ok(Source { url, authorization: None, digest: image.digest.clone(), length: None })
}

fn ending(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::RawGz => "raw.gz",
        ImageFormat::RawZst => "raw.zst",
        ImageFormat::RawXz => "raw.xz",
        ImageFormat::Qcow2 => "qcow2",
    }
}
