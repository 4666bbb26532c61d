//! What strangers and broken agents may send: a clear answer, no panic, and nothing half done.

mod support;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request};
use jiff::Timestamp;
use proptest::prelude::*;
use rackwright_api::host::OperationKind::{Deploy, Wipe};
use rackwright_boot::{Media, Service, Throttle, router};
use rackwright_protocol::report::{Event, NextRequest, Refusal, Report, SessionRequest};
use rackwright_protocol::token::{BootKey, Purpose};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::host::{NAME, NAMESPACE, OPERATION, UID, host, host_with_session, operation, subject};
use support::machine::MAC;
use support::memory::Memory;
use tower::ServiceExt;

const SESSION: &str = "the-session";

fn key() -> BootKey {
    BootKey::new(vec![7; 32]).expect("long enough")
}

fn app(store: &Memory) -> Router {
    store.state().boot_url = Some("https://127.0.0.1:1".into());
    let service = Service::new(store.clone(), "an authority", Media::Bare, Throttle::new(Duration::ZERO));
    service.set_key(key());
    router(Arc::new(service))
}

/// Status and body.
async fn send(app: Router, request: Request<Body>) -> (u16, Vec<u8>) {
    let mut request = request;
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
    let response = app.oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    (status, to_bytes(response.into_body(), usize::MAX).await.expect("a body").to_vec())
}

fn post(path: &str, session: Option<&str>, body: Vec<u8>) -> Request<Body> {
    let mut request = Request::post(path).header("content-length", body.len());
    if let Some(session) = session {
        request = request.header("authorization", format!("Bearer {session}"));
    }
    request.body(Body::from(body)).expect("a request")
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Anything that JSON can say, of a bounded size.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        Just(json!("A".repeat(100_000))),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-zA-Z]{0,12}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

/// What happens to a body on its way.
#[derive(Clone, Debug)]
enum Harm {
    Cut(usize),
    Flip(usize, u8),
    Set(usize, Value),
    Remove(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        any::<usize>().prop_map(Harm::Cut),
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        (any::<usize>(), any_json()).prop_map(|(field, value)| Harm::Set(field, value)),
        any::<usize>().prop_map(Harm::Remove),
    ]
}

fn harmed(mut body: Value, harm: &Harm) -> Vec<u8> {
    let fields: Vec<String> = body.as_object().expect("an object").keys().cloned().collect();
    match harm {
        Harm::Set(field, value) => body[&fields[field % fields.len()]] = value.clone(),
        Harm::Remove(field) => {
            body.as_object_mut().expect("an object").remove(&fields[field % fields.len()]);
        }
        Harm::Cut(_) | Harm::Flip(..) => {}
    }
    let mut bytes = serde_json::to_vec(&body).expect("JSON");
    let length = bytes.len();
    match harm {
        Harm::Cut(at) => bytes.truncate(at % length),
        Harm::Flip(at, bits) => bytes[at % length] ^= bits,
        Harm::Set(..) | Harm::Remove(_) => {}
    }
    bytes
}

