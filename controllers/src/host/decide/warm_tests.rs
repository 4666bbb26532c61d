use super::super::act::Outcome;
use super::super::record::status;
use super::tests::{at, host, limits, waits_for};
use super::*;
use rackwright_api::common::UidReference;
use rackwright_api::conditions::{find, is_true};
use rackwright_api::host::{AgentStatus, Maintenance, Phase, Stage, WarmOrder};
use rackwright_bmc::BootDevice;

/// A free host that a pool wants warm.
fn wanted() -> HostView {
    let mut view = host().inspected();
    view.spec.warm = Some(WarmOrder {
        pool: UidReference { namespace: "ns".into(), name: "web".into(), uid: "pool".into() },
        id: "order".into(),
        image: None,
        until: None,
    });
    view
}

/// It is being prepared since 0.
fn preparing() -> HostView {
    let mut view = wanted().operation(OperationKind::Prepare, Stage::Booting).power(Some(Power::On));
    view.status.operation.as_mut().expect("an operation").claim_uid = Some("order".into());
    view
}

/// Its agent has prepared it at 100.
fn prepared() -> HostView {
    let mut view = preparing().agent(None);
    view.status.agent.as_mut().expect("an agent").prepared_at = Some(at(100));
    view
}

/// It waits since 100.
fn warm() -> HostView {
    let mut view = prepared();
    let operation = view.status.operation.as_mut().expect("an operation");
    (operation.stage, operation.stage_since, operation.deadline) = (Stage::Warm, at(100), at(100) + limits().warm);
    view
}

/// The deployment that a claim at 200 has brought.
fn handing_over() -> HostView {
    let mut view = warm().claimed();
    let Step::Record(operation) = view.decide(200) else { panic!("a claim of a warm host is handed over") };
    view.status.operation = Some(operation);
    view
}

fn retried(step: Step) -> (Operation, String) {
    match step {
        Step::Retry(operation, reason) => (operation, reason),
        other => panic!("{other:?} is no retry"),
    }
}

#[test]
fn a_host_that_a_pool_wants_warm_is_prepared_for_this_very_order() {
    let Step::Record(operation) = wanted().decide(0) else { panic!("an operation is recorded") };
    assert_eq!((operation.kind, operation.claim_uid.as_deref()), (OperationKind::Prepare, Some("order")));
    assert_eq!(operation.stage, Stage::Booting, "it is off");
    assert_eq!(waits_for(&preparing().decide(10)), "BootingRamdisk");
}

#[test]
fn nothing_is_prepared_for_a_pool_that_is_gone_or_where_a_person_wants_it_off_or_when_the_bmc_is_silent() {
    let orphan = HostView { warm_wanted: false, ..wanted() };
    assert_eq!(orphan.decide(0), Step::Rest);
    let mut off = wanted();
    off.spec.power = PowerWish::Off;
    assert_eq!(off.decide(0), Step::Rest);
    assert_eq!(waits_for(&wanted().silent().decide(0)), "BMCUnreachable");
    let mut maintained = wanted();
    maintained.spec.maintenance = Some(Maintenance { reason: "DIMM".into() });
    assert_eq!(waits_for(&maintained.decide(0)), "Maintenance");
}

#[test]
fn a_prepared_host_lets_go_of_its_media_and_then_waits() {
    assert_eq!(prepared().media(MediaSeen::Ours).decide(101), Step::EjectMedia);
    assert_eq!(prepared().media(MediaSeen::Empty).boots(BootDevice::Cd).decide(101), Step::SetBoot(BootDevice::Disk));
    let stuck = prepared().media(MediaSeen::Ours).decide(100 + limits().drive.as_secs());
    for step in [prepared().media(MediaSeen::Empty).decide(101), stuck] {
        let Step::Record(operation) = step else { panic!("{step:?}") };
        assert_eq!((operation.stage, operation.id.as_str()), (Stage::Warm, "op"), "the same operation goes on");
    }
    assert_eq!(warm().decide(5000), Step::Rest);
    assert_eq!(warm().silent().decide(5000), Step::Rest, "a silent BMC changes nothing");
}

#[test]
fn a_host_can_be_claimed_while_it_is_made_warm_and_once_it_is() {
    for (view, reason) in [(preparing(), "Preparing"), (preparing().agent(None), "Preparing"), (warm(), "Warm")] {
        let step = view.decide(200);
        let status = status(&view, &step, &Outcome::Nothing, at(200), &limits());
        assert_eq!(status.phase, Some(Phase::Available), "{step:?}");
        assert!(is_true(&status.conditions, "Available"), "{:?}", status.conditions);
        let ready = find(&status.conditions, "Ready").expect("is told");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", reason));
    }
}

