use super::super::act::Outcome;
use super::super::record::status;
use super::super::view::{HardwareSeen, Place};
use super::*;
use jiff::SignedDuration;
use rackwright_api::common::{LocalReference, UidReference};
use rackwright_api::conditions::find;
use rackwright_api::host::*;
use rackwright_api::installer::{ClaimedInstaller, InstallerFile};
use rackwright_bmc::{Bootable, System};
use rackwright_protocol::facts::ImageFormat;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a valid time")
}

pub(super) const UUID: &str = "7261636b-7772-4967-8874-000000010101";

pub(super) fn limits() -> Limits {
    Limits::default()
}

/// A host that was never seen before: registered, held, off, its BMC answers.
pub(super) fn host() -> HostView {
    HostView {
        name: "a01-u07".into(),
        uid: "host-uid".into(),
        generation: Some(1),
        spec: HostSpec {
            rack: "a01".into(),
            unit: Some(7),
            bmc: Bmc { address: "https://10.1.1.7".into(), credentials_ref: None, trust: None },
            boot_mac_address: "52:54:00:00:00:07".into(),
            root_device: None,
            boot_ways: Vec::new(),
            ramdisk: None,
            power: PowerWish::Auto,
            maintenance: None,
            retire: None,
            claim: None,
            warm: None,
            wipe: None,
            deployed: None,
            reservation: None,
            wiped: None,
            broken: None,
        },
        status: HostStatus::default(),
        deleting: false,
        held: true,
        paused: false,
        repaired: None,
        inspect: false,
        place: Ok(Place {
            datacenter: "osl1".into(),
            region: "eu".into(),
            boot_url: "https://10.1.0.5:8443".into(),
            firmware_url: None,
        }),
        twin: None,
        bmc: Observed::Silent(Problem { reason: "BMCUnreachable", message: "no answer".into() }),
        drive_wrong_since: None,
        hardware: None,
        consumer: Consumer::None,
        warm_wanted: true,
        fresh_id: "fresh".into(),
    }
    .power(Some(Power::Off))
}

impl HostView {
    pub(super) fn power(mut self, power: Option<Power>) -> HostView {
        let media = self.media_seen();
        let bootable = Bootable { cd: true, ..Bootable::default() };
        self.bmc = Observed::Seen { system: System { power, bootable, ..System::default() }, media };
        self
    }

    fn media_seen(&self) -> MediaSeen {
        match &self.bmc {
            Observed::Seen { media, .. } => *media,
            Observed::Silent(_) => MediaSeen::Unread,
        }
    }

    pub(super) fn media(mut self, seen: MediaSeen) -> HostView {
        if let Observed::Seen { media, .. } = &mut self.bmc {
            *media = seen;
        }
        self
    }

    pub(super) fn boots(mut self, device: BootDevice) -> HostView {
        if let Observed::Seen { system, .. } = &mut self.bmc {
            system.boot = device;
        }
        self
    }

    pub(super) fn silent(mut self) -> HostView {
        self.bmc = Observed::Silent(Problem { reason: "BMCUnreachable", message: "no answer".into() });
        self
    }

    pub(super) fn inspected(mut self) -> HostView {
        let (system_uuid, boot_mode) = (Some(UUID.into()), Some("UEFI".into()));
        self.hardware =
            Some(HardwareSeen { operation_id: "op".into(), at: at(0), system_uuid, boot_mode, largest_disk: 4 << 40 });
        self
    }

    pub(super) fn claimed(mut self) -> HostView {
        self = self.inspected();
        self.consumer = Consumer::Present;
        self.spec.claim = Some(Claim {
            consumer: UidReference { namespace: "ns".into(), name: "web-1".into(), uid: "machine".into() },
            cluster_name: "prod".into(),
            image: ClaimedImage {
                name: "debian".into(),
                url: "http://images/debian".into(),
                digest: "sha256:00".into(),
                format: ImageFormat::Raw,
                config_drive: Default::default(),
                final_boot: Default::default(),
                installer: None,
            },
            user_data: LocalReference { name: "web-1".into() },
            hostname: "web-1".into(),
            provider_id: "rackwright://ns/a01-u07/machine".into(),
            claimed_at: at(0),
        });
        self
    }

