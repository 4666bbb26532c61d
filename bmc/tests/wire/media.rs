//! Virtual media.

use crate::fake::{FakeBmc, INSERT, SLOT, SYSTEM, link, refusal, slot, status};
use rackwright_bmc::Error;
use serde_json::json;

const IMAGE: &str = "https://10.0.0.1:8443/media/ns/host/op/secret-of-this-boot.img";

#[tokio::test]
async fn an_image_goes_into_the_slot_under_the_manager() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.insert_media(IMAGE).await.expect("inserted");
    assert_eq!(bmc.requests("POST", INSERT), [json!({"Image": IMAGE})], "the least that will do");
    assert_eq!(client.media().await.expect("a drive").url.as_deref(), Some(IMAGE));
}

#[tokio::test]
async fn a_slot_of_the_system_itself_is_preferred() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"VirtualMedia": link("/redfish/v1/Systems/1/Media")}));
    bmc.set("/redfish/v1/Systems/1/Media", json!({"Members": [link("/redfish/v1/Systems/1/Media/Cd")]}));
    bmc.set("/redfish/v1/Systems/1/Media/Cd", slot("/insert-here", "/eject-here"));
    bmc.client().await.insert_media(IMAGE).await.expect("inserted");
    assert_eq!(bmc.doc("/redfish/v1/Systems/1/Media/Cd")["Image"], IMAGE);
    assert!(bmc.requests("POST", INSERT).is_empty());
}

#[tokio::test]
async fn a_slot_shown_twice_is_read_once() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"VirtualMedia": link("/redfish/v1/Systems/1/Media")}));
    bmc.set("/redfish/v1/Systems/1/Media", json!({"Members": [link("/redfish/v1/Systems/1/Media/EXT1")]}));
    bmc.set("/redfish/v1/Systems/1/Media/EXT1", json!({"MediaTypes": ["CD"], "Id": "EXT1"}));
    bmc.set(SLOT, json!({"Id": "EXT1"}));
    let client = bmc.client().await;
    client.media().await.expect("a drive");
    client.media().await.expect("a drive");
    assert_eq!(bmc.requests("GET", SLOT).len(), 1, "only when slots were looked for");
}

#[tokio::test]
async fn a_slot_that_takes_no_url_is_passed_over() {
    for code in [400, 404, 405, 501] {
        let bmc = FakeBmc::start().await;
        bmc.set(SYSTEM, json!({"VirtualMedia": link("/redfish/v1/Systems/1/Media")}));
        bmc.set("/redfish/v1/Systems/1/Media", json!({"Members": [link("/redfish/v1/Systems/1/Media/Kvm")]}));
        bmc.set("/redfish/v1/Systems/1/Media/Kvm", slot("/kvm-only", "/eject-here"));
        bmc.answer("POST", "/kvm-only", vec![status(code)]);
        let inserted = bmc.client().await.insert_media(IMAGE).await;
        assert!(inserted.is_ok() && bmc.doc(SLOT)["Image"] == IMAGE, "{code}: {inserted:?}");
    }
}

#[tokio::test]
async fn a_slot_without_action_is_patched() {
    let bmc = FakeBmc::start().await;
    bmc.set(SLOT, json!({"Actions": null, "@odata.etag": "\"v1\""}));
    let client = bmc.client().await;
    client.insert_media(IMAGE).await.expect("inserted by PATCH with If-Match");
    client.eject_media().await.expect("ejected by PATCH");
    let expected =
        [json!({"Image": IMAGE, "Inserted": true, "WriteProtected": true}), json!({"Image": null, "Inserted": false})];
    assert_eq!(bmc.requests("PATCH", SLOT), expected);
}

#[tokio::test]
async fn fields_that_the_bmc_asks_for_are_added() {
    let bmc = FakeBmc::start().await;
    let asks =
        |field: &str| refusal(400, "Base.1.8.ActionParameterMissing", &format!("The parameter {field} is required."));
    bmc.answer("POST", INSERT, vec![asks("Inserted"), asks("TransferProtocolType")]);
    bmc.client().await.insert_media(IMAGE).await.expect("inserted");
    let last = bmc.requests("POST", INSERT).pop();
    assert_eq!(last, Some(json!({"Image": IMAGE, "Inserted": true, "TransferProtocolType": "HTTPS"})));
}

#[tokio::test]
async fn the_same_image_is_not_inserted_twice() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.insert_media(IMAGE).await.expect("inserted");
    client.insert_media(IMAGE).await.expect("it is in");
    assert_eq!(bmc.requests("POST", INSERT).len(), 1);
}

