//! The fifteen RPCs. Reads answer from one snapshot; calls that change something write by the `Store`, one at a time.
//!
//! An increase holds its hosts first and commits by one write of the NodePool; when that cannot be, or the caller has gone,
//! the hosts are let go. Nothing here decides what to write: `plan` does.

mod named;
mod prices;

use crate::groups::{Group, HostLife, Inventory, Snapshot};
use crate::metrics::Metrics;
use crate::plan::{self, Increase, Refusal, Write};
use crate::wire::cloud_provider_server::CloudProvider;
use crate::wire::*;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::future::join_all;
use named::Named;
use rackwright_api::ACCELERATOR_LABEL;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tonic::{Code, Request, Response, Status};

/// How many hosts of one increase are held at the same time.
const AT_ONCE: usize = 16;
/// An increase that has not committed by then is undone: callers give up after 5 s.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of a write that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote in between; nothing is written.
    #[error("{0} has changed since it was read")]
    Conflict(String),
    /// The API refused or cannot be reached; nothing is written.
    #[error("{0}")]
    NotWritten(String),
    /// The answer was lost: it may be written.
    #[error("{0}")]
    Unknown(String),
}

/// Where pools and hosts stand.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What is known now; every write that succeeded is in it. May take a second for tens of thousands of hosts.
    fn inventory(&self) -> Inventory;
    /// One guarded write.
    async fn write(&self, write: &Write) -> Result<(), StoreError>;
}

struct State {
    inventory: Inventory,
    snapshot: Snapshot,
}

struct Shared {
    state: ArcSwap<State>,
    store: Arc<dyn Store>,
    /// One look at the store at a time: what is taken over is never older than what it replaces.
    look: Mutex<()>,
    /// One change at a time. Each ends with a look, so the next one sees what it did.
    turn: Mutex<()>,
    named: Arc<Named>,
    metrics: Arc<Metrics>,
}

/// The provider of one workload cluster.
#[derive(Clone)]
pub struct Provider {
    shared: Arc<Shared>,
}

impl Provider {
    /// A provider over `store` that counts its calls in `metrics`.
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Provider {
        let state = ArcSwap::from_pointee(State::of(store.inventory()));
        let (look, turn, named) = (Mutex::new(()), Mutex::new(()), Arc::default());
        let shared = Shared { state, store, look, turn, named, metrics };
        Provider { shared: Arc::new(shared) }
    }

    /// Take over what the store knows now.
    pub async fn look_again(&self) {
        self.shared.refresh().await;
    }

    fn answer<T>(&self, rpc: &'static str, start: Instant, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        self.shared.metrics.call(rpc, code, start.elapsed());
        result.map(Response::new)
    }

    fn read<T>(
        &self,
        rpc: &'static str,
        answer: impl FnOnce(&Snapshot) -> Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let start = Instant::now();
        let result = answer(&self.shared.state.load().snapshot);
        self.answer(rpc, start, result)
    }
}

