//! A web server with disk images, Range requests included, as a site has one.

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Files = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// The running server; it ends when this is dropped.
pub struct Server {
    files: Files,
    server: JoinHandle<()>,
}

impl Server {
    /// Starts it with nothing to serve.
    pub async fn start(at: SocketAddr) -> Result<Server> {
        let listener = TcpListener::bind(at).await.with_context(|| format!("{at} cannot be listened on"))?;
        let files = Files::default();
        let router = Router::new().route("/{name}", get(serve)).with_state(files.clone());
        let server = tokio::spawn(async move {
            if let Err(why) = axum::serve(listener, router).await {
                tracing::error!(%why, "the image server ended");
            }
        });
        Ok(Server { files, server })
    }

    /// Serves `data` as `name`; gives its digest, `sha256:…`.
    pub fn add(&self, name: &str, data: Vec<u8>) -> String {
        let digest = digest(&data);
        self.put(name, data);
        digest
    }

    /// Digest of what is served as `name`, `sha256:…`.
    pub fn digest(&self, name: &str) -> Option<String> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(|file| digest(file))
    }

    /// Serves a file whose digest is known.
    pub fn add_file(&self, name: &str, path: &std::path::Path) -> Result<()> {
        self.put(name, std::fs::read(path).with_context(|| format!("image {}", path.display()))?);
        Ok(())
    }

    fn put(&self, name: &str, data: Vec<u8>) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), data.into());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn digest(data: &[u8]) -> String {
    let hex = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

async fn serve(State(files): State<Files>, Path(name): Path<String>, headers: HeaderMap) -> Response<Body> {
    let file = files.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
    let Some(file) = file else { return answer(StatusCode::NOT_FOUND, None, Bytes::new()) };
    let whole = file.len();
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return answer(StatusCode::OK, None, file);
    };
    match parse(range, whole) {
        Ok((first, end)) => {
            let told = format!("bytes {first}-{}/{whole}", end - 1);
            answer(StatusCode::PARTIAL_CONTENT, Some(told), file.slice(first..end))
        }
        Err(_) => answer(StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{whole}")), Bytes::new()),
    }
}

fn answer(status: StatusCode, range: Option<String>, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    if let Some(range) = range.and_then(|range| range.parse().ok()) {
        answer.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    answer
}

/// First byte and the one after the last of `bytes=FIRST-[LAST]` (RFC 9110, 14.1.2).
fn parse(range: &str, whole: usize) -> Result<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).context("no bytes")?;
    let first: usize = first.parse()?;
    let end = if last.is_empty() { whole } else { whole.min(last.parse::<usize>()? + 1) };
    if first >= end {
        bail!("beyond the end");
    }
    Ok((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_begins_anywhere_and_ends_at_the_end_at_most() {
        for (range, found) in [
            ("bytes=0-", Some((0, 10))),
            ("bytes=4-5", Some((4, 6))),
            ("bytes=4-99", Some((4, 10))),
            ("bytes=10-", None),
            ("bytes=x-", None),
        ] {
            assert_eq!(parse(range, 10).ok(), found, "{range}");
        }
    }
}
