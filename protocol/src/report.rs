//! What the agent says: who it is, how far it is, how it ended.

use crate::Subject;
use crate::facts::{Facts, FinalBoot, WipedDisk};
use crate::plan::SignedPlan;
use serde::{Deserialize, Serialize};

/// Opens a session: POST `/v1/session`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequest {
    /// Host and operation, from the media.
    #[serde(flatten)]
    pub subject: Subject,
    /// One-time token, from the media.
    pub token: String,
    /// MAC addresses of the machine that the agent really runs on, lower case.
    pub macs: Vec<String>,
    /// SMBIOS system UUID of that machine, lower case.
    #[serde(default, rename = "systemUUID", skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
}

/// A session: secret for reports, and what to do.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionResponse {
    /// Bearer token of the reports.
    pub session: String,
    /// What to do.
    pub plan: SignedPlan,
}

/// An agent that is done with a plan to prepare asks for what comes next: POST `/v1/next` with the session as bearer token.
/// The answer may take [`crate::NEXT_PAUSE`]; 204 means "nothing yet, ask again".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextRequest {
    /// Host and operation, from the media.
    #[serde(flatten)]
    pub subject: Subject,
}

/// The next operation: with a session of its own, and a plan that is signed with the token of the media, which is all
/// that this agent can check.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextResponse {
    /// The operation that the plan belongs to.
    #[serde(rename = "nextOperationID")]
    pub operation_id: String,
    /// Bearer token of its reports.
    pub session: String,
    /// What to do.
    pub plan: SignedPlan,
}

/// One report: POST `/v1/report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Host and operation, from the media.
    #[serde(flatten)]
    pub subject: Subject,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Event {
    /// How far a step is. May be lost.
    Progress {
        /// CamelCase, for example `WritingImage`.
        step: String,
        /// 0 to 100.
        percent: u8,
        /// How fast it goes, bytes a second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes_per_second: Option<u64>,
    },
    /// Lines of the agent's log and of the kernel's, oldest first, without secrets. May be lost.
    Log {
        /// Each with its time: seconds since the kernel started, as in `[   12.345] text`.
        lines: Vec<String>,
    },
    /// The plan was Inspect; it is done.
    Inspected {
        /// What was found.
        facts: Facts,
    },
    /// The plan was Deploy; it is done.
    Deployed {
        /// The disk, for example `/dev/nvme0n1`.
        device: String,
        /// Digest of the bytes that were fetched and written.
        digest: String,
        /// How it goes on: the agent switches the machine off, or starts the written system itself.
        #[serde(default)]
        final_boot: FinalBoot,
    },
    /// The plan was Prepare; it is done, and the agent waits.
    Prepared {
        /// Digest of the bytes that were fetched and written; absent when there was no image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// The plan was Install; the installer is about to be started. Its own report comes from elsewhere.
    InstallerStarting,
    /// The plan was Wipe; it is done.
    Wiped {
        /// Per disk: what was done.
        disks: Vec<WipedDisk>,
    },
    /// The plan was given up. Nothing more is done.
    Failed {
        /// CamelCase fact, for example `ImageDigestMismatch`.
        reason: String,
        /// One sentence, without secrets.
        message: String,
        /// When the plan was Wipe: the disks that were wiped before one could not be.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        wiped: Vec<WipedDisk>,
    },
}

/// Body of every answer that is not 2xx. The HTTP status says what the agent does next: it repeats the call after 408,
/// 429 and 5xx; after 409 and 410 to a report nobody waits for its work any more; anything else is final, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// CamelCase fact, for example `TokenUsed`.
    pub reason: String,
    /// One sentence.
    pub message: String,
}
