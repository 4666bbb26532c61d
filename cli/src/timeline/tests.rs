use super::draw::{draw, rate, span};
use super::entries::{of_host, of_machine};
use super::{State, Timeline};
use crate::fixture::{at, broken, events, host, machine};
use crate::output::Output;
use insta::assert_snapshot;
use jiff::SignedDuration;

fn shown(timeline: &Timeline) -> String {
    draw(timeline, at(180))
}

#[test]
fn a_host_in_its_second_try() {
    assert_snapshot!(shown(&of_host(&host(), &events())));
}

#[test]
fn a_host_that_waits_for_a_person() {
    assert_snapshot!(shown(&of_host(&broken(), &[])));
}

#[test]
fn a_host_that_nobody_has_looked_at() {
    let mut host = host();
    (host.status, host.spec.claim, host.spec.wipe, host.spec.wiped) = (None, None, None, None);
    assert_snapshot!(shown(&of_host(&host, &[])));
}

#[test]
fn a_machine_is_told_with_its_host_since_it_was_made() {
    assert_snapshot!(shown(&of_machine(&machine(), Some(&host()), &events())));
}

#[test]
fn a_machine_without_a_host_waits() {
    let mut machine = machine();
    machine.status.as_mut().expect("set").host = None;
    assert_snapshot!(shown(&of_machine(&machine, None, &[])));
}

#[test]
fn a_deployment_that_is_done_says_how_long_each_step_took() {
    let mut host = host();
    host.spec.deployed = serde_json::from_value(serde_json::json!({
        "claimUID": "machine", "operationID": "op-2", "digest": "sha256:00", "device": "/dev/nvme0n1", "at": at(171),
    }))
    .expect("deployed");
    let timeline = of_host(&host, &[]);
    assert!(timeline.entries.iter().all(|entry| entry.state != State::Running), "{timeline:#?}");
    let writing = timeline.entries.iter().find(|entry| entry.what == "agent: WritingImage").expect("a step");
    assert_eq!(writing.ended_at, Some(at(171)));
}

#[test]
fn scripts_get_json_and_yaml() {
    let timeline = of_machine(&machine(), None, &[]);
    assert_snapshot!("json", Output::Json.of(&timeline, shown).expect("JSON"));
    assert_snapshot!("yaml", Output::Yaml.of(&timeline, shown).expect("YAML"));
}

#[test]
fn lengths_and_rates_are_told_in_fitting_units() {
    for (seconds, text) in [(-5, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min"), (273_600, "3 d 4 h")]
    {
        assert_eq!(span(SignedDuration::from_secs(seconds)), text);
    }
    for (bytes, text) in [(12, "12 B/s"), (9_990, "9.9 kB/s"), (45_600_000, "45.6 MB/s"), (1_120_000_000, "1.1 GB/s")] {
        assert_eq!(rate(bytes), text);
    }
}
