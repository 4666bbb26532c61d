use super::*;
use crate::hardware::Hardware;
use proptest::prelude::*;
use rackwright_protocol::plan::ConfigDrive;
use std::time::Duration;

const DISK: &str = "/dev/nvme0n1";

fn spec() -> Spec {
    Spec::new(9, "rack-a", 1, 1, &Hardware::default())
}

/// A machine with a clock in its hand: what a driver does, and nothing more.
struct Bench {
    machine: Machine,
    now: Timestamp,
}

impl Bench {
    fn new() -> Bench {
        Bench { machine: Machine::new(&spec(), Timing::default()), now: Timestamp::UNIX_EPOCH }
    }

    fn order(&mut self, order: Order) -> Result<Vec<Effect>, Refusal> {
        self.machine.handle(Event::Order(order), self.now)
    }

    fn reset(&mut self, reset: Reset) -> Result<Vec<Effect>, Refusal> {
        self.order(Order::Reset(reset))
    }

    fn guest(&mut self, guest: Guest) -> Result<Vec<Effect>, Refusal> {
        self.machine.handle(Event::Guest(self.machine.run(), guest), self.now)
    }

    fn broken(mut self, fault: Fault) -> Bench {
        self.break_down(fault);
        self
    }

    fn break_down(&mut self, fault: Fault) -> Vec<Effect> {
        self.machine.handle(Event::Break(fault), self.now).expect("faults are never refused")
    }

    /// Lets time go by until nothing more happens by itself; what is to be loaded loads.
    fn settle(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while let Some(at) = self.machine.wakes_at() {
            self.now = at;
            let effects = self.machine.handle(Event::Tick, self.now).expect("time is never refused");
            if effects.iter().any(|effect| matches!(effect, Effect::LoadMedia { .. })) {
                self.guest(Guest::MediaLoaded).expect("it is loading");
            }
            all.extend(effects);
        }
        all
    }

    fn in_ramdisk() -> Bench {
        let mut bench = Bench::new();
        bench.order(Order::Insert("https://boot/media.img".into())).expect("inserts");
        bench.order(Order::SetBoot(Override { enabled: Enabled::Once, target: Target::Cd })).expect("sets");
        bench.reset(Reset::On).expect("starts");
        bench.settle();
        assert_eq!(bench.machine.phase(), Phase::Ramdisk);
        bench
    }

    fn deployed() -> Bench {
        let mut bench = Bench::in_ramdisk();
        bench.guest(Guest::DiskWriting { device: DISK.into() }).expect("writes");
        bench.guest(image("op-1")).expect("writes");
        bench.guest(drive()).expect("writes");
        bench.guest(Guest::PowerOff).expect("goes off");
        bench.settle();
        bench
    }

    fn running() -> Bench {
        let mut bench = Bench::deployed();
        bench.reset(Reset::On).expect("starts");
        bench.settle();
        assert_eq!(bench.machine.phase(), Phase::Running { disk: 0 });
        bench
    }
}

fn image(operation: &str) -> Guest {
    let image = Image { digest: "sha256:abc".into(), size: 4096 };
    Guest::ImageWritten { operation: operation.into(), device: DISK.into(), image }
}

fn drive() -> Guest {
    let drive = ConfigDrive { user_data: "#cloud-config\n".into(), meta_data: "{}".into(), ..ConfigDrive::default() };
    Guest::DriveWritten { device: DISK.into(), drive }
}

#[test]
fn an_order_to_boot_the_cd_once_holds_for_one_start() {
    let mut bench = Bench::in_ramdisk();
    assert_eq!(bench.machine.boot(), Override::default());
    bench.reset(Reset::ForceRestart).expect("restarts");
    bench.settle();
    assert_eq!(bench.machine.phase(), Phase::Stuck { why: Stuck::NoBootDevice });
}

#[test]
fn an_order_to_boot_the_cd_always_holds_for_every_start() {
    let mut bench = Bench::in_ramdisk();
    bench.order(Order::SetBoot(Override { enabled: Enabled::Continuous, target: Target::Cd })).expect("sets");
    for _ in 0..3 {
        bench.reset(Reset::ForceRestart).expect("restarts");
        bench.settle();
        assert_eq!(bench.machine.phase(), Phase::Ramdisk);
    }
}

