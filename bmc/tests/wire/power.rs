//! Switching, and the locator.

use crate::fake::{FakeBmc, RESET, SYSTEM, refusal, status};
use rackwright_bmc::{Error, Power, PowerTarget};
use serde_json::json;

#[tokio::test]
async fn a_machine_is_switched_on_and_off() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.set_power(PowerTarget::On).await.expect("taken");
    client.set_power(PowerTarget::Off).await.expect("taken");
    assert_eq!(bmc.requests("POST", RESET), [json!({"ResetType": "On"}), json!({"ResetType": "ForceOff"})]);
}

#[tokio::test]
async fn a_machine_already_there_gets_no_order() {
    let bmc = FakeBmc::start().await;
    bmc.client().await.set_power(PowerTarget::Off).await.expect("it is off");
    assert!(bmc.requests("POST", RESET).is_empty());
}

#[tokio::test]
async fn a_machine_in_an_unknown_state_gets_the_order() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"PowerState": null}));
    let client = bmc.client().await;
    assert_eq!(client.system().await.expect("a system").power, None);
    client.set_power(PowerTarget::Off).await.expect("taken");
    assert_eq!(client.system().await.expect("a system").power, Some(Power::Off));
}

#[tokio::test]
async fn an_order_that_failed_is_not_repeated() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", RESET, vec![status(500)]);
    let error = bmc.client().await.set_power(PowerTarget::On).await.expect_err("refused");
    assert!(matches!(error, Error::Rejected { .. }), "{error:?}");
    assert_eq!(bmc.requests("POST", RESET).len(), 1);
}

#[tokio::test]
async fn an_order_during_a_conflict_is_busy() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", RESET, vec![refusal(409, "IDRAC.2.8.PSU501", "A power operation is running.")]);
    let error = bmc.client().await.set_power(PowerTarget::On).await.expect_err("not now");
    assert_eq!(error, Error::Busy { why: "A power operation is running. (409)".into() });
    assert_eq!(bmc.requests("POST", RESET).len(), 1);
}

#[tokio::test]
async fn refusing_what_is_so_already_is_no_error() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    let on = bmc.doc(SYSTEM);
    bmc.answer("GET", SYSTEM, vec![status(200).set_body_json(on)]);
    bmc.set(SYSTEM, json!({"PowerState": "On"}));
    bmc.answer("POST", RESET, vec![refusal(400, "Base.1.8.ActionNotSupported", "It is on.")]);
    client.set_power(PowerTarget::On).await.expect("it came on by itself");
}

#[tokio::test]
async fn reset_values_are_taken_from_action_info() {
    let bmc = FakeBmc::start().await;
    bmc.set(
        SYSTEM,
        json!({"Actions": {"#ComputerSystem.Reset": {
        "ResetType@Redfish.AllowableValues": null, "@Redfish.ActionInfo": "/redfish/v1/Systems/1/ResetInfo"}}}),
    );
    let parameters = json!([{"Name": "ResetType", "AllowableValues": ["ForceOn", "ForceOff"]}]);
    bmc.set("/redfish/v1/Systems/1/ResetInfo", json!({"Parameters": parameters}));
    bmc.client().await.set_power(PowerTarget::On).await.expect("taken");
    assert_eq!(bmc.requests("POST", RESET), [json!({"ResetType": "ForceOn"})]);
}

#[tokio::test]
async fn a_system_without_reset_cannot_be_switched() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"Actions": null}));
    assert!(matches!(bmc.client().await.set_power(PowerTarget::On).await, Err(Error::Unsupported { .. })));
}

#[tokio::test]
async fn an_order_taken_for_later_is_taken() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", RESET, vec![status(202).insert_header("Location", "/redfish/v1/Tasks/1")]);
    bmc.client().await.set_power(PowerTarget::On).await.expect("taken");
}

#[tokio::test]
async fn the_locator_is_lit_and_put_out() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.set_locator(true).await.expect("lit");
    assert_eq!(bmc.doc(SYSTEM)["LocationIndicatorActive"], true);
    client.set_locator(false).await.expect("out");
    assert_eq!(bmc.doc(SYSTEM)["LocationIndicatorActive"], false);
}

#[tokio::test]
async fn a_machine_without_a_light_says_so() {
    let bmc = FakeBmc::start().await;
    bmc.set(SYSTEM, json!({"LocationIndicatorActive": null}));
    assert!(matches!(bmc.client().await.set_locator(true).await, Err(Error::Unsupported { .. })));
}

#[tokio::test]
async fn a_light_that_stays_dark_is_not_done() {
    let bmc = FakeBmc::start().await;
    bmc.state().lies.insert(SYSTEM.into());
    assert!(matches!(bmc.client().await.set_locator(true).await, Err(Error::NotDone { .. })));
}