impl State {
    fn of(inventory: Inventory) -> State {
        let snapshot = Snapshot::of(&inventory);
        State { inventory, snapshot }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let text = refusal.to_string();
        match refusal {
            Refusal::NotFound(_) => Status::not_found(text),
            Refusal::Invalid(_) => Status::invalid_argument(text),
            Refusal::Exhausted(_) => Status::resource_exhausted(text),
            Refusal::Precondition(_) => Status::failed_precondition(text),
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Status {
        match error {
            StoreError::Conflict(_) => Status::aborted(error.to_string()),
            _ => Status::unavailable(error.to_string()),
        }
    }
}

/// Whether a commit that failed is known not to stand.
enum Undone {
    Surely(Status),
    Perhaps(Status),
}

/// Tells the work that its caller has gone.
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    async fn refresh(&self) {
        let _look = self.look.lock().await;
        let (store, named) = (self.store.clone(), self.named.clone());
        let look = move || {
            let mut inventory = store.inventory();
            named.tell(&mut inventory);
            State::of(inventory)
        };
        // Reads go on meanwhile.
        if let Ok(state) = tokio::task::spawn_blocking(look).await {
            self.state.store(Arc::new(state));
        }
    }

    async fn increase(&self, group: &str, delta: i32, gone: &AtomicBool) -> Result<(), Status> {
        let start = Instant::now();
        let _turn = self.turn.lock().await;
        let state = self.state.load_full();
        let increase = plan::increase(&state.inventory, &state.snapshot, group, delta)?;
        let (held, problem) = self.hold(&increase, start).await;
        let late = gone.load(Ordering::SeqCst) || start.elapsed() > PATIENCE;
        let result = match problem {
            Some(problem) => Err(problem),
            None if late => Err(Status::deadline_exceeded("the caller has gone or the API was slow: undone")),
            None => match self.commit(group, delta, increase.commit.clone()).await {
                // It may stand: the pool's controller frees what is held beyond `replicas`.
                Err(Undone::Perhaps(status)) => {
                    self.refresh().await;
                    return Err(status);
                }
                Err(Undone::Surely(status)) => Err(status),
                Ok(()) => Ok(()),
            },
        };
        if result.is_err() {
            self.let_go(&increase.namespace, held).await;
        }
        self.refresh().await;
        result
    }

    /// Writes the pool; once more when somebody else wrote it in between and it may still grow.
    async fn commit(&self, group: &str, delta: i32, mut write: Write) -> Result<(), Undone> {
        for again in [true, false] {
            match self.store.write(&write).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Conflict(_)) if again => {}
                Err(error @ StoreError::Unknown(_)) => return Err(Undone::Perhaps(error.into())),
                Err(error) => return Err(Undone::Surely(error.into())),
            }
            self.refresh().await;
            let state = self.state.load_full();
            write = plan::commit_again(&state.inventory, &state.snapshot, group, delta)
                .map_err(|refusal| Undone::Surely(refusal.into()))?;
        }
        Err(Undone::Surely(Status::aborted("the pool is written by others all the time")))
    }

    /// Holds as many hosts as the increase needs; the next candidates stand in for those that somebody else took.
    async fn hold(&self, increase: &Increase, start: Instant) -> (Vec<HostLife>, Option<Status>) {
        let mut held = Vec::new();
        let mut candidates = increase.hosts.iter();
        while held.len() < increase.count {
            let next: Vec<_> = candidates.by_ref().take(AT_ONCE.min(increase.count - held.len())).collect();
            if next.is_empty() {
                let text =
                    format!("other writers took hosts; {} of {} held ({})", held.len(), increase.count, increase.stock);
                return (held, Some(Status::resource_exhausted(text)));
            }
            if start.elapsed() > PATIENCE {
                return (held, Some(Status::deadline_exceeded("the API was slow: undone")));
            }
            let mut problem = None;
            for (life, result) in join_all(next.into_iter().map(|host| self.reserve(increase, host))).await {
                match result {
                    Ok(()) => held.push(life),
                    Err(StoreError::Conflict(_)) => {}
                    Err(StoreError::NotWritten(text)) => problem = Some(Status::unavailable(text)),
                    Err(StoreError::Unknown(text)) => {
                        held.push(life);
                        problem = Some(Status::unavailable(text));
                    }
                }
            }
            if problem.is_some() {
                return (held, problem);
            }
        }
        (held, None)
    }

    async fn reserve(&self, increase: &Increase, host: &str) -> (HostLife, Result<(), StoreError>) {
        let life = HostLife { host: host.into(), id: uuid::Uuid::new_v4().to_string() };
        let write = Write::Reserve {
            namespace: increase.namespace.clone(),
            host: life.host.clone(),
            pool: increase.pool.clone(),
            id: life.id.clone(),
        };
        let result = self.store.write(&write).await;
        (life, result)
    }

    async fn let_go(&self, namespace: &str, held: Vec<HostLife>) {
        for some in held.chunks(AT_ONCE) {
            // What cannot be freed now, the pool's controller frees: it is beyond `replicas`.
            let free = |life: &HostLife| Write::Free { namespace: namespace.into(), life: life.clone() };
            let writes: Vec<_> = some.iter().map(free).collect();
            join_all(writes.iter().map(|write| self.store.write(write))).await;
        }
    }

    /// Plans on the newest state and writes; once more when somebody else wrote in between.
    async fn change(
        &self,
        plan: impl Fn(&Inventory, &Snapshot) -> Result<Option<Write>, Refusal>,
    ) -> Result<(), Status> {
        let _turn = self.turn.lock().await;
        let mut again = true;
        loop {
            let state = self.state.load_full();
            let Some(write) = plan(&state.inventory, &state.snapshot)? else { return Ok(()) };
            let result = self.store.write(&write).await;
            self.refresh().await;
            match result {
                Err(StoreError::Conflict(_)) if again => again = false,
                result => return result.map_err(Status::from),
            }
        }
    }
}

