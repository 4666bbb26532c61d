//! `rackwright rollout status|history|pause|resume|undo POOL`: as `kubectl rollout`, for node pools.
//!
//! Writes the pool's spec only, as its owner would by hand; what follows is the pool's reconciler's.

use crate::access::Access;
use crate::output::{Absent, Output};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use rackwright_api::{NodePool, POOL_LABEL};
use rackwright_controllers::pool::revision::{Blueprint, failed};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;

/// What is done with a rollout.
#[derive(Subcommand)]
pub enum RolloutCommand {
    /// Tell where it stands.
    Status(PoolArgs),
    /// List the revisions that are kept.
    History(PoolArgs),
    /// Let it stand still.
    Pause(PoolArgs),
    /// Let it go on.
    Resume(PoolArgs),
    /// Go back to the revision before, or to another.
    Undo(UndoArgs),
}

/// Which pool.
#[derive(Args)]
pub struct PoolArgs {
    #[command(flatten)]
    access: Access,
    /// Name of the NodePool.
    pool: String,
    /// Text for people, or JSON or YAML for scripts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// Which pool, and where to.
#[derive(Args)]
pub struct UndoArgs {
    #[command(flatten)]
    pool: PoolArgs,
    /// Number of the revision, as `history` lists it. Absent: the newest good one that the spec does not describe.
    #[arg(long)]
    to_revision: Option<i64>,
}

/// Where a rollout stands.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    pool: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    replicas: i32,
    up_to_date: i32,
    available: i32,
}

/// One revision.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Revision {
    number: i64,
    version: String,
    image: String,
    described: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// Does what was asked.
pub async fn run(command: RolloutCommand) -> anyhow::Result<()> {
    match command {
        RolloutCommand::Status(args) => {
            let (pool, ..) = args.find().await?;
            print!("{}", args.output.of(&status(&pool), status_text)?);
        }
        RolloutCommand::History(args) => {
            let (pool, client, namespace) = args.find().await?;
            let revisions: Vec<_> =
                revisions(&client, &namespace, &pool).await?.into_iter().map(|found| found.0).collect();
            print!("{}", args.output.of(&revisions, |all| history_text(all))?);
        }
        RolloutCommand::Pause(args) => args.set(json!({ "rollout": { "paused": true } }), "paused").await?,
        RolloutCommand::Resume(args) => args.set(json!({ "rollout": { "paused": null } }), "resumed").await?,
        RolloutCommand::Undo(UndoArgs { pool: args, to_revision }) => {
            let (pool, client, namespace) = args.find().await?;
            let known = revisions(&client, &namespace, &pool).await?;
            let (revision, blueprint) = pick(&known, to_revision)?;
            let said = format!("goes back to revision {} (image {})", revision.number, revision.image);
            args.set(fields(blueprint)?, &said).await?;
        }
    }
    Ok(())
}

impl PoolArgs {
    async fn find(&self) -> anyhow::Result<(NodePool, Client, String)> {
        let (client, namespace) = self.access.client().await?;
        match Api::<NodePool>::namespaced(client.clone(), &namespace).get_opt(&self.pool).await? {
            Some(pool) => Ok((pool, client, namespace)),
            None => {
                let message = format!(
                    "namespace {namespace} has no NodePool {}; `kubectl get nodepools -A` lists them",
                    self.pool
                );
                Err(Absent(message).into())
            }
        }
    }

    /// Writes `spec`, if the pool is as it was read.
    async fn set(&self, spec: Value, said: &str) -> anyhow::Result<()> {
        let (pool, client, namespace) = self.find().await?;
        let patch = json!({ "metadata": { "resourceVersion": pool.resource_version() }, "spec": spec });
        let params = PatchParams { field_manager: Some("rackwright-rollout".into()), ..PatchParams::default() };
        Api::<NodePool>::namespaced(client, &namespace).patch(&self.pool, &params, &Patch::Merge(patch)).await?;
        println!("nodepool/{} {said}", self.pool);
        Ok(())
    }
}

/// Revisions of `pool` with what they hold, oldest first.
async fn revisions(client: &Client, namespace: &str, pool: &NodePool) -> anyhow::Result<Vec<(Revision, Blueprint)>> {
    let labelled = ListParams::default().labels(&format!("{POOL_LABEL}={}", pool.name_any()));
    let found = Api::<ControllerRevision>::namespaced(client.clone(), namespace).list(&labelled).await?;
    let described = Blueprint::of(&pool.spec).name(&pool.name_any());
    let mut all: Vec<_> = (found.items.iter())
        .filter_map(|found| {
            let blueprint = Blueprint::from(found)?;
            let revision = Revision {
                number: found.revision,
                version: blueprint.version.clone(),
                image: blueprint.image.name.clone(),
                described: found.name_any() == described,
                failed: failed(found),
            };
            Some((revision, blueprint))
        })
        .collect();
    all.sort_by_key(|(revision, _)| revision.number);
    Ok(all)
}

