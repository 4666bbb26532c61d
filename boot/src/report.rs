//! What does this report mean for the Host? Pure: the caller reads, writes and tells the time.

use crate::refusal::{Reason, Refusal};
use crate::session::{agent_of, bounded, current};
use jiff::Timestamp;
use kube::ResourceExt;
use rackwright_api::hardware::{Facts, HostHardwareSpec};
use rackwright_api::host::{
    AgentFailure, AgentStatus, ClaimedImage, Deployed, Host, Operation, OperationKind, Wiped, WipedDisk,
};
use rackwright_api::image::FinalBoot;
use rackwright_protocol::report::{Event, Report};
use rackwright_protocol::token;

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// Nothing: it is known already (an earlier answer was lost on its way), or it is not for the Host.
    Known,
    /// How far it is; may be left out.
    Progress(AgentStatus),
    /// It has prepared the host, and waits.
    Prepared(AgentStatus),
    /// It has given up.
    Failure(AgentStatus),
    /// Facts for the HostHardware of the same name.
    Hardware(HostHardwareSpec),
    /// `spec.deployed` and `spec.wiped`, both as they shall stand: the writer owns both, and one left out is removed.
    Results {
        /// As it shall stand.
        deployed: Option<Deployed>,
        /// As it shall stand.
        wiped: Option<Wiped>,
    },
}

/// Who sends a report.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// Whoever has this bearer secret: the agent, if it is the session's.
    Session(&'a str),
    /// The installer that the agent started. The caller has proven its token.
    Installer,
}

impl Proof<'_> {
    fn sender(self) -> &'static str {
        match self {
            Proof::Session(_) => "the agent",
            Proof::Installer => "an installer",
        }
    }
}

/// What `report`, sent by whom `proof` says, means for `host`.
pub fn meaning(host: &Host, proof: Proof<'_>, report: &Report, now: Timestamp) -> Result<Meaning, Refusal> {
    if host.uid().as_deref() != Some(report.subject.host_uid.as_str()) {
        return Err(Refusal::new(Reason::HostGone, "this host was deleted"));
    }
    let over = |why: &str| Refusal::new(Reason::OperationOver, why);
    let agent = agent_of(host, &report.subject.operation_id).ok_or_else(|| over("this operation is over"))?;
    if matches!(proof, Proof::Session(session) if agent.session_digest != token::digest(session)) {
        return Err(Refusal::new(Reason::SessionInvalid, "this is not the session of this operation"));
    }
    if is_known(host, agent, report) {
        return Ok(Meaning::Known);
    }
    let operation = current(host, &report.subject, now)?;
    if agent.failure.is_some() {
        return Err(over("it was given up before"));
    }
    if !may_report(host, proof, &report.event) {
        let message = format!("{} is not for {} to report", name(&report.event), proof.sender());
        return Err(Refusal::ending(Reason::ReportUnexpected, message));
    }
    match (&report.event, operation.kind) {
        (Event::Progress { step, percent, bytes_per_second }, _) => {
            Ok(Meaning::Progress(progress(agent, step, *percent, *bytes_per_second)))
        }
        (Event::Log { .. }, _) => Ok(Meaning::Known),
        (Event::InstallerStarting, OperationKind::Deploy) => {
            Ok(Meaning::Progress(AgentStatus { percent: None, ..progress(agent, "Installing", 0, None) }))
        }
        (Event::Failed { reason, message, .. }, _) => Ok(Meaning::Failure(failure(agent, reason, message))),
        (Event::Inspected { facts }, OperationKind::Inspect) => Ok(hardware(operation, facts, now)),
        (Event::Deployed { device, digest, final_boot }, OperationKind::Deploy) => {
            let device = bounded(device);
            deployed(host, operation, Deployed { device, final_boot: *final_boot, ..blank(operation, digest, now) })
        }
        (Event::Prepared { digest }, OperationKind::Prepare) => prepared(host, operation, agent, digest.as_ref(), now),
        (Event::Wiped { disks }, OperationKind::Wipe) => wiped(host, operation, disks, now),
        (event, kind) => {
            let message = format!("the plan was {kind:?}, the report is {}", name(event));
            Err(Refusal::ending(Reason::ReportUnexpected, message))
        }
    }
}

/// An installation is done when the installer says so, and all else when the agent does.
fn may_report(host: &Host, proof: Proof<'_>, event: &Event) -> bool {
    let installs = host.spec.claim.as_ref().is_some_and(|claim| claim.image.installer.is_some());
    match (proof, event) {
        (Proof::Installer, Event::Deployed { .. } | Event::Failed { .. }) => installs,
        (Proof::Installer, _) => false,
        (Proof::Session(_), Event::Deployed { .. }) => !installs,
        (Proof::Session(_), Event::InstallerStarting) => installs,
        (Proof::Session(_), _) => true,
    }
}

/// `agent` with a failure.
pub fn failed(agent: &AgentStatus, failure: AgentFailure) -> AgentStatus {
    AgentStatus { failure: Some(failure), ..agent.clone() }
}