/// A refusal says why; nothing is an error of ours.
fn is_clear(status: u16, body: &[u8]) -> bool {
    (200..300).contains(&status)
        || ((400..500).contains(&status)
            && serde_json::from_slice::<Refusal>(body).is_ok_and(|why| !why.reason.is_empty()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_harmed_session_request_opens_nothing_by_halves(harm in harm()) {
        let store = Memory::new(host(Deploy, Timestamp::now()));
        let before = store.host();
        let token = key().secret(Purpose::Token, UID, OPERATION);
        let request = SessionRequest { subject: subject(), token, macs: vec![MAC.into()], system_uuid: None };
        let body = harmed(serde_json::to_value(&request).expect("JSON"), &harm);
        let (status, answer) = run(send(app(&store), post("/v1/session", None, body)));
        prop_assert!(is_clear(status, &answer), "{status} {}", String::from_utf8_lossy(&answer));
        let after = store.host();
        prop_assert_eq!(&before.spec, &after.spec);
        let agent = after.status.and_then(|status| status.agent);
        match status {
            200 => prop_assert!(agent.is_some_and(|agent| agent.failure.is_none())),
            403 => prop_assert_eq!(agent.and_then(|agent| agent.failure).map(|why| why.reason), Some("WrongMachine".into())),
            _ => prop_assert_eq!(store.state().writes.len(), 0),
        }
    }

    #[test]
    fn a_harmed_report_is_taken_whole_or_not_at_all(
        harm in harm(),
        session in prop_oneof![Just(SESSION.to_string()), "[ -~]{0,80}"],
        kind in prop_oneof![Just(Deploy), Just(Wipe)],
        event in prop_oneof![
            Just(Event::Wiped { disks: vec![] }),
            Just(Event::Deployed { device: "/dev/vda".into(), digest: "sha256:00".into(), final_boot: Default::default() }),
            Just(Event::Progress { step: "A".into(), percent: 1, bytes_per_second: None }),
            Just(Event::Failed { reason: "A".into(), message: "b".into(), wiped: vec![] }),
            Just(Event::Log { lines: vec!["c".into()] }),
        ],
    ) {
        let store = Memory::new(host_with_session(kind, SESSION, Timestamp::now()));
        let before = store.host();
        let report = serde_json::to_value(Report { subject: subject(), event }).expect("JSON");
        let (status, answer) = run(send(app(&store), post("/v1/report", Some(&session), harmed(report, &harm))));
        prop_assert!(is_clear(status, &answer), "{status} {}", String::from_utf8_lossy(&answer));
        let after = store.host();
        if session != SESSION {
            prop_assert_eq!((&before.spec, &before.status), (&after.spec, &after.status));
        }
        if status != 204 {
            prop_assert_eq!(&before.spec, &after.spec);
        }
        let agent = after.status.and_then(|status| status.agent).expect("an agent");
        prop_assert!(agent.failure.is_none_or(|why| why.message.len() < 2100 && why.reason.len() <= 64));
        prop_assert!(agent.step.is_none_or(|step| step.len() <= 64) && agent.steps.len() <= 12);
    }

    #[test]
    fn a_harmed_question_for_what_comes_next_hands_nothing_out_by_halves(
        harm in harm(),
        session in prop_oneof![Just(SESSION.to_string()), "[ -~]{0,80}"],
    ) {
        let mut waits = host_with_session(Deploy, SESSION, Timestamp::now());
        (operation(&mut waits).id, operation(&mut waits).takes_over) = ("op-2".into(), Some(OPERATION.into()));
        let store = Memory::new(waits);
        let before = store.host();
        let asked = serde_json::to_value(NextRequest { subject: subject() }).expect("JSON");
        let (status, answer) = run(send(app(&store), post("/v1/next", Some(&session), harmed(asked, &harm))));
        prop_assert!(is_clear(status, &answer), "{status} {}", String::from_utf8_lossy(&answer));
        prop_assert_eq!(&before.spec, &store.host().spec);
        if session != SESSION || status != 200 {
            prop_assert_eq!(before.status, store.host().status);
        }
    }

    #[test]
    fn a_path_that_was_made_up_is_not_there(
        parts in proptest::collection::vec("[!-.0-~]{0,40}", 0..7),
        root in prop_oneof![Just("media"), Just("images"), Just("v1"), Just("pxe"), Just("")],
        method in prop_oneof![Just(Method::GET), Just(Method::HEAD)],
        range in proptest::option::of("bytes=[-0-9,]{0,20}"),
    ) {
        let path: String = parts.iter().flat_map(|part| ["/", part.as_str()]).collect();
        let mut request = Request::builder().method(method).uri(format!("/{root}{path}"));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        if let Ok(request) = request.body(Body::empty()) {
            let store = Memory::new(host(Deploy, Timestamp::now()));
            let (status, _) = run(send(app(&store), request));
            prop_assert!([404, 405, 400].contains(&status), "{status}");
            prop_assert_eq!(store.state().writes.len(), 0);
        }
    }
}

#[test]
fn media_of_the_very_url_is_there_so_that_the_others_mean_something() {
    let store = Memory::new(host(Deploy, Timestamp::now()));
    let secret = key().secret(Purpose::Media, UID, OPERATION);
    let path = format!("/media/{NAMESPACE}/{NAME}/{OPERATION}/{secret}.iso");
    let request = Request::get(path).body(Body::empty()).expect("a request");
    assert_eq!(run(send(app(&store), request)).0, 200);
}