#[tokio::test]
async fn another_image_comes_out_first() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.insert_media("https://10.0.0.1/old.img").await.expect("inserted");
    client.insert_media(IMAGE).await.expect("inserted");
    assert_eq!(bmc.requests("POST", "/redfish/v1/Managers/1/Media/2/Eject"), [json!({})]);
    assert_eq!(bmc.doc(SLOT)["Image"], IMAGE);
}

#[tokio::test]
async fn a_bmc_that_lies_about_an_insertion_is_found_out() {
    let bmc = FakeBmc::start().await;
    bmc.state().lies.insert(INSERT.into());
    let error = bmc.client().await.insert_media(IMAGE).await.expect_err("nothing is in");
    assert_eq!(error, Error::NotDone { what: "insert the image".into(), found: "an empty slot".into() });
}

#[tokio::test]
async fn a_bmc_that_lies_about_an_ejection_is_found_out() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.insert_media(IMAGE).await.expect("inserted");
    bmc.state().lies.insert("/redfish/v1/Managers/1/Media/2/Eject".into());
    let error = client.eject_media().await.expect_err("it is still in");
    assert!(matches!(error, Error::NotDone { .. }) && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn an_insertion_that_comes_too_early_is_ordered_again_after_a_look() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", INSERT, vec![status(500)]);
    bmc.client().await.insert_media(IMAGE).await.expect("inserted at the second order");
    let state = bmc.state();
    let order: Vec<&str> =
        state.seen.iter().filter(|seen| seen.1 == SLOT || seen.1 == INSERT).map(|seen| seen.0.as_str()).collect();
    assert_eq!(order, ["GET", "POST", "GET", "POST", "GET"]);
}

#[tokio::test]
async fn a_refusal_does_not_tell_the_url() {
    let bmc = FakeBmc::start().await;
    let said = format!("Cannot reach {IMAGE}, file secret-of-this-boot.img.");
    bmc.answer("POST", INSERT, vec![refusal(400, "Base.1.8.ResourceCannotBeReached", &said)]);
    let error = bmc.client().await.insert_media(IMAGE).await.expect_err("refused");
    assert!(matches!(error, Error::Rejected { .. }) && !format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn an_insertion_done_later_is_waited_for() {
    let bmc = FakeBmc::start().await;
    let task = json!({"@odata.type": "#Task.v1_4_3.Task", "@odata.id": "/redfish/v1/Tasks/7", "TaskState": "New"});
    bmc.answer(
        "POST",
        INSERT,
        vec![status(202).insert_header("Location", "/redfish/v1/Tasks/7/Monitor").set_body_json(task)],
    );
    let running = status(200).set_body_json(json!({"TaskState": "Running"}));
    bmc.answer("GET", "/redfish/v1/Tasks/7", vec![running.clone(), running]);
    bmc.set("/redfish/v1/Tasks/7", json!({"TaskState": "Exception", "Messages": [{"Message": "No such share."}]}));
    let error = bmc.client().await.insert_media(IMAGE).await.expect_err("its task failed");
    assert!(error.to_string().contains("No such share."), "{error}");
    assert_eq!(bmc.requests("GET", "/redfish/v1/Tasks/7").len(), 3);
}

#[tokio::test]
async fn a_task_that_does_not_end_is_busy() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", INSERT, vec![status(202).insert_header("Location", "/redfish/v1/Tasks/7")]);
    bmc.set("/redfish/v1/Tasks/7", json!({"TaskState": "Running"}));
    let config = rackwright_bmc::redfish::RedfishConfig {
        call_deadline: std::time::Duration::from_secs(1),
        ..crate::fake::quick()
    };
    let connector = rackwright_bmc::redfish::RedfishConnector::new(config);
    let client = rackwright_bmc::Connect::bmc(&connector, &bmc.access()).await.expect("a client");
    let error = client.insert_media(IMAGE).await.expect_err("it never ends");
    assert_eq!(error, Error::Busy { why: "its task to insert the image is Running".into() });
}

#[tokio::test]
async fn a_machine_without_a_cd_slot_says_so() {
    let bmc = FakeBmc::start().await;
    bmc.set(SLOT, json!({"MediaTypes": ["Floppy"]}));
    assert!(matches!(bmc.client().await.insert_media(IMAGE).await, Err(Error::Unsupported { .. })));
}
