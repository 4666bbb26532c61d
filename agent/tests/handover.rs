//! What comes after the work: another kernel, an installer, the log, and a panic on the way.

mod support;

use async_trait::async_trait;
use rackwright_agent::{BlockDevice, Logs, Machine, MachineError, Outcome, Progress, run_with};
use rackwright_protocol::facts::{Disk, Facts, FinalBoot, ImageFormat, WipePolicy, WipedDisk};
use rackwright_protocol::plan::{Action, Image, Install, InstallFile, Plan, Prepare};
use rackwright_protocol::report::Event;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use support::images::Images;
use support::machine::FakeMachine;
use support::tables::MIB;
use support::{Boot, Script, TOKEN, deployment, patience, plan};

/// A fake machine that can start other kernels, has a log, and may panic where it inspects.
struct Able {
    inner: FakeMachine,
    folder: tempfile::TempDir,
    loads: bool,
    panics: bool,
    loaded: Vec<String>,
    logs: Logs,
}

impl Able {
    fn new() -> Able {
        let folder = tempfile::tempdir().expect("a folder");
        let logs = Logs::default();
        Able { inner: FakeMachine::new(), folder, loads: true, panics: false, loaded: Vec::new(), logs }
    }

    fn load(&mut self, what: String) -> Result<(), MachineError> {
        self.loaded.push(what);
        if self.loads { Ok(()) } else { Err(MachineError("no kernel there".into())) }
    }
}

#[async_trait]
impl Machine for Able {
    async fn facts(&mut self) -> Result<Facts, MachineError> {
        self.inner.facts().await
    }

    async fn inspect(&mut self) -> Result<Facts, MachineError> {
        assert!(!self.panics, "with the text of a secret");
        self.facts().await
    }

    async fn open_disk(&mut self, device: &str) -> Result<Box<dyn BlockDevice>, MachineError> {
        assert!(!self.panics, "with the text of a secret");
        self.inner.open_disk(device).await
    }

    async fn wipe_disk(&self, disk: &Disk, policy: WipePolicy, by: &Progress) -> Result<WipedDisk, MachineError> {
        self.inner.wipe_disk(disk, policy, by).await
    }

    async fn load_written(&mut self, device: &str) -> Result<(), MachineError> {
        self.load(format!("system of {device}"))
    }

    fn installer_folder(&self) -> Option<PathBuf> {
        Some(self.folder.path().into())
    }

    async fn load_installer(&mut self, kernel: &Path, initrd: &Path, line: &str) -> Result<(), MachineError> {
        let length = std::fs::metadata(initrd).map_or(0, |metadata| metadata.len());
        let kernel = std::fs::read_to_string(kernel).unwrap_or_default();
        self.load(format!("{kernel} and more than {} bytes: {line}", length.min(100)))
    }

    fn logs(&self) -> Option<Logs> {
        Some(self.logs.clone())
    }
}

fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn final_boot(boot: &Boot) -> Option<FinalBoot> {
    boot.results().into_iter().find_map(|event| match event {
        Event::Deployed { final_boot, .. } => Some(final_boot),
        _ => None,
    })
}

#[tokio::test]
async fn the_report_says_whether_the_written_system_is_started_from_here() {
    for (loads, expected) in [(true, FinalBoot::Kexec), (false, FinalBoot::PowerCycle)] {
        let image = support::tables::gpt(4 * MIB, &[("config", 1, 2), ("root", 2, 3)]);
        let images = Images::serve(image.clone(), &[]).await;
        let mut plan = deployment(&images.url, &digest(&image), ImageFormat::Raw);
        let Action::Deploy(deploy) = &mut plan.action else { unreachable!("a deployment") };
        deploy.final_boot = FinalBoot::Kexec;
        let boot = Boot::serve(&plan, Script::default()).await;
        let mut machine = Able { loads, ..Able::new() };
        assert_eq!(run_with(&boot.media, &mut machine, &patience()).await, Outcome::Done);
        assert_eq!(final_boot(&boot), Some(expected));
        assert_eq!(machine.loaded, ["system of /dev/vda"]);
    }
}

fn install(kernel: Image, initrd: Image) -> Action {
    Action::Install(Install {
        kernel,
        initrd,
        command_line: "inst.ks=file:/ks.cfg disk=@RACKWRIGHT_DISK@".into(),
        files: vec![InstallFile { path: "/ks.cfg".into(), content: "reboot\n".into() }],
        root_device: None,
    })
}