fn is_known(host: &Host, agent: &AgentStatus, report: &Report) -> bool {
    let id = &report.subject.operation_id;
    match &report.event {
        Event::Deployed { device, digest, .. } => host
            .spec
            .deployed
            .as_ref()
            .is_some_and(|done| (&done.operation_id, &done.device, &done.digest) == (id, device, digest)),
        Event::Wiped { disks } => {
            host.spec.wiped.as_ref().is_some_and(|done| (&done.operation_id, &done.disks) == (id, disks))
        }
        Event::Prepared { .. } => agent.prepared_at.is_some(),
        Event::Failed { reason, message, .. } => {
            agent.failure.is_some() && agent.failure == failure(agent, reason, message).failure
        }
        Event::Progress { .. } | Event::Inspected { .. } | Event::Log { .. } | Event::InstallerStarting => false,
    }
}

fn progress(agent: &AgentStatus, step: &str, percent: u8, bytes_per_second: Option<u64>) -> AgentStatus {
    AgentStatus {
        step: Some(camel(step, "Working")),
        percent: Some(percent.min(100).into()),
        bytes_per_second: bytes_per_second.and_then(|rate| rate.try_into().ok()),
        ..agent.clone()
    }
}

fn failure(agent: &AgentStatus, reason: &str, message: &str) -> AgentStatus {
    failed(agent, AgentFailure { reason: camel(reason, "AgentFailed"), message: bounded(message) })
}

fn hardware(operation: &Operation, facts: &Facts, now: Timestamp) -> Meaning {
    let operation_id = operation.id.clone();
    Meaning::Hardware(HostHardwareSpec { operation_id, inspected_at: now, facts: facts.clone() })
}

/// What is known of a deployment before it is known for which machine it was.
fn blank(operation: &Operation, digest: &str, now: Timestamp) -> Deployed {
    Deployed {
        claim_uid: String::new(),
        operation_id: operation.id.clone(),
        digest: digest.into(),
        device: String::new(),
        final_boot: FinalBoot::default(),
        at: now,
    }
}

fn deployed(host: &Host, operation: &Operation, done: Deployed) -> Result<Meaning, Refusal> {
    let uid = operation.claim_uid.as_deref();
    let Some(claim) = host.spec.claim.as_ref().filter(|claim| Some(claim.consumer.uid.as_str()) == uid) else {
        return Err(Refusal::new(Reason::OperationOver, "the machine that claimed this host has released it"));
    };
    check_digest(agent_of(host, &operation.id), &claim.image, &done.digest)?;
    let deployed = Deployed { claim_uid: claim.consumer.uid.clone(), ..done };
    Ok(Meaning::Results { deployed: Some(deployed), wiped: host.spec.wiped.clone() })
}

/// Where the boot service unpacks the image for the host, it is to write another file than the claimed one.
fn check_digest(agent: Option<&AgentStatus>, image: &ClaimedImage, written: &str) -> Result<(), Refusal> {
    let wanted = agent.and_then(|agent| agent.image_digest.as_ref()).unwrap_or(&image.digest);
    if wanted == written {
        return Ok(());
    }
    let message = format!("the agent wrote an image with digest {written}, wanted is {wanted}");
    Err(Refusal::ending(Reason::ReportUnexpected, bounded(&message)))
}

fn prepared(
    host: &Host,
    operation: &Operation,
    agent: &AgentStatus,
    digest: Option<&String>,
    now: Timestamp,
) -> Result<Meaning, Refusal> {
    let uid = operation.claim_uid.as_deref();
    let Some(order) = host.spec.warm.as_ref().filter(|order| Some(order.id.as_str()) == uid) else {
        return Err(Refusal::new(Reason::OperationOver, "nobody wants this host kept warm any more"));
    };
    if let Some(image) = &order.image {
        check_digest(Some(agent), image, digest.map(String::as_str).unwrap_or("of nothing"))?;
    }
    let (step, percent, bytes_per_second) = (None, None, None);
    Ok(Meaning::Prepared(AgentStatus { step, percent, bytes_per_second, prepared_at: Some(now), ..agent.clone() }))
}

fn wiped(host: &Host, operation: &Operation, disks: &[WipedDisk], now: Timestamp) -> Result<Meaning, Refusal> {
    let uid = operation.claim_uid.as_deref();
    let Some(order) = host.spec.wipe.as_ref().filter(|order| Some(order.claim_uid.as_str()) == uid) else {
        return Err(Refusal::new(Reason::OperationOver, "nobody wants this host wiped any more"));
    };
    let wiped = Wiped {
        claim_uid: order.claim_uid.clone(),
        operation_id: operation.id.clone(),
        disks: disks.to_vec(),
        at: now,
    };
    Ok(Meaning::Results { deployed: host.spec.deployed.clone(), wiped: Some(wiped) })
}

/// `text` when it is a CamelCase fact of a sensible length, else `otherwise`: it stands in conditions.
fn camel(text: &str, otherwise: &str) -> String {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && text.starts_with(|first: char| first.is_ascii_uppercase());
    if fits { text.into() } else { otherwise.into() }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Progress { .. } => "Progress",
        Event::Inspected { .. } => "Inspected",
        Event::Deployed { .. } => "Deployed",
        Event::Prepared { .. } => "Prepared",
        Event::Wiped { .. } => "Wiped",
        Event::Failed { .. } => "Failed",
        Event::Log { .. } => "Log",
        Event::InstallerStarting => "InstallerStarting",
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
