//! May this session be opened, and with which plan? Pure: the caller reads, writes and tells the time.

use crate::images;
use crate::refusal::{Reason, Refusal};
use jiff::Timestamp;
use kube::ResourceExt;
use rackwright_api::host::{
    AgentStatus, BootWay, Claim, ClaimedImage, Host, Operation, OperationKind, Stage, WarmOrder, WipePolicy,
};
use rackwright_api::{Datacenter, Rack};
use rackwright_protocol::Subject;
use rackwright_protocol::facts::Disk;
use rackwright_protocol::plan::{Action, ConfigDrive, Deploy, Image, Install, Plan, Prepare};
use rackwright_protocol::report::SessionRequest;
use rackwright_protocol::{token, uuid};
use serde_json::json;

/// What a session that may be opened is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Task<'a> {
    /// Look at the hardware.
    Inspect,
    /// Write the image of this claim.
    Deploy(&'a Claim),
    /// Write the image of this order, and wait.
    Prepare(&'a WarmOrder),
    /// Wipe the disks.
    Wipe(WipePolicy),
}

impl Task<'_> {
    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Task::Inspect => "Inspect",
            Task::Deploy(_) => "Deploy",
            Task::Prepare(_) => "Prepare",
            Task::Wipe(_) => "Wipe",
        }
    }

    /// The image that the host is to fetch; an installer writes its own.
    pub(crate) fn image(&self) -> Option<&ClaimedImage> {
        match self {
            Task::Deploy(claim) => Some(&claim.image).filter(|image| image.installer.is_none()),
            Task::Prepare(order) => order.image.as_ref(),
            Task::Inspect | Task::Wipe(_) => None,
        }
    }
}

/// What a plan needs beside the Host, made before the session is opened.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// Nothing: no disk is written.
    Nothing,
    /// The disks that the last inspection found.
    Wipe(Vec<Disk>),
    /// For an image that is written.
    Deploy {
        /// The machine's user-data.
        user_data: Secret,
        /// What the host is to fetch, when that is not what the claim says: an image that we unpack or keep for it.
        image: Option<Image>,
    },
    /// What the host is to fetch before anybody claims it, when that is not what the order says.
    Prepare(Option<Image>),
    /// The installer, with answers that hold the user-data.
    Install(Box<Install>),
}

impl Prepared {
    fn deploy(self) -> (String, Option<Image>) {
        match self {
            Prepared::Deploy { user_data: Secret(text), image } => (text, image),
            Prepared::Prepare(image) => (String::new(), image),
            Prepared::Nothing | Prepared::Wipe(_) | Prepared::Install(_) => (String::new(), None),
        }
    }

    /// What is fetched, when it is not what claim or order say.
    pub(crate) fn image(&self) -> Option<&Image> {
        match self {
            Prepared::Deploy { image, .. } | Prepared::Prepare(image) => image.as_ref(),
            Prepared::Nothing | Prepared::Wipe(_) | Prepared::Install(_) => None,
        }
    }
}

/// User-data. Does not print itself.
#[derive(Clone)]
pub(crate) struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a host stands, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its rack.
    pub rack: Option<std::sync::Arc<Rack>>,
    /// The datacenter of that rack.
    pub datacenter: Option<std::sync::Arc<Datacenter>>,
}

impl Place {
    /// Where the hosts of this place reach the boot service.
    pub fn boot_url(&self) -> Option<&str> {
        self.datacenter.as_ref().map(|datacenter| datacenter.spec.boot.url.as_str())
    }
}

/// The operation that `subject` speaks of, when `host` is in it at `now`.
pub fn current<'a>(host: &'a Host, subject: &Subject, now: Timestamp) -> Result<&'a Operation, Refusal> {
    if host.uid().as_deref() != Some(subject.host_uid.as_str()) {
        return Err(Refusal::new(Reason::HostGone, "this host was deleted"));
    }
    let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
    let Some(operation) = operation.filter(|operation| operation.id == subject.operation_id) else {
        return Err(Refusal::new(Reason::OperationOver, "this operation is over"));
    };
    if now >= operation.deadline {
        return Err(Refusal::new(Reason::Expired, "this operation is past its deadline"));
    }
    if operation.kind == OperationKind::PowerOn {
        return Err(Refusal::new(Reason::OperationOver, "this operation has no work for an agent"));
    }
    Ok(operation)
}

