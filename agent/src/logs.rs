//! Lines of a log on their way to the boot service: bounded, oldest lost first. Whoever writes them keeps secrets out.
//!
//! They go along with the work and are never waited for, but for a few seconds before the last report: a result is worth
//! more than the lines that led to it.

use crate::Patience;
use crate::home::{CallError, Session};
use rackwright_protocol::report::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// What is kept, bytes.
const KEPT: usize = 128 * 1024;
/// Longest line, bytes.
const LINE: usize = 1000;
/// What goes with one report: lines, and bytes.
const BATCH: (usize, usize) = (200, 32 * 1024);
/// How long the last lines may take before the last report.
const LAST: Duration = Duration::from_secs(3);

/// Where lines wait. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Number of the first line, counted from the first there ever was.
    first: u64,
    /// Lines that were dropped since the last report.
    lost: usize,
}

impl Queue {
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.lines.pop_front() else { return false };
        self.bytes -= oldest.len();
        self.first += 1;
        true
    }
}

impl Logs {
    /// Adds a line, `[   12.345] text`. Cuts what is too long; drops the oldest lines when there are too many.
    pub fn push(&self, mut line: String) {
        if line.len() > LINE {
            line.truncate(line.floor_char_boundary(LINE));
            line.push('…');
        }
        let mut queue = self.queue();
        queue.bytes += line.len();
        queue.lines.push_back(line);
        while queue.bytes > KEPT && queue.drop_oldest() {
            queue.lost += 1;
        }
        drop(queue);
        self.0.more.notify_one();
    }

    /// The oldest lines, as many as go with one report, and the number of the line behind them. They stay until
    /// [`Logs::sent`]: a report that is broken off must not take its lines with it.
    fn batch(&self) -> (Vec<String>, u64) {
        let queue = self.queue();
        let lost = (queue.lost > 0).then(|| format!("({} earlier lines are lost)", queue.lost));
        let (mut bytes, mut count) = (0, 0);
        let fitting = queue.lines.iter().take_while(|line| {
            let fits = count < BATCH.0 && bytes < BATCH.1;
            (bytes, count) = (bytes + line.len(), count + 1);
            fits
        });
        let lines: Vec<String> = fitting.cloned().collect();
        let end = queue.first + lines.len() as u64;
        (lost.into_iter().chain(lines).collect(), end)
    }

    /// Lines before `end` have arrived.
    fn sent(&self, end: u64) {
        let mut queue = self.queue();
        queue.lost = 0;
        while queue.first < end && queue.drop_oldest() {}
    }

    #[cfg(test)]
    pub(crate) fn drain(&self) -> Vec<String> {
        let (lines, end) = self.batch();
        self.sent(end);
        lines
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends lines for as long as there is work. Never returns.
pub(crate) async fn ship(session: &Session<'_>, logs: Option<Logs>, patience: &Patience) -> std::convert::Infallible {
    if let Some(logs) = logs {
        loop {
            let (lines, end) = logs.batch();
            if lines.is_empty() {
                logs.0.more.notified().await;
                continue;
            }
            match session.report(Event::Log { lines }).await {
                Ok(()) => logs.sent(end),
                Err(CallError::Again(_)) => {}
                // Whether the work is still wanted is found out by others; its log is not.
                Err(CallError::Refused(_) | CallError::Over(_)) => break,
            }
            sleep(patience.progress).await;
        }
    }
    std::future::pending().await
}

/// Sends what is left, if that is quickly done.
pub(crate) async fn flush(session: &Session<'_>, logs: &Option<Logs>) {
    let Some(logs) = logs else { return };
    let rest = async {
        loop {
            let (lines, end) = logs.batch();
            if lines.is_empty() || session.report(Event::Log { lines }).await.is_err() {
                return;
            }
            logs.sent(end);
        }
    };
    let _ = timeout(LAST, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_order_and_in_batches() {
        let logs = Logs::default();
        (0..250).for_each(|number| logs.push(number.to_string()));
        let first = logs.drain();
        assert_eq!((first.len(), first[0].as_str(), first[199].as_str()), (200, "0", "199"));
        assert_eq!(logs.drain().len(), 50);
        assert!(logs.drain().is_empty());
        assert_eq!(logs.queue().bytes, 0);
    }

    #[test]
    fn the_oldest_lines_are_lost_and_that_is_said() {
        let logs = Logs::default();
        (0..200).for_each(|number| logs.push(format!("{number:0>900}")));
        let first = logs.drain();
        let lost: usize =
            first[0].trim_start_matches('(').split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        assert_eq!(first[0], format!("({lost} earlier lines are lost)"));
        assert_eq!(first[1], format!("{lost:0>900}"));
        assert!(logs.queue().bytes <= KEPT);
    }

    #[test]
    fn lines_of_a_report_that_broke_off_go_with_the_next() {
        let logs = Logs::default();
        logs.push("one".into());
        let (lines, end) = logs.batch();
        logs.push("two".into());
        assert_eq!((lines, logs.batch().0), (vec!["one".to_owned()], vec!["one".to_owned(), "two".to_owned()]));
        logs.sent(end);
        assert_eq!(logs.batch().0, ["two"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let logs = Logs::default();
        logs.push("ä".repeat(LINE));
        assert_eq!(logs.drain(), [format!("{}…", "ä".repeat(LINE / 2))]);
    }
}
