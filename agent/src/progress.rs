//! How far the work is. Reports of it may be lost; the work never waits for them.

use crate::Failure;
use crate::Patience;
use crate::home::{CallError, Session};
use rackwright_protocol::report::Event;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

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
    /// The parts of a step that are done at the same time, and which of them this one speaks of.
    part: Option<(Arc<Parts>, usize)>,
}

/// Parts of one step.
struct Parts {
    /// Bytes of all parts.
    total: u64,
    /// Bytes that each has dealt with.
    done: Mutex<Vec<u64>>,
}

impl Parts {
    /// Bytes of all parts, now that one has dealt with `done`.
    fn sum(&self, part: usize, done: u64) -> u64 {
        let mut all = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(part) {
            *own = done;
        }
        all.iter().copied().fold(0, u64::saturating_add)
    }
}

/// Where that is read.
pub(crate) type Marks = watch::Receiver<Option<Mark>>;

impl Progress {
    pub(crate) fn new() -> (Progress, Marks) {
        let (sender, marks) = watch::channel(None);
        (Progress { sender, part: None }, marks)
    }

    /// The work is at `percent` of `step`.
    pub fn at(&self, step: &'static str, percent: u8) {
        self.mark(Mark { step, percent, bytes: 0 });
    }

    /// `step` has dealt with `done` bytes of `total` (0: not known).
    pub fn bytes(&self, step: &'static str, done: u64, total: u64) {
        let (bytes, total) = match &self.part {
            Some((parts, index)) => (parts.sum(*index, done), parts.total),
            None => (done, total),
        };
        let percent = (u128::from(bytes) * 100).checked_div(u128::from(total)).unwrap_or(0);
        self.mark(Mark { step, percent: u8::try_from(percent.min(100)).unwrap_or(100), bytes });
    }

    /// Progress of each of the parts of a step that are done at the same time, of so many bytes each.
    pub(crate) fn parts(&self, sizes: &[u64]) -> Vec<Progress> {
        let total = sizes.iter().copied().fold(0, u64::saturating_add);
        let parts = Arc::new(Parts { total, done: Mutex::new(vec![0; sizes.len()]) });
        let part = |index| Progress { sender: self.sender.clone(), part: Some((parts.clone(), index)) };
        (0..sizes.len()).map(part).collect()
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

/// Reports progress whenever it changed and enough time has passed, and once in a while though it did not, so that the
/// machine is known to be alive. Returns only when the boot service says that nobody waits for the work any more.
pub(crate) async fn tell(session: &Session<'_>, mut marks: Marks, patience: &Patience) -> Failure {
    let mut rate = Rate::default();
    loop {
        match timeout(patience.sign_of_life, marks.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            // The work has ended; how it ended is told by others.
            Ok(Err(_)) => std::future::pending().await,
        }
        let mark = *marks.borrow_and_update();
        let Some(mark) = mark else { continue };
        let bytes_per_second = rate.of(mark, Instant::now());
        let event = Event::Progress { step: mark.step.into(), percent: mark.percent, bytes_per_second };
        match session.report(event).await {
            Ok(()) => {}
            Err(CallError::Again(failure)) => tracing::debug!(%failure, "progress was not taken"),
            Err(CallError::Refused(failure) | CallError::Over(failure)) => return failure,
        }
        sleep(patience.progress).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn parts_that_are_done_at_the_same_time_are_told_as_one() {
        let (progress, marks) = Progress::new();
        let parts = progress.parts(&[300, 100]);
        parts[0].bytes("Wiping", 150, 300);
        assert_eq!(*marks.borrow(), Some(Mark { step: "Wiping", percent: 37, bytes: 150 }));
        parts[1].bytes("Wiping", 100, 100);
        assert_eq!(*marks.borrow(), Some(Mark { step: "Wiping", percent: 62, bytes: 250 }));
        parts[0].bytes("Wiping", 300, 300);
        assert_eq!(*marks.borrow(), Some(Mark { step: "Wiping", percent: 100, bytes: 400 }));
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
