//! Ways to the ramdisk and out of it: which is tried when, what tells early that one failed, kexec, the wrong machine, and
//! what is written down of it.

use super::super::act::Outcome;
use super::super::record::status;
use super::tests::{UUID, at, host, limits, waits_for};
use super::*;
use rackwright_api::conditions::{find, is_true};
use rackwright_api::host::*;
use rackwright_api::image::FinalBoot;
use rackwright_bmc::Bootable;

const BOTH: [BootWay; 2] = [BootWay::VirtualMedia, BootWay::HTTPBoot];

impl HostView {
    fn offers(mut self, ways: &[BootWay]) -> HostView {
        if let Observed::Seen { system, .. } = &mut self.bmc {
            let has = |way| ways.contains(&way);
            system.bootable =
                Bootable { cd: has(BootWay::VirtualMedia), http: has(BootWay::HTTPBoot), pxe: has(BootWay::PXE) };
        }
        self
    }

    fn wants(mut self, ways: &[BootWay]) -> HostView {
        self.spec.boot_ways = ways.to_vec();
        self
    }

    fn shows_uuid(mut self, uuid: &str) -> HostView {
        if let Observed::Seen { system, .. } = &mut self.bmc {
            system.uuid = Some(uuid.into());
        }
        self
    }

    fn by(mut self, way: BootWay) -> HostView {
        self.status.operation.as_mut().expect("an operation").way = Some(way);
        self
    }

    fn bios(mut self) -> HostView {
        self = self.inspected();
        self.hardware.as_mut().expect("inspected").boot_mode = Some("BIOS".into());
        self
    }

    fn kexec(mut self) -> HostView {
        self.spec.deployed.as_mut().expect("deployed").final_boot = FinalBoot::Kexec;
        self
    }
}

/// On since it was told to boot its ramdisk by `way`, and nobody called.
fn booting(way: BootWay) -> HostView {
    let media = if way == BootWay::VirtualMedia { MediaSeen::Ours } else { MediaSeen::Empty };
    let on = host().operation(OperationKind::Inspect, Stage::Booting).power(Some(Power::On));
    on.media(media).offers(&BOTH).by(way)
}

fn off(way: BootWay) -> HostView {
    host().operation(OperationKind::Inspect, Stage::Booting).media(MediaSeen::Empty).offers(&BOTH).by(way)
}

/// The way and number of the next try, and why the last one failed.
fn retried(step: Step) -> (Option<BootWay>, i32, String) {
    match step {
        Step::Retry(next, reason) => (next.way, next.attempt, reason),
        other => panic!("not a new try: {other:?}"),
    }
}

#[test]
fn the_first_way_that_the_bmc_can_do_is_tried_first() {
    use BootWay::*;
    let cases: [(&[BootWay], &[BootWay], BootWay); 6] = [
        (&[], &[VirtualMedia, HTTPBoot, PXE], VirtualMedia),
        (&[], &[HTTPBoot, PXE], HTTPBoot),
        (&[HTTPBoot, VirtualMedia], &[VirtualMedia, HTTPBoot], HTTPBoot),
        (&[PXE], &[VirtualMedia, HTTPBoot, PXE], PXE),
        (&[PXE, VirtualMedia], &[VirtualMedia], VirtualMedia),
        (&[HTTPBoot, HTTPBoot, PXE], &[PXE], PXE),
    ];
    for (wanted, offered, way) in cases {
        let Step::Record(operation) = host().wants(wanted).offers(offered).decide(1) else { panic!("not recorded") };
        assert_eq!(operation.way, Some(way), "{wanted:?} of {offered:?}");
    }
}

#[test]
fn a_cd_without_a_drive_is_no_way() {
    let Step::Record(operation) = host().offers(&BOTH).media(MediaSeen::NoDrive).decide(1) else { panic!("recorded") };
    assert_eq!(operation.way, Some(BootWay::HTTPBoot));
}

#[test]
fn a_host_in_bios_mode_fetches_no_url() {
    let claimed = host().claimed().bios().offers(&[BootWay::HTTPBoot, BootWay::PXE]);
    let claimed = HostView { consumer: Consumer::Present, ..claimed };
    let Step::Wait(wait) = claimed.decide(1) else { panic!("not a wait") };
    assert_eq!(wait.reason, "NoBootWay");
    assert!(wait.message.contains("needs UEFI"), "{}", wait.message);
}

