//! Says how far the data is: the only write of the status, and only when something changed.
//!
//! Nothing is written on the way to the data as long as the way is free: a worker costs one Secret and one status.

use super::act::Outcome;
use super::decide::Step;
use super::view::{ConfigView, Problem};
use crate::context::Context;
use crate::kubeio::{self, Error, manager};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rackwright_api::RackwrightConfig;
use rackwright_api::conditions::{Said, Truth, find, merge};
use rackwright_api::config::{ConfigInitialization, RackwrightConfigStatus};

/// Writes the status of `config` if there is something to say that it does not say yet.
pub async fn record(
    config: &RackwrightConfig,
    view: &ConfigView,
    step: &Step,
    outcome: &Outcome,
    ctx: &Context,
) -> Result<(), Error> {
    let now = ctx.clock.now();
    match status(view, step, outcome, now) {
        Some(status) if status != view.status && !quiet_for(view, step, now, ctx.limits.quiet).is_positive() => {
            let written = kubeio::apply_status(&ctx.client, manager::CONFIG, config, &status).await?;
            ctx.own_writes.note(&written);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// How long a wait is not told yet: a config is born a moment before its Machine owns it, and most waits are over before
/// anybody could read of them. Zero when it is to be told.
pub fn quiet_for(view: &ConfigView, step: &Step, now: Timestamp, quiet: SignedDuration) -> SignedDuration {
    match step {
        Step::Wait(_) if view.status.conditions.is_empty() => {
            (view.created + quiet).duration_since(now).max(SignedDuration::ZERO)
        }
        _ => SignedDuration::ZERO,
    }
}

/// The status that follows from what was seen, decided and done; `None` when the next pass will know better. Pure.
pub fn status(view: &ConfigView, step: &Step, outcome: &Outcome, now: Timestamp) -> Option<RackwrightConfigStatus> {
    let troubled = |problem| match view.published() {
        Some(name) => with_data(view, name, Some(problem), now),
        None => without_data(view, problem, now),
    };
    match (step, outcome) {
        (Step::Ignore, _) | (_, Outcome::Done) => None,
        (_, Outcome::Failed(problem)) | (Step::Wait(problem) | Step::Refuse(problem), Outcome::Nothing) => {
            Some(troubled(problem))
        }
        (Step::Paused, Outcome::Nothing) => Some(paused(view, now)),
        (Step::Published(name), Outcome::Nothing) => Some(with_data(view, name, None, now)),
        (Step::Stale(name, problem), Outcome::Nothing) => Some(with_data(view, name, Some(problem), now)),
        (
            Step::Allow(_) | Step::CreateData | Step::DiscardData | Step::ApplyToken | Step::RevokeToken,
            Outcome::Nothing,
        ) => None,
    }
}

fn without_data(view: &ConfigView, problem: &Problem, now: Timestamp) -> RackwrightConfigStatus {
    let said = [
        Said::no("Ready", problem.reason, problem.message.clone()),
        Said::no("DataSecretAvailable", problem.reason, problem.message.clone()),
        not_paused(),
    ];
    RackwrightConfigStatus {
        initialization: None,
        data_secret_name: None,
        observed_generation: view.generation,
        conditions: merge(&view.status.conditions, &said, view.generation, now),
    }
}

/// The data is in Secret `name`, made from the generation that was recorded when it was published.
fn with_data(view: &ConfigView, name: &str, trouble: Option<&Problem>, now: Timestamp) -> RackwrightConfigStatus {
    let made_from = view.published().and(view.status.observed_generation).or(view.generation);
    let mut message = format!("Secret {name}");
    if made_from != view.generation {
        message += "; spec was changed after it was made, which has no effect: only a new Machine gets new data";
    }
    let said = [
        match trouble {
            Some(problem) => Said::no("Ready", problem.reason, problem.message.clone()),
            None => Said::yes("Ready", "DataSecretAvailable", ""),
        },
        Said::yes("DataSecretAvailable", "DataSecretAvailable", message),
        not_paused(),
    ];
    RackwrightConfigStatus {
        initialization: Some(ConfigInitialization { data_secret_created: Some(true) }),
        data_secret_name: Some(name.to_owned()),
        observed_generation: made_from,
        conditions: merge(&view.status.conditions, &said, view.generation, now),
    }
}

/// Everything as it was, and that it is paused.
fn paused(view: &ConfigView, now: Timestamp) -> RackwrightConfigStatus {
    let before = &view.status.conditions;
    let kept = ["Ready", "DataSecretAvailable"].into_iter().filter_map(|kind| Some(again(kind, find(before, kind)?)));
    let said: Vec<Said> = kept.chain([Said::yes("Paused", "Paused", "the Cluster or this object is paused")]).collect();
    RackwrightConfigStatus { conditions: merge(before, &said, view.generation, now), ..view.status.clone() }
}

fn again(kind: &'static str, condition: &Condition) -> Said {
    let status = match condition.status.as_str() {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    };
    Said { kind, status, reason: condition.reason.clone(), message: condition.message.clone() }
}

fn not_paused() -> Said {
    Said::no("Paused", "NotPaused", "")
}
