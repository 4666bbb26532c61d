//! What is being done to a host, and what its agent says of it. Recorded in the status before it is begun: it can all be
//! begun anew.

use super::BootWay;
use crate::image::ImageDigest;
use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing being done to a host by way of the ramdisk, with its end in sight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Random, new for each attempt; tokens and media are bound to it.
    pub id: String,
    /// What is done.
    #[serde(rename = "type")]
    pub kind: OperationKind,
    /// UID of the RackwrightMachine for whose sake it is done, or identifier of the order to keep the host warm; absent
    /// for an inspection.
    #[serde(default, rename = "claimUID", skip_serializing_if = "Option::is_none")]
    pub claim_uid: Option<String>,
    /// How the ramdisk is booted; absent while none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<BootWay>,
    /// The operation whose agent, which waits on the host, is to do this one; absent when a ramdisk is booted for it.
    #[serde(default, rename = "takesOver", skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<String>,
    /// SMBIOS system UUID that the BMC told, lower case: the machine that calls home must not have another.
    #[serde(default, rename = "systemUUID", skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
    /// How far it is.
    pub stage: Stage,
    /// Which try this is, counted from 1.
    pub attempt: i32,
    /// When this try began.
    pub started_at: Timestamp,
    /// When the stage began.
    pub stage_since: Timestamp,
    /// When this try is given up.
    pub deadline: Timestamp,
}

impl Operation {
    /// How a ramdisk is booted for it; absent when none is, because the agent of another operation takes it over.
    pub fn booted_by(&self) -> Option<BootWay> {
        self.way.filter(|_| self.takes_over.is_none())
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationKind {
    /// Look at the hardware.
    Inspect,
    /// Write an image.
    Deploy,
    /// Write an image for whoever claims the host next, and wait for the claim.
    Prepare,
    /// Wipe the disks.
    Wipe,
    /// Switch a provisioned host on again after its power went.
    PowerOn,
}

/// How far an operation is. Each is recorded before the acts that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Being switched off, so that it can be booted anew.
    PoweringOff,
    /// Media, boot device and power are being set; then the ramdisk is awaited.
    Booting,
    /// Only recorded when media took so long that the time for power must be counted anew.
    PoweringOn,
    /// The agent that waits on a warm host is to take this operation over.
    HandingOver,
    /// The agent has done what can be done without a claim, and waits for one.
    Warm,
    /// Only recorded after a deployment whose media was in no drive: the host was seen off, so when it is on it runs its
    /// disk. Elsewhere the empty drive says that.
    StartingDisk,
}

/// One try of an operation that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedTry {
    /// What was done.
    #[serde(rename = "type")]
    pub kind: OperationKind,
    /// How the ramdisk was booted; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<BootWay>,
    /// Which try it was, counted from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: TryOutcome,
    /// Why it did not succeed: a CamelCase fact, for example `RamdiskSilent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TryOutcome {
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// Nobody wanted it any more.
    Superseded,
}

/// What the agent reported in the current or last operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The operation it works for.
    #[serde(rename = "operationID")]
    pub operation_id: String,
    /// SHA-256 of the session's secret: every replica of the boot service can check it, nobody can use it.
    pub session_digest: String,
    /// When it called home.
    pub since: Timestamp,
    /// When it was last heard of, as far as it was written down: every two minutes or so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// What it does, for example `WritingImage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Progress of the step, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
    /// How fast the step goes, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<i64>,
    /// The steps that it went through so far, oldest first; of many, the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub steps: Vec<AgentStep>,
    /// Digest of the image that it was told to write, where that is not the claimed one: the boot service unpacked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// When it began to wait for a claim, with all else done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_at: Option<Timestamp>,
    /// Why it gave up, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<AgentFailure>,
}

/// One step of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStep {
    /// CamelCase, for example `WritingImage`.
    #[schemars(length(min = 1, max = 64))]
    pub step: String,
    /// When the boot service first heard of it.
    pub since: Timestamp,
}

/// Why the agent gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentFailure {
    /// CamelCase fact, for example `ImageDigestMismatch`.
    pub reason: String,
    /// One sentence.
    pub message: String,
}