#[test]
fn without_any_way_a_person_is_told_what_the_bmc_offers() {
    let Step::Wait(wait) = host().offers(&[BootWay::PXE]).decide(1) else { panic!("not a wait") };
    assert_eq!((wait.reason.as_str(), wait.until, wait.idle), ("NoBootWay", None, true));
    let sentence = "spec.bootWays wants one of VirtualMedia, HTTPBoot (the stock), the BMC offers PXE; correct \
                    spec.bootWays or the BMC";
    assert_eq!(wait.message, sentence);
    assert_eq!(waits_for(&host().offers(&[]).decide(1)), "NoBootWay");
    let lost = off(BootWay::VirtualMedia).offers(&[]).attempt(3);
    assert_eq!(
        waits_for(&lost.media(MediaSeen::NoDrive).decide(1)),
        "NoBootWay",
        "also in the middle, and never broken"
    );
}

#[test]
fn each_way_has_its_own_device() {
    let devices = [(BootWay::HTTPBoot, BootDevice::Http), (BootWay::PXE, BootDevice::Pxe)];
    for (way, device) in devices {
        assert_eq!(off(way).decide(1), Step::SetBoot(device), "no media goes into a drive");
        assert_eq!(off(way).boots(device).decide(1), Step::Power(PowerTarget::On));
    }
    let left = off(BootWay::HTTPBoot).media(MediaSeen::Other).boots(BootDevice::Http);
    assert_eq!(left.decide(1), Step::Power(PowerTarget::On), "what an earlier way left in the drive is no obstacle");
}

#[test]
fn a_way_that_failed_gives_way_to_the_next_and_the_last_to_the_first() {
    let silent = |way| booting(way).decide(900);
    assert_eq!(retried(silent(BootWay::VirtualMedia)), (Some(BootWay::HTTPBoot), 2, "RamdiskSilent".into()));
    assert_eq!(retried(silent(BootWay::HTTPBoot)).0, Some(BootWay::VirtualMedia));
    let only = booting(BootWay::VirtualMedia).offers(&[BootWay::VirtualMedia]);
    assert_eq!(retried(only.decide(900)).0, Some(BootWay::VirtualMedia));
    let unwanted = booting(BootWay::VirtualMedia).wants(&[BootWay::HTTPBoot]);
    assert_eq!(retried(unwanted.decide(900)).0, Some(BootWay::HTTPBoot), "a person has changed the spec");
    assert!(matches!(booting(BootWay::HTTPBoot).attempt(3).decide(900), Step::Break(_)));
}

#[test]
fn a_ramdisk_that_called_home_had_come_by_a_good_way() {
    let failed = booting(BootWay::HTTPBoot).agent(Some("NetworkDown")).decide(6);
    assert_eq!(retried(failed), (Some(BootWay::HTTPBoot), 2, "NetworkDown".into()));
}

#[test]
fn a_way_that_the_bmc_refuses_is_given_up_early_only_for_another() {
    let media = |view: HostView| view.decide(180);
    assert_eq!(media(off(BootWay::VirtualMedia).offers(&[BootWay::VirtualMedia])), Step::InsertMedia);
    let next = retried(media(off(BootWay::VirtualMedia)));
    assert_eq!(next, (Some(BootWay::HTTPBoot), 1, "MediaNotInserted".into()), "the host was not even started");
    let device = off(BootWay::HTTPBoot).boots(BootDevice::Disk);
    assert_eq!(device.decide(179), Step::SetBoot(BootDevice::Http));
    assert_eq!(retried(device.decide(180)), (Some(BootWay::VirtualMedia), 2, "BootDeviceNotSet".into()));
    assert_eq!(device.clone().attempt(3).decide(180), Step::SetBoot(BootDevice::Http), "the last try has all its time");
    assert!(matches!(device.attempt(3).decide(1800), Step::Break(broken) if broken.reason == "BootDeviceNotSet"));
}