    pub(super) fn deployed(mut self) -> HostView {
        self = self.claimed();
        self.spec.deployed = Some(Deployed {
            final_boot: Default::default(),
            claim_uid: "machine".into(),
            operation_id: "op".into(),
            digest: "sha256:00".into(),
            device: "/dev/sda".into(),
            at: at(10),
        });
        self
    }

    pub(super) fn released(mut self) -> HostView {
        self = self.deployed();
        self.consumer = Consumer::None;
        self.spec.claim = None;
        self.spec.wipe = Some(WipeOrder {
            claim_uid: "machine".into(),
            released_by: "web-1".into(),
            policy: WipePolicy::Metadata,
            ordered_at: at(20),
        });
        self
    }

    pub(super) fn operation(mut self, kind: OperationKind, stage: Stage) -> HostView {
        let claim_uid = (kind != OperationKind::Inspect).then(|| "machine".to_string());
        self.status.operation = Some(Operation {
            way: None,
            takes_over: None,
            system_uuid: None,
            id: "op".into(),
            kind,
            claim_uid,
            stage,
            attempt: 1,
            started_at: at(0),
            stage_since: at(0),
            deadline: at(1800),
        });
        self.status.phase = Some(Phase::Inspecting);
        self
    }

    pub(super) fn attempt(mut self, attempt: i32) -> HostView {
        self.status.operation.as_mut().expect("an operation").attempt = attempt;
        self
    }

    pub(super) fn agent(mut self, failure: Option<&str>) -> HostView {
        self.status.agent = Some(AgentStatus {
            heard_at: Some(at(5)),
            bytes_per_second: None,
            steps: Vec::new(),
            image_digest: None,
            prepared_at: None,
            operation_id: "op".into(),
            session_digest: "digest".into(),
            since: at(5),
            step: None,
            percent: None,
            failure: failure.map(|reason| AgentFailure { reason: reason.into(), message: "said the agent".into() }),
        });
        self
    }

    pub(super) fn broken(mut self, reason: &str) -> HostView {
        self.spec.broken = Some(Broken { reason: reason.into(), message: "a story".into(), since: at(0) });
        self
    }

    pub(super) fn decide(&self, second: i64) -> Step {
        decide(self, at(second), &limits())
    }
}

pub(super) fn waits_for(step: &Step) -> &str {
    match step {
        Step::Wait(wait) => &wait.reason,
        other => panic!("not a wait: {other:?}"),
    }
}

#[test]
fn a_new_host_is_held_before_anything_is_done_to_it() {
    let host = HostView { held: false, ..host() };
    assert_eq!(host.decide(1), Step::Hold);
}

#[test]
fn an_operation_is_recorded_before_its_first_act() {
    let Step::Record(operation) = host().decide(7) else { panic!("not recorded") };
    assert_eq!((operation.kind, operation.stage, operation.attempt), (OperationKind::Inspect, Stage::Booting, 1));
    assert_eq!((operation.id.as_str(), operation.deadline), ("fresh", at(7) + limits().operation));
}

#[test]
fn a_powered_on_host_is_switched_off_before_it_boots_the_ramdisk() {
    let Step::Record(operation) = host().power(Some(Power::On)).decide(1) else { panic!("not recorded") };
    assert_eq!(operation.stage, Stage::PoweringOff);
    let on = host().operation(OperationKind::Inspect, Stage::PoweringOff).power(Some(Power::On));
    assert_eq!(on.decide(2), Step::Power(PowerTarget::Off));
    let Step::Record(next) = on.power(Some(Power::Off)).decide(3) else { panic!("not recorded") };
    assert_eq!((next.stage, next.stage_since, next.id.as_str()), (Stage::Booting, at(3), "op"));
}

#[test]
fn media_goes_in_then_the_boot_device_is_set_then_the_power_goes_on() {
    let booting = || host().operation(OperationKind::Inspect, Stage::Booting);
    assert_eq!(booting().media(MediaSeen::Empty).decide(1), Step::InsertMedia);
    assert_eq!(booting().media(MediaSeen::Other).decide(1), Step::InsertMedia);
    assert_eq!(booting().media(MediaSeen::Ours).decide(1), Step::SetBoot(BootDevice::Cd));
    assert_eq!(booting().media(MediaSeen::Ours).boots(BootDevice::Cd).decide(1), Step::Power(PowerTarget::On));
}

