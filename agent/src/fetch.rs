//! Fetches an image over HTTP(S), in order and once, taking broken connections up where they broke.
//!
//! Who serves it is not asked: the digest in the signed plan decides whether the bytes are right. An https server must
//! still show a certificate of the media's authorities or of the system's, where there are any.

use crate::home::{authorities, chain};
use crate::{Failure, Patience};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use rackwright_protocol::media::MediaConfig;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Certificate, Client, Response, StatusCode, Url};

/// An image on its way.
pub(crate) struct Download<'a> {
    client: Client,
    url: Url,
    patience: &'a Patience,
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    /// Bytes handed out.
    received: u64,
    /// Bytes of the body that were handed out before, because the server began again at the start.
    skip: u64,
    total: Option<u64>,
    tag: Option<HeaderValue>,
    /// Connections in a row that brought nothing.
    fruitless: u32,
}

/// Why a connection is of no use.
enum Broken {
    /// Another try may do.
    Again(String),
    /// The server will say the same again.
    ForGood(String),
}

impl<'a> Download<'a> {
    /// Nothing is sent before the first [`Download::next`].
    pub fn new(url: &str, media: &MediaConfig, patience: &'a Patience) -> Result<Download<'a>, Failure> {
        Download::trusting(url, authorities(media)?, patience)
    }

    /// [`Download::new`] that trusts the system's authorities and these.
    pub fn trusting(url: &str, trusted: Vec<Certificate>, patience: &'a Patience) -> Result<Download<'a>, Failure> {
        let refused = |why: String| Failure::new("ImageUnavailable", why);
        let url = Url::parse(url).map_err(|why| refused(format!("the image's URL is none: {why}")))?;
        let client = Client::builder()
            .tls_certs_merge(trusted)
            .connect_timeout(patience.call)
            .read_timeout(patience.silence)
            .no_proxy()
            .build()
            .map_err(|why| refused(chain(&why)))?;
        Ok(Download { client, url, patience, body: None, received: 0, skip: 0, total: None, tag: None, fruitless: 0 })
    }

    /// The next bytes; `None` when the image is complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let broken = match self.step().await {
                Ok(Some(bytes)) if bytes.is_empty() => continue,
                Ok(bytes) => return Ok(bytes),
                Err(broken) => broken,
            };
            self.body = None;
            match broken {
                Broken::ForGood(why) => return Err(self.unavailable(&why)),
                Broken::Again(why) if self.fruitless >= self.patience.resumes => return Err(self.unavailable(&why)),
                Broken::Again(why) => self.pause(&why).await,
            }
        }
    }

    /// Bytes that have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the server promised, when it did.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    async fn step(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.body.is_none() {
            self.connect().await?;
        }
        let Some(body) = self.body.as_mut() else { return Ok(None) };
        match body.next().await {
            Some(Ok(mut bytes)) => {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skipped as u64;
                let new = bytes.split_off(skipped);
                if !new.is_empty() {
                    self.received += new.len() as u64;
                    self.fruitless = 0;
                }
                Ok(Some(new))
            }
            Some(Err(why)) => Err(Broken::Again(chain(&why))),
            None if self.total.is_some_and(|total| self.received < total) => {
                Err(Broken::Again("the connection ended early".into()))
            }
            None => Ok(None),
        }
    }

    async fn connect(&mut self) -> Result<(), Broken> {
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if self.received > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.received));
            if let Some(tag) = &self.tag {
                request = request.header(IF_RANGE, tag.clone());
            }
        }
        let response = request.send().await.map_err(|why| Broken::Again(chain(&why)))?;
        if let Some(change) = self.change(&response) {
            return Err(Broken::ForGood(change));
        }
        match response.status() {
            StatusCode::OK => {
                self.skip = self.received;
                self.total = response.content_length();
                self.tag = strong_tag(response.headers());
            }
            StatusCode::PARTIAL_CONTENT if range_start(response.headers()) == Some(self.received) => self.skip = 0,
            StatusCode::PARTIAL_CONTENT => return Err(Broken::ForGood("it answered with another range".into())),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                return Err(Broken::Again(format!("it answered {}", response.status())));
            }
            status if status.is_server_error() => return Err(Broken::Again(format!("it answered {status}"))),
            status => return Err(Broken::ForGood(format!("it answered {status}"))),
        }
        self.body = Some(response.bytes_stream().boxed());
        Ok(())
    }

    /// How `response` shows that another file is served now than the one whose beginning was taken.
    fn change(&self, response: &Response) -> Option<String> {
        if self.received == 0 || !response.status().is_success() {
            return None;
        }
        let tag = strong_tag(response.headers());
        if let (Some(before), Some(now)) = (&self.tag, &tag)
            && before != now
        {
            return Some("another file is served there now: its ETag changed".into());
        }
        let total = match response.status() {
            StatusCode::OK => response.content_length(),
            _ => range_total(response.headers()),
        };
        let (before, now) = (self.total?, total?);
        (before != now).then(|| format!("another file is served there now: it has {now} bytes and had {before}"))
    }

    async fn pause(&mut self, why: &str) {
        self.fruitless += 1;
        let growth = 1 << (self.fruitless - 1).min(16);
        let pause = (self.patience.retry_first * growth).min(self.patience.retry_max);
        tracing::info!(received = self.received, ?pause, why, "the image broke off; going on from there");
        tokio::time::sleep(pause).await;
    }

    fn unavailable(&self, why: &str) -> Failure {
        let (server, path) = (self.url.host_str().unwrap_or_default(), self.url.path());
        let received = self.received;
        Failure::new("ImageUnavailable", format!("{path} from {server} after {received} bytes: {why}"))
    }
}

/// The ETag, when it promises the same bytes (RFC 9110 section 13.1.5 wants a strong one).
fn strong_tag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned()
}

/// N of `Content-Range: bytes N-M/TOTAL`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// TOTAL of `Content-Range: bytes N-M/TOTAL`.
fn range_total(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit('/').next()?.trim().parse().ok()
}