#[test]
fn a_url_that_the_bmc_does_not_show_is_cleared_before_the_next() {
    let Step::Record(operation) = host().boots(BootDevice::Http).offers(&BOTH).decide(1) else { panic!("recorded") };
    assert_eq!(operation.stage, Stage::PoweringOff);
    let clearing = host().operation(OperationKind::Inspect, Stage::PoweringOff).boots(BootDevice::Http);
    assert_eq!(clearing.decide(2), Step::SetBoot(BootDevice::Disk));
    assert!(matches!(clearing.boots(BootDevice::Disk).decide(3), Step::Record(next) if next.stage == Stage::Booting));
}

#[test]
fn what_a_silent_bmc_can_do_is_settled_when_it_answers() {
    let begun = host().released().silent().decide(21);
    let Step::Record(operation) = begun else { panic!("not recorded") };
    assert_eq!((operation.way, operation.system_uuid), (Some(BootWay::VirtualMedia), None));
    let answers = host().released().operation(OperationKind::Wipe, Stage::PoweringOff).by(BootWay::VirtualMedia);
    let answers = answers.offers(&[BootWay::HTTPBoot]).shows_uuid(&UUID.to_uppercase());
    let Step::Record(next) = answers.decide(22) else { panic!("not recorded") };
    assert_eq!((next.way, next.system_uuid.as_deref()), (Some(BootWay::HTTPBoot), Some(UUID)));
}

#[test]
fn a_host_that_boots_something_else_is_noticed_at_once() {
    for device in [BootDevice::Other, BootDevice::Pxe] {
        let step = booting(BootWay::VirtualMedia).boots(device).decide(2);
        assert_eq!(retried(step), (Some(BootWay::HTTPBoot), 2, "BootsOtherDevice".into()));
    }
    let other = booting(BootWay::VirtualMedia).media(MediaSeen::Other);
    assert_eq!(retried(other.decide(2)).2, "BootsOldDisk");
    let calls = booting(BootWay::VirtualMedia).media(MediaSeen::Other).agent(None);
    assert_eq!(waits_for(&calls.decide(6)), "AgentWorking", "it called home all the same");
}

#[test]
fn a_used_up_override_is_what_a_ramdisk_on_its_way_looks_like() {
    for way in BOTH {
        assert_eq!(waits_for(&booting(way).decide(2)), "BootingRamdisk");
        assert_eq!(waits_for(&booting(way).boots(ways::device(way)).decide(2)), "BootingRamdisk", "kept for good");
    }
}

#[test]
fn media_that_is_ejected_early_ends_the_try_unless_the_agent_calls_in() {
    let ejected =
        || HostView { drive_wrong_since: Some(at(100)), ..booting(BootWay::VirtualMedia).media(MediaSeen::Empty) };
    assert!(is_drive_wrong(&ejected()));
    let Step::Wait(wait) = ejected().decide(159) else { panic!("not a wait") };
    assert_eq!((wait.reason.as_str(), wait.until), ("MediaEjectedEarly", Some(at(160))));
    assert_eq!(retried(ejected().decide(160)), (Some(BootWay::HTTPBoot), 2, "MediaEjectedEarly".into()));
    assert_eq!(waits_for(&ejected().agent(None).decide(500)), "AgentWorking");
    assert!(!is_drive_wrong(&ejected().agent(None)) && !is_drive_wrong(&booting(BootWay::HTTPBoot)));
}

#[test]
fn a_system_that_the_ramdisk_started_runs_on_while_the_drive_is_emptied() {
    let running = || {
        let done = host().deployed().kexec().operation(OperationKind::Deploy, Stage::Booting).by(BootWay::VirtualMedia);
        HostView { drive_wrong_since: Some(at(12)), ..done.power(Some(Power::On)).media(MediaSeen::Ours) }
    };
    assert!(is_drive_wrong(&running()));
    assert_eq!(running().decide(12), Step::EjectMedia);
    let kept = running().media(MediaSeen::Empty).boots(BootDevice::Cd);
    assert_eq!(kept.decide(13), Step::SetBoot(BootDevice::Disk), "a BMC that keeps the override for good");
    assert_eq!(running().media(MediaSeen::Empty).decide(13), Step::Finish);
    assert_eq!(running().decide(72), Step::Finish, "a drive that lets go of nothing is no failure");
    assert_eq!(running().power(Some(Power::Off)).decide(13), Step::EjectMedia, "it failed: on with a power cycle");
    assert_eq!(running().power(Some(Power::Off)).media(MediaSeen::Empty).decide(13), Step::Power(PowerTarget::On));
}