#[test]
fn unknown_power_leads_to_no_act() {
    let cases = [
        host().operation(OperationKind::Inspect, Stage::PoweringOff),
        host().operation(OperationKind::Inspect, Stage::Booting),
        host().claimed().operation(OperationKind::Deploy, Stage::Booting),
        host().deployed(),
        host().deployed().operation(OperationKind::PowerOn, Stage::Booting),
        host().deployed().operation(OperationKind::Deploy, Stage::Booting),
        host().inspected(),
        host().broken("NoPower"),
    ];
    for view in cases {
        for unknown in [view.clone().power(None), view.clone().silent()] {
            let step = unknown.decide(1);
            assert!(
                !matches!(step, Step::Power(_) | Step::InsertMedia | Step::EjectMedia | Step::SetBoot(_)),
                "{step:?}"
            );
        }
    }
}

#[test]
fn every_wait_of_an_operation_has_an_end() {
    let waiting = [
        host().operation(OperationKind::Inspect, Stage::Booting).power(Some(Power::On)),
        host().operation(OperationKind::Inspect, Stage::Booting).power(Some(Power::On)).agent(None),
        host().operation(OperationKind::Inspect, Stage::PoweringOff).power(None),
        host().claimed().operation(OperationKind::Deploy, Stage::Booting).silent(),
    ];
    for view in waiting {
        let Step::Wait(wait) = view.decide(1) else { panic!("not a wait") };
        let end = wait.until.expect("an end").as_second();
        assert!(matches!(view.decide(end), Step::Retry(..)), "a second try: {wait:?}");
        assert!(matches!(view.attempt(3).decide(end), Step::Break(_)), "then a person: {wait:?}");
    }
}

#[test]
fn a_new_try_has_a_new_identifier_so_that_the_last_tries_agent_is_refused() {
    let view = host().operation(OperationKind::Inspect, Stage::Booting).power(Some(Power::On));
    let Step::Retry(operation, _) = view.decide(1800) else { panic!("not recorded") };
    assert_eq!((operation.id.as_str(), operation.attempt, operation.stage), ("fresh", 2, Stage::PoweringOff));
}

#[test]
fn a_host_that_does_not_switch_on_is_given_to_a_person_after_the_last_try() {
    let at_stage = |stage| host().operation(OperationKind::Inspect, stage).media(MediaSeen::Ours).boots(BootDevice::Cd);
    assert!(
        matches!(at_stage(Stage::Booting).decide(180), Step::Record(counted) if counted.stage == Stage::PoweringOn)
    );
    let view = at_stage(Stage::PoweringOn);
    assert_eq!(view.decide(179), Step::Power(PowerTarget::On));
    assert!(matches!(view.decide(180), Step::Retry(operation, _) if operation.attempt == 2));
    assert!(matches!(view.attempt(3).decide(180), Step::Break(broken) if broken.reason == "NoPower"));
}

#[test]
fn media_that_cannot_be_inserted_never_breaks_a_host() {
    let view = host().operation(OperationKind::Inspect, Stage::Booting).media(MediaSeen::Empty);
    assert_eq!(view.decide(1700), Step::InsertMedia);
    let step = view.attempt(3).decide(1800);
    assert!(matches!(&step, Step::Retry(next, _) if next.attempt == 3 && next.id == "fresh"), "not counted: {step:?}");
}

#[test]
fn a_deployment_that_nobody_looked_after_for_long_is_not_called_a_dead_host() {
    let view = host().deployed().operation(OperationKind::Deploy, Stage::Booting).media(MediaSeen::Empty);
    assert_eq!(view.decide(100_000), Step::Finish);
    assert!(matches!(host().deployed().decide(100_000), Step::Record(next) if next.kind == OperationKind::PowerOn));
}

#[test]
fn a_machine_that_was_released_right_after_its_deployment_is_not_started() {
    let mut view = host().released().operation(OperationKind::Deploy, Stage::Booting).media(MediaSeen::Empty);
    view.spec.deployed.as_mut().expect("deployed").operation_id = "op".into();
    assert!(matches!(view.decide(30), Step::Record(next) if next.kind == OperationKind::Wipe));
}

