//! The real Redfish client against the real servers, over TLS on loopback.

mod support;

use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::story::Story;
use rackwright_bmc::{Access, Bmc, BootDevice, Connect, Error, Power, PowerTarget, Trust};
use rackwright_simulator::faults::{Fault, Silence};
use rackwright_simulator::fleet::Fleet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{HOST, OTHER, fleet, until};

/// A client without much patience: what it waits for here happens in milliseconds.
fn connector() -> RedfishConnector {
    RedfishConnector::new(RedfishConfig {
        request_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(2),
        call_deadline: Duration::from_secs(5),
        read_retries: 1,
        retry_delay: Duration::from_millis(10),
        read_back: Duration::from_millis(200),
        read_back_interval: Duration::from_millis(20),
        ..RedfishConfig::default()
    })
}

struct Bench {
    fleet: Fleet,
    connector: RedfishConnector,
    _state: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let (fleet, state) = fleet(None).await;
        Bench { fleet, connector: connector(), _state: state }
    }

    fn access(&self) -> Access {
        self.fleet.access(HOST).expect("it is there")
    }

    async fn at(&self, access: &Access) -> Arc<dyn Bmc> {
        self.connector.bmc(access).await.expect("a client")
    }

    async fn bmc(&self) -> Arc<dyn Bmc> {
        self.at(&self.access()).await
    }

    fn fault(&self, fault: Fault) {
        self.fleet.fault(HOST, fault).expect("it is there");
    }

    fn heal(&self, fault: Fault) {
        self.fleet.heal(HOST, fault).expect("it is there");
    }
}

#[tokio::test]
async fn the_client_story_is_told() {
    let bench = Bench::new().await;
    let story = Story {
        image: "https://127.0.0.1:1/one.img".into(),
        other_image: "https://127.0.0.1:1/two.img".into(),
        http_boot: true,
        patience: Duration::from_secs(5),
        poll_interval: Duration::from_millis(20),
    };
    assert_eq!(story.tell(bench.bmc().await.as_ref()).await, Ok(()));
}

#[tokio::test]
async fn each_address_is_its_own_machine() {
    let bench = Bench::new().await;
    bench.bmc().await.set_power(PowerTarget::On).await.expect("starts");
    let other = bench.at(&bench.fleet.access(OTHER).expect("it is there")).await.system().await.expect("answers");
    assert_eq!(other.power, Some(Power::Off));
    let entries = bench.fleet.hosts();
    assert_eq!(other.uuid.as_ref(), entries.iter().find(|entry| entry.name == OTHER).map(|entry| &entry.uuid));
}