fn pick(known: &[(Revision, Blueprint)], number: Option<i64>) -> anyhow::Result<&(Revision, Blueprint)> {
    match number {
        Some(number) => known.iter().find(|(revision, _)| revision.number == number).with_context(|| {
            let numbers: Vec<_> = known.iter().map(|(revision, _)| revision.number.to_string()).collect();
            format!("there is no revision {number}; there are {}", numbers.join(", "))
        }),
        None => {
            let good = known.iter().rev().find(|(revision, _)| !revision.described && revision.failed.is_none());
            match good {
                Some(found) => Ok(found),
                None => bail!("there is no other good revision to go back to"),
            }
        }
    }
}

/// What of the spec goes back. `null` takes out the kind of bootstrap that the revision does not have.
fn fields(blueprint: &Blueprint) -> anyhow::Result<Value> {
    let mut fields = serde_json::to_value(blueprint)?;
    for kind in ["config", "configTemplateRef"] {
        if fields["bootstrap"].get(kind).is_none() {
            fields["bootstrap"][kind] = Value::Null;
        }
    }
    Ok(fields)
}

fn status(pool: &NodePool) -> Status {
    let status = pool.status.clone().unwrap_or_default();
    Status {
        pool: pool.name_any(),
        rollout: status.rollout,
        waiting_for: status.waiting_for,
        replicas: pool.spec.replicas,
        up_to_date: status.up_to_date_replicas,
        available: status.available_replicas,
    }
}

fn status_text(status: &Status) -> String {
    let rollout = status.rollout.clone().unwrap_or_else(|| "no rollout".into());
    let waiting = status.waiting_for.as_ref().map(|what| format!("; waiting for {what}")).unwrap_or_default();
    format!(
        "{}: {rollout}; {} of {} up to date, {} available{waiting}\n",
        status.pool, status.up_to_date, status.replicas, status.available
    )
}

fn history_text(revisions: &[Revision]) -> String {
    let mut text = format!("{:<9} {:<12} {:<28} STATE\n", "REVISION", "VERSION", "IMAGE");
    for revision in revisions {
        let state = match (&revision.failed, revision.described) {
            (Some(why), _) => format!("failed: {why}"),
            (None, true) => "described by the spec".into(),
            (None, false) => String::new(),
        };
        let line = format!("{:<9} {:<12} {:<28} {state}", revision.number, revision.version, revision.image);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<(Revision, Blueprint)> {
        let one = |number: i64, image: &str, described: bool, failed: Option<&str>| {
            let blueprint = json!({ "version": "v1.36.3", "image": { "name": image }, "bootstrap": { "config": {} } });
            let revision = Revision {
                number,
                version: "v1.36.3".into(),
                image: image.into(),
                described,
                failed: failed.map(Into::into),
            };
            (revision, serde_json::from_value(blueprint).expect("a blueprint"))
        };
        vec![
            one(1, "debian-12", false, None),
            one(2, "debian-13-bad", false, Some("web-a1-0 did not become or stay Available")),
            one(3, "debian-13", true, None),
        ]
    }

    #[test]
    fn undo_goes_to_the_newest_good_revision_that_the_spec_does_not_describe() {
        let known = known();
        assert_eq!(pick(&known, None).expect("there is one").0.number, 1);
        assert_eq!(pick(&known, Some(2)).expect("as asked").0.number, 2);
        assert!(pick(&known, Some(9)).expect_err("there is none").to_string().contains("there are 1, 2, 3"));
        assert!(pick(&known[2..], None).is_err());
        let fields = fields(&known[0].1).expect("fields");
        assert_eq!(fields["bootstrap"], json!({ "config": { "join": "Kubelet" }, "configTemplateRef": null }));
    }

    #[test]
    fn a_history_and_a_status_read_well() {
        let revisions: Vec<_> = known().into_iter().map(|(revision, _)| revision).collect();
        insta::assert_snapshot!(history_text(&revisions), @r"
        REVISION  VERSION      IMAGE                        STATE
        1         v1.36.3      debian-12
        2         v1.36.3      debian-13-bad                failed: web-a1-0 did not become or stay Available
        3         v1.36.3      debian-13                    described by the spec
        ");
        let at = Status {
            pool: "web".into(),
            rollout: Some("canary 10 %: 4 of 40".into()),
            waiting_for: Some("soaking until 15:10:00".into()),
            replicas: 40,
            up_to_date: 4,
            available: 39,
        };
        insta::assert_snapshot!(status_text(&at), @"web: canary 10 %: 4 of 40; 4 of 40 up to date, 39 available; waiting for soaking until 15:10:00");
    }
}