#[test]
fn once_is_not_used_up_by_a_power_cut_in_post() {
    let mut bench = Bench::new();
    let once = Override { enabled: Enabled::Once, target: Target::Cd };
    bench.order(Order::SetBoot(once)).expect("sets");
    bench.reset(Reset::On).expect("starts");
    bench.reset(Reset::ForceOff).expect("goes off");
    bench.settle();
    assert_eq!(bench.machine.boot(), once);
}

#[test]
fn a_deployed_machine_boots_its_disk_with_the_config_drive() {
    let mut bench = Bench::deployed();
    bench.reset(Reset::On).expect("starts");
    let effects = bench.settle();
    let booted = effects.iter().any(|effect| {
        matches!(effect, Effect::RunSystem { device, drive: Some(drive), .. }
            if device == DISK && drive.user_data == "#cloud-config\n")
    });
    assert!(booted, "{effects:?}");
}

#[test]
fn a_wiped_machine_boots_nothing() {
    let mut bench = Bench::in_ramdisk();
    bench.guest(image("op-1")).expect("writes");
    bench.guest(Guest::Wiped { operation: "op-2".into() }).expect("wipes");
    bench.reset(Reset::ForceRestart).expect("restarts");
    assert_eq!(bench.settle(), vec![]);
    assert_eq!(bench.machine.phase(), Phase::Stuck { why: Stuck::NoBootDevice });
    assert_eq!(bench.machine.history().wipes, ["op-2"]);
}

#[test]
fn media_that_cannot_be_read_is_skipped_and_the_old_system_boots_again() {
    let mut bench = Bench::deployed().broken(Fault::MediaUnreadable);
    bench.order(Order::SetBoot(Override { enabled: Enabled::Once, target: Target::Cd })).expect("sets");
    bench.reset(Reset::On).expect("starts");
    bench.settle();
    assert_eq!(bench.machine.phase(), Phase::Running { disk: 0 });
}

#[test]
fn switching_off_cuts_what_runs_at_once_and_shows_off_a_little_later() {
    let mut bench = Bench::running();
    let run = bench.machine.run();
    assert_eq!(bench.reset(Reset::ForceOff), Ok(vec![Effect::PowerCut { run }]));
    assert_eq!(bench.machine.shown_power(), Some(Shown::PoweringOff));
    assert_eq!(bench.reset(Reset::On), Err(Refusal::Busy));
    bench.settle();
    assert_eq!(bench.machine.shown_power(), Some(Shown::Off));
}

#[test]
fn a_run_that_is_over_cannot_touch_a_disk() {
    let mut bench = Bench::in_ramdisk();
    let earlier = bench.machine.run();
    bench.order(Order::SetBoot(Override { enabled: Enabled::Once, target: Target::Cd })).expect("sets");
    bench.reset(Reset::ForceRestart).expect("restarts");
    bench.settle();
    assert_eq!(bench.machine.handle(Event::Guest(earlier, image("late")), bench.now), Err(Refusal::Gone));
    assert_eq!(bench.machine.disks()[0].content, Content::Empty);
}

#[test]
fn a_half_written_image_does_not_boot() {
    let mut bench = Bench::running();
    bench.order(Order::SetBoot(Override { enabled: Enabled::Once, target: Target::Cd })).expect("sets");
    bench.reset(Reset::ForceRestart).expect("restarts");
    bench.settle();
    bench.guest(Guest::DiskWriting { device: DISK.into() }).expect("writes");
    bench.reset(Reset::ForceRestart).expect("restarts");
    bench.settle();
    assert_eq!(bench.machine.phase(), Phase::Stuck { why: Stuck::NoBootDevice });
}

#[test]
fn only_an_operating_system_listens_to_the_power_button() {
    let mut ramdisk = Bench::in_ramdisk();
    assert_eq!(ramdisk.reset(Reset::GracefulShutdown), Ok(vec![]));
    assert_eq!(ramdisk.machine.shown_power(), Some(Shown::On));
    let mut running = Bench::running();
    running.reset(Reset::GracefulShutdown).expect("shuts down");
    running.settle();
    assert_eq!(running.machine.shown_power(), Some(Shown::Off));
}