/// True while media for `subject` may be read: its ramdisk is being started, or has just been.
pub fn may_boot(host: &Host, subject: &Subject, now: Timestamp) -> bool {
    current(host, subject, now).is_ok_and(|operation| operation.stage != Stage::Warm && operation.takes_over.is_none())
}

/// True while the network card of `host` is to be told what to boot: its operation awaits the ramdisk by way of PXE, and
/// no agent has called home.
pub fn boots_by_pxe(host: &Host, now: Timestamp) -> bool {
    let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
    operation.is_some_and(|operation| {
        operation.way == Some(BootWay::PXE)
            && !matches!(operation.stage, Stage::PoweringOff | Stage::HandingOver)
            && operation.kind != OperationKind::PowerOn
            && now < operation.deadline
            && agent_of(host, &operation.id).is_none()
    })
}

/// The task of the session that `request` may open. The caller has proven the token.
pub fn may_open<'a>(host: &'a Host, request: &SessionRequest, now: Timestamp) -> Result<Task<'a>, Refusal> {
    let operation = current(host, &request.subject, now)?;
    if agent_of(host, &operation.id).is_some() {
        return Err(Refusal::new(Reason::TokenUsed, "a session was opened with this token before"));
    }
    let wanted = &host.spec.boot_mac_address;
    if !request.macs.iter().any(|mac| mac.eq_ignore_ascii_case(wanted)) {
        let found = request.macs.iter().take(16).map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("the machine that booted has MAC addresses {found}; spec.bootMACAddress is {wanted}");
        return Err(Refusal::ending(Reason::WrongMachine, bounded(&message)));
    }
    if let (Some(found), Some(wanted)) = (&request.system_uuid, &operation.system_uuid)
        && uuid::differ(found, wanted)
    {
        let message = format!("the machine that booted has system UUID {found}; its BMC says {wanted}");
        return Err(Refusal::ending(Reason::WrongMachine, bounded(&message)));
    }
    task(host, operation)
}

/// The operation that the agent of `subject`, which waits with the bearer secret `session`, is to take over, and its
/// task; `None` while there is nothing to do yet.
pub fn may_take_over<'a>(
    host: &'a Host,
    subject: &Subject,
    session: &str,
    now: Timestamp,
) -> Result<Option<(&'a Operation, Task<'a>)>, Refusal> {
    if host.uid().as_deref() != Some(subject.host_uid.as_str()) {
        return Err(Refusal::new(Reason::HostGone, "this host was deleted"));
    }
    let over = || Refusal::new(Reason::OperationOver, "nobody waits for this agent any more");
    let agent = agent_of(host, &subject.operation_id).ok_or_else(over)?;
    if agent.session_digest != token::digest(session) {
        return Err(Refusal::new(Reason::SessionInvalid, "this is not the session of this operation"));
    }
    let operation = host.status.as_ref().and_then(|status| status.operation.as_ref()).ok_or_else(over)?;
    if now >= operation.deadline {
        return Err(Refusal::new(Reason::Expired, "this operation is past its deadline"));
    }
    if operation.id == subject.operation_id && operation.kind == OperationKind::Prepare && agent.failure.is_none() {
        return Ok(None);
    }
    if operation.takes_over.as_ref() != Some(&subject.operation_id) {
        return Err(over());
    }
    task(host, operation).map(|task| Some((operation, task)))
}

