//! What surrounds the reconcilers: the client, health and metrics, and the lead.

use crate::args::ManagerArgs;
use crate::metrics::Metrics;
use anyhow::{Context, bail};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kube_lease_manager::LeaseManagerBuilder;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// A client that counts its requests.
pub async fn client(kubeconfig: Option<&Path>, metrics: &Metrics) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.context("no kubeconfig, and not inside a cluster")?,
    };
    let metrics = metrics.clone();
    let count = tower::util::MapRequestLayer::new(move |request: http::Request<kube::client::Body>| {
        metrics.request(request.method(), request.uri());
        request
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&count).build())
}

/// Whether the caches are filled.
#[derive(Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// They are.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Serves `/healthz` and `/readyz`.
pub async fn health(address: SocketAddr, ready: Ready) {
    let readyz = move || {
        let ready = ready.0.load(Ordering::Acquire);
        async move {
            if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "caches not filled yet") }
        }
    };
    serve(address, Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(readyz))).await;
}

/// Serves `/metrics`.
pub async fn metrics(address: SocketAddr, metrics: Metrics) {
    metrics_text(address, move || metrics.text()).await;
}

/// Serves what `text` gives as `/metrics`.
pub async fn metrics_text(address: SocketAddr, text: impl Fn() -> String + Clone + Send + Sync + 'static) {
    serve(address, Router::new().route("/metrics", get(move || async move { text() }))).await;
}

async fn serve(address: SocketAddr, router: Router) {
    let served = async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, router).await
    };
    if let Err(why) = served.await {
        tracing::error!(%address, %why, "cannot serve");
    }
}

/// The lead of this process among its like.
pub struct Lead(Option<tokio::sync::watch::Receiver<bool>>);

impl Lead {
    /// Returns, with an error, once the lead is lost; never where there is no election.
    pub async fn lost(mut self) -> anyhow::Result<()> {
        let Some(channel) = &mut self.0 else { return std::future::pending().await };
        while *channel.borrow_and_update() {
            if channel.changed().await.is_err() {
                break;
            }
        }
        bail!("lost the lead: another manager has the Lease")
    }
}

/// Waits until this process leads.
pub async fn lead(client: &Client, args: &ManagerArgs, shutdown: &CancellationToken) -> anyhow::Result<Lead> {
    if !args.leader_elect {
        return Ok(Lead(None));
    }
    // Managers that share the work by namespace or label each have a lead of their own.
    let parts = [Some(format!("{:?}", args.controllers)), args.namespace.clone(), args.watch_filter.clone()];
    let name = parts.into_iter().flatten().fold("rackwright".to_string(), |name, part| format!("{name}-{part}"));
    let name = name.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let manager = LeaseManagerBuilder::new(client.clone(), name)
        .with_namespace(args.own_namespace.clone())
        .build()
        .await
        .context("leader election")?;
    let (mut channel, _task) = manager.watch().await;
    tracing::info!("standing by for the lead");
    while !*channel.borrow_and_update() {
        tokio::select! {
            changed = channel.changed() => changed.context("leader election ended")?,
            () = shutdown.cancelled() => bail!("stopped while standing by"),
        }
    }
    Ok(Lead(Some(channel)))
}
