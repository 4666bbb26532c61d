//! The boot override.

use crate::fake::{FakeBmc, SYSTEM, link, refusal, status};
use rackwright_bmc::{BootDevice, Error};
use serde_json::json;

#[tokio::test]
async fn the_cd_is_booted_once() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.set_boot(BootDevice::Cd).await.expect("set");
    let boot = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd"});
    assert_eq!(bmc.requests("PATCH", SYSTEM), [json!({"Boot": boot})]);
    assert_eq!(client.system().await.expect("a system").boot, BootDevice::Cd);
}

#[tokio::test]
async fn what_is_set_is_not_set_again() {
    let bmc = FakeBmc::start().await;
    bmc.client().await.set_boot(BootDevice::Disk).await.expect("it boots from the disk");
    assert!(bmc.requests("PATCH", SYSTEM).is_empty());
}

#[tokio::test]
async fn where_no_override_is_refused_the_disk_is_named() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.set_boot(BootDevice::Cd).await.expect("set");
    bmc.answer("PATCH", SYSTEM, vec![status(500), status(400)]);
    client.set_boot(BootDevice::Disk).await.expect("set");
    assert_eq!(bmc.doc(SYSTEM)["Boot"]["BootSourceOverrideTarget"], "Hdd");
}

#[tokio::test]
async fn a_mode_that_is_refused_is_left_out() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"Boot": {"BootSourceOverrideMode": "UEFI"}}));
    bmc.answer("PATCH", SYSTEM, vec![refusal(400, "Base.1.8.PropertyNotWritable", "Mode is read-only.")]);
    bmc.client().await.set_boot(BootDevice::Cd).await.expect("set");
    let orders = bmc.requests("PATCH", SYSTEM);
    assert_eq!(orders[0]["Boot"]["BootSourceOverrideMode"], "UEFI");
    assert_eq!(orders[1]["Boot"]["BootSourceOverrideMode"], json!(null));
}

#[tokio::test]
async fn a_bmc_that_lies_about_the_boot_device_is_found_out() {
    let bmc = FakeBmc::start().await;
    bmc.state().lies.insert(SYSTEM.into());
    let error = bmc.client().await.set_boot(BootDevice::Cd).await.expect_err("nothing is set");
    assert_eq!(error, Error::NotDone { what: "boot from the CD next".into(), found: "None (Disabled)".into() });
}

#[tokio::test]
async fn a_bmc_in_post_is_busy_and_asked_once() {
    let bmc = FakeBmc::start().await;
    bmc.answer("PATCH", SYSTEM, vec![refusal(400, "iLO.2.14.UnableToModifyDuringSystemPOST", "In POST.")]);
    let error = bmc.client().await.set_boot(BootDevice::Cd).await.expect_err("not now");
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    assert_eq!(bmc.requests("PATCH", SYSTEM).len(), 1);
}

#[tokio::test]
async fn the_settings_object_is_used_where_the_system_refuses() {
    let bmc = FakeBmc::start().await;
    let settings = "/redfish/v1/Systems/1/SD";
    bmc.set(SYSTEM, json!({"@Redfish.Settings": {"SettingsObject": link(settings)}}));
    bmc.set(settings, json!({"Boot": {"BootSourceOverrideEnabled": "Disabled"}, "@odata.etag": "\"s1\""}));
    let future = refusal(400, "Ami.1.0.OperationSupportedInFutureStateURI", "Use the settings object.");
    bmc.answer("PATCH", SYSTEM, vec![future; 4]);
    let client = bmc.client().await;
    client.set_boot(BootDevice::Cd).await.expect("set for the next start");
    assert_eq!(bmc.doc(settings)["Boot"]["BootSourceOverrideTarget"], "Cd");
    assert_eq!(client.system().await.expect("a system").boot, BootDevice::Cd, "as the settings object shows");
}

#[tokio::test]
async fn a_settings_object_for_the_boot_order_only_is_left_alone() {
    let bmc = FakeBmc::start().await;
    let pending = "/redfish/v1/Systems/1/Pending";
    bmc.set(SYSTEM, json!({"@Redfish.Settings": {"SettingsObject": link(pending)}}));
    bmc.set(pending, json!({"Boot": {"BootOrder": ["Hard disk"]}}));
    bmc.state().lies.insert(SYSTEM.into());
    bmc.client().await.set_boot(BootDevice::Cd).await.expect_err("nothing is set");
    assert!(bmc.requests("PATCH", pending).is_empty());
}

#[tokio::test]
async fn an_etag_that_is_given_is_sent() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"@odata.etag": "\"v1\""}));
    bmc.client().await.set_boot(BootDevice::Cd).await.expect("the BMC demands it");
    assert_eq!(bmc.requests("PATCH", SYSTEM).len(), 1);
}

#[tokio::test]
async fn a_change_in_between_is_read_and_written_again() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"@odata.etag": "\"v1\""}));
    bmc.answer("GET", SYSTEM, vec![status(200).set_body_json(bmc.doc(SYSTEM))]);
    bmc.set(SYSTEM, json!({"@odata.etag": "\"v2\""}));
    bmc.client().await.set_boot(BootDevice::Cd).await.expect("set with the newer version");
    assert_eq!(bmc.requests("PATCH", SYSTEM).len(), 2);
}

