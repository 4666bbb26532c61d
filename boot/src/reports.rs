//! Takes reports: what agents say is written to the Host, to its HostHardware, and at the end to its log.

use crate::refusal::{Reason, Refusal};
use crate::report::{Meaning, Proof, failed, meaning};
use crate::service::{Service, Try, unavailable};
use crate::session::{self, agent_of};
use crate::store::{KeptLog, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rackwright_api::host::{AgentStatus, Host};
use rackwright_protocol::Subject;
use rackwright_protocol::report::{Event, Report};
use rackwright_protocol::token::Purpose;
use std::sync::Arc;

/// How old the word may be that an agent is alive before it is written anew.
const HEARD_AGAIN: SignedDuration = SignedDuration::from_mins(2);

/// Of which operations the agent's log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeepLogs {
    /// Of those that failed: one write for each.
    #[default]
    Failures,
    /// Of all: one more write for every operation of every host.
    Always,
}

impl<S: Store> Service<S> {
    /// Takes one report of an agent, sent with the bearer secret `session`.
    pub async fn take_report(&self, session: &str, report: &Report) -> Result<(), Refusal> {
        self.take(Proof::Session(session), report).await
    }

    /// Takes the one report of an installer, sent with the bearer secret `token` out of its answers.
    pub async fn take_installed(&self, token: &str, report: &Report) -> Result<(), Refusal> {
        let Subject { host_uid, operation_id, .. } = &report.subject;
        if !self.key()?.proves(Purpose::Installed, host_uid, operation_id, token) {
            return Err(Refusal::new(Reason::TokenInvalid, "this is not the token of this host and operation"));
        }
        self.take(Proof::Installer, report).await
    }

    async fn take(&self, proof: Proof<'_>, report: &Report) -> Result<(), Refusal> {
        let Subject { namespace, host, operation_id, .. } = &report.subject;
        let answer = self.settle(namespace, host, |host| self.try_report(host, proof, report)).await;
        if let Err(refusal) = &answer {
            tracing::info!(
                namespace,
                host,
                operation = operation_id,
                reason = refusal.reason.as_str(),
                "report refused"
            );
        }
        answer
    }

    async fn try_report(&self, host: Arc<Host>, proof: Proof<'_>, report: &Report) -> Result<Try<()>, Refusal> {
        let now = Timestamp::now();
        let agent = || agent_of(&host, &report.subject.operation_id);
        let written = match meaning(&host, proof, report, now) {
            Ok(Meaning::Known) => {
                if let Event::Log { lines } = &report.event {
                    self.logbook.append(&report.subject, lines);
                }
                return Ok(Try::Done(()));
            }
            Ok(Meaning::Progress(agent)) => {
                let steps = self.logbook.steps(&report.subject, &agent.steps, agent.step.as_deref(), now);
                self.show_progress(&host, AgentStatus { steps, ..agent }, now).await;
                return Ok(Try::Done(()));
            }
            Ok(Meaning::Prepared(agent) | Meaning::Failure(agent)) => {
                let steps = self.logbook.steps(&report.subject, &agent.steps, None, now);
                let agent = AgentStatus { steps, ..agent };
                self.store.write_agent(&host, &agent).await
            }
            Ok(Meaning::Hardware(hardware)) => self.store.write_hardware(&host, &hardware).await,
            Ok(Meaning::Results { deployed, wiped }) => {
                self.store.write_results(&host, deployed.as_ref(), wiped.as_ref()).await
            }
            Err(refusal) => return self.give_up(&host, &report.subject, agent(), refusal).await,
        };
        match written {
            Ok(()) => {
                log_result(&host, report);
                self.keep_log(&host, &report.subject, outcome(&report.event)).await;
                Ok(Try::Done(()))
            }
            Err(StoreError::Conflict) => Ok(Try::Stale),
            Err(StoreError::Invalid(why)) => {
                let message = session::bounded(&format!("what the agent reported is not accepted: {why}"));
                let refusal = Refusal::ending(Reason::ReportInvalid, message);
                self.give_up(&host, &report.subject, agent(), refusal).await
            }
            Err(why) => Err(unavailable(why)),
        }
    }

