//! How far the work is. Reports of it may be lost; the work never waits for them.

use crate::Failure;
use crate::Patience;
use crate::home::{CallError, Session};
use rackwright_protocol::report::Event;
use tokio::sync::watch;
use tokio::time::Instant;

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    step: &'static str,
    percent: u8,
    /// Bytes that the step has dealt with so far; 0 when it does not count any.
    bytes: u64,
}

/// Where the work says how far it is.
pub struct Progress {
    sender: watch::Sender<Option<Mark>>,
    /// The part of the step, in per mille of it, that [`Progress::bytes`] speaks of.
    part: (u64, u64),
    /// Bytes that earlier parts of the step dealt with.
    before: u64,
}

/// Where that is read.
pub(crate) type Marks = watch::Receiver<Option<Mark>>;

impl Progress {
    pub(crate) fn new() -> (Progress, Marks) {
        let (sender, marks) = watch::channel(None);
        (Progress { sender, part: (0, 1000), before: 0 }, marks)
    }

    /// The work is at `percent` of `step`.
    pub fn at(&self, step: &'static str, percent: u8) {
        self.mark(Mark { step, percent, bytes: 0 });
    }

    /// `step` has dealt with `done` bytes of `total` (0: not known).
    pub fn bytes(&self, step: &'static str, done: u64, total: u64) {
        let (from, to) = self.part;
        let share = (to - from).saturating_mul(done.min(total)).checked_div(total).unwrap_or(0);
        let percent = u8::try_from((from + share) / 10).unwrap_or(100).min(100);
        self.mark(Mark { step, percent, bytes: self.before.saturating_add(done) });
    }

    /// Progress of one of `parts` equal parts of a step, counted from 0, after `before` bytes of earlier ones.
    pub(crate) fn part(&self, index: usize, parts: usize, before: u64) -> Progress {
        let at = |index: usize| (index.min(parts) * 1000).checked_div(parts).unwrap_or(0) as u64;
        Progress { sender: self.sender.clone(), part: (at(index), at(index + 1)), before }
    }

    fn mark(&self, new: Mark) {
        self.sender.send_if_modified(|mark| mark.replace(new) != Some(new));
    }
}

/// How fast a step goes, from what it said before.
#[derive(Default)]
struct Rate(Option<(&'static str, u64, Instant)>);

impl Rate {
    /// Bytes per second since the last mark of the same step.
    fn of(&mut self, mark: Mark, now: Instant) -> Option<u64> {
        let last = self.0.replace((mark.step, mark.bytes, now));
        let (_, bytes, then) = last.filter(|(step, ..)| *step == mark.step)?;
        let (grown, time) = (mark.bytes.checked_sub(bytes)?, now.duration_since(then).as_secs_f64());
        (grown > 0 && time > 0.0).then(|| (grown as f64 / time) as u64)
    }
}

/// Reports progress whenever it changed and enough time has passed. Returns only when the boot service says that nobody
/// waits for the work any more.
pub(crate) async fn tell(session: &Session<'_>, mut marks: Marks, patience: &Patience) -> Failure {
    let mut rate = Rate::default();
    while marks.changed().await.is_ok() {
        let mark = *marks.borrow_and_update();
        let Some(mark) = mark else { continue };
        let bytes_per_second = rate.of(mark, Instant::now());
        let event = Event::Progress { step: mark.step.into(), percent: mark.percent, bytes_per_second };
        match session.report(event).await {
            Ok(()) => {}
            Err(CallError::Again(failure)) => tracing::debug!(%failure, "progress was not taken"),
            Err(CallError::Refused(failure) | CallError::Over(failure)) => return failure,
        }
        tokio::time::sleep(patience.progress).await;
    }
    // The work has ended; how it ended is told by others.
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_part_of_a_step_counts_from_where_the_part_before_ended() {
        let (progress, marks) = Progress::new();
        let second = progress.part(1, 4, 700);
        second.bytes("Wiping", 50, 100);
        assert_eq!(*marks.borrow(), Some(Mark { step: "Wiping", percent: 37, bytes: 750 }));
        progress.bytes("WritingImage", 5, 0);
        assert_eq!(*marks.borrow(), Some(Mark { step: "WritingImage", percent: 0, bytes: 5 }));
    }

    #[test]
    fn a_rate_is_of_one_step() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        let mark = |step, bytes| Mark { step, percent: 0, bytes };
        assert_eq!(rate.of(mark("WritingImage", 1000), now), None);
        assert_eq!(rate.of(mark("WritingImage", 5000), now + Duration::from_secs(2)), Some(2000));
        assert_eq!(rate.of(mark("ReadingBack", 9000), now + Duration::from_secs(3)), None);
    }
}
