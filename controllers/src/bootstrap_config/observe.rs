//! Reads what a decision about one config may rest on: caches first, and only what they leave open from API servers.

use super::tokens::{self, Seen};
use super::view::{ClusterView, ConfigView, Further, MachineView, Problem, Token};
use super::workload::Access;
use super::{data, decide};
use crate::context::Context;
use crate::kubeio::{Error, cached};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use rackwright_api::RackwrightConfig;
use rackwright_api::conditions::is_true;
use rackwright_api::contract::{self, CLUSTER_NAME_LABEL, CONTROL_PLANE_LABEL, Cluster, Machine};
use rackwright_bootstrap::BootstrapToken;
use std::sync::Arc;

/// What a view may not hold: secrets, and the way to other clusters. Does not print itself.
#[derive(Default)]
pub struct Handles {
    /// The Machine that owns the config.
    pub machine: Option<Arc<Machine>>,
    /// The Cluster it belongs to.
    pub cluster: Option<Arc<Cluster>>,
    /// The way into the workload cluster.
    pub access: Option<Access>,
    /// The token in the Secret with the data.
    pub token: Option<BootstrapToken>,
}

impl Handles {
    /// Namespace and name of the Cluster.
    pub fn cluster_key(&self) -> Option<(String, String)> {
        self.cluster.as_ref().map(|cluster| (cluster.namespace().unwrap_or_default(), cluster.name_any()))
    }
}

/// What this pass knows of `config`. An unreachable workload cluster is data, not an error.
pub async fn observe(config: &RackwrightConfig, ctx: &Context) -> Result<(ConfigView, Handles), Error> {
    let now = ctx.clock.now();
    let machine = machine_of(config, ctx);
    let cluster = cluster_of(config, machine.as_deref(), ctx);
    let uid = config.uid().unwrap_or_default();
    let mut view = ConfigView {
        name: config.name_any(),
        generation: config.metadata.generation,
        status: config.status.clone().unwrap_or_default(),
        created: config.metadata.creation_timestamp.as_ref().map_or(now, |created| created.0),
        deleting: config.metadata.deletion_timestamp.is_some(),
        paused: contract::is_paused(&config.metadata, cluster.as_deref()),
        machine: machine.as_deref().map(machine_view),
        cluster: cluster.as_deref().map(cluster_view),
        token_seen_until: ctx.workloads.tokens.of(&uid, now).map(|seen| seen.until),
        further: None,
    };
    let mut handles = Handles { machine, cluster, ..Handles::default() };
    if decide::gate(&view, now, ctx.limits.join_token).is_none() {
        view.further = Some(look_further(config, &view, &mut handles, ctx).await?);
    }
    Ok((view, handles))
}

fn machine_of(config: &RackwrightConfig, ctx: &Context) -> Option<Arc<Machine>> {
    let owner = contract::owner(&config.metadata, "Machine")?;
    let namespace = config.namespace().unwrap_or_default();
    cached(&ctx.caches.machines.store, &namespace, &owner.name)
        .filter(|machine| machine.uid().as_ref() == Some(&owner.uid))
}

fn cluster_of(config: &RackwrightConfig, machine: Option<&Machine>, ctx: &Context) -> Option<Arc<Cluster>> {
    let label = || config.labels().get(CLUSTER_NAME_LABEL).cloned();
    let name = machine.map(|machine| machine.spec.cluster_name.clone()).or_else(label)?;
    cached(&ctx.caches.clusters.store, &config.namespace().unwrap_or_default(), &name)
}

fn machine_view(machine: &Machine) -> MachineView {
    MachineView {
        control_plane: machine.labels().contains_key(CONTROL_PLANE_LABEL),
        data_secret_name: machine.spec.bootstrap.data_secret_name.clone(),
        joined: machine.status.as_ref().is_some_and(|status| status.node_ref.is_some()),
        deleting: machine.metadata.deletion_timestamp.is_some(),
    }
}

fn cluster_view(cluster: &Cluster) -> ClusterView {
    let status = cluster.status.clone().unwrap_or_default();
    let once = status.initialization.unwrap_or_default();
    let latched = |flag: Option<bool>| flag == Some(true);
    ClusterView {
        infrastructure_provisioned: latched(once.infrastructure_provisioned),
        control_plane_initialized: latched(once.control_plane_initialized)
            || is_true(&status.conditions, "ControlPlaneInitialized"),
        endpoint_known: cluster.spec.control_plane_endpoint.as_ref().and_then(|endpoint| endpoint.known()).is_some(),
    }
}

/// Reads the Secret with the data, and what of it is in the workload cluster.
async fn look_further(
    config: &RackwrightConfig,
    view: &ConfigView,
    handles: &mut Handles,
    ctx: &Context,
) -> Result<Further, Error> {
    let name = view.published().unwrap_or(&view.name);
    let namespace = config.namespace().unwrap_or_default();
    let found = Api::<Secret>::namespaced(ctx.client.clone(), &namespace).get_opt(name).await?;
    let (data, token) = data::read(found.as_ref(), config);
    handles.token = token;
    let (workload, token) = match look_into_workload(config, handles, ctx).await? {
        Ok((missing, token)) => (Ok(missing), token),
        Err(problem) => (Err(problem), Token::Absent),
    };
    Ok(Further { workload, data, token })
}

type Found = (Vec<&'static super::grants::Grant>, Token);

async fn look_into_workload(
    config: &RackwrightConfig,
    handles: &mut Handles,
    ctx: &Context,
) -> Result<Result<Found, Problem>, Error> {
    let Some((namespace, cluster)) = handles.cluster_key() else {
        let message = "the Cluster of its Machine, which does not exist".into();
        return Ok(Err(Problem { reason: "WaitingForCluster", message }));
    };
    let now = ctx.clock.now();
    let access = match ctx.workloads.access(&ctx.client, &namespace, &cluster, now).await? {
        Ok(access) => access,
        Err(problem) => return Ok(Err(problem)),
    };
    handles.access = Some(access.clone());
    let missing = match ctx.workloads.missing_grants(&access, now).await {
        Ok(missing) => missing,
        Err(problem) => return Ok(Err(problem)),
    };
    let Some(token) = &handles.token else {
        return Ok(Ok((missing, Token::Absent)));
    };
    let state = ctx.workloads.with(&access, now, |client| async move { tokens::look(&client, token).await }).await;
    if let Ok(Token::Until(until)) = state {
        let seen = Seen { id: token.id().to_owned(), until };
        ctx.workloads.tokens.note(&config.uid().unwrap_or_default(), seen, now);
    }
    Ok(state.map(|state| (missing, state)))
}