    /// Writes progress when it is new and not too soon after the last, and that the agent is alive when that was not written
    /// for long. A deployment that takes less than the interval costs no write for it.
    async fn show_progress(&self, host: &Host, agent: AgentStatus, now: Timestamp) {
        let known = agent_of(host, &agent.operation_id) == Some(&agent);
        let heard = agent.heard_at.is_some_and(|at| now.duration_since(at) < HEARD_AGAIN);
        let young = now.duration_since(agent.since).unsigned_abs() < self.progress.interval();
        if heard && (known || young || !self.progress.admits(&agent.operation_id)) {
            return;
        }
        // Lossy: whoever wrote in between has something newer to show.
        let agent = AgentStatus { heard_at: Some(now), ..agent };
        if let Err(why) = self.store.write_agent(host, &agent).await {
            tracing::debug!(host = host.name_any(), %why, "progress not written");
        }
    }

    /// Refuses, after telling the manager of it as what became of `agent` when the refusal ends the operation.
    pub(crate) async fn give_up<T>(
        &self,
        host: &Host,
        subject: &Subject,
        agent: Option<&AgentStatus>,
        refusal: Refusal,
    ) -> Result<Try<T>, Refusal> {
        let (Some(failure), Some(agent)) = (refusal.failure.clone(), agent) else { return Err(refusal) };
        let reason = failure.reason.clone();
        match self.store.write_agent(host, &failed(agent, failure)).await {
            Ok(()) => {
                self.keep_log(host, subject, Some(&reason)).await;
                Err(refusal)
            }
            Err(StoreError::Conflict) => Ok(Try::Stale),
            Err(why) => Err(unavailable(why)),
        }
    }

    /// Keeps what the agent said in an operation that is over. `failure` is why, when it went wrong. A log that cannot
    /// be written is lost: it must not hold up the result.
    pub(crate) async fn keep_log(&self, host: &Host, subject: &Subject, failure: Option<&str>) {
        let Some(text) = self.logbook.close(&subject.operation_id) else { return };
        if failure.is_some() || self.keep_logs == KeepLogs::Always {
            let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
            let kind = operation.filter(|operation| operation.id == subject.operation_id);
            self.write_log(
                host,
                KeptLog {
                    operation_id: subject.operation_id.clone(),
                    operation_type: kind.map(|operation| format!("{:?}", operation.kind)),
                    outcome: failure.unwrap_or("Done").into(),
                    at: Timestamp::now(),
                    text,
                },
            )
            .await;
        }
    }

    /// Keeps what an agent said in an earlier operation of the host whose end nobody told: it was cut off.
    pub(crate) async fn keep_earlier_log(&self, host: &Host, subject: &Subject) {
        let Some((operation_id, text)) = self.logbook.close_earlier(subject) else { return };
        let outcome = "Replaced".into();
        let log = KeptLog { operation_id, operation_type: None, outcome, at: Timestamp::now(), text };
        self.write_log(host, log).await;
    }

    async fn write_log(&self, host: &Host, log: KeptLog) {
        if let Err(why) = self.store.write_log(host, &log).await {
            tracing::warn!(host = host.name_any(), operation = log.operation_id, %why, "the agent's log is lost");
        }
    }
}

/// Why it went wrong, when it did.
fn outcome(event: &Event) -> Option<&str> {
    match event {
        Event::Failed { reason, .. } => Some(reason),
        _ => None,
    }
}

fn log_result(host: &Host, report: &Report) {
    let (host, operation) = (host.name_any(), &report.subject.operation_id);
    match &report.event {
        Event::Progress { .. } | Event::Log { .. } => {}
        Event::InstallerStarting => tracing::info!(host, operation, "handed over to the installer"),
        Event::Inspected { .. } => tracing::info!(host, operation, "inspected"),
        Event::Deployed { device, .. } => tracing::info!(host, operation, device, "deployed"),
        Event::Prepared { .. } => tracing::info!(host, operation, "prepared"),
        Event::Wiped { disks } => tracing::info!(host, operation, disks = disks.len(), "wiped"),
        Event::Failed { reason, .. } => tracing::warn!(host, operation, reason, "the agent gave up"),
    }
}