fn task<'a>(host: &'a Host, operation: &Operation) -> Result<Task<'a>, Refusal> {
    let over = |what: &str| Refusal::new(Reason::OperationOver, what);
    let uid = operation.claim_uid.as_deref();
    match operation.kind {
        OperationKind::Inspect => Ok(Task::Inspect),
        OperationKind::Deploy => {
            let claim = host.spec.claim.as_ref().filter(|claim| Some(claim.consumer.uid.as_str()) == uid);
            claim.map(Task::Deploy).ok_or_else(|| over("the machine that claimed this host has released it"))
        }
        OperationKind::Prepare => {
            let order = host.spec.warm.as_ref().filter(|order| Some(order.id.as_str()) == uid);
            order.map(Task::Prepare).ok_or_else(|| over("nobody wants this host kept warm any more"))
        }
        OperationKind::Wipe => {
            let order = host.spec.wipe.as_ref().filter(|order| Some(order.claim_uid.as_str()) == uid);
            order.map(|order| Task::Wipe(order.policy)).ok_or_else(|| over("nobody wants this host wiped any more"))
        }
        OperationKind::PowerOn => Err(over("this operation has no work for an agent")),
    }
}

/// What the agent of operation `id` reported last, if it called.
pub fn agent_of<'a>(host: &'a Host, id: &str) -> Option<&'a AgentStatus> {
    host.status.as_ref()?.agent.as_ref().filter(|agent| agent.operation_id == id)
}

/// What `status.agent` says of a session that is being opened.
pub fn opened(subject: &Subject, session_digest: String, now: Timestamp) -> AgentStatus {
    AgentStatus {
        operation_id: subject.operation_id.clone(),
        session_digest,
        since: now,
        heard_at: Some(now),
        step: None,
        percent: None,
        bytes_per_second: None,
        steps: Vec::new(),
        image_digest: None,
        prepared_at: None,
        failure: None,
    }
}

/// The plan for `task`, with what the caller prepared for it.
pub(crate) fn plan(
    host: &Host,
    place: &Place,
    subject: &Subject,
    task: &Task<'_>,
    prepared: Prepared,
    now: Timestamp,
) -> Plan {
    let deadline = host.status.as_ref().and_then(|status| status.operation.as_ref()).map_or(now, |op| op.deadline);
    let action = match (task, prepared) {
        (Task::Inspect, _) => Action::Inspect,
        (Task::Wipe(policy), Prepared::Wipe(known)) => Action::Wipe { policy: *policy, known },
        (Task::Wipe(policy), _) => Action::Wipe { policy: *policy, known: Vec::new() },
        (Task::Deploy(_), Prepared::Install(install)) => Action::Install(*install),
        (Task::Prepare(order), prepared) => Action::Prepare(Prepare {
            image: prepared.deploy().1.or_else(|| order.image.as_ref().map(images::told)),
            root_device: host.spec.root_device.clone(),
            read_back: Default::default(),
        }),
        (Task::Deploy(claim), prepared) => {
            let (user_data, image) = prepared.deploy();
            Action::Deploy(Deploy {
                image: image.unwrap_or_else(|| images::told(&claim.image)),
                root_device: host.spec.root_device.clone(),
                config_drive: ConfigDrive {
                    kind: claim.image.config_drive,
                    user_data,
                    meta_data: meta_data(host, place, claim),
                },
                final_boot: claim.image.final_boot,
                read_back: Default::default(),
            })
        }
    };
    Plan {
        host_uid: subject.host_uid.clone(),
        operation_id: subject.operation_id.clone(),
        boot_macs: vec![host.spec.boot_mac_address.clone()],
        issued_at: now,
        deadline,
        action,
    }
}

/// NoCloud meta-data. cloud-init offers every key to user-data as `ds.meta_data.KEY`; the instance ID is new with each
/// machine, so that an operating system knows that this is a first boot.
pub(crate) fn meta_data(host: &Host, place: &Place, claim: &Claim) -> String {
    json!({
        "instance-id": claim.consumer.uid,
        "local-hostname": claim.hostname,
        "provider_id": claim.provider_id,
        "rack": host.spec.rack,
        "datacenter": place.datacenter.as_ref().map(|datacenter| datacenter.name_any()),
        "region": place.datacenter.as_ref().map(|datacenter| datacenter.spec.region.clone()),
        "host": host.name_any(),
        "unit": host.spec.unit,
    })
    .to_string()
}

/// Text of a length that a status can hold.
pub(crate) fn bounded(text: &str) -> String {
    const MAX: usize = 512;
    match text.char_indices().nth(MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_string(),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
