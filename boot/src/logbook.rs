//! What agents say while they work, until it is known how the work ended: lines of their log, and the steps they went
//! through. Kept in memory and bounded; a replica knows what was said to it.

use jiff::Timestamp;
use rackwright_api::host::AgentStep;
use rackwright_protocol::Subject;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most that is kept of one operation's lines, bytes; the first lines go first.
const LINES: usize = 64 * 1024;
/// Most that is kept of one line, bytes.
const LINE: usize = 1024;
/// How many operations are remembered.
const OPERATIONS: usize = 512;
/// Longest list of steps.
const STEPS: usize = 12;

/// Logs and steps of the operations that are under way.
#[derive(Default)]
pub struct Logbook {
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    clock: u64,
    by_operation: HashMap<String, Page>,
}

#[derive(Default)]
struct Page {
    host_uid: String,
    touched: u64,
    lines: VecDeque<String>,
    bytes: usize,
    dropped: usize,
    steps: Vec<AgentStep>,
}

impl Logbook {
    /// Keeps `lines` of the agent of `subject`.
    pub fn append(&self, subject: &Subject, lines: &[String]) {
        let mut pages = self.lock();
        let page = pages.page(subject);
        for line in lines {
            let mut line: String = line.chars().filter(|letter| !letter.is_control() || *letter == '\t').collect();
            line.truncate(line.floor_char_boundary(LINE));
            page.bytes += line.len() + 1;
            page.lines.push_back(line);
            while page.bytes > LINES
                && let Some(first) = page.lines.pop_front()
            {
                page.bytes -= first.len() + 1;
                page.dropped += 1;
            }
        }
    }

    /// The steps of the agent of `subject` when it is at `step` now: those in its status, and those that were not
    /// written there because they came too fast.
    pub fn steps(
        &self,
        subject: &Subject,
        written: &[AgentStep],
        step: Option<&str>,
        now: Timestamp,
    ) -> Vec<AgentStep> {
        let mut pages = self.lock();
        let page = pages.page(subject);
        for known in written {
            if !page.steps.contains(known) {
                page.steps.push(known.clone());
            }
        }
        page.steps.sort_by_key(|step| step.since);
        page.steps.dedup_by(|later, earlier| later.step == earlier.step);
        if let Some(step) = step
            && page.steps.last().is_none_or(|last| last.step != step)
        {
            page.steps.push(AgentStep { step: step.into(), since: now });
        }
        let excess = page.steps.len().saturating_sub(STEPS);
        page.steps.drain(..excess);
        page.steps.clone()
    }

    /// The lines of an operation, which is over: they are not kept any longer. `None` when there are none.
    pub fn close(&self, operation: &str) -> Option<String> {
        self.lock().by_operation.remove(operation)?.text()
    }

    /// Closes an earlier operation of the host of `subject`, one that nobody told the end of: its identifier and lines.
    pub fn close_earlier(&self, subject: &Subject) -> Option<(String, String)> {
        let mut pages = self.lock();
        let earlier = |(id, page): &(&String, &Page)| page.host_uid == subject.host_uid && **id != subject.operation_id;
        let id = pages.by_operation.iter().find(earlier).map(|(id, _)| id.clone())?;
        let text = pages.by_operation.remove(&id)?.text()?;
        Some((id, text))
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn page(&mut self, subject: &Subject) -> &mut Page {
        self.clock += 1;
        if self.by_operation.len() >= OPERATIONS && !self.by_operation.contains_key(&subject.operation_id) {
            let oldest = self.by_operation.iter().min_by_key(|(_, page)| page.touched).map(|(id, _)| id.clone());
            oldest.map(|id| self.by_operation.remove(&id));
        }
        let page = self.by_operation.entry(subject.operation_id.clone()).or_default();
        page.host_uid.clone_from(&subject.host_uid);
        page.touched = self.clock;
        page
    }
}

impl Page {
    fn text(self) -> Option<String> {
        if self.lines.is_empty() {
            return None;
        }
        let mut text = String::with_capacity(self.bytes + 64);
        if self.dropped > 0 {
            text.push_str(&format!("({} earlier lines are not kept)\n", self.dropped));
        }
        for line in self.lines {
            text.push_str(&line);
            text.push('\n');
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject(host: &str, operation: &str) -> Subject {
        Subject {
            namespace: "metal".into(),
            host: host.into(),
            host_uid: format!("uid-{host}"),
            operation_id: operation.into(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn lines_come_back_once_in_order() {
        let book = Logbook::default();
        book.append(&subject("a", "op"), &["one".into(), "two\n\u{1b}[31mred".into()]);
        book.append(&subject("a", "op"), &["three".into()]);
        assert_eq!(book.close("op").as_deref(), Some("one\ntwo[31mred\nthree\n"));
        assert_eq!(book.close("op"), None);
    }

    #[test]
    fn an_operation_that_never_ended_is_found_by_its_host() {
        let book = Logbook::default();
        book.append(&subject("a", "op-1"), &["lost".into()]);
        book.append(&subject("b", "op-9"), &["another host".into()]);
        let found = book.close_earlier(&subject("a", "op-2"));
        assert_eq!(found, Some(("op-1".into(), "lost\n".into())));
        assert_eq!(book.close_earlier(&subject("a", "op-2")), None);
        assert_eq!(book.close_earlier(&subject("b", "op-9")), None, "its own is no earlier one");
    }

    #[test]
    fn steps_are_kept_in_order_with_their_first_time_and_the_last_twelve_of_them() {
        let book = Logbook::default();
        let subject = subject("a", "op");
        book.steps(&subject, &[], Some("Starting"), at(1));
        book.steps(&subject, &[], Some("Starting"), at(2));
        let steps = book.steps(&subject, &[], Some("WritingImage"), at(3));
        let told: Vec<_> = steps.iter().map(|step| (step.step.as_str(), step.since.as_second())).collect();
        assert_eq!(told, [("Starting", 1), ("WritingImage", 3)]);
        let replica = Logbook::default();
        let steps = replica.steps(&subject, &steps, Some("Done"), at(4));
        assert_eq!(steps.len(), 3, "another replica goes on from what is written");
        for step in 0..30 {
            let steps = book.steps(&subject, &[], Some(&format!("Step{step}")), at(10 + step));
            assert!(steps.len() <= STEPS);
            assert_eq!(steps.last().map(|last| last.since), Some(at(10 + step)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn whatever_is_said_no_more_than_the_bound_is_kept(
            lines in proptest::collection::vec("[aä\u{1b}\n]{0,1500}", 0..20),
            repeats in 1_usize..12,
        ) {
            let book = Logbook::default();
            for _ in 0..repeats {
                book.append(&subject("a", "op"), &lines);
            }
            let text = book.close("op").unwrap_or_default();
            prop_assert!(text.len() <= LINES + 64, "{}", text.len());
        }
    }
}
