//! Conditions: how an object says what is well, what is not, and what it waits for.
//!
//! The same situation always gives the same text; a time changes only when the status of the condition flips
//! (Kubernetes API conventions, "Typical status properties").

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What one condition says at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Type, for example `Ready`.
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: Truth,
    /// CamelCase fact, for example `BMCPasswordRefused`.
    pub reason: String,
    /// One sentence for a person.
    pub message: String,
}

/// Three-valued truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The condition holds.
    True,
    /// It does not.
    False,
    /// We cannot tell.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

impl Said {
    /// `kind` holds.
    pub fn yes(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Said {
        Said { kind, status: Truth::True, reason: reason.into(), message: message.into() }
    }

    /// `kind` does not hold.
    pub fn no(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Said {
        Said { kind, status: Truth::False, reason: reason.into(), message: message.into() }
    }

    /// It cannot be told whether `kind` holds.
    pub fn unknown(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Said {
        Said { kind, status: Truth::Unknown, reason: reason.into(), message: message.into() }
    }
}

/// `said` as conditions, keeping the transition times of `before` where the status did not flip.
/// Conditions in `before` that nobody says any more are dropped.
pub fn merge(before: &[Condition], said: &[Said], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    said.iter()
        .map(|said| {
            let old = before.iter().find(|condition| condition.type_ == said.kind);
            let since =
                old.filter(|old| old.status == said.status.as_str()).map(|old| old.last_transition_time.clone());
            Condition {
                type_: said.kind.into(),
                status: said.status.as_str().into(),
                reason: said.reason.clone(),
                message: said.message.clone(),
                last_transition_time: since.unwrap_or_else(|| now.clone()),
                observed_generation: generation,
            }
        })
        .collect()
}

/// The condition of type `kind`, if there.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// True when the condition of type `kind` is there and `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        let first = merge(&[], &[Said::no("Ready", "Inspecting", "one")], Some(1), at(100));
        let same = merge(&first, &[Said::no("Ready", "Provisioning", "two")], Some(2), at(200));
        assert_eq!(same[0].last_transition_time, Time(at(100)));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("Provisioning", Some(2)));
        let flipped = merge(&same, &[Said::yes("Ready", "Provisioned", "")], Some(2), at(300));
        assert_eq!(flipped[0].last_transition_time, Time(at(300)));
    }
}