#[test]
fn a_drive_that_did_not_let_go_is_told_again_when_the_host_is_off() {
    let starting = host().deployed().kexec().operation(OperationKind::PowerOn, Stage::Booting);
    assert_eq!(starting.clone().media(MediaSeen::Ours).decide(1), Step::EjectMedia);
    assert_eq!(
        starting.clone().media(MediaSeen::Ours).decide(20),
        Step::Power(PowerTarget::On),
        "and no longer than that"
    );
    assert_eq!(starting.media(MediaSeen::Other).decide(1), Step::Power(PowerTarget::On), "a person's media is left");
}

#[test]
fn without_a_drive_a_host_that_was_seen_off_runs_its_disk() {
    let done = || host().deployed().operation(OperationKind::Deploy, Stage::Booting).by(BootWay::HTTPBoot);
    let on = done().power(Some(Power::On)).media(MediaSeen::Empty);
    assert_eq!(waits_for(&on.decide(11)), "AgentPoweringOff", "an empty drive tells nothing here");
    let off = done().media(MediaSeen::Empty);
    assert_eq!(off.clone().boots(BootDevice::Http).decide(12), Step::SetBoot(BootDevice::Disk));
    let Step::Record(starting) = off.decide(12) else { panic!("not recorded") };
    assert_eq!((starting.stage, starting.id.as_str()), (Stage::StartingDisk, "op"));
    let mut view = off;
    view.status.operation = Some(starting);
    assert_eq!(view.decide(13), Step::Power(PowerTarget::On));
    assert_eq!(view.clone().power(Some(Power::On)).media(MediaSeen::Empty).decide(14), Step::Finish);
    let kexec = done().kexec().power(Some(Power::On)).media(MediaSeen::Empty);
    assert_eq!(kexec.decide(11), Step::Finish);
}

#[test]
fn what_another_way_left_in_the_drive_comes_out_if_it_will() {
    let done = host().inspected().operation(OperationKind::Inspect, Stage::Booting).by(BootWay::HTTPBoot);
    assert_eq!(done.clone().media(MediaSeen::Other).decide(1), Step::EjectMedia);
    assert_eq!(done.media(MediaSeen::Other).decide(360), Step::Finish);
}

#[test]
fn a_wrong_machine_is_for_a_person_and_never_breaks_the_host() {
    let refused = host().claimed().operation(OperationKind::Deploy, Stage::Booting).agent(Some("WrongMachine"));
    assert_eq!(waits_for(&refused.clone().attempt(3).decide(6)), "WrongMachine");
    let later = refused.attempt(9).decide(100_000);
    assert_eq!(retried(later), (Some(BootWay::VirtualMedia), 10, "WrongMachine".into()));
}

#[test]
fn the_machine_that_the_bmc_tells_of_is_recorded_when_an_operation_begins() {
    let uuid_of = |view: HostView| match view.decide(1) {
        Step::Record(operation) => operation.system_uuid,
        other => panic!("not recorded: {other:?}"),
    };
    assert_eq!(uuid_of(host().shows_uuid(&UUID.to_uppercase())).as_deref(), Some(UUID));
    assert_eq!(uuid_of(host().shows_uuid("00000000-0000-0000-0000-000000000000")), None, "that says nothing");
    assert_eq!(uuid_of(host()), None);
}

