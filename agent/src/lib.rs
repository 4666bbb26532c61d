//! The agent on a host: calls home, gets one plan, does exactly that, reports, and is done.
//!
//! The same code runs in the ramdisk (pid 1) and in simulated machines; [`Machine`] is what differs. It touches a disk
//! only when a plan says so that is signed with the token of this host's own media. It never starts a second attempt at
//! a plan (that is the manager's to decide) and never switches power: whoever called [`run`] powers the machine off.

mod machine;

pub use machine::{DiskWriter, Machine, MachineError};
use rackwright_protocol::media::MediaConfig;
use std::time::Duration;

/// How it ended. The machine is to be powered off in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The plan is done and the boot service took the report.
    Done,
    /// The plan was given up and the boot service was told why.
    Failed(Failure),
    /// There was no plan to follow: refused, unreachable, or not made for this machine. Nothing was touched.
    NotStarted(Failure),
    /// Nobody wants the result any more: the operation ended, or nobody took the last report in time.
    Over(Failure),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// CamelCase fact, for example `ImageDigestMismatch`.
    pub reason: String,
    /// One sentence, without secrets.
    pub message: String,
}

/// How patient the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long one call to the boot service may take.
    pub call: Duration,
    /// Pause before the first repetition of a failed call; doubled for each further one.
    pub retry_first: Duration,
    /// Longest pause between repetitions.
    pub retry_max: Duration,
    /// How long to go on asking for a session when the boot service does not answer.
    pub session: Duration,
    /// How long an image server may send nothing before its connection counts as broken.
    pub silence: Duration,
    /// How many times in a row an image may break off without a single byte in between.
    pub resumes: u32,
    /// Shortest time between two reports of progress.
    pub progress: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            call: Duration::from_secs(20),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(15),
            session: Duration::from_secs(600),
            silence: Duration::from_secs(30),
            resumes: 8,
            progress: Duration::from_secs(5),
        }
    }
}

/// Does what the boot service wants of this machine. Dropping the future is a power cut: nothing goes on behind it.
pub async fn run(media: &MediaConfig, machine: &mut impl Machine) -> Outcome {
    run_with(media, machine, &Patience::default()).await
}

/// [`run`] with other timings.
pub async fn run_with(_media: &MediaConfig, _machine: &mut dyn Machine, _patience: &Patience) -> Outcome {
    let message = "the agent cannot open a session yet".to_string();
    Outcome::NotStarted(Failure { reason: "NoSession".into(), message })
}