#[test]
fn a_claim_of_a_warm_host_is_handed_to_the_agent_that_waits() {
    let view = handing_over();
    let operation = view.status.operation.as_ref().expect("an operation");
    assert_eq!((operation.kind, operation.claim_uid.as_deref()), (OperationKind::Deploy, Some("machine")));
    assert_eq!((operation.id.as_str(), operation.takes_over.as_deref()), ("fresh", Some("op")));
    assert_eq!(waits_for(&view.decide(201)), "HandingOver");
    let mut taken = view.agent(None);
    taken.status.agent = Some(AgentStatus { operation_id: "fresh".into(), ..taken.status.agent.expect("an agent") });
    assert_eq!(waits_for(&taken.decide(400)), AGENT_WORKING);
}

#[test]
fn an_agent_that_does_not_take_over_in_time_costs_that_time_and_no_try() {
    let late = 200 + limits().hand_over.as_secs();
    for (view, second, reason) in [
        (handing_over(), late, "WarmAgentSilent"),
        (handing_over().power(Some(Power::Off)), 201, "AgentLost"),
        (handing_over().silent(), late, "WarmAgentSilent"),
    ] {
        let (operation, why) = retried(view.decide(second));
        assert_eq!(why, reason);
        assert_eq!((operation.attempt, operation.takes_over), (1, None), "a ramdisk is booted as ever");
    }
}

#[test]
fn a_claim_of_a_host_that_is_not_warm_yet_or_any_more_boots_a_ramdisk() {
    let too_old = 100 + limits().warm.as_secs();
    for (view, second) in [
        (preparing().claimed(), 200),
        (prepared().claimed(), 200),
        (warm().claimed().power(Some(Power::Off)), 200),
        (warm().claimed(), too_old),
    ] {
        let Step::Record(operation) = view.decide(second) else { panic!("an operation is recorded") };
        assert_eq!((operation.kind, operation.takes_over), (OperationKind::Deploy, None));
    }
}

#[test]
fn a_host_that_was_handed_over_is_started_from_its_disk_after_it_was_seen_off() {
    let mut view = handing_over().deployed();
    view.status.operation.as_mut().expect("an operation").id = "op".into();
    let on = view.clone().media(MediaSeen::Empty).power(Some(Power::On));
    assert_eq!(waits_for(&on.decide(20)), "AgentPoweringOff", "an empty drive tells nothing here");
    let Step::Record(operation) = view.media(MediaSeen::Empty).power(Some(Power::Off)).decide(20) else {
        panic!("the stage is recorded")
    };
    assert_eq!(operation.stage, Stage::StartingDisk);
}

#[test]
fn a_host_that_goes_off_while_it_is_warm_is_prepared_anew_and_not_for_ever() {
    let (operation, _) = retried(warm().power(Some(Power::Off)).decide(200));
    assert_eq!(operation.attempt, 2);
    let long = 100 + limits().operation.as_secs();
    let (operation, _) = retried(warm().attempt(3).power(Some(Power::Off)).decide(long));
    assert_eq!(operation.attempt, 1, "it was warm for long: the tries count anew");
    assert!(matches!(warm().attempt(3).power(Some(Power::Off)).decide(200), Step::Break(_)));
}

#[test]
fn a_warm_host_is_prepared_anew_when_it_has_waited_for_long_or_another_image_is_wanted() {
    let Step::Record(operation) = warm().decide(100 + limits().warm.as_secs()) else { panic!("it is too old") };
    assert_eq!((operation.kind, operation.stage), (OperationKind::Prepare, Stage::PoweringOff));
    let mut renewed = warm();
    renewed.spec.warm.as_mut().expect("an order").id = "next".into();
    let Step::Record(operation) = renewed.decide(200) else { panic!("the order is another") };
    assert_eq!((operation.claim_uid.as_deref(), operation.stage), (Some("next"), Stage::PoweringOff));
}

#[test]
fn a_host_that_nobody_wants_warm_any_more_goes_off_with_an_empty_drive() {
    let cold = |mut view: HostView| {
        view.spec.warm = None;
        view
    };
    assert_eq!(cold(warm()).decide(200), Step::Power(PowerTarget::Off));
    assert_eq!(cold(preparing()).power(Some(Power::Off)).media(MediaSeen::Ours).decide(200), Step::EjectMedia);
    let device = cold(preparing()).power(Some(Power::Off)).media(MediaSeen::Empty).boots(BootDevice::Cd).decide(200);
    assert_eq!(device, Step::SetBoot(BootDevice::Disk));
    assert_eq!(cold(warm()).power(Some(Power::Off)).decide(200), Step::Finish);
    let mut maintained = cold(warm());
    maintained.spec.maintenance = Some(Maintenance { reason: "DIMM".into() });
    assert_eq!(maintained.decide(200), Step::Finish, "somebody has their hands in it");
}
