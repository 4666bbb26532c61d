//! Faults switched over HTTP beside a running fleet.

mod support;

use rackwright_simulator::admin;
use rackwright_simulator::faults::Fault;
use rackwright_simulator::fleet::Fleet;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::{HOST, fleet};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Bench {
    fleet: Arc<Fleet>,
    url: String,
    stop: CancellationToken,
    _state: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let (fleet, state) = fleet(None).await;
        let (fleet, stop) = (Arc::new(fleet), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(admin::serve(fleet.clone(), listener, stop.clone()));
        Bench { fleet, url, stop, _state: state }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.request(method, format!("{}{path}", self.url)).body(body.to_string());
        let response = request.send().await.expect("it answers");
        (response.status(), response.json().await.expect("JSON"))
    }

    fn has(&self, fault: Fault) -> bool {
        self.fleet.snapshot(HOST).expect("it is there").faults.has(fault)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn faults_are_switched_on_and_off_by_name() {
    let bench = Bench::new().await;
    for (kind, parameters, fault) in [
        ("power-supply-dead", "", Fault::PowerSupplyDead { refuses: false }),
        ("power-supply-dead", r#"{"refuses": true}"#, Fault::PowerSupplyDead { refuses: true }),
        ("slow", r#"{"delay": "2s"}"#, Fault::Slow { delay: Duration::from_secs(2) }),
        ("unavailable", r#"{"requests": 3}"#, Fault::Unavailable { requests: Some(3) }),
        ("hangs-in-post", "", Fault::HangsInPost),
    ] {
        let path = format!("/hosts/{HOST}/faults/{kind}");
        let (status, _) = bench.ask(Method::POST, &path, parameters).await;
        assert!(status.is_success() && bench.has(fault), "{kind}");
        let (status, _) = bench.ask(Method::DELETE, &path, "").await;
        assert!(status.is_success() && !bench.has(fault), "{kind}");
    }
}

#[tokio::test]
async fn the_truth_about_machines_is_told() {
    let bench = Bench::new().await;
    let (_, hosts) = bench.ask(Method::GET, "/hosts", "").await;
    let names: Vec<&Value> = hosts.as_array().expect("a list").iter().map(|host| &host["name"]).collect();
    assert_eq!(names, [HOST, support::OTHER]);
    let (_, host) = bench.ask(Method::GET, &format!("/hosts/{HOST}"), "").await;
    assert_eq!((&host["phase"], &host["shownPower"]), (&json!("off"), &json!("Off")));
}

#[tokio::test]
async fn what_there_is_not_is_refused() {
    let bench = Bench::new().await;
    assert_eq!(bench.ask(Method::GET, "/hosts/nobody", "").await.0, StatusCode::NOT_FOUND);
    let (status, why) = bench.ask(Method::POST, &format!("/hosts/{HOST}/faults/bad-mood"), "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(why["message"].as_str().is_some_and(|why| why.contains("bad-mood")), "{why}");
}