#[test]
fn a_host_in_maintenance_is_neither_switched_on_nor_begun_anything_with() {
    let maintained = |mut view: HostView| {
        view.spec.maintenance = Some(Maintenance { reason: "DIMM".into() });
        view
    };
    assert_eq!(maintained(host().deployed()).decide(100), Step::Rest);
    assert_eq!(waits_for(&maintained(host()).decide(1)), "Maintenance");
    assert_eq!(waits_for(&maintained(host().released()).decide(21)), "Maintenance");
}

#[test]
fn a_word_of_repair_on_a_host_that_is_not_broken_is_taken_off() {
    assert_eq!(HostView { repaired: Some("early".into()), ..host().inspected() }.decide(1), Step::Mend);
}

#[test]
fn after_an_inspection_the_media_goes_out_and_the_operation_is_over() {
    let done = || host().inspected().operation(OperationKind::Inspect, Stage::Booting);
    assert_eq!(waits_for(&done().power(Some(Power::On)).media(MediaSeen::Ours).decide(1)), "AgentPoweringOff");
    assert_eq!(done().power(Some(Power::On)).media(MediaSeen::Ours).decide(180), Step::Power(PowerTarget::Off));
    assert_eq!(done().media(MediaSeen::Ours).decide(1), Step::EjectMedia);
    assert_eq!(done().media(MediaSeen::Empty).boots(BootDevice::Cd).decide(1), Step::SetBoot(BootDevice::Disk));
    assert_eq!(done().media(MediaSeen::Empty).decide(1), Step::Finish);
}

#[test]
fn after_a_deployment_the_host_boots_its_disk() {
    let done = || host().deployed().operation(OperationKind::Deploy, Stage::Booting);
    assert_eq!(done().media(MediaSeen::Ours).decide(11), Step::EjectMedia);
    assert_eq!(done().media(MediaSeen::Empty).decide(11), Step::Power(PowerTarget::On));
    assert_eq!(done().power(Some(Power::On)).media(MediaSeen::Empty).decide(12), Step::Finish);
    assert_eq!(host().deployed().power(Some(Power::On)).decide(20), Step::Rest);
}

#[test]
fn an_image_that_is_wrong_is_tried_again_after_a_pause_and_never_breaks_the_host() {
    let failed = host().claimed().operation(OperationKind::Deploy, Stage::Booting).agent(Some("ImageDigestMismatch"));
    let Step::Wait(wait) = failed.decide(6) else { panic!("not a wait") };
    assert_eq!((wait.reason.as_str(), wait.until), ("ImageDigestMismatch", Some(at(5) + limits().retry)));
    assert!(wait.idle, "nothing on the hardware will change it");
    assert!(matches!(failed.attempt(9).decide(100_000), Step::Retry(operation, _) if operation.attempt == 10));
}

#[test]
fn a_wipe_that_fails_breaks_the_host_in_the_end() {
    let failed = host().released().operation(OperationKind::Wipe, Stage::Booting).agent(Some("WipeFailed"));
    assert!(matches!(failed.decide(6), Step::Retry(operation, _) if operation.attempt == 2));
    assert!(matches!(failed.attempt(3).decide(6), Step::Break(broken) if broken.reason == "WipeFailed"));
}

#[test]
fn an_agent_that_is_not_heard_of_any_more_is_given_up_long_before_the_deadline() {
    let works = || host().claimed().operation(OperationKind::Deploy, Stage::Booting).agent(None).power(Some(Power::On));
    let silence = limits().agent_silence.as_secs();
    assert_eq!(waits_for(&works().decide(5 + silence - 1)), "AgentWorking");
    let Step::Retry(next, reason) = works().decide(5 + silence) else { panic!("not begun anew") };
    assert_eq!((next.attempt, reason.as_str()), (2, "AgentSilent"));

    let mut long = works();
    let agent = long.status.agent.as_mut().expect("an agent");
    agent.heard_at = Some(agent.since + SignedDuration::from_hours(40));
    long.status.operation.as_mut().expect("an operation").deadline = at(1_000_000);
    let hours = |hours: i64| 5 + hours * 3600;
    assert_eq!(waits_for(&long.decide(hours(50) - 1)), "AgentWorking", "a quarter of what it has worked");
    assert!(matches!(long.decide(hours(50)), Step::Retry(..)));

    let mut unheard = works();
    unheard.status.agent.as_mut().expect("an agent").heard_at = None;
    assert_eq!(waits_for(&unheard.decide(5 + silence)), "AgentWorking");
    let mut installs = works();
    let claim = installs.spec.claim.as_mut().expect("a claim");
    claim.image.installer = Some(ClaimedInstaller {
        initrd: InstallerFile { url: "http://images/initrd".into(), digest: "sha256:00".into() },
        kernel_arguments: Vec::new(),
        kickstart: None,
        preseed: None,
    });
    assert_eq!(waits_for(&installs.decide(5 + silence)), "AgentWorking");
    let Step::Retry(_, reason) = installs.decide(1800) else { panic!("not begun anew") };
    assert_eq!(reason, "InstallerTooSlow");
}

