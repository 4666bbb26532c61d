use super::decide::{Step, decide};
use super::record::status;
use super::view::ClusterView;
use jiff::Timestamp;
use rackwright_api::cluster::{FailureDomains, RackwrightClusterSpec, RackwrightClusterStatus};
use rackwright_api::common::ApiEndpoint;
use rackwright_api::conditions::find;

fn view() -> ClusterView {
    ClusterView {
        generation: Some(1),
        spec: RackwrightClusterSpec {
            control_plane_endpoint: Some(ApiEndpoint { host: "10.0.0.1".into(), port: 6443 }),
            failure_domains: None,
        },
        status: RackwrightClusterStatus::default(),
        deleting: false,
        held: true,
        paused: false,
        managed_elsewhere: false,
        owned: true,
        cluster_endpoint: None,
        places: vec![],
        machines: 0,
    }
}

#[test]
fn a_cluster_with_an_endpoint_is_provisioned() {
    let seen = view();
    assert_eq!(decide(&seen), Step::Rest);
    let status = status(&seen, &Step::Rest, Timestamp::UNIX_EPOCH);
    assert_eq!(status.initialization.and_then(|once| once.provisioned), Some(true));
}

#[test]
fn provisioned_stays_once_it_was_true() {
    let mut seen = view();
    seen.status = status(&seen, &Step::Rest, Timestamp::UNIX_EPOCH);
    seen.paused = true;
    let paused = status(&seen, &decide(&seen), Timestamp::UNIX_EPOCH);
    assert_eq!(paused.initialization.and_then(|once| once.provisioned), Some(true));
    assert_eq!(find(&paused.conditions, "Paused").map(|paused| paused.status.as_str()), Some("True"));
}

#[test]
fn every_wait_names_what_is_waited_for() {
    let domains = FailureDomains::default();
    for (seen, reason) in [
        (ClusterView { owned: false, ..view() }, "WaitingForOwner"),
        (ClusterView { spec: RackwrightClusterSpec::default(), ..view() }, "WaitingForEndpoint"),
        (
            ClusterView { spec: RackwrightClusterSpec { failure_domains: Some(domains), ..view().spec }, ..view() },
            "NoPlaceSelected",
        ),
        (ClusterView { deleting: true, machines: 2, ..view() }, "WaitingForMachines"),
    ] {
        let step = decide(&seen);
        assert!(matches!(&step, Step::Wait(_, found, _) if *found == reason), "{step:?}");
        assert!(status(&seen, &step, Timestamp::UNIX_EPOCH).initialization.is_none());
    }
}

#[test]
fn a_deleted_cluster_goes_after_its_machines() {
    assert_eq!(decide(&ClusterView { deleting: true, ..view() }), Step::LetGo);
    assert_eq!(decide(&ClusterView { deleting: true, held: false, ..view() }), Step::Ignore);
}

#[test]
fn a_cluster_that_somebody_else_manages_is_left_alone() {
    assert_eq!(decide(&ClusterView { managed_elsewhere: true, owned: false, ..view() }), Step::Ignore);
}
