//! Machines that really boot: media over HTTPS, the agent, the disk.

mod support;

use aws_lc_rs::digest::{SHA256, digest};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::{Bmc, BootDevice, Connect, Power, PowerTarget};
use rackwright_protocol::facts::{FinalBoot, ImageFormat, RootDevice, WipePolicy};
use rackwright_protocol::plan::{Action, ConfigDrive, Deploy, Image};
use rackwright_protocol::report::Event;
use rackwright_simulator::faults::Fault;
use rackwright_simulator::fleet::Fleet;
use rackwright_simulator::machine::{Content, Phase, Snapshot, Stuck};
use std::sync::Arc;
use std::time::Duration;
use support::boot::Boot;
use support::{HOST, fleet, until};

struct Bench {
    boot: Boot,
    fleet: Fleet,
    bmc: Arc<dyn Bmc>,
    image: Vec<u8>,
    state: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        // More than the agent holds back of the start of a disk.
        let mut image: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        image[510..512].copy_from_slice(&[0x55, 0xaa]); // a boot sector
        let boot = Boot::start(image.clone()).await;
        let (fleet, state) = fleet(Some(boot.ca())).await;
        let connector = RedfishConnector::new(RedfishConfig::default());
        let bmc = connector.bmc(&fleet.access(HOST).expect("it is there")).await.expect("a client");
        Bench { boot, fleet, bmc, image, state }
    }

    fn digest(&self) -> String {
        format!("sha256:{}", hex::encode(digest(&SHA256, &self.image)))
    }

    fn deploy(&self, digest: String) -> Action {
        let image = Image { url: self.boot.image_url(), digest, format: ImageFormat::Raw };
        let root_device = Some(RootDevice { rotational: Some(false), ..RootDevice::default() });
        let (final_boot, read_back) = Default::default();
        Action::Deploy(Deploy { image, root_device, config_drive: drive(), final_boot, read_back })
    }

    /// Boots the media as a controller does.
    async fn boot_media(&self) {
        self.bmc.insert_media(&self.boot.media_url()).await.expect("inserts");
        self.bmc.set_boot(BootDevice::Cd).await.expect("sets");
        self.bmc.set_power(PowerTarget::On).await.expect("starts");
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        until(&self.fleet, what, wanted).await
    }

    /// Boots the media and waits until the machine has switched itself off.
    async fn run_media(&self) -> Snapshot {
        let boots = self.fleet.snapshot(HOST).expect("it is there").history.media_boots;
        self.boot_media().await;
        self.until("off after the ramdisk", |snapshot| {
            snapshot.phase == Phase::Off && snapshot.history.media_boots > boots
        })
        .await
    }

    async fn run_disk(&self) -> Snapshot {
        self.bmc.set_power(PowerTarget::On).await.expect("starts");
        self.until("running", Snapshot::is_running).await
    }
}

fn drive() -> ConfigDrive {
    ConfigDrive {
        user_data: "#cloud-config\n{}\n".into(),
        meta_data: r#"{"instance-id": "i-1"}"#.into(),
        ..ConfigDrive::default()
    }
}

#[tokio::test]
async fn a_machine_is_inspected_by_the_agent_on_its_media() {
    let bench = Bench::new().await;
    let snapshot = bench.run_media().await;
    let [Event::Inspected { facts }] = &bench.boot.events()[..] else { panic!("{:?}", bench.boot.events()) };
    assert_eq!(facts.nics.iter().map(|nic| nic.mac.clone()).collect::<Vec<_>>(), bench.boot.macs());
    assert!(snapshot.disks.iter().all(|disk| disk.content == Content::Empty));
    assert_eq!(bench.bmc.system().await.expect("answers").power, Some(Power::Off));
}

#[tokio::test]
async fn a_machine_told_to_fetch_a_url_boots_the_agent_there_without_a_drive() {
    let bench = Bench::new().await;
    bench.bmc.set_http_boot(&bench.boot.media_url()).await.expect("sets");
    bench.bmc.set_power(PowerTarget::On).await.expect("starts");
    let off = |snapshot: &Snapshot| snapshot.phase == Phase::Off && snapshot.history.media_boots == 1;
    let snapshot = bench.until("off after the ramdisk", off).await;
    assert!(matches!(bench.boot.events()[..], [Event::Inspected { .. }]), "{:?}", bench.boot.events());
    assert_eq!((snapshot.history.http_boots, snapshot.media), (1, None));
    assert_eq!(bench.bmc.system().await.expect("answers").boot, BootDevice::Disk, "it was told to do so once");
}

#[tokio::test]
async fn a_system_that_its_ramdisk_can_start_runs_without_a_power_cycle() {
    let bench = Bench::new().await;
    let Action::Deploy(plan) = bench.deploy(bench.digest()) else { panic!("a deployment") };
    bench.boot.want(Action::Deploy(Deploy { final_boot: FinalBoot::Kexec, ..plan }));
    bench.boot_media().await;
    let running = bench.until("running", Snapshot::is_running).await;
    assert_eq!((running.history.power_ons, running.history.kexecs), (1, 1));
    assert!(matches!(&bench.boot.events()[..], [Event::Deployed { final_boot: FinalBoot::Kexec, .. }]));
}

