//! Does the one step that was decided on: at most one effect, and every effect may be repeated.

use super::decide::Step;
use super::observe::Handles;
use super::tokens::{self, Seen};
use super::view::Problem;
use super::workload::Access;
use super::{data, grants, input};
use crate::context::Context;
use crate::kubeio::{Error, manager};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use rackwright_api::RackwrightConfig;
use rackwright_bootstrap::render;

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// It is done.
    Done,
    /// It could not be done, and why.
    Failed(Problem),
}

/// Does `step`.
pub async fn act(config: &RackwrightConfig, step: &Step, handles: &Handles, ctx: &Context) -> Result<Outcome, Error> {
    match step {
        Step::Ignore | Step::Paused | Step::Wait(_) | Step::Refuse(_) | Step::Published(_) | Step::Stale(..) => {
            Ok(Outcome::Nothing)
        }
        Step::CreateData => create_data(config, handles, ctx).await,
        Step::DiscardData => discard_data(config, ctx).await,
        Step::RevokeToken => revoke_token(config, handles, ctx).await,
        Step::Allow(missing) => {
            let Some(access) = &handles.access else { return Ok(Outcome::Nothing) };
            let made = ctx.workloads.with(access, ctx.clock.now(), |client| async move {
                grants::make(&client, missing, manager::CONFIG).await
            });
            Ok(made.await.map_or_else(Outcome::Failed, |()| Outcome::Done))
        }
        Step::ApplyToken => Ok(apply_token(config, handles, ctx).await.unwrap_or(Outcome::Nothing)),
    }
}

fn secrets(config: &RackwrightConfig, ctx: &Context) -> Api<Secret> {
    Api::namespaced(ctx.client.clone(), &config.namespace().unwrap_or_default())
}

/// Creates, never overwrites: of two managers one is told that it is too late.
async fn create_data(config: &RackwrightConfig, handles: &Handles, ctx: &Context) -> Result<Outcome, Error> {
    let (Some(machine), Some(cluster), Some(access)) = (&handles.machine, &handles.cluster, &handles.access) else {
        return Ok(Outcome::Nothing);
    };
    let token = tokens::fresh();
    let input = input::bootstrap_input(&config.spec, machine, cluster, access.ca_pem(), token.clone());
    let user_data = match input.and_then(|input| render(&input)) {
        Ok(user_data) => user_data,
        Err(why) => return Ok(Outcome::Failed(Problem { reason: "ConfigInvalid", message: why.to_string() })),
    };
    let secret = data::secret(config, &machine.spec.cluster_name, &user_data, &token);
    let params = PostParams { field_manager: Some(manager::CONFIG.into()), ..PostParams::default() };
    secrets(config, ctx).create(&params, &secret).await?;
    Ok(Outcome::Done)
}

async fn discard_data(config: &RackwrightConfig, ctx: &Context) -> Result<Outcome, Error> {
    let secrets = secrets(config, ctx);
    if let Some(found) = secrets.get_metadata_opt(&config.name_any()).await? {
        let params = DeleteParams::default()
            .preconditions(kube::api::Preconditions { uid: found.uid(), resource_version: found.resource_version() });
        secrets.delete(&config.name_any(), &params).await?;
    }
    Ok(Outcome::Done)
}

async fn apply_token(config: &RackwrightConfig, handles: &Handles, ctx: &Context) -> Option<Outcome> {
    let (access, token) = (handles.access.as_ref()?, handles.token.as_ref()?);
    let now = ctx.clock.now();
    let until = now + ctx.limits.join_token;
    let whose = format!("{}/{}", config.namespace().unwrap_or_default(), config.name_any());
    let applied = ctx
        .workloads
        .with(access, now, |client| async move { tokens::apply(&client, token, until, &whose, manager::CONFIG).await });
    if let Err(problem) = applied.await {
        return Some(Outcome::Failed(problem));
    }
    let seen = Seen { id: token.id().to_owned(), until };
    ctx.workloads.tokens.note(&config.uid().unwrap_or_default(), seen, now);
    Some(Outcome::Done)
}

/// A token that cannot be taken back now ends by itself soon: it is not tried twice.
async fn revoke_token(config: &RackwrightConfig, handles: &Handles, ctx: &Context) -> Result<Outcome, Error> {
    let uid = config.uid().unwrap_or_default();
    let now = ctx.clock.now();
    let seen = ctx.workloads.tokens.of(&uid, now);
    ctx.workloads.tokens.forget(&uid);
    if let (Some(seen), Some(access)) = (seen, way_in(handles, ctx).await?) {
        let revoked = ctx.workloads.with(&access, now, |client| async move { tokens::revoke(&client, &seen.id).await });
        if let Err(problem) = revoked.await {
            tracing::info!(config = config.name_any(), why = problem.message, "join token is left to end by itself");
        }
    }
    Ok(Outcome::Done)
}

async fn way_in(handles: &Handles, ctx: &Context) -> Result<Option<Access>, Error> {
    let Some((namespace, cluster)) = handles.cluster_key() else {
        return Ok(None);
    };
    Ok(ctx.workloads.access(&ctx.client, &namespace, &cluster, ctx.clock.now()).await?.ok())
}
