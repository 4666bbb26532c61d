//! Says what the bed does while it does it: one line per step, with the time since the start.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where steps are said, and since when time is counted. Clones share both.
#[derive(Clone)]
pub struct Narrator {
    begun: Instant,
    say: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Narrator {
    /// Calls `say` with each finished line.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Narrator {
        Narrator { begun: Instant::now(), say: Arc::new(say) }
    }

    /// Writes to standard output; inside a test that is shown when the test fails.
    #[expect(clippy::print_stdout, reason = "this is where steps of tests and of the demo come out")]
    pub fn stdout() -> Narrator {
        Narrator::new(|line| println!("{line}"))
    }

    /// Says one step.
    pub fn step(&self, text: impl AsRef<str>) {
        (self.say)(&format!("[{}] {}", clock(self.begun.elapsed()), text.as_ref()));
    }

    /// Says something that belongs to the step before.
    pub fn more(&self, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            (self.say)(format!("        {line}").trim_end());
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:>2}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_seconds_line_up() {
        assert_eq!(clock(Duration::from_secs(4)), " 0:04");
        assert_eq!(clock(Duration::from_secs(125)), " 2:05");
        assert_eq!(clock(Duration::from_secs(3600)), "60:00");
    }
}
