//! What is decided and said, situation by situation.

use super::act::Outcome;
use super::decide::{Step, decide};
use super::grants::GRANTS;
use super::record::{quiet_for, status};
use super::view::{ClusterView, ConfigView, Data, Further, MachineView, Problem, Token};
use jiff::{SignedDuration, Timestamp};
use rackwright_api::conditions::find;
use rackwright_api::config::{ConfigInitialization, RackwrightConfigStatus};

const LIFE: SignedDuration = SignedDuration::from_secs(100);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a valid time")
}

/// A worker's config of a cluster that is up; nothing is made yet.
fn new_config() -> ConfigView {
    ConfigView {
        name: "web-1".into(),
        generation: Some(1),
        status: RackwrightConfigStatus::default(),
        created: at(0),
        deleting: false,
        paused: false,
        machine: Some(MachineView::default()),
        cluster: Some(ClusterView {
            infrastructure_provisioned: true,
            control_plane_initialized: true,
            endpoint_known: true,
        }),
        token_seen_until: None,
        further: Some(Further { workload: Ok(vec![]), data: Data::Absent, token: Token::Absent }),
    }
}

/// The same once its data is published.
fn published_config() -> ConfigView {
    let status = RackwrightConfigStatus {
        initialization: Some(ConfigInitialization { data_secret_created: Some(true) }),
        data_secret_name: Some("web-1".into()),
        observed_generation: Some(1),
        conditions: vec![],
    };
    ConfigView { status, ..with(Data::Ours, Token::Absent) }
}

fn with(data: Data, token: Token) -> ConfigView {
    ConfigView { further: Some(Further { workload: Ok(vec![]), data, token }), ..new_config() }
}

fn unreachable() -> Problem {
    Problem { reason: "WorkloadClusterUnreachable", message: "https://10.0.0.1:6443 does not answer".into() }
}

fn decided(view: &ConfigView) -> Step {
    decide(view, at(1000), LIFE)
}

fn machine(change: impl FnOnce(&mut MachineView)) -> Option<MachineView> {
    let mut machine = MachineView::default();
    change(&mut machine);
    Some(machine)
}

fn cluster(change: impl FnOnce(&mut ClusterView)) -> Option<ClusterView> {
    let mut cluster = new_config().cluster.expect("it has one");
    change(&mut cluster);
    Some(cluster)
}

#[test]
fn every_wait_has_a_reason_that_both_conditions_give() {
    let unreachable = Further { workload: Err(unreachable()), data: Data::Absent, token: Token::Absent };
    for (view, reason) in [
        (ConfigView { machine: None, ..new_config() }, "WaitingForMachine"),
        (ConfigView { cluster: None, ..new_config() }, "WaitingForCluster"),
        (
            ConfigView { cluster: cluster(|c| c.infrastructure_provisioned = false), ..new_config() },
            "WaitingForClusterInfrastructure",
        ),
        (
            ConfigView { cluster: cluster(|c| c.control_plane_initialized = false), ..new_config() },
            "WaitingForControlPlane",
        ),
        (ConfigView { cluster: cluster(|c| c.endpoint_known = false), ..new_config() }, "WaitingForEndpoint"),
        (ConfigView { further: Some(unreachable), ..new_config() }, "WorkloadClusterUnreachable"),
        (ConfigView { machine: machine(|m| m.control_plane = true), ..new_config() }, "ControlPlaneNotSupported"),
        (with(Data::Foreign, Token::Absent), "DataSecretNameTaken"),
    ] {
        let said = status(&view, &decided(&view), &Outcome::Nothing, at(1000)).expect("something to say");
        for kind in ["Ready", "DataSecretAvailable"] {
            let condition = find(&said.conditions, kind).expect("said");
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", reason));
            assert!(!condition.message.is_empty(), "{reason}");
        }
        assert_eq!(said.initialization, None, "{reason}");
    }
}

#[test]
fn data_is_made_in_an_order_that_a_crash_cannot_spoil() {
    let rights_missing = Further { workload: Ok(vec![&GRANTS[0]]), data: Data::Absent, token: Token::Absent };
    for (view, step) in [
        (ConfigView { further: Some(rights_missing), ..new_config() }, Step::Allow(vec![&GRANTS[0]])),
        (with(Data::Absent, Token::Absent), Step::CreateData),
        (with(Data::Ours, Token::Absent), Step::ApplyToken),
        (with(Data::Ours, Token::Until(at(1010))), Step::ApplyToken),
        (with(Data::Ours, Token::Until(at(1090))), Step::Published("web-1".into())),
        (with(Data::Ours, Token::Taken), Step::DiscardData),
        (with(Data::Spoiled, Token::Absent), Step::DiscardData),
    ] {
        assert_eq!(decided(&view), step);
    }
}

#[test]
fn an_effect_that_was_done_costs_no_status() {
    for step in
        [Step::Allow(vec![&GRANTS[0]]), Step::CreateData, Step::DiscardData, Step::ApplyToken, Step::RevokeToken]
    {
        assert_eq!(status(&new_config(), &step, &Outcome::Done, at(1000)), None, "{step:?}");
    }
}

