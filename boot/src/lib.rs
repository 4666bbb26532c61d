//! `rackwright boot`: what hosts reach while the ramdisk runs on them.
//!
//! Hands boot media to whoever has its very URL, a plan (once) to whoever has the token on it, and takes reports from
//! whoever has the session. Decides nothing about a host's life: it writes what agents report, and the manager looks.
//! `session` and `report` decide, `service` and `reports` prove, read and write, `routes` and `entity` speak HTTP,
//! `kube_store` Kubernetes.

mod args;
mod audit;
mod entity;
#[cfg(test)]
#[path = "../tests/support/host.rs"]
mod fixture;
mod images;
mod installer;
mod kube_store;
mod limits;
mod logbook;
mod media;
mod patient;
mod pump;
mod pxe;
mod range;
mod refusal;
mod report;
mod reports;
mod routes;
mod service;
mod session;
mod store;
mod throttle;
mod tls;
mod witness;

pub use args::BootArgs;
pub use images::{ImageOptions, Images, Patience};
pub use limits::Bounds;
pub use media::Media;
pub use patient::Patient;
pub use refusal::{Reason, Refusal};
pub use reports::KeepLogs;
pub use routes::{Plain, plain_router, router};
pub use service::Service;
pub use session::Place;
pub use store::{KeptLog, Store, StoreError};
pub use throttle::Throttle;

use anyhow::Context;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures::StreamExt;
use futures::future::{Either, join_all, select};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use kube::Client;
use kube_store::KubeStore;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the certificate's files are looked at; a mounted Secret follows its source within about a minute.
const LOOK: Duration = Duration::from_secs(30);
/// How long a reader may take for the next piece of what he asked for.
const SLOWEST: Duration = Duration::from_secs(60);
/// How often the key is looked for while the manager has not made it.
const KEY_RETRY: Duration = Duration::from_secs(1);

/// Serves until `shutdown` is cancelled, then lets open calls finish. Reaches the API server as kube's defaults say:
/// `KUBECONFIG`, or the pod's ServiceAccount.
pub async fn run(args: BootArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no way to the API server")?;
    run_with(client, args, shutdown).await
}

/// [`run`] with a client.
pub async fn run_with(client: Client, args: BootArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (key_namespace, key_name) = args.key_secret.split_once('/').context("--key-secret must be NAMESPACE/NAME")?;
    let files = tls::Files {
        certificate: args.tls_cert_file.clone(),
        key: args.tls_private_key_file.clone(),
        authorities: args.ca_file.clone(),
    };
    let identity = files.read()?;
    let media = args.ramdisk.as_deref().map_or(Ok(Media::Bare), Media::open)?;
    let (store, feeds) = KubeStore::watched(client.clone(), args.namespace.as_deref());
    let service = Service::new(store, &identity.authorities, media, Throttle::new(args.progress_interval));
    let service = service.keeping_logs(args.keep_logs).limited(Bounds {
        per_rack: args.max_transfers_per_rack,
        total: args.max_transfers,
        bytes_per_second: args.max_bytes_per_second,
        ..Bounds::default()
    });
    let service = Arc::new(match images(&args, &identity.authorities)? {
        Some(images) => service.with_images(images),
        None => service,
    });

    let tls = RustlsConfig::from_config(Arc::new(identity.server_config()?));
    let handle = Handle::<SocketAddr>::new();
    let app = router(service.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let acceptor = RustlsAcceptor::new(tls.clone()).acceptor(Patient { time: SLOWEST });
    let mut server = axum_server::bind(args.listen).acceptor(acceptor).handle(handle.clone()).http1_only();
    set_up(server.http_builder());
    let server = server.serve(app);
    let plain = serve_plain(&args, service.clone(), handle.clone());
    let pxe = serve_pxe(&args, service.clone());
    let server = async {
        tokio::select! {
            served = async { tokio::try_join!(server, plain).map(drop) } => served,
            failed = pxe => failed,
        }
    };
    let stop = async {
        shutdown.cancelled().await;
        handle.graceful_shutdown(Some(args.grace));
        std::future::pending::<()>().await;
    };
    let work = async {
        let feeds = join_all(feeds.into_iter().map(|feed| feed.for_each(async |()| {})));
        let key = find_key(&client, key_namespace, key_name, &service);
        let renewal = files.watch(identity, tls, LOOK, |authorities| service.set_authorities(authorities));
        tokio::join!(feeds, key, renewal, stop);
    };
    tracing::info!(listen = %args.listen, "boot service");
    match select(pin!(server), pin!(work)).await {
        Either::Left((served, _)) => served.context("the listener failed"),
        Either::Right(((), _)) => Ok(()), // cannot be: `stop` waits for ever
    }
}

/// What all our listeners have in common.
pub fn set_up(http: &mut Builder<TokioExecutor>) {
    let mut http = http.http1();
    http.timer(TokioTimer::new()); // with it, headers must come within hyper's 30 s
}

/// Images, when there is a folder for them.
fn images(args: &BootArgs, authorities: &str) -> anyhow::Result<Option<Arc<Images>>> {
    let Some(folder) = &args.image_cache else { return Ok(None) };
    let options = ImageOptions {
        proxy: args.proxy_images,
        port: args.image_listen.map(|listen| listen.port()),
        patience: Patience::default(),
    };
    let images = Images::open(folder, args.image_cache_size, authorities, options);
    Ok(Some(Arc::new(images.with_context(|| format!("image cache {}", folder.display()))?)))
}

/// Serves images without TLS, when that is wanted; ends with `handle`.
async fn serve_plain<S: Store>(
    args: &BootArgs,
    service: Arc<Service<S>>,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let Some(listen) = args.image_listen else { return Ok(()) };
    let what = match (args.proxy_dhcp, args.media_in_the_clear) {
        (Some(_), _) => Plain::Pxe,
        (None, true) => Plain::Media,
        (None, false) => Plain::Images,
    };
    let app = plain_router(service, what).into_make_service_with_connect_info::<SocketAddr>();
    let mut server = axum_server::bind(listen).acceptor(Patient { time: SLOWEST }).handle(handle).http1_only();
    set_up(server.http_builder());
    server.serve(app).await
}

/// Answers network cards, when that is wanted; ends only when it fails.
async fn serve_pxe<S: Store>(args: &BootArgs, service: Arc<Service<S>>) -> std::io::Result<()> {
    match (args.proxy_dhcp, &args.ipxe, args.image_listen) {
        (Some(address), Some(folder), Some(listen)) => {
            pxe::serve(pxe::PxeOptions { address, http_port: listen.port() }, folder, service).await
        }
        _ => std::future::pending().await,
    }
}

/// Looks for the key until it is there.
async fn find_key(client: &Client, namespace: &str, name: &str, service: &Service<KubeStore>) {
    let mut told = false;
    loop {
        match kube_store::read_key(client, namespace, name).await {
            Ok(Some(key)) => return service.set_key(key),
            Ok(None) if told => {}
            Ok(None) => tracing::info!(namespace, name, "waiting for the manager to make the key"),
            Err(why) => tracing::warn!(namespace, name, %why, "the key cannot be read"),
        }
        told = true;
        tokio::time::sleep(KEY_RETRY).await;
    }
}