#[test]
fn a_wipe_of_every_block_has_as_much_time_as_the_largest_disk_takes() {
    let deadline = |policy| {
        let mut host = host().released();
        host.spec.wipe.as_mut().expect("an order").policy = policy;
        let Step::Record(operation) = host.decide(21) else { panic!("not recorded") };
        operation.deadline.duration_since(at(21) + limits().operation)
    };
    assert_eq!(deadline(WipePolicy::Metadata), SignedDuration::ZERO);
    for policy in [WipePolicy::Discard, WipePolicy::SecureErase, WipePolicy::Overwrite] {
        assert_eq!(deadline(policy), SignedDuration::from_secs((4 << 40) / 25_000_000), "two days for 4 TiB");
    }
}

#[test]
fn a_host_that_goes_off_under_its_agent_is_begun_anew() {
    let lost = host().claimed().operation(OperationKind::Deploy, Stage::Booting).agent(None);
    assert!(matches!(lost.decide(6), Step::Retry(operation, _) if operation.attempt == 2 && operation.id == "fresh"));
}

#[test]
fn a_released_host_is_wiped_before_anything_else() {
    let Step::Record(operation) = host().released().decide(21) else { panic!("not recorded") };
    assert_eq!((operation.kind, operation.claim_uid.as_deref()), (OperationKind::Wipe, Some("machine")));
}

#[test]
fn a_provisioned_host_that_lost_its_power_is_switched_on_and_then_given_to_a_person() {
    let Step::Record(operation) = host().deployed().decide(100) else { panic!("not recorded") };
    assert_eq!(operation.kind, OperationKind::PowerOn);
    let trying = host().deployed().operation(OperationKind::PowerOn, Stage::Booting);
    assert_eq!(trying.decide(101), Step::Power(PowerTarget::On));
    assert!(matches!(trying.clone().attempt(3).decide(1800), Step::Break(broken) if broken.reason == "NoPower"));
    assert_eq!(trying.power(Some(Power::On)).decide(102), Step::Finish);
}

#[test]
fn a_broken_host_is_fenced_and_waits_for_a_person() {
    assert_eq!(host().inspected().broken("WipeFailed").power(Some(Power::On)).decide(1), Step::Power(PowerTarget::Off));
    let off = host().inspected().broken("WipeFailed");
    assert_eq!(waits_for(&off.decide(1)), "WipeFailed");
    assert_eq!(HostView { repaired: Some("new PSU".into()), ..off }.decide(1), Step::Mend);
}

#[test]
fn a_host_that_is_to_be_looked_at_anew_is_so_before_it_is_wiped() {
    let anew = HostView { inspect: true, ..host().released() };
    assert!(matches!(anew.decide(21), Step::Record(next) if next.kind == OperationKind::Inspect));
    let unknown = HostView { hardware: None, ..anew };
    assert!(matches!(unknown.decide(21), Step::Record(next) if next.kind == OperationKind::Wipe));
}

#[test]
fn a_wish_to_be_looked_at_anew_is_met_by_an_inspection_and_by_nothing_else() {
    let mut wiped = host().released().operation(OperationKind::Wipe, Stage::Booting).media(MediaSeen::Empty);
    wiped.spec.wiped =
        Some(Wiped { claim_uid: "machine".into(), operation_id: "op".into(), disks: vec![], at: at(40) });
    assert_eq!(HostView { inspect: true, ..wiped }.decide(41), Step::Finish);
    let seen = host().inspected().operation(OperationKind::Inspect, Stage::Booting).media(MediaSeen::Empty);
    assert_eq!(HostView { inspect: true, ..seen }.decide(1), Step::Inspected);
}

