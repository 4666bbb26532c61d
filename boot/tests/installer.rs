//! A host that is installed: from the session to the installer's own report, over TLS.

mod support;

use jiff::Timestamp;
use rackwright_api::host::OperationKind::Deploy;
use rackwright_protocol::plan::{Action, DISK, Install};
use rackwright_protocol::report::{Event, Report};
use rackwright_protocol::token::Purpose;
use rackwright_protocol::{INSTALLED_PATH, REPORT_PATH};
use reqwest::StatusCode;
use std::time::Duration;
use support::host::{DIGEST, OPERATION, UID, host, installer, subject};
use support::{Bed, USER_DATA};

/// A host whose claim is to be installed.
async fn bed() -> Bed {
    let mut host = host(Deploy, Timestamp::now());
    host.spec.claim.as_mut().expect("claimed").image.installer = Some(installer());
    Bed::with(host, Duration::from_secs(5)).await
}

/// The plan that the agent gets, and its session.
async fn planned(bed: &Bed) -> (Install, String) {
    let response = bed.ask_session(&bed.request()).await.expect("opens");
    let token = bed.key.secret(Purpose::Token, UID, OPERATION);
    let plan = response.plan.open(&token, UID, OPERATION).expect("a plan for this host");
    let install = match plan.action {
        Action::Install(install) => Some(install),
        _ => None,
    };
    (install.expect("a plan to install"), response.session)
}

async fn tell(bed: &Bed, path: &str, bearer: &str, event: Event) -> (StatusCode, String) {
    let report = Report { subject: subject(), event };
    let call = bed.client.post(format!("{}{path}", bed.url)).bearer_auth(bearer).json(&report);
    let answer = call.send().await.expect("answers");
    (answer.status(), answer.text().await.expect("a body"))
}

fn deployed() -> Event {
    Event::Deployed { device: "/dev/vda".into(), digest: DIGEST.into(), final_boot: Default::default() }
}

/// The shell script of the kickstart that tells of the end, with the disk that the agent found.
fn done_script(install: &Install) -> String {
    let kickstart = install.files[0].content.replace(DISK, "/dev/disk/by-path/pci-0000:00:04.0");
    let (_, after) = kickstart.split_once("\n%post --nochroot --erroronfail\n").expect("the section");
    after.split_once("\n%end\n").expect("its end").0.to_owned()
}

#[tokio::test]
async fn the_plan_holds_the_answers_and_its_debug_text_does_not() {
    let bed = bed().await;
    let (install, _) = planned(&bed).await;
    assert_eq!(install.files[0].path, "/ks.cfg");
    assert!(install.command_line.starts_with("inst.ks=file:/ks.cfg "), "{}", install.command_line);
    let shown = format!("{install:?}");
    let token = bed.key.secret(Purpose::Installed, UID, OPERATION);
    assert!(!shown.contains("cloud-config") && !shown.contains(&token) && !shown.contains("base64"), "{shown}");
    assert!(!install.files[0].content.contains(USER_DATA), "it stands there as base64");
}

#[tokio::test]
async fn the_installers_report_is_a_deployment_and_may_be_repeated() {
    let bed = bed().await;
    planned(&bed).await;
    let token = bed.key.secret(Purpose::Installed, UID, OPERATION);
    for _ in 0..2 {
        let (status, text) = tell(&bed, INSTALLED_PATH, &token, deployed()).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{text}");
    }
    assert!(bed.store.host().spec.is_deployed());
    assert_eq!(bed.store.state().writes, ["agent", "results"]);
}

#[tokio::test]
async fn the_two_secrets_do_not_stand_in_for_each_other() {
    let bed = bed().await;
    let (_, session) = planned(&bed).await;
    let token = bed.key.secret(Purpose::Installed, UID, OPERATION);
    let other = bed.key.secret(Purpose::Installed, UID, "op-0");
    for (path, bearer, reason) in [
        (INSTALLED_PATH, session.as_str(), "TokenInvalid"),
        (INSTALLED_PATH, other.as_str(), "TokenInvalid"),
        (REPORT_PATH, token.as_str(), "SessionInvalid"),
    ] {
        let (status, text) = tell(&bed, path, bearer, deployed()).await;
        assert!(status == StatusCode::UNAUTHORIZED && text.contains(reason), "{path}: {status} {text}");
    }
    assert!(!bed.store.host().spec.is_deployed());
}

#[tokio::test]
async fn a_claim_that_cannot_be_installed_is_a_failure_that_the_manager_sees_at_once() {
    let bed = bed().await;
    bed.store.state().host.as_mut().and_then(|host| host.spec.claim.as_mut()).expect("claimed").image.installer = {
        let mut installer = installer();
        installer.kernel_arguments = vec!["x".repeat(2000)];
        Some(installer)
    };
    assert_eq!(bed.ask_session(&bed.request()).await.err(), Some((422, "InstallerInvalid".into())));
    assert_eq!(bed.store.failure().as_deref(), Some("InstallerInvalid"));
    assert_eq!(bed.store.state().writes, ["agent"]);
}

/// What the kickstart says is what the boot service takes: the very script, with the very certificate.
#[tokio::test]
#[ignore = "needs curl: cargo xtask test"]
async fn the_kickstarts_own_script_reports_to_the_boot_service() {
    let bed = bed().await;
    let (install, _) = planned(&bed).await;
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-c", &done_script(&install)]).output().await.expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let deployed = bed.store.host().spec.deployed.expect("recorded");
    assert_eq!(deployed.device, "/dev/disk/by-path/pci-0000:00:04.0");
}