#[tokio::test]
async fn a_system_that_its_ramdisk_cannot_start_waits_for_the_next_power_on() {
    let bench = Bench::new().await;
    bench.fleet.fault(HOST, Fault::KexecFails).expect("it is there");
    let Action::Deploy(plan) = bench.deploy(bench.digest()) else { panic!("a deployment") };
    bench.boot.want(Action::Deploy(Deploy { final_boot: FinalBoot::Kexec, ..plan }));
    bench.run_media().await;
    assert_eq!(bench.run_disk().await.history.power_ons, 2);
}

#[tokio::test]
async fn a_deployed_machine_holds_what_was_served_and_runs_it() {
    let bench = Bench::new().await;
    bench.boot.want(bench.deploy(bench.digest()));
    let off = bench.run_media().await;
    let device = "/dev/nvme0n1".to_string();
    assert_eq!(
        bench.boot.events(),
        [Event::Deployed { device, digest: bench.digest(), final_boot: Default::default() }]
    );
    assert_eq!(off.image_digest(), Some(bench.digest().as_str()));
    assert_eq!(off.system_disk().and_then(|disk| disk.drive.clone()), Some(drive()));
    assert_eq!(bench.run_disk().await.history.disk_boots, 1);
}

#[tokio::test]
async fn a_wiped_machine_has_nothing_to_boot_and_nothing_in_its_folder() {
    let bench = Bench::new().await;
    bench.boot.want(bench.deploy(bench.digest()));
    bench.run_media().await;
    bench.run_disk().await;
    let root = bench.state.path().join("hosts").join(HOST).join("1");
    std::fs::create_dir_all(root.join("etc")).expect("a folder");
    bench.bmc.set_power(PowerTarget::Off).await.expect("goes off");
    bench.until("off", |snapshot| snapshot.phase == Phase::Off).await;
    bench.boot.want(Action::Wipe { policy: WipePolicy::Discard, known: Vec::new() });
    let off = bench.run_media().await;
    assert!(off.is_clean());
    assert_eq!(off.history.wipes, ["op"]);
    bench.bmc.set_power(PowerTarget::On).await.expect("starts");
    let nothing = Phase::Stuck { why: Stuck::NoBootDevice };
    bench.until("nothing to boot", |snapshot| snapshot.phase == nothing).await;
    // The folder goes in a task of its own.
    for _ in 0..500 {
        if !root.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} stays behind", root.display());
}

#[tokio::test]
async fn an_image_with_another_digest_does_not_become_bootable() {
    let bench = Bench::new().await;
    bench.boot.want(bench.deploy(format!("sha256:{}", "0".repeat(64))));
    let off = bench.run_media().await;
    let [Event::Failed { reason, .. }] = &bench.boot.events()[..] else { panic!("{:?}", bench.boot.events()) };
    assert_eq!(reason, "ImageDigestMismatch");
    assert_eq!((off.image_digest(), off.is_clean()), (None, false));
}

#[tokio::test]
async fn an_agent_that_dies_leaves_half_an_image_no_report_and_a_machine_that_is_on() {
    let bench = Bench::new().await;
    bench.fleet.fault(HOST, Fault::AgentDies).expect("it is there");
    bench.boot.want(bench.deploy(bench.digest()));
    bench.boot_media().await;
    let panicked = Phase::Stuck { why: Stuck::KernelPanic };
    let stuck = bench.until("a dead kernel", |snapshot| snapshot.phase == panicked).await;
    assert_eq!(stuck.disks[0].content, Content::Partial);
    assert_eq!(bench.boot.events(), []);
    assert_eq!(bench.bmc.system().await.expect("answers").power, Some(Power::On));
    // Mended and started again, it goes through.
    bench.fleet.heal(HOST, Fault::AgentDies).expect("it is there");
    bench.bmc.set_power(PowerTarget::Off).await.expect("goes off");
    bench.until("off", |snapshot| snapshot.phase == Phase::Off).await;
    assert_eq!(bench.run_media().await.image_digest(), Some(bench.digest().as_str()));
}

#[tokio::test]
async fn media_behind_an_unknown_authority_is_not_booted() {
    let boot = Boot::start(Vec::new()).await;
    let another = Boot::start(Vec::new()).await;
    let (fleet, _state) = fleet(Some(another.ca())).await;
    let connector = RedfishConnector::new(RedfishConfig::default());
    let bmc = connector.bmc(&fleet.access(HOST).expect("it is there")).await.expect("a client");
    bmc.insert_media(&boot.media_url()).await.expect("inserts");
    bmc.set_boot(BootDevice::Cd).await.expect("sets");
    bmc.set_power(PowerTarget::On).await.expect("starts");
    let nothing = Phase::Stuck { why: Stuck::NoBootDevice };
    until(&fleet, "the next boot device", |snapshot| snapshot.phase == nothing).await;
    assert_eq!(boot.macs(), Vec::<String>::new());
}

#[tokio::test]
async fn a_power_cut_ends_the_operating_system_at_once() {
    let bench = Bench::new().await;
    bench.boot.want(bench.deploy(bench.digest()));
    bench.run_media().await;
    bench.run_disk().await;
    bench.fleet.fault(HOST, Fault::PowerSupplyDead { refuses: true }).expect("it is there");
    assert_eq!(bench.fleet.snapshot(HOST).expect("it is there").phase, Phase::Off);
    tokio::time::timeout(Duration::from_secs(5), bench.fleet.shutdown()).await.expect("nothing goes on");
}
