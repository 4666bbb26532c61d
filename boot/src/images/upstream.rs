//! Fetches one file from where an OSImage says it is, takes broken connections up where they broke, and checks the
//! digest before anybody takes the file for whole. Others read it while it grows: they check for themselves.

use super::Failure;
use super::cache::{Cache, Cached, Room};
use super::digest::Hasher;
use super::job::{Fetching, State};
use crate::refusal::Reason;
use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Client, StatusCode, Url};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes that are gathered before they are hashed and written.
const BATCH: usize = 1 << 20;

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// How long a server may send nothing.
    pub silence: Duration,
    /// Pause before the first repetition; doubled for each further one.
    pub retry_first: Duration,
    /// Longest pause between repetitions.
    pub retry_max: Duration,
    /// How many connections in a row may bring nothing.
    pub resumes: u32,
    /// How long a host waits for an image to begin before it is told to ask again.
    pub wait: Duration,
    /// How long a failure is told to all who ask before it is tried again.
    pub grudge: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(15),
            resumes: 6,
            wait: Duration::from_secs(15),
            grudge: Duration::from_secs(60),
        }
    }
}

/// A file somewhere else.
#[derive(Clone)]
pub struct Source {
    /// Where.
    pub url: Url,
    /// Value of the header Authorization.
    pub authorization: Option<String>,
    /// Its digest.
    pub digest: String,
    /// Bytes, when they are known before.
    pub length: Option<u64>,
}

/// Why a connection is of no use.
enum Broken {
    /// Another try may do.
    Again(String),
    /// It will be the same again.
    ForGood(Failure),
}

/// The file as far as it has come.
struct Sink {
    file: File,
    hasher: Hasher,
    room: Room,
}

/// Fetches `source` into the cache; meanwhile it is the file `part`.
pub async fn fetch(
    client: &Client,
    source: &Source,
    cache: &Arc<Cache>,
    part: &str,
    patience: &Patience,
    tell: &watch::Sender<State>,
) -> Result<Cached, Failure> {
    let path = cache.part(part);
    let resumed = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0);
    match once(client, source, cache, &path, patience, tell).await {
        // What a process before us left may have been of another file, or damaged: from the start, then.
        Err(failure) if resumed && failure.reason == Reason::ImageDigestMismatch => {
            once(client, source, cache, &path, patience, tell).await
        }
        done => done,
    }
}

async fn once(
    client: &Client,
    source: &Source,
    cache: &Arc<Cache>,
    path: &Path,
    patience: &Patience,
    tell: &watch::Sender<State>,
) -> Result<Cached, Failure> {
    let own = |why: &dyn std::fmt::Display| Failure::unavailable(format!("the image cache: {why}"));
    let (name, room) = (path.to_path_buf(), cache.room());
    let hasher = Hasher::like(&source.digest).ok_or_else(|| Failure::unreadable("the digest is none"))?;
    let begun = tokio::task::spawn_blocking(move || begin(&name, hasher, room)).await;
    let (sink, written) = begun.map_err(|why| own(&why))?.map_err(|why| own(&why))?;
    let file = Arc::new(File::open(path).map_err(|why| own(&why))?);
    tell.send_replace(State::Fetching(Fetching {
        file,
        written,
        length: source.length,
        digest: source.digest.clone(),
    }));
    let sink = Arc::new(Mutex::new(sink));
    let mut download = Download { client, source, sink: sink.clone(), written, length: source.length, tell };
    let mut fruitless = 0;
    loop {
        let before = download.written;
        let why = match download.connect().await {
            Ok(()) => break,
            Err(Broken::ForGood(failure)) => return Err(failure),
            Err(Broken::Again(why)) => why,
        };
        fruitless = if download.written > before { 1 } else { fruitless + 1 };
        if fruitless > patience.resumes {
            return Err(Failure::unavailable(format!("{}: {why}", place(source))));
        }
        let pause = (patience.retry_first * (1 << (fruitless - 1).min(16))).min(patience.retry_max);
        tracing::info!(image = source.digest, at = download.written, ?pause, why, "the image broke off");
        tokio::time::sleep(pause).await;
    }
    drop(download);
    let (digest, cache, path) = (source.digest.clone(), cache.clone(), path.to_path_buf());
    let sink = Arc::into_inner(sink).ok_or_else(|| own(&"it is being written to"))?;
    let Sink { hasher, room, .. } = sink.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found = hasher.finish();
    if found != digest {
        let _ = std::fs::remove_file(&path);
        let message = format!("{} has the digest {found}, wanted is {digest}", place(source));
        return Err(Failure::new(Reason::ImageDigestMismatch, message));
    }
    let adopted = tokio::task::spawn_blocking(move || cache.adopt(&path, &digest, room)).await;
    adopted.map_err(|why| own(&why))?.map_err(|why| own(&why))
}