#[test]
fn a_paused_config_is_only_called_paused() {
    let mut view = published_config();
    view.status = status(&view, &Step::Published("web-1".into()), &Outcome::Nothing, at(1)).expect("said");
    view.paused = true;

    let step = decided(&view);

    assert_eq!(step, Step::Paused);
    let said = status(&view, &step, &Outcome::Nothing, at(1000)).expect("something to say");
    assert_eq!(find(&said.conditions, "Paused").map(|paused| paused.status.as_str()), Some("True"));
    assert_eq!(find(&said.conditions, "Ready"), find(&view.status.conditions, "Ready"));
    assert_eq!(said.data_secret_name, view.status.data_secret_name);
}

#[test]
fn what_is_going_is_left_alone() {
    assert_eq!(decided(&ConfigView { deleting: true, paused: true, ..new_config() }), Step::Ignore);
    assert_eq!(decided(&ConfigView { machine: machine(|m| m.deleting = true), ..new_config() }), Step::Ignore);
}

#[test]
fn a_moved_config_takes_over_what_its_machine_uses() {
    let moved = machine(|m| m.data_secret_name = Some("given".into()));
    for further in [None, with(Data::Absent, Token::Absent).further] {
        let view = ConfigView { machine: moved.clone(), further, ..new_config() };
        let step = decided(&view);
        assert_eq!(step, Step::Published("given".into()));
        let said = status(&view, &step, &Outcome::Nothing, at(1000)).expect("something to say");
        assert_eq!(said.data_secret_name.as_deref(), Some("given"));
        assert_eq!(said.initialization.and_then(|once| once.data_secret_created), Some(true));
    }
}

#[test]
fn a_published_secret_is_never_made_anew() {
    let gone = Further { workload: Ok(vec![]), data: Data::Absent, token: Token::Absent };
    let view = ConfigView { further: Some(gone), ..published_config() };
    assert!(matches!(decided(&view), Step::Stale(_, problem) if problem.reason == "DataSecretMissing"));
    for data in [Data::Foreign, Data::Spoiled] {
        let further = Further { workload: Err(unreachable()), data, token: Token::Absent };
        let view = ConfigView { further: Some(further), ..published_config() };
        assert_eq!(decided(&view), Step::Published("web-1".into()), "{data:?}");
    }
}

#[test]
fn the_token_of_a_waiting_machine_is_renewed_at_half_of_its_life() {
    let waiting = |until| ConfigView { token_seen_until: Some(at(until)), further: None, ..published_config() };
    assert_eq!(decided(&waiting(1051)), Step::Published("web-1".into()));
    let due = |until| ConfigView {
        token_seen_until: Some(at(until)),
        further: with(Data::Ours, Token::Until(at(until))).further,
        ..published_config()
    };
    assert_eq!(decided(&due(1049)), Step::ApplyToken);
    assert_eq!(decided(&published_config()), Step::ApplyToken, "the token is gone");
}

#[test]
fn the_token_is_taken_back_once_nobody_needs_it() {
    for settled in [machine(|m| m.joined = true), machine(|m| m.deleting = true)] {
        let seen = ConfigView { machine: settled.clone(), token_seen_until: Some(at(1090)), ..published_config() };
        assert_eq!(decided(&seen), Step::RevokeToken);
        let unseen = ConfigView { machine: settled, further: None, ..published_config() };
        assert_eq!(decided(&unseen), Step::Published("web-1".into()));
    }
}

#[test]
fn data_stays_available_when_its_token_cannot_be_renewed() {
    let further = Further { workload: Err(unreachable()), data: Data::Ours, token: Token::Absent };
    let view = ConfigView { further: Some(further), ..published_config() };
    let said = status(&view, &decided(&view), &Outcome::Nothing, at(1000)).expect("something to say");
    let of = |kind| find(&said.conditions, kind).map(|condition| condition.status.as_str());
    assert_eq!((of("Ready"), of("DataSecretAvailable")), (Some("False"), Some("True")));
    assert_eq!(said.data_secret_name.as_deref(), Some("web-1"));
}

#[test]
fn a_change_of_the_spec_after_publishing_is_said_to_have_no_effect() {
    let view = ConfigView { generation: Some(2), token_seen_until: Some(at(1090)), ..published_config() };
    let said = status(&view, &decided(&view), &Outcome::Nothing, at(1000)).expect("something to say");
    let available = find(&said.conditions, "DataSecretAvailable").expect("said");
    assert!(available.message.contains("has no effect"), "{}", available.message);
    assert_eq!(said.observed_generation, Some(1));
}

#[test]
fn a_wait_that_is_soon_over_is_not_told() {
    let quiet = SignedDuration::from_secs(20);
    let view = ConfigView { machine: None, ..new_config() };
    let step = decided(&view);
    assert_eq!(quiet_for(&view, &step, at(5), quiet), SignedDuration::from_secs(15));
    assert_eq!(quiet_for(&view, &step, at(20), quiet), SignedDuration::ZERO);
    assert_eq!(quiet_for(&view, &Step::Refuse(unreachable()), at(5), quiet), SignedDuration::ZERO);
}
