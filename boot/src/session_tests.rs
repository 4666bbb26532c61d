use super::*;
use crate::fixture::*;
use jiff::SignedDuration;
use rackwright_api::host::OperationKind::{Deploy, Inspect, PowerOn, Wipe};
use rackwright_api::topology::{BootService, DatacenterSpec, RackSpec};
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

fn request() -> SessionRequest {
    SessionRequest {
        subject: subject(),
        token: "proven by the caller".into(),
        macs: vec![MAC.to_uppercase()],
        system_uuid: None,
    }
}

fn refusal(host: &Host, request: &SessionRequest) -> Option<Reason> {
    may_open(host, request, now()).err().map(|refusal| refusal.reason)
}

#[test]
fn a_session_is_opened_for_the_operation_the_host_is_in() {
    assert_eq!(may_open(&host(Inspect, now()), &request(), now()), Ok(Task::Inspect));
    assert_eq!(may_open(&host(Wipe, now()), &request(), now()), Ok(Task::Wipe(WipePolicy::Discard)));
    let host = host(Deploy, now());
    let claim = host.spec.claim.as_ref().expect("claimed");
    assert_eq!(may_open(&host, &request(), now()), Ok(Task::Deploy(claim)));
}

#[test]
fn a_session_that_does_not_fit_the_host_is_refused() {
    type Edit = fn(&mut Host, &mut SessionRequest);
    let table: [(&str, OperationKind, Edit, Reason); 14] = [
        ("another host", Deploy, |_, request| request.subject.host_uid = "other".into(), Reason::HostGone),
        ("a later host of that name", Deploy, |host, _| host.metadata.uid = Some("later".into()), Reason::HostGone),
        ("earlier operation", Deploy, |_, r| r.subject.operation_id = "op-0".into(), Reason::OperationOver),
        ("no operation", Deploy, |host, _| status(host).operation = None, Reason::OperationOver),
        ("no status", Deploy, |host, _| host.status = None, Reason::OperationOver),
        ("deadline", Deploy, |host, _| operation(host).deadline = now(), Reason::Expired),
        ("a power-on", PowerOn, |_, _| {}, Reason::OperationOver),
        ("released meanwhile", Deploy, |host, _| host.spec.claim = None, Reason::OperationOver),
        (
            "claimed by another",
            Deploy,
            |host, _| operation(host).claim_uid = Some("other".into()),
            Reason::OperationOver,
        ),
        ("nobody's claim", Deploy, |host, _| operation(host).claim_uid = None, Reason::OperationOver),
        ("no order to wipe", Wipe, |host, _| host.spec.wipe = None, Reason::OperationOver),
        ("another order to wipe", Wipe, |h, _| operation(h).claim_uid = Some("other".into()), Reason::OperationOver),
        (
            "other system UUID",
            Deploy,
            |host, request| {
                operation(host).system_uuid = Some("00112233-4455-6677-8899-aabbccddeeff".into());
                request.system_uuid = Some("00112233-4455-6677-8899-aabbccddeefe".into());
            },
            Reason::WrongMachine,
        ),
        ("other MAC address", Deploy, |_, r| r.macs = vec!["52:54:00:00:00:99".into()], Reason::WrongMachine),
    ];
    for (what, kind, edit, reason) in table {
        let (mut host, mut request) = (host(kind, now()), request());
        edit(&mut host, &mut request);
        assert_eq!(refusal(&host, &request), Some(reason), "{what}");
    }
}

#[test]
fn a_network_card_is_answered_while_its_host_awaits_the_ramdisk_by_pxe_and_at_no_other_time() {
    type Edit = fn(&mut Host);
    let table: [(&str, Edit, bool); 8] = [
        ("awaits it", |_| {}, true),
        ("its power is on", |host| operation(host).stage = Stage::PoweringOn, true),
        ("another way", |host| operation(host).way = Some(BootWay::HTTPBoot), false),
        ("no way yet", |host| operation(host).way = None, false),
        ("being switched off", |host| operation(host).stage = Stage::PoweringOff, false),
        ("past its deadline", |host| operation(host).deadline = now(), false),
        ("no operation", |host| status(host).operation = None, false),
        ("switched on after its power went", |host| operation(host).kind = PowerOn, false),
    ];
    for (what, edit, expected) in table {
        let mut host = host(Deploy, now());
        operation(&mut host).way = Some(BootWay::PXE);
        edit(&mut host);
        assert_eq!(boots_by_pxe(&host, now()), expected, "{what}");
    }
    let mut host = host_with_session(Deploy, "session", now());
    operation(&mut host).way = Some(BootWay::PXE);
    assert!(!boots_by_pxe(&host, now()), "its agent has called home");
}

