//! Calling home: whom the agent trusts, what it repeats, and that it does nothing without a good plan.

mod support;

use proptest::prelude::*;
use rackwright_agent::{Outcome, run_with};
use rackwright_protocol::facts::{Disk, WipePolicy};
use rackwright_protocol::plan::{Action, Plan, SignedPlan};
use rackwright_protocol::report::Event;
use std::time::{Duration, Instant};
use support::machine::FakeMachine;
use support::tls::Tls;
use support::{Boot, Script, patience, plan};

fn wipe() -> Plan {
    wipe_of(Vec::new())
}

/// A wipe of a machine in which an inspection found `known`.
fn wipe_of(known: Vec<Disk>) -> Plan {
    plan(Action::Wipe { policy: WipePolicy::Discard, known })
}

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done => "",
        Outcome::Failed(failure) | Outcome::NotStarted(failure) | Outcome::Over(failure) => &failure.reason,
    }
}

#[tokio::test]
async fn an_inspection_reports_the_facts_and_touches_nothing() {
    let boot = Boot::serve(&plan(Action::Inspect), Script::default()).await;
    let mut machine = FakeMachine::new();
    assert_eq!(boot.run(&mut machine).await, Outcome::Done);
    assert_eq!(boot.results(), [Event::Inspected { facts: machine.facts.clone() }]);
    assert_eq!(machine.acts(), [""; 0]);
}

#[tokio::test]
async fn a_wipe_is_reported_disk_by_disk() {
    let boot = Boot::serve(&wipe(), Script::default()).await;
    let mut machine = FakeMachine::new();
    machine.facts.disks.push(Disk { device: "/dev/vdb".into(), ..Disk::default() });
    assert_eq!(boot.run(&mut machine).await, Outcome::Done);
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard", "wipe /dev/vdb Discard"]);
    let [Event::Wiped { disks }] = &boot.results()[..] else { panic!("not a wipe: {:?}", boot.results()) };
    assert_eq!(disks.iter().map(|disk| disk.device.as_str()).collect::<Vec<_>>(), ["/dev/vda", "/dev/vdb"]);
}

#[tokio::test]
async fn a_wipe_that_fails_on_one_disk_names_it_and_tells_which_were_wiped() {
    let boot = Boot::serve(&wipe(), Script::default()).await;
    let mut machine = FakeMachine { fails: Some("wipe /dev/vdb"), ..FakeMachine::new() };
    for device in ["/dev/vdb", "/dev/vdc"] {
        machine.facts.disks.push(Disk { device: device.into(), ..Disk::default() });
    }
    assert!(matches!(boot.run(&mut machine).await, Outcome::Failed(_)));
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard", "wipe /dev/vdb Discard", "wipe /dev/vdc Discard"]);
    let [Event::Failed { reason, message, wiped }] = &boot.results()[..] else { panic!("{:?}", boot.results()) };
    assert_eq!(reason, "WipeFailed");
    assert!(message.starts_with("2 of 3 disks are wiped; /dev/vdb: "), "{message}");
    assert_eq!(wiped.iter().map(|disk| disk.device.as_str()).collect::<Vec<_>>(), ["/dev/vda", "/dev/vdc"]);
}

#[tokio::test]
async fn disks_are_wiped_at_the_same_time_and_meanwhile_it_is_said_that_the_machine_is_alive() {
    let boot = Boot::serve(&wipe(), Script::default()).await;
    let mut machine = FakeMachine { slow: Duration::from_secs(1), ..FakeMachine::new() };
    for letter in 'b'..='h' {
        machine.facts.disks.push(Disk { device: format!("/dev/vd{letter}"), ..Disk::default() });
    }
    let begun = Instant::now();
    assert_eq!(boot.run(&mut machine).await, Outcome::Done);
    assert!(begun.elapsed() < machine.slow * 4, "8 disks took {:?}", begun.elapsed());
    let told = boot.steps().iter().filter(|step| *step == "Wiping").count();
    assert!(told >= 3, "a word every {:?}, and nothing else to say: {:?}", patience().sign_of_life, boot.steps());
}

#[tokio::test]
async fn a_disk_that_was_there_at_the_inspection_is_missed_and_the_others_are_wiped() {
    let disk = |serial: &str| Disk { device: "/dev/vdb".into(), serial: Some(serial.into()), ..Disk::default() };
    let boot =
        Boot::serve(&wipe_of([FakeMachine::new().facts.disks, vec![disk("TAKEN")]].concat()), Script::default()).await;
    let mut machine = FakeMachine::new();
    machine.facts.disks.push(disk("NEW"));
    assert!(matches!(boot.run(&mut machine).await, Outcome::Failed(_)));
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard", "wipe /dev/vdb Discard"]);
    let [Event::Failed { reason, message, wiped }] = &boot.results()[..] else { panic!("{:?}", boot.results()) };
    assert_eq!((reason.as_str(), wiped.len()), ("DiskMissing", 2));
    assert!(message.ends_with("/dev/vdb (0 GiB, serial TAKEN)"), "{message}");
}

