//! Reading: what is repeated, what is found, and when it is given up.

use crate::fake::{FakeBmc, SYSTEM, access, connect, link, quick, refusal, status};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::{Connect, Error, Trust};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_read_that_finds_the_bmc_busy_is_repeated() {
    let bmc = FakeBmc::start().await;
    bmc.answer("GET", SYSTEM, vec![status(503), status(500)]);
    bmc.client().await.system().await.expect("the third answer is good");
}

#[tokio::test]
async fn a_bmc_that_stays_busy_is_busy() {
    let bmc = FakeBmc::start().await;
    bmc.answer("GET", SYSTEM, vec![refusal(503, "Base.1.8.ServiceTemporarilyUnavailable", "Restarting."); 9]);
    let error = bmc.client().await.system().await.expect_err("never an answer");
    assert_eq!(error, Error::Busy { why: "Restarting. (503)".into() });
    assert_eq!(bmc.requests("GET", SYSTEM).len(), 4, "the first and three more");
}

#[tokio::test]
async fn a_broken_connection_is_tried_again() {
    let bmc = FakeBmc::start().await;
    let front = breaking_front(*bmc.server.address(), 2).await;
    let client = connect(&access(&format!("http://{front}"), crate::fake::PASSWORD, Trust::System)).await;
    client.system().await.expect("the third connection holds");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let client = connect(&access(&format!("http://{address}"), "x", Trust::System)).await;
    let error = client.system().await.expect_err("nobody listens");
    assert!(matches!(&error, Error::Unreachable { why } if why.contains("refused")), "{error:?}");
}

#[tokio::test]
async fn a_slow_answer_is_unreachable_in_time() {
    let bmc = FakeBmc::start().await;
    let config = RedfishConfig { request_timeout: Duration::from_millis(100), ..quick() };
    let slow = status(200).set_body_json(bmc.doc("/redfish/v1/")).set_delay(Duration::from_secs(5));
    bmc.answer("GET", "/redfish/v1/", vec![slow]);
    let client = RedfishConnector::new(config).bmc(&bmc.access()).await.expect("a client");
    let start = Instant::now();
    assert!(matches!(client.system().await, Err(Error::Unreachable { .. })));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_call_as_a_whole_has_a_deadline() {
    let bmc = FakeBmc::start().await;
    let config = RedfishConfig {
        call_deadline: Duration::from_millis(300),
        read_retries: 1000,
        retry_delay: Duration::from_millis(20),
        ..quick()
    };
    bmc.answer("GET", SYSTEM, vec![status(500); 2000]);
    let client = RedfishConnector::new(config).bmc(&bmc.access()).await.expect("a client");
    let start = Instant::now();
    client.system().await.expect_err("never an answer");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn calls_on_one_bmc_wait_for_each_other() {
    let bmc = FakeBmc::start().await;
    let config =
        RedfishConfig { call_deadline: Duration::from_millis(400), request_timeout: Duration::from_secs(5), ..quick() };
    let connector = RedfishConnector::new(config);
    let client = connector.bmc(&bmc.access()).await.expect("a client");
    client.system().await.expect("a system");
    bmc.answer("GET", SYSTEM, vec![status(200).set_body_json(bmc.doc(SYSTEM)).set_delay(Duration::from_secs(3))]);
    let before = bmc.state().seen.len();
    let (first, second) = tokio::join!(client.system(), client.system());
    assert!(matches!(first, Err(Error::Unreachable { .. })), "{first:?}");
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    assert_eq!(bmc.state().seen.len() - before, 1, "the second did not reach the wire");
}

#[tokio::test]
async fn several_systems_are_named() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/Systems", json!({"Members": [link(SYSTEM), link("/redfish/v1/Systems/HGX"), {}]}));
    let error = bmc.client().await.system().await.expect_err("no choice");
    let said = error.to_string();
    assert!(said.contains("2 systems") && said.contains(SYSTEM) && said.contains("/redfish/v1/Systems/HGX"), "{said}");
}

#[tokio::test]
async fn a_path_in_the_address_chooses_the_system() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/Systems", json!({"Members": [link(SYSTEM), link("/redfish/v1/Systems/2")]}));
    bmc.set("/redfish/v1/Systems/2", json!({"PowerState": "On", "SerialNumber": "second"}));
    let client =
        connect(&access(&format!("{}/redfish/v1/Systems/2", bmc.server.uri()), crate::fake::PASSWORD, Trust::System))
            .await;
    assert_eq!(client.system().await.expect("a system").serial.as_deref(), Some("second"));
}

#[tokio::test]
async fn a_path_that_leads_nowhere_says_what_there_is() {
    let bmc = FakeBmc::start().await;
    let client =
        connect(&access(&format!("{}/redfish/v1/Systems/9", bmc.server.uri()), crate::fake::PASSWORD, Trust::System))
            .await;
    let said = client.system().await.expect_err("no such system").to_string();
    assert!(said.contains("no /redfish/v1/Systems/9") && said.contains(SYSTEM), "{said}");
}

#[tokio::test]
async fn a_system_that_moved_is_found_again() {
    let bmc = FakeBmc::start().await;
    let client = bmc.client().await;
    client.system().await.expect("a system");
    let system = bmc.state().docs.remove(SYSTEM).expect("it was there");
    bmc.set("/redfish/v1/Systems/renamed", system);
    bmc.set("/redfish/v1/Systems", json!({"Members": [link("/redfish/v1/Systems/renamed")]}));
    client.system().await.expect("the same system elsewhere");
}

#[tokio::test]
async fn an_absolute_link_stays_on_this_bmc() {
    let bmc = FakeBmc::start().await;
    bmc.set("/redfish/v1/Systems", json!({"Members": [link(&format!("http://192.0.2.1{SYSTEM}"))]}));
    bmc.client().await.system().await.expect("asked here, not there");
}

#[tokio::test]
async fn a_redirect_of_a_read_is_followed() {
    let bmc = FakeBmc::start().await;
    bmc.answer("GET", "/redfish/v1/Systems", vec![status(308).insert_header("Location", "/redfish/v1/Systems/")]);
    let systems = bmc.doc("/redfish/v1/Systems");
    bmc.set("/redfish/v1/Systems/", systems);
    bmc.client().await.system().await.expect("a system");
}

#[tokio::test]
async fn an_answer_that_is_no_json_makes_no_sense() {
    let bmc = FakeBmc::start().await;
    bmc.answer("GET", SYSTEM, vec![status(200).set_body_string("<html>login</html>")]);
    assert!(matches!(bmc.client().await.system().await, Err(Error::Garbled { .. })));
}

/// Hangs up on the first connections, then passes everything on.
async fn breaking_front(to: SocketAddr, breaks: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((mut client, _)) = listener.accept().await else { return };
            if number < breaks {
                // Hang up after the request came, or it would count as never sent.
                let _ = client.read(&mut [0; 512]).await;
                continue;
            }
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}