#[test]
fn a_token_is_used_once_per_operation() {
    let mut host = host_with_session(Deploy, "session", now());
    assert_eq!(refusal(&host, &request()), Some(Reason::TokenUsed));
    status(&mut host).agent.as_mut().expect("called").operation_id = "op-0".into();
    assert_eq!(refusal(&host, &request()), None, "an agent of an earlier operation is no obstacle");
}

#[test]
fn a_system_uuid_that_nobody_told_is_no_obstacle() {
    let uuid = || Some("00112233-4455-6677-8899-aabbccddeeff".to_string());
    for (told, found) in [(uuid(), None), (None, uuid()), (uuid(), uuid())] {
        let (mut host, mut request) = (host(Deploy, now()), request());
        operation(&mut host).system_uuid = told;
        request.system_uuid = found;
        assert_eq!(refusal(&host, &request), None);
    }
}

#[test]
fn the_wrong_machine_ends_the_operation_and_says_which_it_is() {
    let request = SessionRequest { macs: vec!["52:54:00:00:00:99".into()], ..request() };
    let refusal = may_open(&host(Deploy, now()), &request, now()).expect_err("another machine");
    let failure = refusal.failure.expect("ends the operation");
    assert_eq!(failure.reason, "WrongMachine");
    assert!(failure.message.contains("52:54:00:00:00:99") && failure.message.contains(MAC), "{}", failure.message);
}

fn place() -> Place {
    let rack = Rack::new(
        "a01",
        RackSpec {
            datacenter: "osl1".into(),
            row: None,
            height_units: None,
            power_feeds: vec![],
            switches: vec![],
            host_defaults: None,
        },
    );
    let boot = BootService { url: "https://10.1.0.5:8443".into(), firmware_url: None };
    let datacenter = Datacenter::new("osl1", DatacenterSpec { region: "eu".into(), boot, host_defaults: None });
    Place { rack: Some(Arc::new(rack)), datacenter: Some(Arc::new(datacenter)) }
}

#[test]
fn a_plan_to_deploy_holds_the_claim_and_nothing_else() {
    let host = host(Deploy, now());
    let task = may_open(&host, &request(), now()).expect("may open");
    let prepared = Prepared::Deploy { user_data: Secret("#cloud-config".into()), image: None };
    let plan = plan(&host, &place(), &subject(), &task, prepared, now());
    assert_eq!((plan.boot_macs, plan.issued_at), (vec![MAC.to_string()], now()));
    assert_eq!(plan.deadline, now() + SignedDuration::from_hours(1));
    let Action::Deploy(deploy) = plan.action else { panic!("not a deployment") };
    assert_eq!((deploy.image.url.as_str(), deploy.image.digest.as_str()), ("http://images/disk.raw", DIGEST));
    assert_eq!(deploy.config_drive.user_data, "#cloud-config");
    let meta_data: serde_json::Value = serde_json::from_str(&deploy.config_drive.meta_data).expect("JSON");
    let expected = json!({
        "instance-id": MACHINE_UID,
        "local-hostname": "web-1",
        "provider_id": "rackwright://metal/a01-u07/uid-machine",
        "rack": "a01",
        "datacenter": "osl1",
        "region": "eu",
        "host": "a01-u07",
        "unit": 7,
    });
    assert_eq!(meta_data, expected);
}

#[test]
fn a_text_for_a_status_is_cut_at_a_whole_character() {
    assert_eq!(bounded(&"ä".repeat(512)), "ä".repeat(512));
    assert_eq!(bounded(&"ä".repeat(513)), format!("{}…", "ä".repeat(512)));
}
