//! The agent on a host: calls home, gets one plan, does exactly that, reports, and is done. After a plan to prepare it
//! waits for one more.
//!
//! The same code runs in the ramdisk (pid 1) and in simulated machines; [`Machine`] is what differs. It touches a disk
//! only when a plan says so that is signed with the token of this host's own media. It never starts a second attempt at
//! a plan (that is the manager's to decide) and never switches power: whoever called [`run`] powers the machine off.

#[cfg_attr(not(feature = "ramdisk"), allow(dead_code, reason = "simulated machines have no bytes to search or wipe"))]
mod config_drive;
mod digest;
pub mod disk;
mod fetch;
mod home;
mod image;
mod installer;
#[cfg(all(feature = "ramdisk", target_os = "linux"))]
pub mod linux;
mod logs;
mod machine;
mod partitions;
mod progress;
#[cfg_attr(not(feature = "ramdisk"), allow(dead_code, reason = "simulated machines have no bytes to search or wipe"))]
mod wipe;
mod work;

use digest::Digester;
use fetch::Download;
use futures::FutureExt;
use home::{Home, Session};
pub use logs::Logs;
pub use machine::{BlockDevice, Machine, MachineError};
use progress::Marks;
pub use progress::Progress;
use rackwright_protocol::facts::{ReadBack, WipedDisk};
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::{Action, Image, Plan, SignedPlan};
use rackwright_protocol::report::Event;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::Instant;
use work::{Traces, Work};

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

impl Failure {
    /// A reason and a sentence.
    pub fn new(reason: &str, message: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), message: message.into() }
    }
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
    /// Longest time without a report: then the last one is said again, so that the machine is known to be alive.
    pub sign_of_life: Duration,
    /// How long a disk that must be there may take to show itself.
    pub disks: Duration,
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
            sign_of_life: Duration::from_secs(60),
            disks: Duration::from_secs(60),
        }
    }
}

/// Does what the boot service wants of this machine. Dropping the future is a power cut: nothing goes on behind it.
pub async fn run(media: &MediaConfig, machine: &mut impl Machine) -> Outcome {
    run_with(media, machine, &Patience::default()).await
}

/// [`run`] with other timings.
pub async fn run_with(media: &MediaConfig, machine: &mut dyn Machine, patience: &Patience) -> Outcome {
    let outcome = start(media, machine, patience).await.unwrap_or_else(Outcome::NotStarted);
    tracing::info!(host = media.subject.host, operation = media.subject.operation_id, ?outcome, "the agent is done");
    outcome
}

/// Brings `image` to `disk` as a deployment does, without a boot service and without a config drive: for measuring, and
/// for disks that are files. Gives the digest of what was served, and how long writing and reading back took.
pub async fn fetch_to_disk(image: &Image, disk: &mut dyn BlockDevice) -> Result<(String, [Duration; 2]), Failure> {
    let begun = Instant::now();
    let patience = Patience::default();
    let digester = Digester::new(&image.digest)?;
    let mut download = Download::trusting(&image.url, Vec::new(), &patience)?;
    let failed = |why: MachineError| Failure::new("DiskWriteFailed", why.to_string());
    let (progress, _marks) = Progress::new();
    let extent = ReadBack::default();
    let mut ends = image::Ends::hold(Box::new(disk));
    let (digest, samples) = image::write(&mut download, image.format, digester, &mut ends, extent, &progress).await?;
    ends.finish().await.map_err(failed)?;
    let written = begun.elapsed();
    image::read_back(&mut ends, samples, &progress).await?;
    let read = begun.elapsed() - written;
    ends.commit().await.map_err(failed)?;
    Ok((digest, [begun.elapsed() - read, read]))
}

