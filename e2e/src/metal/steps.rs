//! What a story took, step by step, and whose time each step is.

use std::fmt;
use std::time::{Duration, Instant};

/// Whose time a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Firmware, loader, a kernel's own start.
    Boot,
    /// Bytes of the image on their way through network, unpacking and disk.
    Transfer,
    /// The written system: its init, cloud-init, the container runtime, the kubelet.
    System,
    /// A BMC that does what it was told.
    Bmc,
    /// Everything else.
    Ours,
}

/// The steps of one story, in order.
#[derive(Clone, Debug)]
pub struct Steps {
    begun: Instant,
    last: Instant,
    rows: Vec<(String, Duration, Whose)>,
}

impl Default for Steps {
    fn default() -> Self {
        Steps { begun: Instant::now(), last: Instant::now(), rows: Vec::new() }
    }
}

impl Steps {
    /// A step has ended now. Gives how long it took.
    pub fn step(&mut self, what: impl Into<String>, whose: Whose) -> Duration {
        self.step_at(what, whose, Instant::now())
    }

    /// A step has ended at `at`; one that ended before its forerunner took no time.
    pub fn step_at(&mut self, what: impl Into<String>, whose: Whose, at: Instant) -> Duration {
        let took = at.saturating_duration_since(self.last);
        self.last = self.last.max(at);
        self.rows.push((what.into(), took, whose));
        took
    }

    /// From the beginning to the last step.
    pub fn total(&self) -> Duration {
        self.last - self.begun
    }

    /// What is ours of it.
    pub fn ours(&self) -> Duration {
        self.rows.iter().filter(|(.., whose)| *whose == Whose::Ours).map(|(_, took, _)| *took).sum()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = Duration::ZERO;
        for (what, took, whose) in &self.rows {
            at += *took;
            writeln!(f, "{:>7.1} s  +{:>5.1}  {whose:<9} {what}", at.as_secs_f64(), took.as_secs_f64())?;
        }
        let (ours, total) = (self.ours().as_secs_f64(), self.total().as_secs_f64());
        write!(f, "{total:>7.1} s in all; ours: {ours:.1} s, {:.0} %", 100.0 * ours / total.max(0.001))
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Whose::Boot => "boot",
            Whose::Transfer => "transfer",
            Whose::System => "system",
            Whose::Bmc => "BMC",
            Whose::Ours => "ours",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_told_beside_the_whole() {
        let mut steps = Steps::default();
        let begun = steps.begun;
        let at = |seconds| begun + Duration::from_secs(seconds);
        steps.step_at("ramdisk runs", Whose::Boot, at(6));
        steps.step_at("session", Whose::Ours, at(7));
        steps.step_at("seen late", Whose::Ours, at(5));
        steps.step_at("image written", Whose::Transfer, at(20));
        assert_eq!((steps.total(), steps.ours()), (Duration::from_secs(20), Duration::from_secs(1)));
        let text = steps.to_string();
        assert!(text.contains("   7.0 s  +  1.0  ours      session"), "{text}");
        assert!(text.ends_with("20.0 s in all; ours: 1.0 s, 5 %"), "{text}");
    }
}
