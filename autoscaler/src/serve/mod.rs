//! `rackwright autoscaler serve`: watches, keeps the answers of every workload cluster fresh, and listens.
//!
//! Decides nothing about pools or hosts.

mod tenants;
mod tls;

use crate::args::{AutoscalerArgs, Listen};
use crate::store::{Deadlines, Watched};
use anyhow::{Context, bail};
use futures::future::try_join_all;
use jiff::SignedDuration;
use rackwright_controllers::caches::Scope;
use rackwright_controllers::serve as surroundings;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tenants::{Tenants, Whose};
use tls::Files;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// How long changes are gathered before the answers are made anew.
const GATHER: Duration = Duration::from_millis(200);
/// Deadlines of hosts pass without a change.
const TICK: Duration = Duration::from_secs(5);
/// How often the certificate files are looked at.
const RENEWAL: Duration = Duration::from_secs(30);
/// An autoscaler asks for all groups at once; what goes beyond waits against its deadline.
const STREAMS: u32 = 4096;

/// Serves until `shutdown`.
pub async fn run(args: AutoscalerArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    if let Some(problem) = args.problem() {
        bail!(problem);
    }
    let client = surroundings::client(args.kubeconfig.as_deref(), &Default::default()).await?;
    let seconds = |seconds: u32| SignedDuration::from_secs(seconds.into());
    let deadlines = Deadlines { image: seconds(args.image_seconds), node: seconds(args.node_seconds) };
    let scope = Scope { namespace: args.namespace.clone(), watch_filter: None };
    let (watched, watches) = Watched::new(client, &scope, deadlines);
    let watched = Arc::new(watched);
    let tenants = Arc::new(Tenants::new(watched.clone()));
    let listeners = args.listen.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;

    let mut tasks = tokio::task::JoinSet::new();
    watches.into_iter().for_each(|watch| drop(tasks.spawn(watch)));
    let ready = surroundings::Ready::default();
    tasks.spawn(surroundings::health(args.health_addr, ready.clone()));
    let metrics = tenants.metrics();
    tasks.spawn(surroundings::metrics_text(args.metrics_addr, move || metrics.text()));
    tokio::select! {
        () = watched.ready() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    tasks.spawn(keep_fresh(watched, tenants.clone()));
    ready.set();
    let files = Files::of(&args);
    try_join_all(
        listeners
            .into_iter()
            .map(|(whose, listener)| serve(listener, whose, files.clone(), tenants.clone(), shutdown.clone())),
    )
    .await?;
    Ok(())
}

fn bind(listen: &Listen) -> anyhow::Result<(Whose, TcpListener)> {
    let listener = TcpListener::bind(listen.address).with_context(|| format!("cannot listen on {}", listen.address))?;
    listener.set_nonblocking(true)?;
    let whose = listen.cluster.clone().map_or(Whose::Certificate, Whose::Fixed);
    tracing::info!(address = %listen.address, ?whose, "listening");
    Ok((whose, listener))
}

/// Makes the answers anew after every change, and now and then without one. For many hosts that takes a while, and then
/// more changes are gathered before the next time: a quarter of one processor at most.
async fn keep_fresh(watched: Arc<Watched>, tenants: Arc<Tenants>) {
    let mut gather = GATHER;
    loop {
        let _ = tokio::time::timeout(TICK, watched.changed()).await;
        tokio::time::sleep(gather).await;
        let start = Instant::now();
        tenants.look_again().await;
        gather = GATHER.max(3 * start.elapsed());
    }
}

/// Serves on one address until `shutdown`. A renewed certificate takes a new server over the same socket: connections
/// are asked to end and come back, and none is refused meanwhile.
async fn serve(
    listener: TcpListener,
    whose: Whose,
    files: Option<Files>,
    tenants: Arc<Tenants>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut identity = files.as_ref().map(Files::read).transpose()?;
    while !shutdown.is_cancelled() {
        let incoming = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let incoming = TcpIncoming::from(incoming).with_nodelay(Some(true));
        let mut server = Server::builder().max_concurrent_streams(STREAMS);
        if let Some(identity) = &identity {
            server = server.tls_config(identity.config())?;
        }
        let (mut renewed, stop) = (None, async {
            match (&files, &identity) {
                (Some(files), Some(current)) => {
                    tokio::select! {
                        found = files.changed(current, RENEWAL) => Some(found),
                        () = shutdown.cancelled() => None,
                    }
                }
                _ => {
                    shutdown.cancelled().await;
                    None
                }
            }
        });
        let service = tenants.service(whose.clone());
        server.add_service(service).serve_with_incoming_shutdown(incoming, async { renewed = stop.await }).await?;
        if renewed.is_some() {
            tracing::info!("certificate renewed");
            identity = renewed;
        }
    }
    Ok(())
}