#[tokio::test]
async fn a_bmc_that_likes_no_etag_gets_none() {
    let bmc = FakeBmc::start().await;
    let shown = status(200).set_body_json(bmc.doc(SYSTEM)).insert_header("ETag", "W/\"x\"");
    bmc.answer("GET", SYSTEM, vec![shown.clone(), shown]);
    bmc.answer("PATCH", SYSTEM, vec![status(412), status(412)]);
    bmc.client().await.set_boot(BootDevice::Cd).await.expect("set without condition");
    let sent = bmc.server.received_requests().await.unwrap_or_default();
    let conditions: Vec<Option<String>> = sent
        .iter()
        .filter(|request| request.method.as_str() == "PATCH")
        .map(|request| request.headers.get("If-Match").and_then(|etag| etag.to_str().ok()).map(str::to_owned))
        .collect();
    assert_eq!(conditions, [Some("W/\"x\"".into()), Some("\"x\"".into()), None]);
}

#[tokio::test]
async fn another_device_is_rejected_before_anything_is_sent() {
    let bmc = FakeBmc::start().await;
    for device in [BootDevice::Other, BootDevice::Http] {
        let error = bmc.client().await.set_boot(device).await.expect_err("not ours to set");
        assert!(matches!(error, Error::Rejected { .. }));
    }
    assert!(bmc.state().seen.is_empty());
}

#[tokio::test]
async fn a_bmc_without_a_cd_target_cannot() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"Boot": {"BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe"]}}));
    assert!(matches!(bmc.client().await.set_boot(BootDevice::Cd).await, Err(Error::Unsupported { .. })));
}

const URL: &str = "https://10.0.0.1/media/ns/host/op/secret.efi";
const TARGETS: &str = "BootSourceOverrideTarget@Redfish.AllowableValues";

#[tokio::test]
async fn a_url_is_booted_once_by_the_firmware() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.set_http_boot(URL).await.expect("set");
    client.set_http_boot(URL).await.expect("set already");
    let boot = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp", "HttpBootUri": URL});
    assert_eq!(bmc.requests("PATCH", SYSTEM), [json!({"Boot": boot})]);
    let system = client.system().await.expect("a system");
    assert_eq!((system.boot, system.boot_uri.as_deref()), (BootDevice::Http, Some(URL)));
    let other = URL.replace("secret", "other");
    client.set_http_boot(&other).await.expect("another one takes its place");
    assert_eq!(client.system().await.expect("a system").boot_uri, Some(other));
}

#[tokio::test]
async fn a_url_that_is_not_shown_is_ordered_each_time() {
    let bmc = FakeBmc::start().await;
    let boot = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp"});
    bmc.set(SYSTEM, json!({"Boot": boot}));
    bmc.state().lies.insert(SYSTEM.into());
    let client = bmc.client().await;
    client.set_http_boot(URL).await.expect("as far as can be seen");
    client.set_http_boot(URL).await.expect("as far as can be seen");
    assert_eq!(bmc.requests("PATCH", SYSTEM).len(), 2);
    assert_eq!(client.system().await.expect("a system").boot_uri, None);
}

#[tokio::test]
async fn a_url_is_set_for_good_where_once_is_not_taken() {
    let bmc = FakeBmc::start().await;
    bmc.answer("PATCH", SYSTEM, vec![status(204)]); // says yes and ignores it
    bmc.client().await.set_http_boot(URL).await.expect("set");
    assert_eq!(bmc.doc(SYSTEM)["Boot"]["BootSourceOverrideEnabled"], "Continuous");
}

#[tokio::test]
async fn a_refusal_does_not_tell_the_url() {
    let bmc = FakeBmc::start().await;
    let why = format!("cannot fetch {URL}: there is no secret.efi");
    bmc.answer("PATCH", SYSTEM, vec![refusal(400, "Base.1.8.PropertyValueError", &why); 4]);
    let error = bmc.client().await.set_http_boot(URL).await.expect_err("refused");
    assert!(matches!(&error, Error::Rejected { .. }) && !error.to_string().contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_bmc_that_knows_no_url_cannot_boot_one() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"Boot": {TARGETS: ["None", "Cd", "Pxe"]}}));
    let client = bmc.client().await;
    assert!(!client.system().await.expect("a system").bootable.http);
    assert!(matches!(client.set_http_boot(URL).await, Err(Error::Unsupported { .. })));
    assert!(bmc.requests("PATCH", SYSTEM).is_empty());
}

#[tokio::test]
async fn the_network_is_booted_once() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.set_boot(BootDevice::Pxe).await.expect("set");
    let boot = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"});
    assert_eq!(bmc.requests("PATCH", SYSTEM), [json!({"Boot": boot})]);
    assert_eq!(client.system().await.expect("a system").boot, BootDevice::Pxe);
}
