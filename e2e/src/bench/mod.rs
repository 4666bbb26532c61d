//! Benchmarks on the bed: what a fleet costs while nothing happens, and what a machine costs until it runs.
//!
//! A figure that is a count (writes, lists) does not depend on the computer and is held against its target; time and
//! memory are told beside theirs.

pub mod audit;
pub mod idle;
pub mod scale;
pub mod usage;

use std::fmt;

/// The figures of one benchmark.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    what: String,
    found: String,
    target: String,
    missed: bool,
}

impl Report {
    /// A figure without a target.
    pub fn tell(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.row(what.into(), found.into(), String::new(), false);
    }

    /// A figure that depends on the computer, beside its target.
    pub fn compare(&mut self, what: impl Into<String>, found: impl Into<String>, target: impl Into<String>) {
        self.row(what.into(), found.into(), target.into(), false);
    }

    /// A figure that must reach its target.
    pub fn hold(
        &mut self,
        what: impl Into<String>,
        found: impl Into<String>,
        target: impl Into<String>,
        reached: bool,
    ) {
        self.row(what.into(), found.into(), target.into(), !reached);
    }

    /// Whether a figure that must reach its target did not.
    pub fn missed(&self) -> bool {
        self.rows.iter().any(|row| row.missed)
    }

    fn row(&mut self, what: String, found: String, target: String, missed: bool) {
        self.rows.push(Row { what, found, target, missed });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |pick: fn(&Row) -> &str, least: usize| {
            self.rows.iter().map(|row| pick(row).chars().count()).max().unwrap_or(0).max(least)
        };
        let (what, found) = (width(|row| &row.what, 0), width(|row| &row.found, "found".len()));
        writeln!(f, "{:<what$}  {:>found$}  target", "", "found")?;
        for row in &self.rows {
            let missed = if row.missed { "  MISSED" } else { "" };
            let line = format!("{:<what$}  {:>found$}  {}{missed}", row.what, row.found, row.target);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_figure_that_is_held_against_its_target_can_miss_it() {
        let mut report = Report::default();
        report.compare("memory", "99 MiB", "< 60 MiB");
        assert!(!report.missed());
        report.hold("writes", "3", "0", false);
        assert!(report.missed());
    }

    #[test]
    fn columns_line_up() {
        let mut report = Report::default();
        report.tell("CPU", "1.5 s");
        report.hold("API writes", "12", "0", false);
        let text = report.to_string();
        assert_eq!(text, "            found  target\nCPU         1.5 s\nAPI writes     12  0  MISSED\n");
    }
}