#[test]
fn what_broke_a_host_is_over_before_the_host_is_mended() {
    let given_up = host().deployed().operation(OperationKind::Deploy, Stage::Booting).broken("NoPower");
    let mended = HostView { repaired: Some("new PSU".into()), ..given_up };
    assert_eq!(mended.decide(10_000), Step::Finish);
}

#[test]
fn a_machine_that_runs_on_a_host_with_power_again_is_left_running() {
    assert_eq!(host().deployed().broken("NoPower").power(Some(Power::On)).decide(1), Step::Mend);
    assert_eq!(waits_for(&host().deployed().broken("AgentLost").power(Some(Power::On)).decide(1)), "AgentLost");
}

#[test]
fn a_claim_that_no_machine_stands_by_becomes_an_order_to_wipe() {
    for consumer in [Consumer::Gone, Consumer::Elsewhere] {
        let step = HostView { consumer, ..host().claimed() }.decide(1);
        assert!(matches!(&step, Step::OrderWipe(order) if order.claim_uid == "machine"), "{step:?}");
    }
}

#[test]
fn nothing_is_wiped_because_a_machine_vanished() {
    let deployed = HostView { consumer: Consumer::Gone, ..host().deployed() };
    assert_eq!(waits_for(&deployed.decide(1)), "ConsumerGone");
    let begun =
        HostView { consumer: Consumer::Gone, ..host().claimed().operation(OperationKind::Deploy, Stage::Booting) };
    assert_eq!(waits_for(&begun.decide(1)), "ConsumerGone");
}

#[test]
fn a_deleted_host_stays_while_a_machine_uses_it_and_until_it_is_wiped() {
    let deleted = |view: HostView| HostView { deleting: true, ..view };
    assert_eq!(deleted(host().deployed()).power(Some(Power::On)).decide(1), Step::Rest);
    assert!(matches!(deleted(host().released()).decide(21), Step::Record(_)));
    assert_eq!(deleted(host().inspected()).decide(1), Step::LetGo);
    assert_eq!(deleted(host().inspected()).power(Some(Power::On)).decide(1), Step::Power(PowerTarget::Off));
    assert_eq!(deleted(host().silent()).decide(1), Step::LetGo);
}

#[test]
fn the_second_of_two_hosts_with_one_bmc_is_left_alone_and_says_why() {
    let twin = || Some(super::super::view::Twin { name: "first".into(), field: "bmc.address", rank: "older" });
    let step = HostView { twin: twin(), ..host() }.decide(1);
    assert_eq!(waits_for(&step), "SameMachineTwice");
    let sentence = "spec.bmc.address is the same as that of host first, which is older; correct one of them";
    assert!(matches!(step, Step::Wait(wait) if wait.message == sentence));
    let uses = [host().claimed(), host().released(), host().deployed(), host().inspected().power(Some(Power::On))];
    for view in uses {
        assert_eq!(waits_for(&HostView { twin: twin(), ..view }.decide(1)), "SameMachineTwice");
    }
}

#[test]
fn a_deleted_host_with_the_bmc_of_another_goes_without_switching_it_off() {
    let twin = Some(super::super::view::Twin { name: "first".into(), field: "bmc.address", rank: "in use" });
    let view = HostView { twin, deleting: true, ..host().power(Some(Power::On)) };
    assert_eq!(view.decide(1), Step::LetGo);
}

#[test]
fn a_rack_that_does_not_exist_is_named() {
    let place = Err(Problem { reason: "PlaceMissing", message: "Rack a01 (spec.rack) does not exist".into() });
    assert_eq!(waits_for(&HostView { place, ..host() }.decide(1)), "PlaceMissing");
}

#[test]
fn a_paused_host_is_not_touched() {
    let paused = HostView { paused: true, held: false, ..host().released() };
    assert_eq!(paused.decide(1), Step::Rest);
}