fn group<'a>(snapshot: &'a Snapshot, id: &str) -> Result<&'a Group, Status> {
    snapshot.groups.get(id).ok_or_else(|| Status::not_found(format!("there is no node group {id:?}")))
}

#[async_trait]
impl CloudProvider for Provider {
    async fn node_groups(&self, _: Request<NodeGroupsRequest>) -> Result<Response<NodeGroupsResponse>, Status> {
        self.read("NodeGroups", |snapshot| Ok(NodeGroupsResponse { node_groups: snapshot.all.clone() }))
    }

    async fn node_group_for_node(
        &self,
        request: Request<NodeGroupForNodeRequest>,
    ) -> Result<Response<NodeGroupForNodeResponse>, Status> {
        let node = request.into_inner().node.unwrap_or_default();
        self.read("NodeGroupForNode", |snapshot| {
            self.shared.named.note(&node, snapshot);
            // A foreign node has the empty group: an error would end the autoscaler's scale up.
            let found = snapshot.group_of(&node.provider_id).cloned().unwrap_or_default();
            Ok(NodeGroupForNodeResponse { node_group: Some(found) })
        })
    }

    async fn pricing_node_price(
        &self,
        request: Request<PricingNodePriceRequest>,
    ) -> Result<Response<PricingNodePriceResponse>, Status> {
        let request = request.into_inner();
        self.read("PricingNodePrice", |snapshot| prices::node(snapshot, &request))
    }

    async fn pricing_pod_price(
        &self,
        request: Request<PricingPodPriceRequest>,
    ) -> Result<Response<PricingPodPriceResponse>, Status> {
        let request = request.into_inner();
        self.read("PricingPodPrice", |snapshot| prices::pod(snapshot, &request))
    }

    async fn gpu_label(&self, _: Request<GpuLabelRequest>) -> Result<Response<GpuLabelResponse>, Status> {
        self.read("GPULabel", |_| Ok(GpuLabelResponse { label: ACCELERATOR_LABEL.into() }))
    }

    async fn get_available_gpu_types(
        &self,
        _: Request<GetAvailableGpuTypesRequest>,
    ) -> Result<Response<GetAvailableGpuTypesResponse>, Status> {
        self.read("GetAvailableGPUTypes", |snapshot| {
            let gpu_types = snapshot.accelerators.iter().map(|vendor| (vendor.clone(), Default::default())).collect();
            Ok(GetAvailableGpuTypesResponse { gpu_types })
        })
    }

    async fn cleanup(&self, _: Request<CleanupRequest>) -> Result<Response<CleanupResponse>, Status> {
        self.read("Cleanup", |_| Ok(CleanupResponse {}))
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        self.shared.named.begin();
        self.read("Refresh", |_| Ok(RefreshResponse {}))
    }

    async fn node_group_target_size(
        &self,
        request: Request<NodeGroupTargetSizeRequest>,
    ) -> Result<Response<NodeGroupTargetSizeResponse>, Status> {
        let id = request.into_inner().id;
        self.read("NodeGroupTargetSize", |snapshot| {
            Ok(NodeGroupTargetSizeResponse { target_size: group(snapshot, &id)?.target })
        })
    }

    async fn node_group_increase_size(
        &self,
        request: Request<NodeGroupIncreaseSizeRequest>,
    ) -> Result<Response<NodeGroupIncreaseSizeResponse>, Status> {
        let start = Instant::now();
        let NodeGroupIncreaseSizeRequest { id, delta } = request.into_inner();
        let gone = Arc::new(AtomicBool::new(false));
        let _caller = Caller(gone.clone());
        let shared = self.shared.clone();
        // A task of its own: when the caller goes, this future is dropped, and the hosts must be let go all the same.
        let work = tokio::spawn(async move { shared.increase(&id, delta, &gone).await });
        let result = work.await.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
        self.answer("NodeGroupIncreaseSize", start, result.map(|()| NodeGroupIncreaseSizeResponse {}))
    }