#[tokio::test]
async fn the_locator_light_goes_on_and_off() {
    let bench = Bench::new().await;
    for on in [true, false] {
        bench.bmc().await.set_locator(on).await.expect("switches");
        assert_eq!(bench.fleet.snapshot(HOST).expect("it is there").locator, on);
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_trusted_and_another_machines_is_not() {
    let bench = Bench::new().await;
    let pin = |host| Trust::Pin(bench.fleet.certificate_sha256(host).expect("it is there"));
    let pinned = Access { trust: pin(HOST), ..bench.access() };
    assert!(bench.at(&pinned).await.system().await.is_ok());
    let misled = Access { trust: pin(OTHER), ..bench.access() };
    let answer = bench.at(&misled).await.system().await;
    assert!(matches!(answer, Err(Error::Untrusted { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let (bench, another) = (Bench::new().await, Bench::new().await);
    let access = Access { trust: Trust::Ca(another.fleet.ca_pem().into()), ..bench.access() };
    let answer = bench.at(&access).await.system().await;
    assert!(matches!(answer, Err(Error::Untrusted { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_the_right_one_works_again_when_mended() {
    let bench = Bench::new().await;
    assert!(bench.bmc().await.system().await.is_ok());
    bench.fault(Fault::WrongPassword);
    assert_eq!(bench.bmc().await.system().await, Err(Error::Unauthorized));
    bench.heal(Fault::WrongPassword);
    assert!(bench.bmc().await.system().await.is_ok());
    let guess = Access { password: "guess".to_string().into(), ..bench.access() };
    assert_eq!(bench.at(&guess).await.system().await, Err(Error::Unauthorized));
}

#[tokio::test]
async fn an_unreachable_bmc_is_unreachable_on_open_and_new_connections() {
    for how in [Silence::Silent, Silence::Resets] {
        let bench = Bench::new().await;
        let bmc = bench.bmc().await;
        assert!(bmc.system().await.is_ok());
        bench.fault(Fault::Unreachable { how });
        // The first call meets the connection that stands, the second one makes another.
        for _ in 0..2 {
            let answer = bmc.system().await;
            assert!(matches!(answer, Err(Error::Unreachable { .. })), "{how:?}: {answer:?}");
        }
        bench.heal(Fault::Unreachable { how });
        assert!(bmc.system().await.is_ok(), "{how:?}");
    }
}

#[tokio::test]
async fn a_slow_bmc_is_waited_for_and_a_too_slow_one_is_unreachable() {
    let bench = Bench::new().await;
    let bmc = bench.bmc().await;
    bench.fault(Fault::Slow { delay: Duration::from_millis(300) });
    let start = Instant::now();
    assert!(bmc.system().await.is_ok());
    assert!(start.elapsed() >= Duration::from_millis(300));
    bench.fault(Fault::Slow { delay: Duration::from_secs(60) });
    assert!(matches!(bmc.system().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_few_503_are_gone_over_and_many_are_busy() {
    let bench = Bench::new().await;
    let bmc = bench.bmc().await;
    bench.fault(Fault::Unavailable { requests: Some(1) });
    assert!(bmc.system().await.is_ok());
    bench.fault(Fault::Unavailable { requests: None });
    assert!(matches!(bmc.system().await, Err(Error::Busy { .. })));
}

#[tokio::test]
async fn a_dropped_boot_override_is_noticed() {
    let bench = Bench::new().await;
    bench.fault(Fault::DropsBootOverride);
    let answer = bench.bmc().await.set_boot(BootDevice::Cd).await;
    assert!(matches!(answer, Err(Error::NotDone { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_bmc_that_does_not_know_the_power_is_neither_on_nor_off() {
    let bench = Bench::new().await;
    bench.fault(Fault::UnknownPower);
    assert_eq!(bench.bmc().await.system().await.expect("answers").power, None);
}

#[tokio::test]
async fn a_dead_power_supply_refuses_and_shows_critical() {
    let bench = Bench::new().await;
    let bmc = bench.bmc().await;
    bench.fault(Fault::PowerSupplyDead { refuses: true });
    let answer = bmc.set_power(PowerTarget::On).await;
    assert!(matches!(answer, Err(Error::Rejected { .. })), "{answer:?}");
    assert_eq!(bmc.system().await.expect("answers").health.as_deref(), Some("Critical"));
}

#[tokio::test]
async fn a_machine_without_anything_to_boot_gets_stuck() {
    let bench = Bench::new().await;
    bench.bmc().await.set_power(PowerTarget::On).await.expect("starts");
    until(&bench.fleet, "nothing to boot", |snapshot| {
        snapshot.phase
            == rackwright_simulator::machine::Phase::Stuck { why: rackwright_simulator::machine::Stuck::NoBootDevice }
    })
    .await;
}

#[tokio::test]
async fn nothing_answers_after_the_end() {
    let bench = Bench::new().await;
    let access = bench.access();
    assert!(bench.bmc().await.system().await.is_ok());
    let Bench { fleet, connector, _state } = bench;
    tokio::time::timeout(Duration::from_secs(5), fleet.shutdown()).await.expect("it ends");
    let answer = connector.bmc(&access).await.expect("a client").system().await;
    assert!(matches!(answer, Err(Error::Unreachable { .. })), "{answer:?}");
}
