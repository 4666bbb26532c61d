//! `rackwright manager`: wires caches, queues and reconcilers together, leads or stands by, and ends cleanly.
//!
//! Decides nothing about any object.

use crate::args::{Controllers, ManagerArgs};
use crate::caches::{Caches, Feeds, Scope, Wanted};
use crate::context::{Context, Limits, SystemClock};
use crate::kubeio::{Error, Kind};
use crate::metrics::Metrics;
use crate::queue::{Gate, Queue};
use crate::{bootstrap_config, host, infra, key, pool, serve, topology, triggers};
use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use jiff::SignedDuration;
use kube::Client;
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Runs the manager until `shutdown`, or until it loses the lead.
pub async fn run(args: ManagerArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let client = serve::client(args.kubeconfig.as_deref(), &metrics).await?;
    let wanted = Wanted {
        infrastructure: args.controllers != Controllers::Bootstrap,
        bootstrap: args.controllers != Controllers::Infrastructure,
    };
    let (caches, feeds) = Caches::new();
    let boot_key = if wanted.infrastructure { key::load(&client, &args.key_secret).await? } else { key::unused() };
    let connector = Arc::new(RedfishConnector::new(RedfishConfig::default()));
    let clock = Arc::new(SystemClock);
    let ctx = Arc::new(Context::new(client.clone(), caches, clock, limits(&args), connector.clone(), boot_key));
    let gate = Gate::default();
    let work = Work::new(&gate, feeds, &ctx, wanted, &args, &metrics, &shutdown);
    let scope = Scope { namespace: args.namespace.clone(), watch_filter: args.watch_filter.clone() };
    let mut tasks = tokio::task::JoinSet::new();
    for feed in work.feeds.run(&client, &scope, wanted) {
        tasks.spawn(feed);
    }
    let ready = serve::Ready::default();
    tasks.spawn(serve::health(args.health_addr, ready.clone()));
    tasks.spawn(serve::metrics(args.metrics_addr, metrics.clone()));
    tokio::select! {
        () = ctx.caches.ready(wanted) => ready.set(),
        () = shutdown.cancelled() => return Ok(()),
    }
    let lead = serve::lead(&client, &args, &shutdown).await?;
    gate.open();
    work.replay.into_iter().for_each(|replay| replay());
    tracing::info!(controllers = ?args.controllers, "reconciling");
    let reconcilers = futures::future::join_all(work.reconcilers);
    let ended = tokio::select! {
        _ = reconcilers => Ok(()),
        why = lead.lost() => why,
    };
    // BMCs have few sessions; those that we leave open lock the next process out. Dead BMCs must not hold us up.
    let _ = tokio::time::timeout(Duration::from_secs(5), connector.close()).await;
    ended
}

fn limits(args: &ManagerArgs) -> Limits {
    let seconds = |seconds: u32| SignedDuration::from_secs(seconds.into());
    Limits {
        operation: seconds(args.operation_seconds),
        power: seconds(args.power_seconds),
        call_home: seconds(args.call_home_seconds),
        agent_silence: seconds(args.agent_silence_seconds),
        retry: seconds(args.retry_seconds),
        poll_idle: seconds(args.poll_idle_seconds),
        poll_busy: SignedDuration::from_millis(args.poll_busy_millis.into()),
        poll_unreachable: seconds(args.poll_unreachable_seconds),
        release: seconds(args.release_seconds),
        join_token: seconds(args.join_token_seconds),
        ..Limits::default()
    }
}

/// Everything that runs once this process leads.
struct Work {
    feeds: Feeds,
    reconcilers: Vec<BoxFuture<'static, ()>>,
    replay: Vec<Box<dyn FnOnce() + Send>>,
}

impl Work {
    fn new(
        gate: &Gate,
        mut feeds: Feeds,
        ctx: &Arc<Context>,
        wanted: Wanted,
        args: &ManagerArgs,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> Work {
        let mut reconcilers = Vec::new();
        let mut replay: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        macro_rules! reconcile {
            ($cache:ident, $gather:expr, $pass:expr) => {{
                let (queue, stream) = Queue::new(gate);
                let store = ctx.caches.$cache.store.clone();
                let settings = Settings {
                    concurrency: args.concurrency,
                    gather: $gather,
                    metrics: metrics.clone(),
                    shutdown: shutdown.clone(),
                };
                reconcilers.push(reconciler(stream, store.clone(), $pass, ctx.clone(), settings));
                let all = queue.clone();
                replay.push(Box::new(move || all.add_which(&store, |_| true)));
                queue
            }};
        }
        let none = Duration::ZERO;
        if wanted.infrastructure {
            triggers::infrastructure(
                &mut feeds,
                ctx,
                triggers::Queues {
                    hosts: reconcile!(hosts, none, host::reconcile),
                    machines: reconcile!(rackwright_machines, none, infra::machine::reconcile),
                    clusters: reconcile!(rackwright_clusters, none, infra::cluster::reconcile),
                    pools: reconcile!(pools, pool::GATHER, pool::reconcile),
                    racks: reconcile!(racks, topology::GATHER, topology::reconcile_rack),
                    datacenters: reconcile!(datacenters, topology::GATHER, topology::reconcile_datacenter),
                    regions: reconcile!(regions, topology::GATHER, topology::reconcile_region),
                },
            );
        }
        if wanted.bootstrap {
            triggers::bootstrap(&mut feeds, ctx, reconcile!(configs, none, bootstrap_config::reconcile));
        }
        Work { feeds, reconcilers, replay }
    }
}

/// How one kind is reconciled.
struct Settings {
    concurrency: u16,
    gather: Duration,
    metrics: Metrics,
    shutdown: CancellationToken,
}

/// Runs `pass` for every object that comes through `queue`, one pass per object at a time.
fn reconciler<K, P, F>(
    queue: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    store: Store<K>,
    pass: P,
    ctx: Arc<Context>,
    settings: Settings,
) -> BoxFuture<'static, ()>
where
    K: Kind,
    P: Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let Settings { concurrency, gather, metrics, shutdown } = settings;
    let timed = move |object: Arc<K>, ctx: Arc<Context>| {
        let (pass, metrics) = (pass.clone(), metrics.clone());
        async move {
            let begun = Instant::now();
            let result = pass(object, ctx).await;
            metrics.pass(&K::kind(&()), result.is_ok(), begun.elapsed());
            result
        }
    };
    let run = Controller::for_shared_stream(futures::stream::pending(), store)
        .with_config(controller::Config::default().concurrency(concurrency).debounce(gather))
        .reconcile_on(queue)
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(timed, after_error, ctx);
    Box::pin(run.for_each(|result| async move {
        if let Err(controller::Error::QueueError(why)) = result {
            tracing::warn!(kind = %K::kind(&()), %why, "queue");
        }
    }))
}

/// A pass that could not read or write looks again soon; a conflict is the ordinary way of losing a race.
fn after_error<K: Kind>(object: Arc<K>, error: &Error, _: Arc<Context>) -> Action {
    match error {
        Error::Conflict => Action::requeue(Duration::from_millis(100)),
        Error::Api(why) => {
            tracing::warn!(kind = %K::kind(&()), name = object.meta().name, %why, "pass failed");
            Action::requeue(Duration::from_secs(5))
        }
    }
}

/// The client that `args` ask for; for the other processes of the same binary.
pub async fn client_for(kubeconfig: Option<&std::path::Path>) -> anyhow::Result<Client> {
    serve::client(kubeconfig, &Metrics::default()).await.context("no access to a Kubernetes API server")
}