/// Opens a session and works; an error means that no plan was handed out.
async fn start(media: &MediaConfig, machine: &mut dyn Machine, patience: &Patience) -> Result<Outcome, Failure> {
    let home = Home::new(media, patience)?;
    let facts = machine.facts().await.map_err(|why| Failure::new("FactsUnreadable", why.to_string()))?;
    let macs = facts.nics.iter().map(|nic| nic.mac.to_ascii_lowercase()).collect();
    let (session, signed) = home.session(home.open_session(macs, facts.system_uuid.clone()).await?);
    let mut work = Work { media, machine, facts, patience, progress: Progress::new().0, written: None };
    let (outcome, waits) = take(&session, &signed, &mut work).await;
    if !waits || outcome != Outcome::Done {
        return Ok(outcome);
    }
    tracing::info!("prepared; waiting for a claim");
    let (session, signed) = match session.next().await {
        Ok(next) => home.next_session(next),
        Err(refused) => return Ok(Outcome::Over(refused.into_failure())),
    };
    Ok(take(&session, &signed, &mut work).await.0)
}

/// Does one plan, if it is for this machine; and whether another one comes after it.
async fn take(session: &Session<'_>, signed: &SignedPlan, work: &mut Work<'_>) -> (Outcome, bool) {
    let now = Instant::now();
    match work::accept(signed, work.media, session.operation_id(), &work.facts) {
        Ok((plan, time)) => {
            let (progress, marks) = Progress::new();
            work.progress = progress;
            (follow(session, &plan, work, marks, now + time).await, matches!(plan.action, Action::Prepare(_)))
        }
        Err(failure) => {
            logs::flush(session, &work.machine.logs()).await;
            let until = now + work.patience.session;
            (conclude(session, Err(failure), Vec::new(), until).await, false)
        }
    }
}

/// Works on the plan until it is done, given up, past `until`, or nobody wants it any more; then says so.
async fn follow(session: &Session<'_>, plan: &Plan, work: &mut Work<'_>, marks: Marks, until: Instant) -> Outcome {
    let patience = work.patience;
    let mut traces = Traces::default();
    let late = || Failure::new("DeadlinePassed", "the work was not done when the plan's deadline passed");
    let panicked = |_| Err(Failure::new("AgentPanicked", "the agent panicked; its log says where"));
    let logs = work.machine.logs();
    let ended = {
        // What the work has left half done is cleaned up below, from what it noted before it began.
        let working = AssertUnwindSafe(work.follow(&plan.action, &mut traces)).catch_unwind();
        tokio::select! {
            ended = tokio::time::timeout_at(until, working) => {
                ended.map_or_else(|_| Err(late()), |ended| ended.unwrap_or_else(panicked)).map_err(Stop::GaveUp)
            }
            unwanted = progress::tell(session, marks, patience) => Err(Stop::Unwanted(unwanted)),
            never = logs::ship(session, logs.clone(), patience) => match never {},
        }
    };
    logs::flush(session, &logs).await;
    let mut stop = match ended {
        Ok(event) => return conclude(session, Ok(event), Vec::new(), until).await,
        Err(stop) => stop,
    };
    if let Some(device) = traces.unfinished
        && let Err(why) = work.machine.make_unbootable(&device).await
    {
        let (Stop::GaveUp(failure) | Stop::Unwanted(failure)) = &mut stop;
        failure.message.push_str(&format!("; and {device} could not be made unbootable: {why}"));
    }
    match stop {
        Stop::GaveUp(failure) => conclude(session, Err(failure), traces.wiped, until).await,
        Stop::Unwanted(failure) => Outcome::Over(failure),
    }
}

/// Why work stopped before it was done.
enum Stop {
    GaveUp(Failure),
    Unwanted(Failure),
}

/// Reports the result until somebody takes it or `until` has passed. `wiped`: what a failed wipe has done.
async fn conclude(
    session: &Session<'_>,
    result: Result<Event, Failure>,
    wiped: Vec<WipedDisk>,
    until: Instant,
) -> Outcome {
    let (event, outcome) = match result {
        Ok(event) => (event, Outcome::Done),
        Err(failure) => {
            let Failure { reason, message } = failure.clone();
            (Event::Failed { reason, message, wiped }, Outcome::Failed(failure))
        }
    };
    match session.report_until(event, until).await {
        Ok(()) => outcome,
        Err(refused) => Outcome::Over(refused.into_failure()),
    }
}
