use super::*;
use crate::machine::{Content, Phase};

const NAME: &str = "rack-a-u01";

struct Bench {
    fleet: DirectFleet,
    bmc: Arc<dyn Bmc>,
    now: Timestamp,
}

impl Bench {
    async fn new() -> Bench {
        let now = Timestamp::UNIX_EPOCH;
        let fleet = DirectFleet::racks(1, 2, now);
        let bmc = fleet.bmc(&fleet.access(NAME).expect("it is there")).await.expect("connects");
        Bench { fleet, bmc, now }
    }

    fn wait(&mut self) {
        self.now += Duration::from_secs(60);
        self.fleet.tick(self.now);
    }

    async fn boot_media(&mut self) -> AgentCall {
        self.bmc.insert_media("https://boot/media.img").await.expect("inserts");
        self.bmc.set_boot(BootDevice::Cd).await.expect("sets");
        self.bmc.set_power(PowerTarget::On).await.expect("starts");
        self.wait();
        self.fleet.calls().pop().expect("its agent calls")
    }

    fn snapshot(&self) -> Snapshot {
        self.fleet.snapshot(NAME).expect("it is there")
    }
}

fn drive() -> ConfigDrive {
    ConfigDrive { user_data: "#cloud-config\n".into(), meta_data: "{}".into(), ..ConfigDrive::default() }
}

#[tokio::test]
async fn a_machine_told_to_boot_media_calls_with_its_url() {
    let mut bench = Bench::new().await;
    let call = bench.boot_media().await;
    assert_eq!(call, AgentCall { machine: NAME.into(), run: 1, media_url: "https://boot/media.img".into() });
}

#[tokio::test]
async fn a_deployed_machine_runs_its_image_after_the_next_start() {
    let mut bench = Bench::new().await;
    let call = bench.boot_media().await;
    bench.fleet.deployed(&call, "op-1", "sha256:abc", drive()).expect("the power is there");
    bench.wait();
    assert_eq!(bench.bmc.system().await.expect("answers").power, Some(Power::Off));
    bench.bmc.set_power(PowerTarget::On).await.expect("starts");
    bench.wait();
    let snapshot = bench.snapshot();
    assert!(snapshot.is_running());
    assert_eq!(snapshot.image_digest(), Some("sha256:abc"));
    assert_eq!(snapshot.system_disk().and_then(|disk| disk.drive.clone()), Some(drive()));
}

#[tokio::test]
async fn an_agent_whose_power_went_can_do_nothing_more() {
    let mut bench = Bench::new().await;
    let call = bench.boot_media().await;
    bench.bmc.set_power(PowerTarget::Off).await.expect("goes off");
    assert_eq!(bench.fleet.deployed(&call, "op-1", "sha256:abc", drive()), Err(Refusal::Gone));
    assert_eq!(bench.fleet.calls(), vec![]);
    assert_eq!(bench.snapshot().disks[0].content, Content::Empty);
}

#[tokio::test]
async fn a_panicked_agent_calls_no_more_and_leaves_the_machine_on() {
    let mut bench = Bench::new().await;
    let call = bench.boot_media().await;
    bench.fleet.write_part(&call).expect("writes");
    bench.fleet.panic(&call).expect("dies");
    assert_eq!(bench.fleet.calls(), vec![]);
    assert!(bench.snapshot().powered && matches!(bench.snapshot().phase, Phase::Stuck { .. }));
}

#[tokio::test]
async fn each_fault_of_a_bmc_is_the_error_that_a_caller_knows() {
    let slow = Fault::Slow { delay: DEADLINE };
    let unreachable = |why: &str| Error::Unreachable { why: why.into() };
    let cases = [
        (Fault::Unreachable { how: Silence::Silent }, unreachable("timed out")),
        (Fault::Unreachable { how: Silence::Resets }, unreachable("connection reset")),
        (Fault::WrongPassword, Error::Unauthorized),
        (Fault::Unavailable { requests: None }, Error::Busy { why: "503 Service Unavailable".into() }),
        (slow, unreachable("timed out")),
    ];
    for (fault, error) in cases {
        let bench = Bench::new().await;
        assert!(bench.fleet.fault(NAME, fault));
        assert_eq!(bench.bmc.system().await, Err(error));
        assert!(bench.fleet.heal(NAME, fault));
        assert!(bench.bmc.system().await.is_ok());
    }
}

#[tokio::test]
async fn a_slow_bmc_does_what_its_caller_never_hears_of() {
    let mut bench = Bench::new().await;
    bench.fleet.fault(NAME, Fault::Slow { delay: DEADLINE });
    assert!(bench.bmc.set_power(PowerTarget::On).await.is_err());
    bench.wait();
    assert!(bench.snapshot().powered);
}

#[tokio::test]
async fn a_dropped_boot_override_is_noticed_by_reading_back() {
    let bench = Bench::new().await;
    bench.fleet.fault(NAME, Fault::DropsBootOverride);
    assert!(matches!(bench.bmc.set_boot(BootDevice::Cd).await, Err(Error::NotDone { .. })));
}

#[tokio::test]
async fn a_bmc_without_power_state_shows_neither_on_nor_off() {
    let bench = Bench::new().await;
    bench.fleet.fault(NAME, Fault::UnknownPower);
    assert_eq!(bench.bmc.system().await.expect("answers").power, None);
}

#[tokio::test]
async fn a_bmc_that_lies_that_its_machine_is_on_is_not_told_to_switch_it_on() {
    let mut bench = Bench::new().await;
    bench.boot_media().await;
    bench.fleet.fault(NAME, Fault::LiesAboutPower);
    bench.bmc.set_power(PowerTarget::Off).await.expect("goes off");
    bench.wait();
    assert_eq!(bench.bmc.system().await.expect("answers").power, Some(Power::On));
    bench.bmc.set_power(PowerTarget::On).await.expect("says that it is on");
    bench.wait();
    assert!(!bench.snapshot().powered);
}

#[tokio::test]
async fn the_client_story_is_told() {
    let bench = Bench::new().await;
    let (fleet, start) = (bench.fleet.clone(), std::time::Instant::now());
    // Time goes by while the story waits.
    let clock = tokio::spawn(async move {
        loop {
            fleet.tick(Timestamp::UNIX_EPOCH + start.elapsed() * 100);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let story = rackwright_bmc::story::Story {
        image: "https://boot/one.img".into(),
        other_image: "https://boot/two.img".into(),
        http_boot: true,
        patience: Duration::from_secs(10),
        poll_interval: Duration::from_millis(1),
    };
    assert_eq!(story.tell(bench.bmc.as_ref()).await, Ok(()));
    clock.abort();
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let bench = Bench::new().await;
    let access = Access { password: "guess".to_string().into(), ..bench.fleet.access(NAME).expect("it is there") };
    let bmc = bench.fleet.bmc(&access).await.expect("connects");
    assert_eq!(bmc.media().await, Err(Error::Unauthorized));
}
