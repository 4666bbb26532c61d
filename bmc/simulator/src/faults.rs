//! Ways in which a simulated machine or its BMC misbehaves, switched on and off at run time.
//!
//! A fault says what is wrong, never for how long: whoever broke it heals it. Faults of the machine (power supply, POST,
//! agent) act inside the model; faults of the BMC act on what it answers. Nothing here keeps time or draws chance, so a
//! run with the same faults at the same moments goes the same way.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One thing that is wrong with one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// The power supply is dead: the machine is off at once and stays off. Healed, it can be switched on again.
    PowerSupplyDead {
        /// True: the BMC refuses "On". False: it says yes, and nothing happens.
        #[serde(default)]
        refuses: bool,
    },
    /// Every start ends in POST. A machine that hangs there goes on hanging after the fault is healed, until it is reset.
    HangsInPost,
    /// The BMC cannot be reached.
    Unreachable {
        /// How that looks on the wire.
        #[serde(default)]
        how: Silence,
    },
    /// The BMC goes on showing the power that it showed when the fault began.
    LiesAboutPower,
    /// The BMC shows no power state at all (`PowerState: null`).
    UnknownPower,
    /// Nobody's user name and password are right any more, and no session holds.
    WrongPassword,
    /// Every answer is late by this much. The order itself is carried out at once.
    Slow {
        /// How much.
        #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
        delay: Duration,
    },
    /// The BMC says yes to a boot override and forgets it.
    DropsBootOverride,
    /// The BMC answers 503.
    Unavailable {
        /// To so many requests; `None`: until healed.
        #[serde(default)]
        requests: Option<u32>,
    },
    /// The ramdisk's kernel panics as soon as a disk is being written: half an image, no report, power stays on.
    AgentDies,
    /// The virtual CD drive cannot read its image: the firmware goes on to the disk.
    MediaUnreadable,
    /// The BMC empties its drive too soon.
    EjectsEarly {
        /// True: as soon as the firmware has read the media, which is enough for a ramdisk. False: at power-on.
        #[serde(default)]
        once_read: bool,
    },
    /// The BMC refuses to empty its drive while the machine is on.
    HoldsMediaWhileOn,
    /// The firmware boots its disk whatever the BMC was told, and the BMC shows the override as used.
    IgnoresBootOverride,
    /// A system that the ramdisk has loaded does not start: the ramdisk switches the machine off instead.
    KexecFails,
    /// The BMC shows the UUID of another machine.
    WrongUuid,
}

/// How an unreachable BMC looks on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// Connections are taken and nothing ever comes back: the caller's own deadline has to end it.
    #[default]
    Silent,
    /// Connections are reset at once.
    Resets,
}

/// What is wrong with one machine now; at most one fault of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `fault` holds from now on, instead of an earlier one of its kind.
    pub fn add(&mut self, fault: Fault) {
        self.remove(fault);
        self.0.push(fault);
    }

    /// No fault of the kind of `fault` holds any more, whatever its parameters.
    pub fn remove(&mut self, fault: Fault) {
        let kind = std::mem::discriminant(&fault);
        self.0.retain(|held| std::mem::discriminant(held) != kind);
    }

    /// True when exactly this fault holds.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Everything that is wrong.
    pub fn iter(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }

    /// True: the power supply is dead and "On" is refused. False: dead, and "On" is swallowed. `None`: alive.
    pub fn dead_supply_refuses(&self) -> Option<bool> {
        self.iter().find_map(|fault| match fault {
            Fault::PowerSupplyDead { refuses } => Some(refuses),
            _ => None,
        })
    }

    /// How the BMC is unreachable, if it is.
    pub fn silence(&self) -> Option<Silence> {
        self.iter().find_map(|fault| match fault {
            Fault::Unreachable { how } => Some(how),
            _ => None,
        })
    }

    /// By how much answers are late.
    pub fn delay(&self) -> Duration {
        let delay = self.iter().find_map(|fault| match fault {
            Fault::Slow { delay } => Some(delay),
            _ => None,
        });
        delay.unwrap_or_default()
    }

    /// True when this request is to be answered 503. Counts it: a fault for a number of requests ends by itself.
    pub fn take_unavailable(&mut self) -> bool {
        let Some(at) = self.0.iter().position(|fault| matches!(fault, Fault::Unavailable { .. })) else {
            return false;
        };
        match &mut self.0[at] {
            Fault::Unavailable { requests: Some(left) } if *left <= 1 => {
                let answers = *left == 1;
                self.0.remove(at);
                answers
            }
            Fault::Unavailable { requests: Some(left) } => {
                *left -= 1;
                true
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_replaces_the_one_of_its_kind_and_is_healed_whatever_its_parameters() {
        let mut faults = Faults::default();
        faults.add(Fault::PowerSupplyDead { refuses: true });
        faults.add(Fault::PowerSupplyDead { refuses: false });
        assert_eq!(faults.iter().count(), 1);
        faults.remove(Fault::PowerSupplyDead { refuses: true });
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn an_unavailability_of_two_requests_ends_after_two() {
        let mut faults = Faults::default();
        faults.add(Fault::Unavailable { requests: Some(2) });
        let answers: Vec<bool> = (0..4).map(|_| faults.take_unavailable()).collect();
        assert_eq!(answers, [true, true, false, false]);
    }

    #[test]
    fn a_fault_reads_from_its_name_alone() {
        let fault: Fault = serde_json::from_str(r#"{"kind": "power-supply-dead"}"#).expect("reads");
        assert_eq!(fault, Fault::PowerSupplyDead { refuses: false });
        let slow: Fault = serde_json::from_str(r#"{"kind": "slow", "delay": "1500ms"}"#).expect("reads");
        assert_eq!(slow, Fault::Slow { delay: Duration::from_millis(1500) });
    }
}