/// Opens the file, after reading what is there already.
fn begin(path: &Path, mut hasher: Hasher, mut room: Room) -> io::Result<(Sink, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut block = vec![0; BATCH];
    let mut written = 0;
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => {
                hasher.update(&block[..read]);
                written += read as u64;
            }
        }
    }
    if !room.grow(written) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "no room"));
    }
    Ok((Sink { file, hasher, room }, written))
}

struct Download<'a> {
    client: &'a Client,
    source: &'a Source,
    sink: Arc<Mutex<Sink>>,
    written: u64,
    length: Option<u64>,
    tell: &'a watch::Sender<State>,
}

impl Download<'_> {
    /// One connection: all that is missing, or as much as comes.
    async fn connect(&mut self) -> Result<(), Broken> {
        if self.written > 0 && Some(self.written) == self.length {
            return Ok(());
        }
        let mut request = self.client.get(self.source.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = &self.source.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if self.written > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.written));
        }
        let response = request.send().await.map_err(|why| Broken::Again(chain(&why)))?;
        let mut skip = match response.status() {
            StatusCode::OK => self.written, // it begins at the start again
            StatusCode::PARTIAL_CONTENT if range(response.headers()).0 == Some(self.written) => 0,
            // All of it was there already: the digest will tell.
            StatusCode::RANGE_NOT_SATISFIABLE if range(response.headers()).1 == Some(self.written) => return Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                return Err(Broken::Again(format!("it answered {}", response.status())));
            }
            status if status.is_server_error() => return Err(Broken::Again(format!("it answered {status}"))),
            status => return Err(self.for_good(format!("it answered {status}"))),
        };
        let length = match response.status() {
            StatusCode::OK => response.content_length(),
            _ => range(response.headers()).1,
        };
        self.expect(length)?;
        let (mut body, mut batch) = (response.bytes_stream(), Vec::with_capacity(BATCH));
        while let Some(chunk) = body.next().await {
            let broken = match chunk {
                Ok(bytes) => {
                    batch.extend_from_slice(&after(bytes, &mut skip));
                    None
                }
                Err(why) => Some(Broken::Again(chain(&why))),
            };
            if batch.len() >= BATCH || broken.is_some() {
                self.put(std::mem::take(&mut batch)).await?;
            }
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
        self.put(batch).await?;
        match self.length {
            Some(length) if self.written < length => Err(Broken::Again("the connection ended early".into())),
            _ => Ok(()),
        }
    }

    /// Takes note of the file's length, and that it fits.
    fn expect(&mut self, length: Option<u64>) -> Result<(), Broken> {
        let Some(length) = length else { return Ok(()) };
        if self.length.is_some_and(|expected| expected != length) {
            return Err(self.for_good(format!("it has {length} bytes, {:?} were promised", self.length)));
        }
        self.length = Some(length);
        self.make_room(length)?;
        self.tell.send_if_modified(|state| match state {
            State::Fetching(fetching) if fetching.length.is_none() => {
                fetching.length = Some(length);
                true
            }
            _ => false,
        });
        Ok(())
    }

    fn make_room(&self, bytes: u64) -> Result<(), Broken> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.room.grow(bytes) {
            return Ok(());
        }
        Err(self.for_good(format!("{bytes} bytes do not fit into the image cache beside what is in use")))
    }

    async fn put(&mut self, batch: Vec<u8>) -> Result<(), Broken> {
        let written = self.written + batch.len() as u64;
        if self.length.is_none() {
            self.make_room(written)?;
        }
        let sink = self.sink.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.hasher.update(&batch);
            sink.file.write_all(&batch)
        });
        let done = done.await.map_err(|why| self.for_good(why.to_string()))?;
        done.map_err(|why| self.for_good(format!("the image cache: {why}")))?;
        self.written = written;
        self.tell.send_modify(|state| {
            if let State::Fetching(fetching) = state {
                fetching.written = written;
            }
        });
        Ok(())
    }

    fn for_good(&self, why: String) -> Broken {
        Broken::ForGood(Failure::unavailable(format!("{}: {why}", place(self.source))))
    }
}

/// `bytes` without the first `skip` of them.
fn after(mut bytes: Bytes, skip: &mut u64) -> Bytes {
    let skipped = bytes.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
    *skip -= skipped as u64;
    bytes.split_off(skipped)
}

/// Server and path, for people: the rest of a URL may be a secret.
fn place(source: &Source) -> String {
    format!("{} of {}", source.url.path(), source.url.host_str().unwrap_or_default())
}

/// N and TOTAL of `Content-Range: bytes N-M/TOTAL`, or TOTAL of `bytes */TOTAL`.
fn range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let text = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
    let Some((range, total)) = text.and_then(|text| text.split_once('/')) else { return (None, None) };
    (range.split('-').next().and_then(|first| first.trim().parse().ok()), total.trim().parse().ok())
}

/// An HTTP error with its causes, without the URL.
pub fn chain(why: &reqwest::Error) -> String {
    let mut text = match why.url() {
        Some(url) => why.to_string().replace(&format!(" for url ({url})"), ""),
        None => why.to_string(),
    };
    let mut cause = std::error::Error::source(why);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
