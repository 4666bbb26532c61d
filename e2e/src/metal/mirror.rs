//! A mirror of Debian in a lab, as far as an installer believes in it: the signed lists, and none of the packages.
//!
//! A lab reaches nothing beyond itself; what it asks for is fetched by somebody who stayed outside, from where this machine's
//! own apt fetches, over a socket that both see.

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::ffi::OsString;
use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// URL of the mirror that this machine's own apt uses, without a slash at its end.
pub const UPSTREAM: &str = "RACKWRIGHT_DEBIAN_MIRROR";
/// Where the one outside listens.
const SOCKET: &str = "RACKWRIGHT_DEBIAN_SOCKET";

/// Fetches for a lab, from outside of it, until it is dropped.
pub struct Outside {
    _runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Outside {
    /// Starts it, and gives what the story inside has to be told.
    pub fn start() -> Result<(Outside, Vec<(&'static str, OsString)>)> {
        let upstream = std::env::var(UPSTREAM);
        let upstream = upstream.with_context(|| format!("{UPSTREAM} is not set: run `cargo xtask e2e-metal`"))?;
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("mirror");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(async { UnixListener::bind(&socket) })?;
        let app = Router::new().fallback(async move |uri: Uri| answer(&upstream, uri.path()).await);
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok((Outside { _runtime: runtime, _folder: folder }, vec![(SOCKET, socket.into())]))
    }
}

async fn answer(upstream: &str, path: &str) -> Response {
    if !path.contains("/dists/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let fetched = async { reqwest::get(format!("{upstream}{path}")).await?.error_for_status()?.bytes().await };
    match fetched.await {
        Ok(bytes) => bytes.into_response(),
        Err(why) => why.status().unwrap_or(StatusCode::BAD_GATEWAY).into_response(),
    }
}

/// The mirror as machines in the lab see it; it ends when this is dropped.
pub struct Mirror(JoinHandle<()>);

impl Mirror {
    /// Listens on `at`, and passes on to the one outside.
    pub async fn start(at: SocketAddr) -> Result<Mirror> {
        let socket = std::env::var_os(SOCKET).context("nobody fetches for this lab: its test did not ask for it")?;
        let listener = TcpListener::bind(at).await.with_context(|| format!("{at} cannot be listened on"))?;
        Ok(Mirror(tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let mut far = UnixStream::connect(socket).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        })))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.0.abort();
    }
}
