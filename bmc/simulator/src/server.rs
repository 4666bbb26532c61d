//! The wire of all BMCs: one listener, and the address that a connection was made to tells which BMC is meant.
//!
//! Only loopback peers are served. What is wrong with a BMC on the wire (silent, resetting, slow) is done here; what it
//! says is [`crate::redfish`]'s.

use crate::faults::Silence;
use crate::host::{Host, Site};
use crate::redfish::Reply;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Largest body of a request, bytes.
const BODY_MAX: usize = 64 * 1024;
/// Longest time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system had no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(50);

/// The BMCs by address.
pub type Hosts = HashMap<Ipv4Addr, Arc<Host>>;

/// Serves all BMCs until the site stops.
pub async fn serve(listener: TcpListener, hosts: Hosts, site: Arc<Site>) {
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(host) = meant(&stream, peer, &hosts) {
                        let stop = site.stop.clone();
                        let connection = async move { stop.run_until_cancelled(talk(host, stream)).await };
                        site.tasks.spawn(connection);
                    }
                }
                Err(why) => {
                    tracing::warn!(%why, "no connection was taken");
                    tokio::time::sleep(NO_ROOM).await;
                }
            }
        }
    };
    site.stop.run_until_cancelled(accept).await;
}

/// The BMC that a connection is for; `None` when there is none, or when it comes from outside.
fn meant(stream: &TcpStream, peer: SocketAddr, hosts: &Hosts) -> Option<Arc<Host>> {
    let IpAddr::V4(address) = stream.local_addr().ok()?.ip() else { return None };
    peer.ip().is_loopback().then(|| hosts.get(&address).cloned()).flatten()
}

/// One connection, from the handshake on.
async fn talk(host: Arc<Host>, mut stream: TcpStream) {
    match host.silence() {
        Some(Silence::Resets) => return reset(stream),
        Some(Silence::Silent) => return stay_silent(&host, &mut stream).await,
        None => {}
    }
    let tls = match host.identity() {
        Ok(identity) => TlsAcceptor::from(identity.tls.clone()),
        Err(why) => return tracing::error!(host = host.spec.name, why = format!("{why:#}"), "no certificate"),
    };
    // Answers are small and complete: nothing is gained by waiting for more.
    let _best_effort = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    let service = service_fn(|request| answer(host.clone(), request));
    // A client that goes away in the middle is none of our business.
    let _end = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Ends a connection the way a machine does that has no such port.
fn reset(stream: TcpStream) {
    let _best_effort = stream.set_zero_linger();
}

/// Takes whatever comes and says nothing, until the BMC is well again or the client has enough.
async fn stay_silent(host: &Host, stream: &mut TcpStream) {
    let swallow = async {
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = host.reachable() => {}
        () = swallow => {}
    }
}

/// One request on a connection that stands already. An error cuts it.
async fn answer(host: Arc<Host>, request: Request<Incoming>) -> std::io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), BODY_MAX).await.map_err(std::io::Error::other)?;
    match host.silence() {
        Some(Silence::Resets) => return Err(ErrorKind::ConnectionReset.into()),
        Some(Silence::Silent) => {
            host.reachable().await;
            return Err(ErrorKind::ConnectionReset.into());
        }
        None => {}
    }
    let delay = host.faults().delay();
    let reply = host.answer(&Request::from_parts(parts, body));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(into_response(reply))
}

fn into_response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}
