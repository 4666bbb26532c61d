//! The timeline as text: a line an entry, with its time (UTC), how long it took, and a mark. Pure.

use super::{Entry, Source, State, Timeline};
use crate::output::printable;
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;

/// The text, at `now`.
pub fn draw(timeline: &Timeline, now: Timestamp) -> String {
    let mut text = format!("{} {}: {}", timeline.kind, timeline.name, timeline.now);
    if timeline.kind == "machine" {
        let host = timeline.host.as_ref().map_or_else(|| ", no host yet".into(), |host| format!(", on host {host}"));
        text += &host;
    }
    text.push('\n');
    let lengths: Vec<_> = timeline.entries.iter().map(|entry| length(entry, now)).collect();
    let width = lengths.iter().map(|length| length.chars().count()).max().unwrap_or_default();
    let mut day = String::new();
    for (entry, length) in timeline.entries.iter().zip(&lengths) {
        let date = entry.at.strftime("%Y-%m-%d").to_string();
        if date != day {
            let _ = writeln!(text, "{date} (UTC)");
            day = date;
        }
        let indent = if entry.source == Source::Agent { "  " } else { "" };
        let time = entry.at.strftime("%H:%M:%S");
        let _ = writeln!(text, "  {time}  {length:>width$}  {} {indent}{}", mark(entry.state), printable(&entry.what));
    }
    match &timeline.waiting_for {
        Some(what) => {
            let _ = writeln!(text, "waits for: {}", printable(what));
        }
        None => text.push_str("waits for nothing\n"),
    }
    text
}

fn mark(state: State) -> char {
    match state {
        State::Done => ' ',
        State::Running => '>',
        State::Failed => '!',
    }
}

fn length(entry: &Entry, now: Timestamp) -> String {
    match (entry.ended_at, entry.state) {
        (Some(ended), _) => span(ended.duration_since(entry.at)),
        (None, State::Running) => span(now.duration_since(entry.at)) + "…",
        (None, _) => String::new(),
    }
}

/// A length of time in its two largest units.
pub fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Bytes a second in a unit of the right size.
pub fn rate(bytes: i64) -> String {
    let bytes = bytes.max(0);
    let tenths = |unit: i64, name: &str| {
        let tenths = bytes / (unit / 10);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match bytes {
        1_000_000_000.. => tenths(1_000_000_000, "GB/s"),
        1_000_000.. => tenths(1_000_000, "MB/s"),
        1_000.. => tenths(1_000, "kB/s"),
        _ => format!("{bytes} B/s"),
    }
}
