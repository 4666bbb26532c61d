//! What a probe tells before a machine is onboarded.

use crate::fake::{FakeBmc, PASSWORD, SLOT, SYSTEM, access, link, quick};
use crate::tls::Identity;
use rackwright_bmc::Trust;
use rackwright_bmc::probe::probe;
use serde_json::json;

#[tokio::test]
async fn a_good_machine_can_be_onboarded() {
    let bmc = FakeBmc::start().await;
    let report = probe(&bmc.access(), quick()).await;
    assert!(report.can_onboard, "{:?}", report.problems);
    assert_eq!(report.auth.as_deref(), Some("Session"));
    assert_eq!(report.media.first().map(|slot| slot.path.as_str()), Some(SLOT));
    assert!(report.plan.iter().any(|line| line.contains("ForceOff")), "{:?}", report.plan);
}

#[tokio::test]
async fn a_probe_changes_nothing_and_leaves_no_session() {
    let bmc = FakeBmc::start().await;
    probe(&bmc.access(), quick()).await;
    let writes: Vec<String> = {
        let state = bmc.state();
        state.seen.iter().filter(|seen| seen.0 != "GET").map(|seen| format!("{} {}", seen.0, seen.1)).collect()
    };
    assert_eq!(writes, ["POST /redfish/v1/Sessions", "DELETE /redfish/v1/Sessions/1"]);
}

#[tokio::test]
async fn several_systems_are_listed_with_their_paths() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/Systems", json!({"Members": [link(SYSTEM), link("/redfish/v1/Systems/2")]}));
    bmc.set("/redfish/v1/Systems/2", json!({"Name": "two"}));
    let report = probe(&bmc.access(), quick()).await;
    assert!(!report.can_onboard);
    let names: Vec<_> = report.systems.iter().map(|system| system.name.as_deref()).collect();
    assert_eq!(names, [Some("one"), Some("two")]);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_shown_for_pinning() {
    let bmc = FakeBmc::start().await;
    let identity = Identity::self_signed("127.0.0.1");
    let address = identity.front(*bmc.server.address()).await;
    let report = probe(&access(&address, PASSWORD, Trust::System), quick()).await;
    assert_eq!(report.certificate_sha256, Some(identity.digest()));
    assert!(report.problems.iter().any(|problem| problem.contains(&identity.digest())), "{:?}", report.problems);
}

#[tokio::test]
async fn a_report_tells_no_secret() {
    let bmc = FakeBmc::start().await;
    bmc.set(SLOT, json!({"Image": "https://10.0.0.1/media/secret.img", "Inserted": true}));
    let report = probe(&bmc.access(), quick()).await;
    let told = serde_json::to_string(&report).expect("it serialises");
    assert!(report.media[0].inserted && !told.contains("secret") && !told.contains(PASSWORD), "{told}");
}

#[tokio::test]
async fn a_machine_without_a_drive_can_be_onboarded_where_its_firmware_fetches_a_url() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/Managers/1/Media", json!({"Members": []}));
    let report = probe(&bmc.access(), quick()).await;
    assert!(report.can_onboard, "{:?}", report.problems);
    assert!(report.plan.iter().any(|line| line.contains("UefiHttp")), "{:?}", report.plan);
    bmc.set(SYSTEM, json!({"Boot": {"BootSourceOverrideTarget@Redfish.AllowableValues": ["Cd", "Hdd"]}}));
    assert!(!probe(&bmc.access(), quick()).await.can_onboard);
}