#[test]
fn a_forced_restart_of_a_machine_that_is_off_switches_it_on() {
    let mut bench = Bench::new();
    bench.reset(Reset::ForceRestart).expect("starts");
    assert_eq!(bench.machine.shown_power(), Some(Shown::On));
}

#[test]
fn a_dead_power_supply_is_off_at_once_and_on_is_refused_or_swallowed() {
    for (refuses, answer) in [(true, Err(Refusal::NoPower)), (false, Ok(vec![]))] {
        let mut bench = Bench::running();
        let run = bench.machine.run();
        assert_eq!(bench.break_down(Fault::PowerSupplyDead { refuses }), vec![Effect::PowerCut { run }]);
        assert_eq!(bench.machine.shown_power(), Some(Shown::Off));
        assert_eq!(bench.reset(Reset::On), answer);
        assert_eq!(bench.machine.phase(), Phase::Off);
    }
}

#[test]
fn a_machine_that_hangs_in_post_hangs_until_it_is_reset() {
    let mut bench = Bench::new().broken(Fault::HangsInPost);
    bench.reset(Reset::On).expect("starts");
    bench.machine.handle(Event::Heal(Fault::HangsInPost), bench.now).expect("heals");
    assert_eq!(bench.settle(), vec![]);
    assert_eq!(bench.machine.phase(), Phase::Post { until: None });
    bench.reset(Reset::ForceRestart).expect("restarts");
    bench.settle();
    assert_eq!(bench.machine.phase(), Phase::Stuck { why: Stuck::NoBootDevice });
}

#[test]
fn a_lying_bmc_shows_the_power_of_the_moment_it_began_to_lie() {
    let mut bench = Bench::running().broken(Fault::LiesAboutPower);
    bench.reset(Reset::ForceOff).expect("goes off");
    bench.settle();
    assert_eq!(bench.machine.shown_power(), Some(Shown::On));
    bench.machine.handle(Event::Heal(Fault::LiesAboutPower), bench.now).expect("heals");
    assert_eq!(bench.machine.shown_power(), Some(Shown::Off));
}

#[test]
fn a_dropped_boot_override_is_accepted_and_not_there() {
    let mut bench = Bench::new().broken(Fault::DropsBootOverride);
    let once = Override { enabled: Enabled::Once, target: Target::Cd };
    assert_eq!(bench.order(Order::SetBoot(once)), Ok(vec![]));
    assert_eq!(bench.machine.boot(), Override::default());
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        // Restarts are the one order that does not name a state.
        Just(Order::Reset(Reset::On)),
        Just(Order::Reset(Reset::ForceOff)),
        Just(Order::Reset(Reset::GracefulShutdown)),
        "[a-z]{1,3}".prop_map(Order::Insert),
        Just(Order::Eject),
        Just(Order::SetBoot(Override { enabled: Enabled::Once, target: Target::Cd })),
        Just(Order::SetBoot(Override { enabled: Enabled::Continuous, target: Target::Cd })),
        Just(Order::SetBoot(Override::default())),
        any::<bool>().prop_map(Order::SetLocator),
    ]
}

fn any_guest() -> impl Strategy<Value = Guest> {
    let device = || DISK.to_string();
    prop_oneof![
        Just(Guest::MediaLoaded),
        Just(Guest::MediaFailed),
        Just(Guest::DiskWriting { device: device() }),
        Just(Guest::DiskBroken { device: device() }),
        Just(image("op")),
        Just(drive()),
        Just(Guest::Wiped { operation: "op".into() }),
        Just(Guest::PowerOff),
        Just(Guest::Panic),
    ]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        any::<bool>().prop_map(|refuses| Fault::PowerSupplyDead { refuses }),
        Just(Fault::HangsInPost),
        Just(Fault::LiesAboutPower),
        Just(Fault::UnknownPower),
        Just(Fault::DropsBootOverride),
        Just(Fault::MediaUnreadable),
    ]
}

/// A life: where it begins, and events with the seconds that go by before each.
type Life = (u8, Vec<(u8, Event)>);

