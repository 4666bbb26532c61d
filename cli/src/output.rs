//! How an answer is shown, and how a script learns that there is none.

use clap::ValueEnum;
use serde::Serialize;

/// How an answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
    /// For scripts and people.
    Yaml,
}

impl Output {
    /// `value` in this form; `text` makes the one for people.
    pub fn of<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<String> {
        Ok(match self {
            Output::Text => text(value),
            Output::Json => serde_json::to_string_pretty(value)? + "\n",
            Output::Yaml => serde_saphyr::to_string(value)?,
        })
    }
}

/// What was asked about is not there: exit code 3. Everything else that fails has 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Absent(pub String);

/// A line without what would command a terminal: it comes from a machine that anything may run on.
pub fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