#[tokio::test]
async fn a_disk_that_is_slow_to_show_itself_is_waited_for_and_wiped() {
    let slow = Disk { device: "/dev/vdb".into(), ..Disk::default() };
    let boot = Boot::serve(&wipe_of(vec![slow.clone()]), Script::default()).await;
    let mut machine = FakeMachine { late: Some(slow), ..FakeMachine::new() };
    assert_eq!(boot.run(&mut machine).await, Outcome::Done);
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard", "wipe /dev/vdb Discard"]);
}

#[tokio::test]
async fn a_session_is_asked_for_until_the_boot_service_answers() {
    let script = Script { session: [503, 500, 429].into(), ..Script::default() };
    let boot = Boot::serve(&plan(Action::Inspect), script).await;
    assert_eq!(boot.run(&mut FakeMachine::new()).await, Outcome::Done);
    assert_eq!(boot.sessions(), 4);
}

#[tokio::test]
async fn a_boot_service_that_never_answers_is_given_up() {
    let script = Script { session: vec![503; 1000].into(), ..Script::default() };
    let boot = Boot::serve(&wipe(), script).await;
    let mut machine = FakeMachine::new();
    let outcome = boot.run(&mut machine).await;
    assert!(matches!(outcome, Outcome::NotStarted(_)), "{outcome:?}");
    assert_eq!(machine.acts(), [""; 0]);
}

#[tokio::test]
async fn a_refused_token_is_not_shown_again() {
    for status in [401, 403, 409, 410, 307] {
        let boot = Boot::serve(&wipe(), Script { session: [status].into(), ..Script::default() }).await;
        let mut machine = FakeMachine::new();
        let outcome = boot.run(&mut machine).await;
        assert!(matches!(outcome, Outcome::NotStarted(_)), "{outcome:?}");
        assert_eq!((boot.sessions(), machine.acts().len()), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_server_that_the_media_does_not_vouch_for_hears_nothing() {
    let boot = Boot::serve(&wipe(), Script::default()).await;
    let media = rackwright_protocol::media::MediaConfig { ca: Tls::new().ca, ..boot.media.clone() };
    let mut patience = patience();
    patience.session = std::time::Duration::from_millis(100);
    let outcome = run_with(&media, &mut FakeMachine::new(), &patience).await;
    assert_eq!((reason(&outcome), boot.sessions()), ("BootServiceUnreachable", 0));
}

#[tokio::test]
async fn a_plan_that_is_not_for_this_machine_does_nothing_and_says_so() {
    let signed =
        |plan: &Plan, token| serde_json::to_value(SignedPlan::sign(plan, token).expect("signs")).expect("JSON");
    let other = |edit: fn(&mut Plan)| {
        let mut plan = wipe();
        edit(&mut plan);
        signed(&plan, support::TOKEN)
    };
    for (what, plan) in [
        ("signed by a stranger", signed(&wipe(), "another token")),
        ("another host's", other(|plan| plan.host_uid = "other".into())),
        ("an earlier operation's", other(|plan| plan.operation_id = "earlier".into())),
        ("another machine's", other(|plan| plan.boot_macs = vec!["52:54:00:00:00:99".into()])),
        ("nobody's", other(|plan| plan.boot_macs = vec![])),
        ("too late", other(|plan| plan.deadline = plan.issued_at)),
    ] {
        let boot = Boot::serve_signed(plan, Script::default()).await;
        let mut machine = FakeMachine::new();
        boot.run(&mut machine).await;
        assert_eq!((boot.failure().as_str(), machine.acts().len()), ("PlanRejected", 0), "{what}");
    }
}

#[tokio::test]
async fn a_result_is_reported_until_it_is_taken() {
    let boot = Boot::serve(&wipe(), Script { report: [503, 500, 502].into(), ..Script::default() }).await;
    assert_eq!(boot.run(&mut FakeMachine::new()).await, Outcome::Done);
    assert_eq!(boot.results().len(), 4);
}

#[tokio::test]
async fn a_result_that_nobody_wants_any_more_ends_quietly() {
    for status in [409, 410, 401] {
        let boot = Boot::serve(&wipe(), Script { report: [status].into(), ..Script::default() }).await;
        let outcome = boot.run(&mut FakeMachine::new()).await;
        assert!(matches!(outcome, Outcome::Over(_)), "{outcome:?}");
        assert_eq!(boot.results().len(), 1);
    }
}

/// Plans as JSON with one thing wrong, and text that is no plan at all.
fn malformed() -> impl Strategy<Value = String> {
    let whole = serde_json::to_string(&wipe()).expect("JSON");
    let length = whole.len();
    let with = |old: &str, new: &str| {
        assert!(whole.contains(old), "{old} is not in {whole}");
        whole.replace(old, new)
    };
    prop_oneof![
        "\\PC{0,200}",
        (0..length).prop_map({
            let whole = whole.clone();
            move |at| whole[..at].to_string()
        }),
        Just(with("\"wipe\"", "\"format\"")),
        Just(with("Discard", "discard")),
        Just(with(":01:00Z", ":61:00Z")),
        Just(with("bootMacs", "macs")),
        Just(format!("[{whole}]")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_malformed_plan_does_nothing_even_when_it_is_signed(text in malformed()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let boot = Boot::serve_text(&text).await;
            let mut machine = FakeMachine::new();
            boot.run(&mut machine).await;
            assert_eq!((boot.failure().as_str(), machine.acts().len()), ("PlanRejected", 0));
        });
    }
}
