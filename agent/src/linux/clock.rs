//! The machine's clock, where it is so wrong that nobody's certificate is valid yet or any more: an empty battery, a new board.
//!
//! Decides whether the clock can be right; sets it to the time on the media, which is minutes old, and never to anything else.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::process::Command;

/// A ramdisk is started within minutes of its operation's beginning; time zones and slow clocks make hours.
const WRONG: SignedDuration = SignedDuration::from_hours(24);

/// Sets the clock when it cannot be right, the one that runs without power, too: the system to come needs it as well.
pub fn mend(began_at: Option<Timestamp>) {
    let Some(right) = began_at.filter(|began_at| is_wrong(Timestamp::now(), *began_at)) else { return };
    tracing::warn!("this machine's clock stands at {}; it is set to {right}. Look at its battery", Timestamp::now());
    let time = Timespec { tv_sec: right.as_second(), tv_nsec: 0 };
    if let Err(why) = clock_settime(ClockId::Realtime, time) {
        tracing::error!("the clock cannot be set: {why}");
        return;
    }
    match Command::new("/bin/busybox").args(["hwclock", "-w", "-u"]).status() {
        Ok(status) if status.success() => {}
        other => tracing::warn!("the clock that runs without power cannot be set: {other:?}"),
    }
}

fn is_wrong(now: Timestamp, began_at: Timestamp) -> bool {
    now.duration_since(began_at).abs() > WRONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_when_it_is_more_than_a_day_from_when_the_operation_began() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let began_at = at("2026-06-15T12:00:00Z");
        for (now, wrong) in [
            ("2026-06-15T12:03:00Z", false),
            ("2026-06-15T22:03:00Z", false),
            ("2026-06-14T23:00:00Z", false),
            ("2000-01-01T00:00:00Z", true),
            ("2099-12-31T23:59:59Z", true),
        ] {
            assert_eq!(is_wrong(at(now), began_at), wrong, "{now}");
        }
    }
}