#[tokio::test]
async fn an_installer_is_loaded_with_its_answers_and_the_disk() {
    let images = Images::serve(b"kernel".to_vec(), &[]).await;
    let image = || Image { url: images.url.clone(), digest: digest(b"kernel"), format: ImageFormat::Raw };
    let boot = Boot::serve(&plan(install(image(), image())), Script::default()).await;
    let mut machine = Able::new();
    assert_eq!(run_with(&boot.media, &mut machine, &patience()).await, Outcome::Done);
    assert_eq!(boot.results(), [Event::InstallerStarting]);
    assert_eq!(machine.loaded, ["kernel and more than 100 bytes: inst.ks=file:/ks.cfg disk=/dev/vda"]);

    let wrong = Image { digest: digest(b"other"), ..image() };
    let boot = Boot::serve(&plan(install(image(), wrong)), Script::default()).await;
    let mut machine = Able::new();
    assert!(matches!(run_with(&boot.media, &mut machine, &patience()).await, Outcome::Failed(_)));
    assert_eq!((boot.failure(), machine.loaded.len()), ("ImageDigestMismatch".into(), 0));
}

#[tokio::test]
async fn a_panic_is_reported_without_its_text() {
    let boot = Boot::serve(&plan(Action::Inspect), Script::default()).await;
    let mut machine = Able { panics: true, ..Able::new() };
    let outcome = run_with(&boot.media, &mut machine, &patience()).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(boot.failure(), "AgentPanicked");
    assert!(!format!("{:?}", boot.results()).contains("secret"));
}

#[tokio::test]
async fn the_log_goes_home_before_the_result() {
    let boot = Boot::serve(&plan(Action::Inspect), Script::default()).await;
    let mut machine = Able::new();
    machine.logs.push("[    1.000] one".into());
    assert_eq!(run_with(&boot.media, &mut machine, &patience()).await, Outcome::Done);
    // Lines whose report was broken off by the end of the work come again.
    let (last, before) =
        boot.results().split_last().map(|(last, before)| (last.clone(), before.to_vec())).expect("some");
    assert!(matches!(last, Event::Inspected { .. }), "{last:?}");
    assert!(!before.is_empty());
    before.iter().for_each(|event| assert_eq!(event, &Event::Log { lines: vec!["[    1.000] one".into()] }));
}

/// A plan for the operation after the media's own.
fn second(action: Action) -> Plan {
    Plan { operation_id: "op-2".into(), ..plan(action) }
}

fn nothing_to_write() -> Action {
    Action::Prepare(Prepare { image: None, root_device: None, read_back: Default::default() })
}

#[tokio::test]
async fn after_a_preparation_one_more_plan_is_followed() {
    let wipe = second(Action::Wipe { policy: WipePolicy::Discard, known: Vec::new() });
    let boot = Boot::serve(&plan(nothing_to_write()), Script::default()).await.then(&wipe, TOKEN);
    let mut machine = FakeMachine::new();
    assert_eq!(boot.run(&mut machine).await, Outcome::Done);
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard"]);
    assert!(matches!(boot.results()[..], [Event::Prepared { digest: None }, Event::Wiped { .. }]));

    // A preparation after a preparation is done, and then it is over.
    let again = second(nothing_to_write());
    let boot = Boot::serve(&plan(nothing_to_write()), Script::default()).await.then(&again, TOKEN);
    assert_eq!(boot.run(&mut FakeMachine::new()).await, Outcome::Done);
}

#[tokio::test]
async fn a_next_plan_that_was_not_made_for_this_machine_is_not_followed() {
    let wipe = || Action::Wipe { policy: WipePolicy::Discard, known: Vec::new() };
    let others = [
        (second(wipe()), "another token"),
        (plan(wipe()), TOKEN),
        (Plan { host_uid: "another".into(), ..second(wipe()) }, TOKEN),
        (Plan { boot_macs: vec!["52:54:00:00:00:99".into()], ..second(wipe()) }, TOKEN),
    ];
    for (next, key) in others {
        let boot = Boot::serve(&plan(nothing_to_write()), Script::default()).await.then(&next, key);
        let mut machine = FakeMachine::new();
        let outcome = boot.run(&mut machine).await;
        assert!(matches!(&outcome, Outcome::Failed(why) if why.reason == "PlanRejected"), "{outcome:?}");
        assert!(machine.acts().is_empty());
        assert!(matches!(&boot.results()[1], Event::Failed { reason, .. } if reason == "PlanRejected"));
    }
}