#[test]
fn a_host_whose_bmc_leads_to_another_machine_does_not_become_available() {
    let turned = "6b636172-7277-6749-8874-000000010101";
    for same in [UUID, turned, "not a UUID"] {
        assert_eq!(host().inspected().shows_uuid(same).decide(1), Step::Rest, "{same}");
    }
    let other = "7261636b-7772-4967-8874-000000010102";
    let view = host().inspected().shows_uuid(other).power(Some(Power::On)).shows_uuid(other);
    let step = view.decide(1);
    assert_eq!(waits_for(&step), "WrongMachine", "not even its power is ours");
    let told = status(&view, &step, &Outcome::Nothing, at(1), &limits());
    let said = |kind| find(&told.conditions, kind).map(|is| (is.status.as_str(), is.reason.as_str()));
    for kind in ["Healthy", "Available", "Ready"] {
        assert_eq!(said(kind), Some(("False", "WrongMachine")), "{kind}");
    }
    let healthy = find(&told.conditions, "Healthy").expect("said");
    assert!(healthy.message.contains(UUID) && healthy.message.contains(other), "{}", healthy.message);
    let done = host().inspected().operation(OperationKind::Inspect, Stage::Booting).media(MediaSeen::Empty);
    let done = done.shows_uuid(other);
    let told = status(&done, &done.decide(1), &Outcome::Nothing, at(1), &limits());
    assert!(told.operation.is_none() && ["Available", "Ready"].iter().all(|kind| !is_true(&told.conditions, kind)));
    assert_eq!(waits_for(&host().claimed().shows_uuid(other).decide(1)), "WrongMachine");
    let again = HostView { inspect: true, ..host().inspected().shows_uuid(other) };
    assert!(
        matches!(again.decide(1), Step::Record(next) if next.kind == OperationKind::Inspect),
        "a person exchanged it"
    );
}

#[test]
fn an_agents_progress_is_told_as_people_say_it() {
    let mut view = booting(BootWay::VirtualMedia).agent(None);
    let agent = view.status.agent.as_mut().expect("called");
    (agent.step, agent.percent) = (Some("WritingImage".into()), Some(63));
    agent.bytes_per_second = Some(1_100_000_000);
    let told = status(&view, &view.decide(100), &Outcome::Nothing, at(100), &limits());
    assert_eq!(told.waiting_for.as_deref(), Some("image 63 % (1.1 GB/s), until 00:30:00"));
    assert_eq!(find(&told.conditions, "Ready").expect("said").message, "image 63 % (1.1 GB/s), until 00:30:00");
}

#[test]
fn a_try_is_told_with_its_way() {
    let view = booting(BootWay::VirtualMedia);
    let told = status(&view, &view.decide(900), &Outcome::Nothing, at(900), &limits());
    assert_eq!(told.waiting_for.as_deref(), Some("inspection by HTTPBoot (try 2), until 00:45:00"));
}

#[test]
fn how_a_try_ended_is_written_with_what_ends_it() {
    let end = |view: &HostView, second| {
        let told = status(view, &view.decide(second), &Outcome::Nothing, at(second), &limits());
        told.history.last().map(|last| (last.outcome, last.reason.clone(), last.way, last.attempt))
    };
    use TryOutcome::*;
    let silent = booting(BootWay::VirtualMedia);
    assert_eq!(end(&silent, 900), Some((Failed, Some("RamdiskSilent".into()), Some(BootWay::VirtualMedia), 1)));
    assert_eq!(end(&silent, 2), None, "it goes on");
    let done = host().deployed().operation(OperationKind::Deploy, Stage::Booting).by(BootWay::VirtualMedia);
    let done = done.power(Some(Power::On)).media(MediaSeen::Empty);
    assert_eq!(end(&done, 12), Some((Succeeded, None, Some(BootWay::VirtualMedia), 1)));
    let given_up = host().released().operation(OperationKind::Wipe, Stage::Booting).attempt(3).broken("WipeFailed");
    assert_eq!(end(&given_up, 9), Some((Failed, Some("WipeFailed".into()), None, 3)));
    let mut unwanted = host().released().operation(OperationKind::Deploy, Stage::Booting);
    unwanted.spec.deployed = None;
    assert_eq!(end(&unwanted, 30), Some((Superseded, None, None, 1)));
    let powered = host().deployed().operation(OperationKind::PowerOn, Stage::Booting).power(Some(Power::On));
    assert_eq!(end(&powered, 9), Some((Succeeded, None, None, 1)));
}

#[test]
fn the_history_keeps_the_last_ten_tries_in_little_room() {
    let mut view = booting(BootWay::VirtualMedia);
    for attempt in 1..=25 {
        view = view.attempt(attempt % 3);
        let told = status(&view, &view.decide(900), &Outcome::Nothing, at(900), &limits());
        view.status.history = told.history;
    }
    let attempts: Vec<i32> = view.status.history.iter().map(|ended| ended.attempt).collect();
    assert_eq!(attempts, [1, 2, 0, 1, 2, 0, 1, 2, 0, 1]);
    let size = serde_json::to_string(&view.status.history).expect("plain data").len();
    assert!(size < 2500, "{size} bytes");
}
