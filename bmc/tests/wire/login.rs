//! Sessions, and what happens when they end.

use crate::fake::{FakeBmc, PASSWORD, SESSIONS, SYSTEM, access, connect, quick, refusal, status};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::{Connect, Error, Power, PowerTarget, Trust};
use serde_json::json;
use std::time::Duration;
use wiremock::ResponseTemplate;

#[tokio::test]
async fn one_session_serves_all_calls() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    for _ in 0..3 {
        client.system().await.expect("a system");
    }
    assert_eq!(bmc.requests("POST", SESSIONS).len(), 1);
}

#[tokio::test]
async fn once_known_a_system_takes_one_request() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.system().await.expect("a system");
    let before = bmc.state().seen.len();
    client.system().await.expect("a system");
    assert_eq!(bmc.state().seen.len() - before, 1);
}

#[tokio::test]
async fn a_wrong_password_is_unauthorized_and_tried_once() {
    let bmc = FakeBmc::start().await;
    let client = connect(&access(&bmc.server.uri(), "wrong", Trust::System)).await;
    assert_eq!(client.system().await, Err(Error::Unauthorized));
    assert_eq!(bmc.requests("POST", SESSIONS).len(), 1, "more tries lock accounts");
}

#[tokio::test]
async fn an_ended_session_is_made_anew() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.system().await.expect("a system");
    bmc.state().tokens.clear();
    client.system().await.expect("a system, by a new session");
    assert_eq!(bmc.requests("POST", SESSIONS).len(), 2);
}

#[tokio::test]
async fn an_ended_session_does_not_lose_a_write() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.system().await.expect("a system");
    bmc.answer("POST", crate::fake::RESET, vec![status(401)]);
    client.set_power(PowerTarget::On).await.expect("taken after a new login");
    assert_eq!(bmc.doc(SYSTEM)["PowerState"], "On");
}

#[tokio::test]
async fn a_session_that_ends_at_once_again_is_unauthorized() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.system().await.expect("a system");
    bmc.answer("GET", SYSTEM, vec![status(401), status(401), status(401)]);
    assert_eq!(client.system().await, Err(Error::Unauthorized));
    assert_eq!(bmc.requests("POST", SESSIONS).len(), 2, "one new login and no more");
}

#[tokio::test]
async fn a_password_changed_on_the_bmc_is_unauthorized() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.system().await.expect("a system");
    bmc.state().tokens.clear();
    bmc.state().password = "new".into();
    assert_eq!(client.system().await, Err(Error::Unauthorized));
}

#[tokio::test]
async fn without_a_session_service_the_account_goes_with_each_request() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/", json!({"Links": null}));
    assert_eq!(bmc.client().await.system().await.expect("a system").power, Some(Power::Off));
}

#[tokio::test]
async fn a_session_service_that_is_none_is_done_without() {
    for code in [404, 405, 501] {
        let bmc = FakeBmc::start().await;
        bmc.answer("POST", SESSIONS, vec![status(code)]);
        let system = bmc.client().await.system().await;
        assert!(system.is_ok(), "{code}: {system:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_without_sessions_is_tried_once() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/", json!({"Links": null}));
    let client = connect(&access(&bmc.server.uri(), "wrong", Trust::System)).await;
    assert_eq!(client.system().await, Err(Error::Unauthorized));
    assert_eq!(bmc.requests("GET", "/redfish/v1/Systems").len(), 1);
}

#[tokio::test]
async fn a_root_that_wants_a_name_gets_one() {
    let bmc = FakeBmc::start().await;
    bmc.answer("GET", "/redfish/v1/", vec![status(401)]);
    bmc.client().await.system().await.expect("a system");
    assert_eq!(bmc.requests("POST", SESSIONS).len(), 1, "and a session all the same");
}

fn no_session_left() -> ResponseTemplate {
    refusal(503, "Base.1.8.SessionLimitExceeded", "Too many sessions.")
}

#[tokio::test]
async fn without_a_free_session_the_account_goes_with_each_request() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", SESSIONS, vec![no_session_left()]);
    let client = bmc.client().await;
    client.set_power(PowerTarget::On).await.expect("done without a session");
    client.system().await.expect("a system");
    assert_eq!(bmc.requests("POST", SESSIONS).len(), 1, "not asked for a session at each request");
}

#[tokio::test]
async fn a_session_is_asked_for_again_after_a_while() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", SESSIONS, vec![no_session_left()]);
    let config = RedfishConfig { session_retry: Duration::ZERO, ..quick() };
    let client = RedfishConnector::new(config).bmc(&bmc.access()).await.expect("a client");
    client.system().await.expect("a system");
    assert_eq!(bmc.state().tokens.len(), 1);
}

#[tokio::test]
async fn no_free_session_and_no_other_way_is_busy_and_no_wrong_password() {
    let bmc = FakeBmc::start().await;
    bmc.answer("POST", SESSIONS, vec![no_session_left()]);
    bmc.answer("GET", "/redfish/v1/Systems", vec![status(401)]);
    assert!(matches!(bmc.client().await.system().await, Err(Error::Busy { .. })));
}

#[tokio::test]
async fn a_refused_login_does_not_tell_the_password() {
    let bmc = FakeBmc::start().await;
    let said = format!("The value '{PASSWORD}' for Password is of a bad format.");
    bmc.answer("POST", SESSIONS, vec![refusal(400, "Base.1.8.PropertyValueFormatError", &said)]);
    let error = bmc.client().await.system().await.expect_err("the login was refused");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
}

#[tokio::test]
async fn closing_gives_sessions_back() {
    let bmc = FakeBmc::start().await;
    let connector = RedfishConnector::new(quick());
    connector.bmc(&bmc.access()).await.expect("a client").system().await.expect("a system");
    connector.close().await;
    assert!(bmc.state().tokens.is_empty());
}

#[tokio::test]
async fn a_new_password_gives_the_old_session_back() {
    let bmc = FakeBmc::start().await;
    let connector = RedfishConnector::new(quick());
    connector.bmc(&bmc.access()).await.expect("a client").system().await.expect("a system");
    connector.bmc(&access(&bmc.server.uri(), "new", Trust::System)).await.expect("a client");
    for _ in 0..100 {
        if bmc.state().tokens.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the old session is still open");
}