#[test]
fn a_free_host_is_switched_as_a_person_wants_it() {
    let free = || host().inspected();
    let wants = |power| HostView { spec: HostSpec { power, ..free().spec }, ..free() };
    assert_eq!(free().decide(1), Step::Rest);
    assert_eq!(free().power(Some(Power::On)).decide(1), Step::Power(PowerTarget::Off));
    assert_eq!(wants(PowerWish::On).decide(1), Step::Power(PowerTarget::On));
    let maintained = HostSpec { maintenance: Some(Maintenance { reason: "DIMM".into() }), ..free().spec };
    assert_eq!(HostView { spec: maintained, ..free().power(Some(Power::On)) }.decide(1), Step::Rest);
}

#[test]
fn a_retired_host_is_wiped_in_its_own_name_and_then_off_for_good() {
    let mut retiring = host().inspected();
    retiring.spec.retire = Some(Retire { wipe: WipePolicy::SecureErase });
    let Step::OrderWipe(order) = retiring.decide(30) else { panic!("no wipe ordered") };
    assert_eq!((order.claim_uid.as_str(), order.policy), ("host/a01-u07", WipePolicy::SecureErase));
    retiring.spec.wipe = Some(order);
    assert!(matches!(retiring.decide(31), Step::Record(operation) if operation.kind == OperationKind::Wipe));
    retiring.spec.wiped =
        Some(Wiped { claim_uid: "host/a01-u07".into(), operation_id: "op".into(), disks: vec![], at: at(40) });
    assert_eq!(retiring.decide(41), Step::Rest);
    let told = status(&retiring, &Step::Rest, &Outcome::Nothing, at(41), &limits());
    assert_eq!(told.phase, Some(Phase::Retired));
}

#[test]
fn the_same_situation_gives_the_same_status() {
    let view = host().operation(OperationKind::Inspect, Stage::Booting).power(Some(Power::On));
    let step = view.decide(30);
    let first = status(&view, &step, &Outcome::Nothing, at(30), &limits());
    let again = HostView { status: first.clone(), ..view };
    let second = status(&again, &again.decide(60), &Outcome::Nothing, at(60), &limits());
    assert_eq!(first, second);
}

#[test]
fn the_steps_inside_a_short_operation_are_not_written() {
    let mut view = host().operation(OperationKind::Inspect, Stage::Booting).media(MediaSeen::Empty);
    view.status.waiting_for = Some("inspection, until 00:30:00".into());
    let step = view.decide(1);
    assert_eq!(status(&view, &step, &Outcome::Done(None), at(1), &limits()), view.status);
    let later = at(0) + limits().quiet + SignedDuration::from_secs(1);
    assert_ne!(status(&view, &step, &Outcome::Done(None), later, &limits()), view.status);
}

#[test]
fn a_host_that_waits_for_a_person_is_not_available() {
    let said = |view: HostView| {
        let told = status(&view, &view.decide(1), &Outcome::Nothing, at(1), &limits());
        let available = find(&told.conditions, "Available").expect("said").clone();
        (told.phase, available.status, available.reason)
    };
    assert_eq!(said(host().inspected()), (Some(Phase::Available), "True".into(), "Free".into()));
    let silent = said(host().inspected().silent());
    assert_eq!(silent, (Some(Phase::Available), "False".into(), "BMCUnreachable".into()));
}

#[test]
fn ready_is_false_with_the_reason_of_the_wait() {
    let view = host().silent();
    let told = status(&view, &view.decide(1), &Outcome::Nothing, at(1), &limits());
    let ready = find(&told.conditions, "Ready").expect("said");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "BMCUnreachable"));
    assert_eq!((told.power.as_deref(), told.phase), (Some("?"), Some(Phase::Registering)));
}

#[test]
fn what_an_operation_came_to_is_told_with_its_end() {
    let deployed = host().deployed().operation(OperationKind::Deploy, Stage::Booting).power(Some(Power::On));
    let inspected = host().inspected().operation(OperationKind::Inspect, Stage::Booting);
    for (view, phase) in [(deployed, Phase::Provisioned), (inspected, Phase::Available)] {
        let view = view.media(MediaSeen::Empty);
        assert_eq!(view.decide(12), Step::Finish);
        let told = status(&view, &Step::Finish, &Outcome::Nothing, at(12), &limits());
        assert_eq!((told.phase, told.operation.as_ref(), told.waiting_for.as_ref()), (Some(phase), None, None));
        let next = HostView { status: told.clone(), ..view };
        assert_eq!(status(&next, &next.decide(13), &Outcome::Nothing, at(13), &limits()), told, "no second write");
    }
}
