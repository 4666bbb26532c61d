use super::*;
use crate::fixture::*;
use rackwright_api::host::OperationKind::{Deploy, Inspect, Wipe};

const SESSION: &str = "the-session";

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

fn report(event: Event) -> Report {
    Report { subject: subject(), event }
}

fn deployed_event() -> Event {
    Event::Deployed { device: "/dev/vda".into(), digest: DIGEST.into(), final_boot: Default::default() }
}

fn wiped_event() -> Event {
    Event::Wiped {
        disks: vec![WipedDisk { device: "/dev/vda".into(), method: "discard".into(), ..WipedDisk::default() }],
    }
}

fn failed_event() -> Event {
    Event::Failed { reason: "ImageDigestMismatch".into(), message: "it differs".into(), wiped: Vec::new() }
}

fn read(host: &Host, event: Event) -> Result<Meaning, Refusal> {
    meaning(host, Proof::Session(SESSION), &report(event), now())
}

#[test]
fn a_result_of_the_plan_is_recorded_with_its_operation() {
    let host = host_with_session(Deploy, SESSION, now());
    let Ok(Meaning::Results { deployed: Some(deployed), wiped: None }) = read(&host, deployed_event()) else {
        panic!("not a deployment")
    };
    assert_eq!((deployed.claim_uid.as_str(), deployed.operation_id.as_str()), (MACHINE_UID, OPERATION));
    assert_eq!((deployed.digest.as_str(), deployed.device.as_str()), (DIGEST, "/dev/vda"));

    let host = host_with_session(Inspect, SESSION, now());
    let facts = Facts { memory_mib: 5, ..Facts::default() };
    let spec = HostHardwareSpec { operation_id: OPERATION.into(), inspected_at: now(), facts: facts.clone() };
    assert_eq!(read(&host, Event::Inspected { facts }), Ok(Meaning::Hardware(spec)));
}

#[test]
fn a_wipe_keeps_what_was_deployed_before_and_the_other_way_round() {
    let host = host_with_session(Deploy, SESSION, now());
    let Ok(Meaning::Results { deployed, .. }) = read(&host, deployed_event()) else { panic!("not a deployment") };
    let mut host = host_with_session(Wipe, SESSION, now());
    host.spec.deployed = deployed.clone();
    let Ok(Meaning::Results { deployed: kept, wiped }) = read(&host, wiped_event()) else { panic!("not a wipe") };
    assert_eq!((kept, wiped.as_ref().map(|wiped| wiped.claim_uid.as_str())), (deployed, Some(MACHINE_UID)));

    let mut host = host_with_session(Deploy, SESSION, now());
    host.spec.wiped = wiped.clone();
    let Ok(Meaning::Results { wiped: kept, .. }) = read(&host, deployed_event()) else { panic!("not a deployment") };
    assert_eq!(kept, wiped);
}

#[test]
fn a_report_that_does_not_fit_is_refused() {
    type Edit = fn(&mut Host, &mut Report);
    let table: [(&str, OperationKind, Event, Edit, Reason); 11] = [
        ("another host", Deploy, deployed_event(), |_, r| r.subject.host_uid = "x".into(), Reason::HostGone),
        (
            "earlier operation",
            Deploy,
            deployed_event(),
            |_, r| r.subject.operation_id = "x".into(),
            Reason::OperationOver,
        ),
        ("no agent called", Deploy, deployed_event(), |host, _| status(host).agent = None, Reason::OperationOver),
        ("operation ended", Deploy, deployed_event(), |host, _| status(host).operation = None, Reason::OperationOver),
        ("deadline", Deploy, deployed_event(), |host, _| operation(host).deadline = now(), Reason::Expired),
        ("claim gone", Deploy, deployed_event(), |host, _| host.spec.claim = None, Reason::OperationOver),
        (
            "another claim",
            Deploy,
            deployed_event(),
            |h, _| operation(h).claim_uid = Some("x".into()),
            Reason::OperationOver,
        ),
        ("order gone", Wipe, wiped_event(), |host, _| host.spec.wipe = None, Reason::OperationOver),
        ("wiped, not deployed", Deploy, wiped_event(), |_, _| {}, Reason::ReportUnexpected),
        ("deployed, not wiped", Wipe, deployed_event(), |_, _| {}, Reason::ReportUnexpected),
        (
            "inspected, not wiped",
            Wipe,
            Event::Inspected { facts: Facts::default() },
            |_, _| {},
            Reason::ReportUnexpected,
        ),
    ];
    for (what, kind, event, edit, reason) in table {
        let (mut host, mut report) = (host_with_session(kind, SESSION, now()), report(event));
        edit(&mut host, &mut report);
        let refused = meaning(&host, Proof::Session(SESSION), &report, now()).err().map(|refusal| refusal.reason);
        assert_eq!(refused, Some(reason), "{what}");
    }
}

