//! The life of a host: registered, inspected, available, provisioned, wiped, retired; broken when a person is needed.
//!
//! One pass looks at one host, takes at most one step, and says so in its status. It never claims a host (machines do),
//! and never touches a disk (the agent does, by a signed plan).

pub mod act;
pub mod credentials;
pub mod decide;
pub mod observe;
pub mod pace;
pub mod progress;
pub mod record;
pub mod view;

use crate::context::{Context, Limits};
use crate::kubeio::{Error, fresh};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use rackwright_api::Host;
use rackwright_api::conditions::find;
use std::sync::Arc;
use std::time::Duration;

/// One pass over one host.
pub async fn reconcile(host: Arc<Host>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(host) = fresh(&ctx.client, &ctx.own_writes, &host).await? else {
        return Ok(Action::await_change());
    };
    let view = observe::observe(&host, &ctx).await?; // reads only; a BMC that does not answer is data
    let now = ctx.clock.now();
    let step = decide::decide(&view, now, &ctx.limits); // pure, total, one step
    tracing::debug!(host = %host.name_any(), ?step, "decided");
    let outcome = act::act(&host, &view, &step, &ctx).await; // at most one effect
    record::record(&host, &view, &step, &outcome, &ctx).await?; // the only status write
    Ok(Action::requeue(pause(&view, &step, &outcome, ctx.clock.now(), &ctx.limits)))
}

/// When to look again without being told of a change.
fn pause(
    view: &view::HostView,
    step: &decide::Step,
    outcome: &act::Outcome,
    now: Timestamp,
    limits: &Limits,
) -> Duration {
    let pause = match (step, outcome) {
        (_, act::Outcome::Failed(_)) => limits.poll_busy,
        (decide::Step::Wait(_), _) if !view.bmc.is_seen() => jitter(view, silence(view, now, limits)),
        (decide::Step::Rest, _) => jitter(view, limits.poll_idle),
        (decide::Step::Wait(wait), _) if wait.idle => {
            let left = wait.until.map(|until| until.duration_since(now).max(limits.poll_busy));
            jitter(view, limits.poll_idle).min(left.unwrap_or(SignedDuration::MAX))
        }
        (decide::Step::Wait(_) | decide::Step::Power(_), _) => limits.poll_busy,
        _ => return Duration::from_millis(20), // something was done: look at what came of it
    };
    pause.try_into().unwrap_or(Duration::from_secs(60))
}

/// The longer a BMC is silent the seldomer it is asked, up to twenty times the shortest pause: each try holds a place among
/// those that are worked on until it times out, and a dark network must not starve the hosts elsewhere.
fn silence(view: &view::HostView, now: Timestamp, limits: &Limits) -> SignedDuration {
    let since = find(&view.status.conditions, "Reachable").filter(|condition| condition.status == "False");
    let lasted = since.map_or(SignedDuration::ZERO, |condition| now.duration_since(condition.last_transition_time.0));
    (lasted / 4).clamp(limits.poll_unreachable, limits.poll_unreachable * 20)
}

/// Spreads idle looks over time: hosts that were registered together must not be polled together for ever.
fn jitter(view: &view::HostView, pause: SignedDuration) -> SignedDuration {
    let share = view.uid.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 1000;
    pause + pause * i32::try_from(share).unwrap_or_default() / 4000
}

#[cfg(test)]
mod tests {
    use super::decide::{Step, Wait};
    use super::view::{Consumer, HostView, MediaSeen, Observed, Place, Problem};
    use super::*;
    use rackwright_api::conditions::{Said, merge};
    use rackwright_bmc::System;

    fn view() -> HostView {
        let spec = r#"{"rack": "a", "bmc": {"address": "https://10.1.1.7"}, "bootMACAddress": "52:54:00:00:00:07"}"#;
        HostView {
            name: "a01".into(),
            uid: "uid".into(),
            generation: None,
            spec: serde_json::from_str(spec).expect("a spec"),
            status: Default::default(),
            deleting: false,
            held: true,
            paused: false,
            repaired: None,
            inspect: false,
            place: Ok(Place {
                datacenter: "d".into(),
                region: "r".into(),
                boot_url: "https://10.1.0.5".into(),
                firmware_url: None,
            }),
            twin: None,
            bmc: Observed::Seen { system: System::default(), media: MediaSeen::Unread },
            drive_wrong_since: None,
            hardware: None,
            consumer: Consumer::None,
            warm_wanted: false,
            fresh_id: "fresh".into(),
        }
    }

    fn pause_of(idle: bool, seconds_left: Option<i64>) -> Duration {
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        let until = seconds_left.map(at);
        let step = Step::Wait(Wait { reason: "R".into(), message: "m".into(), until, idle });
        pause(&view(), &step, &act::Outcome::Nothing, at(0), &Limits::default())
    }

    #[test]
    fn the_longer_a_bmc_is_silent_the_seldomer_it_is_asked() {
        let limits = Limits::default();
        let at = |second| Timestamp::from_second(second).expect("a valid time");
        let mut host = view();
        host.bmc = Observed::Silent(Problem { reason: "BMCUnreachable", message: "no answer".into() });
        let silent = Said::no("Reachable", "BMCUnreachable", "no answer");
        host.status.conditions = merge(&[], &[silent], None, at(1000));
        let cases = [(0, 30), (60, 30), (120, 30), (200, 50), (1200, 300), (2400, 600), (86_400, 600)];
        for (lasted, seconds) in cases {
            let pause = silence(&host, at(1000 + lasted), &limits);
            assert_eq!(pause.as_secs(), seconds, "silent for {lasted} s");
        }
        let step = Step::Wait(Wait { reason: "R".into(), message: "m".into(), until: Some(at(1300)), idle: false });
        let jittered = Duration::from_secs(600)..=Duration::from_secs(750);
        assert!(jittered.contains(&super::pause(&host, &step, &act::Outcome::Nothing, at(9000), &limits)));
        host.status.conditions =
            merge(&host.status.conditions, &[Said::yes("Reachable", "BMCAnswers", "")], None, at(9000));
        assert_eq!(silence(&host, at(9001), &limits), limits.poll_unreachable, "it has just gone silent again");
    }

    #[test]
    fn a_host_that_waits_for_a_person_is_looked_at_as_seldom_as_an_idle_one_and_at_the_end_of_the_wait() {
        let idle = Duration::from_secs(60)..=Duration::from_secs(75);
        assert!(idle.contains(&pause_of(true, None)));
        assert!(idle.contains(&pause_of(true, Some(300))));
        assert_eq!(pause_of(true, Some(7)), Duration::from_secs(7));
        assert_eq!(pause_of(false, Some(300)), Duration::from_secs(2));
    }
}