fn any_life() -> impl Strategy<Value = Life> {
    let event = prop_oneof![
        6 => any_order().prop_map(Event::Order),
        1 => Just(Event::Order(Order::Reset(Reset::ForceRestart))),
        6 => (0..4_u64, any_guest()).prop_map(|(run, guest)| Event::Guest(run, guest)),
        8 => Just(Event::Tick),
        1 => any_fault().prop_map(Event::Break),
        2 => any_fault().prop_map(Event::Heal),
    ];
    (0..4_u8, proptest::collection::vec((0..5_u8, event), 0..60))
}

fn boots(machine: &Machine) -> bool {
    machine.disks().iter().any(Disk::is_bootable)
}

/// One event of a life: the machine before and after, what followed, and when.
struct Moment<'a> {
    before: &'a Machine,
    event: &'a Event,
    after: &'a Machine,
    effects: &'a [Effect],
    now: Timestamp,
}

/// Lives that life and looks at every moment of it. Ends with the machine as it is then.
fn live((begin, events): Life, mut look: impl FnMut(Moment)) -> Bench {
    let mut bench = [Bench::new, Bench::in_ramdisk, Bench::deployed, Bench::running][usize::from(begin)]();
    for (seconds, event) in events {
        bench.now += Duration::from_secs(seconds.into());
        let before = bench.machine.clone();
        // Runs are counted from the current one backwards: most guests are of now, some are late.
        let event = match event {
            Event::Guest(back, guest) => Event::Guest(before.run().saturating_sub(back / 3), guest),
            other => other,
        };
        let effects = bench.machine.handle(event.clone(), bench.now).unwrap_or_default();
        let (after, now) = (&bench.machine, bench.now);
        look(Moment { before: &before, event: &event, after, effects: &effects, now });
    }
    bench
}

proptest! {
    #[test]
    fn an_order_given_twice_does_what_it_does_once(life in any_life(), order in any_order()) {
        let mut once = live(life, |_| {});
        let _answer = once.order(order.clone());
        let before = once.machine.clone();
        let _answer = once.order(order);
        prop_assert_eq!(before, once.machine);
    }

    #[test]
    fn no_image_is_on_any_disk_after_a_wipe(life in any_life()) {
        live(life, |Moment { before, event, after, .. }| {
            if before.history().wipes.len() < after.history().wipes.len() {
                assert!(after.disks().iter().all(|disk| disk.content == Content::Wiped && disk.drive.is_none()));
            }
            // An image comes from the agent of the current run, and from nowhere else.
            if !boots(before) && boots(after) {
                assert_eq!(before.phase(), Phase::Ramdisk);
                assert!(matches!(event, Event::Guest(run, Guest::ImageWritten { .. }) if *run == before.run()));
            }
        });
    }

    #[test]
    fn what_runs_on_a_machine_cannot_change_what_its_bmc_holds(life in any_life()) {
        live(life, |Moment { before, event, after, .. }| {
            if matches!(event, Event::Guest(..)) {
                let held = |machine: &Machine| {
                    (machine.media().map(str::to_string), machine.boot(), machine.locator(), machine.faults().clone())
                };
                assert_eq!(held(before), held(after));
            }
        });
    }

    #[test]
    fn a_disk_changes_only_while_the_agent_runs(life in any_life()) {
        live(life, |Moment { before, after, .. }| {
            assert!(before.disks() == after.disks() || before.phase() == Phase::Ramdisk);
        });
    }

    #[test]
    fn a_machine_with_a_dead_power_supply_is_off(life in any_life()) {
        live(life, |Moment { after, .. }| {
            assert!(after.faults().dead_supply_refuses().is_none() || !after.is_powered());
        });
    }

    #[test]
    fn the_end_of_every_run_is_a_power_cut(life in any_life()) {
        live(life, |Moment { before, after, effects, .. }| {
            let run = before.run();
            let ended = before.is_powered() && (!after.is_powered() || after.run() != run);
            assert_eq!(ended, effects.contains(&Effect::PowerCut { run }));
        });
    }

    #[test]
    fn a_machine_that_waits_is_never_late(life in any_life()) {
        live(life, |Moment { event, after, now, .. }| {
            if matches!(event, Event::Tick) {
                assert!(after.wakes_at().is_none_or(|at| now < at));
            }
        });
    }
}