#[test]
fn another_session_reports_nothing() {
    let host = host_with_session(Deploy, SESSION, now());
    for event in
        [deployed_event(), failed_event(), Event::Progress { step: "A".into(), percent: 1, bytes_per_second: None }]
    {
        let refused =
            meaning(&host, Proof::Session("another"), &report(event), now()).err().map(|refusal| refusal.reason);
        assert_eq!(refused, Some(Reason::SessionInvalid));
    }
}

#[test]
fn another_image_than_the_claimed_one_ends_the_operation() {
    let host = host_with_session(Deploy, SESSION, now());
    let event =
        Event::Deployed { device: "/dev/vda".into(), digest: "sha256:11".into(), final_boot: Default::default() };
    let refusal = read(&host, event).expect_err("another digest");
    assert_eq!(refusal.failure.map(|failure| failure.reason), Some("ReportUnexpected".into()));
}

#[test]
fn a_report_whose_answer_was_lost_is_taken_again_even_after_the_operation() {
    for (kind, event) in [(Deploy, deployed_event()), (Wipe, wiped_event())] {
        let mut host = host_with_session(kind, SESSION, now());
        let Ok(Meaning::Results { deployed, wiped }) = read(&host, event.clone()) else { panic!("not a result") };
        (host.spec.deployed, host.spec.wiped) = (deployed, wiped);
        status(&mut host).operation = None;
        assert_eq!(read(&host, event), Ok(Meaning::Known));
    }
    let mut host = host_with_session(Deploy, SESSION, now());
    let Ok(Meaning::Failure(agent)) = read(&host, failed_event()) else { panic!("not a failure") };
    status(&mut host).agent = Some(agent);
    assert_eq!(read(&host, failed_event()), Ok(Meaning::Known));
    assert_eq!(read(&host, deployed_event()).err().map(|refusal| refusal.reason), Some(Reason::OperationOver));
}

#[test]
fn what_an_agent_says_is_made_fit_for_a_status() {
    let host = host_with_session(Deploy, SESSION, now());
    let failure = |reason: &str, message: &str| match read(
        &host,
        Event::Failed { reason: reason.into(), message: message.into(), wiped: Vec::new() },
    ) {
        Ok(Meaning::Failure(agent)) => agent.failure.expect("a failure"),
        other => panic!("not a failure: {other:?}"),
    };
    assert_eq!(failure("NoDiskMatches", "none").reason, "NoDiskMatches");
    let long = "A".repeat(65);
    for reason in ["", "lower", "With Space", "Line\nFeed", &long] {
        assert_eq!(failure(reason, "").reason, "AgentFailed", "{reason:?}");
    }
    assert!(failure("A", &"x".repeat(100_000)).message.len() < 600);
    let event = Event::Progress { step: "WritingImage".into(), percent: 250, bytes_per_second: None };
    let Ok(Meaning::Progress(agent)) = read(&host, event) else { panic!("not progress") };
    assert_eq!((agent.step.as_deref(), agent.percent), (Some("WritingImage"), Some(100)));
}

fn installing() -> Host {
    let mut host = host_with_session(Deploy, SESSION, now());
    host.spec.claim.as_mut().expect("claimed").image.installer = Some(installer());
    host
}

fn of_installer(host: &Host, event: Event) -> Result<Meaning, Refusal> {
    meaning(host, Proof::Installer, &report(event), now())
}

#[test]
fn an_installation_is_done_when_the_installer_says_so() {
    let Ok(Meaning::Results { deployed: Some(deployed), .. }) = of_installer(&installing(), deployed_event()) else {
        panic!("not a deployment")
    };
    assert_eq!((deployed.operation_id.as_str(), deployed.digest.as_str()), (OPERATION, DIGEST));
    let mut host = installing();
    host.spec.deployed = Some(deployed);
    assert_eq!(of_installer(&host, deployed_event()), Ok(Meaning::Known), "told twice, because an answer was lost");
}

#[test]
fn an_installer_that_gives_up_ends_the_operation() {
    let Ok(Meaning::Failure(agent)) = of_installer(&installing(), failed_event()) else { panic!("not a failure") };
    assert!(agent.failure.is_some());
}

#[test]
fn an_installer_that_is_being_started_is_shown_as_progress() {
    let Ok(Meaning::Progress(agent)) = read(&installing(), Event::InstallerStarting) else { panic!("no progress") };
    assert_eq!((agent.step.as_deref(), agent.percent), (Some("Installing"), None));
}

#[test]
fn agent_and_installer_each_report_only_what_is_theirs() {
    let progress = || Event::Progress { step: "X".into(), percent: 1, bytes_per_second: None };
    let plain = host_with_session(Deploy, SESSION, now());
    for (what, answer) in [
        ("the agent: an installation is done", read(&installing(), deployed_event())),
        ("the agent: an installer where there is none", read(&plain, Event::InstallerStarting)),
        ("an installer where there is none: done", of_installer(&plain, deployed_event())),
        ("an installer where there is none: failed", of_installer(&plain, failed_event())),
        ("an installer: wiped", of_installer(&installing(), wiped_event())),
        ("an installer: progress", of_installer(&installing(), progress())),
    ] {
        assert_eq!(answer.expect_err(what).reason, Reason::ReportUnexpected, "{what}");
    }
}