    async fn node_group_delete_nodes(
        &self,
        request: Request<NodeGroupDeleteNodesRequest>,
    ) -> Result<Response<NodeGroupDeleteNodesResponse>, Status> {
        let start = Instant::now();
        let NodeGroupDeleteNodesRequest { id, nodes } = request.into_inner();
        // The autoscaler's placeholders have the provider ID for a name, and perhaps for that alone.
        let own = |node: ExternalGrpcNode| if node.provider_id.is_empty() { node.name } else { node.provider_id };
        let nodes: Vec<String> = nodes.into_iter().map(own).collect();
        let plan = |inventory: &Inventory, snapshot: &Snapshot| plan::delete(inventory, snapshot, &id, &nodes);
        let result = self.shared.change(plan).await;
        self.answer("NodeGroupDeleteNodes", start, result.map(|()| NodeGroupDeleteNodesResponse {}))
    }

    async fn node_group_decrease_target_size(
        &self,
        request: Request<NodeGroupDecreaseTargetSizeRequest>,
    ) -> Result<Response<NodeGroupDecreaseTargetSizeResponse>, Status> {
        let start = Instant::now();
        let NodeGroupDecreaseTargetSizeRequest { id, delta } = request.into_inner();
        let plan =
            |inventory: &Inventory, snapshot: &Snapshot| plan::decrease(inventory, snapshot, &id, delta).map(Some);
        // A node that has registered since the last look must not be given up.
        self.shared.refresh().await;
        let result = self.shared.change(plan).await;
        self.answer("NodeGroupDecreaseTargetSize", start, result.map(|()| NodeGroupDecreaseTargetSizeResponse {}))
    }

    async fn node_group_nodes(
        &self,
        request: Request<NodeGroupNodesRequest>,
    ) -> Result<Response<NodeGroupNodesResponse>, Status> {
        let id = request.into_inner().id;
        self.read("NodeGroupNodes", |snapshot| {
            Ok(NodeGroupNodesResponse { instances: group(snapshot, &id)?.instances.clone() })
        })
    }

    async fn node_group_template_node_info(
        &self,
        request: Request<NodeGroupTemplateNodeInfoRequest>,
    ) -> Result<Response<NodeGroupTemplateNodeInfoResponse>, Status> {
        let id = request.into_inner().id;
        self.read("NodeGroupTemplateNodeInfo", |snapshot| {
            let bytes = group(snapshot, &id)?.template.clone();
            Ok(NodeGroupTemplateNodeInfoResponse { node_info_legacy: bytes.clone(), node_bytes: bytes })
        })
    }

    async fn node_group_get_options(
        &self,
        request: Request<NodeGroupAutoscalingOptionsRequest>,
    ) -> Result<Response<NodeGroupAutoscalingOptionsResponse>, Status> {
        let defaults = request.into_inner().defaults;
        self.read("NodeGroupGetOptions", |snapshot| {
            if !snapshot.options {
                return Err(Status::unimplemented("the autoscaler's own flags hold"));
            }
            Ok(NodeGroupAutoscalingOptionsResponse { node_group_autoscaling_options: defaults.map(both_generations) })
        })
    }
}

/// Each duration in both generations of the wire: a missing one is read as 0 s, or ends an old autoscaler.
fn both_generations(mut options: NodeGroupAutoscalingOptions) -> NodeGroupAutoscalingOptions {
    fn pair(new: &mut Option<prost_types::Duration>, old: &mut Option<LegacyDuration>) {
        match (new.as_ref(), old.as_ref()) {
            (Some(new), None) => {
                let nanoseconds = new.seconds.saturating_mul(1_000_000_000).saturating_add(new.nanos.into());
                *old = Some(LegacyDuration { nanoseconds });
            }
            (None, Some(old)) => {
                let (seconds, nanos) = (old.nanoseconds / 1_000_000_000, (old.nanoseconds % 1_000_000_000) as i32);
                *new = Some(prost_types::Duration { seconds, nanos });
            }
            _ => {}
        }
    }
    pair(&mut options.scale_down_unneeded, &mut options.scale_down_unneeded_legacy);
    pair(&mut options.scale_down_unready, &mut options.scale_down_unready_legacy);
    pair(&mut options.max_node_provision, &mut options.max_node_provision_legacy);
    options
}