fn http(enabled: Enabled) -> Order {
    Order::SetBoot(Override { enabled, target: Target::UefiHttp })
}

fn uri() -> Order {
    Order::SetHttpUri(Some("https://boot/media.efi".into()))
}

/// Media in the drive, and the CD is booted once.
fn told_to_boot_the_cd(fault: Fault) -> Bench {
    let mut bench = Bench::new().broken(fault);
    bench.order(Order::Insert("https://boot/media.iso".into())).expect("inserts");
    bench.order(Order::SetBoot(Override { enabled: Enabled::Once, target: Target::Cd })).expect("sets");
    bench.reset(Reset::On).expect("starts");
    bench
}

#[test]
fn an_order_to_boot_a_url_loads_what_is_there() {
    let mut bench = Bench::new();
    bench.order(uri()).expect("sets");
    bench.order(http(Enabled::Once)).expect("sets");
    bench.reset(Reset::On).expect("starts");
    let effects = bench.settle();
    assert!(effects.contains(&Effect::LoadMedia { run: 1, url: "https://boot/media.efi".into() }), "{effects:?}");
    assert_eq!((bench.machine.phase(), bench.machine.boot()), (Phase::Ramdisk, Override::default()));
    assert_eq!((bench.machine.history().http_boots, bench.machine.media()), (1, None));
}

#[test]
fn without_a_url_the_firmware_goes_on_to_the_disk() {
    let mut bench = Bench::deployed();
    bench.order(http(Enabled::Once)).expect("sets");
    bench.reset(Reset::On).expect("starts");
    bench.settle();
    assert_eq!(bench.machine.phase(), Phase::Running { disk: 0 });
}

#[test]
fn a_drive_that_is_emptied_at_power_on_boots_nothing() {
    let mut bench = told_to_boot_the_cd(Fault::EjectsEarly { once_read: false });
    bench.settle();
    assert_eq!((bench.machine.media(), bench.machine.boot()), (None, Override::default()));
    assert_eq!(bench.machine.phase(), Phase::Stuck { why: Stuck::NoBootDevice });
}

#[test]
fn a_drive_that_is_emptied_once_it_was_read_does_a_ramdisk_no_harm() {
    let mut bench = told_to_boot_the_cd(Fault::EjectsEarly { once_read: true });
    bench.settle();
    assert_eq!((bench.machine.media(), bench.machine.phase()), (None, Phase::Ramdisk));
}

#[test]
fn firmware_that_ignores_the_override_uses_it_up() {
    let mut bench = told_to_boot_the_cd(Fault::IgnoresBootOverride);
    bench.settle();
    assert_eq!(bench.machine.boot(), Override::default());
    assert_eq!(bench.machine.phase(), Phase::Stuck { why: Stuck::NoBootDevice });
}

#[test]
fn a_bmc_that_holds_its_media_lets_go_of_it_when_the_machine_is_off() {
    let mut bench = told_to_boot_the_cd(Fault::HoldsMediaWhileOn);
    bench.settle();
    assert_eq!(bench.order(Order::Eject), Err(Refusal::DriveInUse));
    bench.reset(Reset::ForceOff).expect("goes off");
    bench.order(Order::Eject).expect("lets go");
    assert_eq!(bench.machine.media(), None);
}

#[test]
fn a_written_system_that_the_ramdisk_starts_itself_runs_without_a_power_cycle() {
    let mut bench = Bench::in_ramdisk();
    assert_eq!(bench.guest(Guest::Kexec), Err(Refusal::NoSuchDisk), "there is nothing to start");
    assert_eq!(bench.machine.phase(), Phase::Ramdisk);
    bench.guest(image("op-1")).expect("writes");
    bench.guest(drive()).expect("writes");
    bench.guest(Guest::Kexec).expect("starts it");
    let effects = bench.settle();
    assert!(matches!(effects.as_slice(), [Effect::RunSystem { run: 1, drive: Some(_), .. }]), "{effects:?}");
    assert_eq!((bench.machine.history().power_ons, bench.machine.history().kexecs), (1, 1));
    assert_eq!(bench.guest(image("op-1")), Err(Refusal::Gone), "the ramdisk is gone");
}
