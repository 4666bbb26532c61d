//! The boot service as a script: it answers what a test wants and remembers what it was told.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

pub mod disk;
pub mod images;
pub mod machine;
pub mod tables;
pub mod tls;

use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::post};
use machine::{FakeMachine, MAC};
use rackwright_agent::{Outcome, Patience, run_with};
use rackwright_protocol::facts::ImageFormat;
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::{Action, ConfigDrive, Deploy, Image, Plan, SignedPlan};
use rackwright_protocol::report::{Event, Refusal, Report};
use rackwright_protocol::{Subject, token};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tls::Tls;

pub const TOKEN: &str = "the-token";

/// What the scripted boot service answers, in turn; when nothing is left, 200.
#[derive(Default)]
pub struct Script {
    pub session: VecDeque<u16>,
    pub report: VecDeque<u16>,
    pub progress: VecDeque<u16>,
}

/// A scripted boot service.
pub struct Boot {
    pub media: MediaConfig,
    heard: Arc<Heard>,
}

struct Heard {
    script: Mutex<Script>,
    plan: Value,
    /// What comes after the plan; when there is nothing, the agent is told that it is over.
    next: Mutex<Option<Value>>,
    sessions: Mutex<u32>,
    events: Mutex<Vec<Event>>,
}

impl Boot {
    /// Hands out `plan`, correctly signed.
    pub async fn serve(plan: &Plan, script: Script) -> Boot {
        let signed = SignedPlan::sign(plan, TOKEN).expect("signs");
        Boot::serve_signed(serde_json::to_value(signed).expect("JSON"), script).await
    }

    /// Hands out `text` as if it were a plan, correctly signed.
    pub async fn serve_text(text: &str) -> Boot {
        let signed = json!({"plan": text, "signature": token::sign(TOKEN, text)});
        Boot::serve_signed(signed, Script::default()).await
    }

    /// Hands out `plan` as it is.
    pub async fn serve_signed(plan: Value, script: Script) -> Boot {
        let heard = Arc::new(Heard {
            script: Mutex::new(script),
            plan,
            next: Mutex::default(),
            sessions: Mutex::default(),
            events: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/session", post(session))
            .route("/v1/report", post(report))
            .route("/v1/next", post(next))
            .with_state(heard.clone());
        let tls = Tls::new();
        let media = MediaConfig {
            boot_url: tls.serve(router).await,
            ca: tls.ca,
            subject: Subject {
                namespace: "metal".into(),
                host: "a01-u07".into(),
                host_uid: "host".into(),
                operation_id: "op".into(),
            },
            token: TOKEN.into(),
            ..MediaConfig::default()
        };
        Boot { media, heard }
    }

    /// The same, with `plan` as what comes after a preparation; signed with `key`.
    pub fn then(self, plan: &Plan, key: &str) -> Boot {
        let signed = SignedPlan::sign(plan, key).expect("signs");
        let next = json!({ "nextOperationID": "op-2", "session": "the-session", "plan": signed });
        *self.heard.next.lock().expect("not poisoned") = Some(next);
        self
    }

    pub async fn run(&self, machine: &mut FakeMachine) -> Outcome {
        run_with(&self.media, machine, &patience()).await
    }

    /// How often a session was asked for.
    pub fn sessions(&self) -> u32 {
        *self.heard.sessions.lock().expect("not poisoned")
    }

    /// What was reported, without progress.
    pub fn results(&self) -> Vec<Event> {
        let events = self.heard.events.lock().expect("not poisoned").clone();
        events.into_iter().filter(|event| !matches!(event, Event::Progress { .. })).collect()
    }

    /// Steps whose progress was reported.
    pub fn steps(&self) -> Vec<String> {
        let events = self.heard.events.lock().expect("not poisoned").clone();
        events
            .into_iter()
            .filter_map(|event| if let Event::Progress { step, .. } = event { Some(step) } else { None })
            .collect()
    }

    /// Rates that progress told, bytes a second.
    pub fn rates(&self) -> Vec<u64> {
        let events = self.heard.events.lock().expect("not poisoned").clone();
        let rate = |event| if let Event::Progress { bytes_per_second, .. } = event { bytes_per_second } else { None };
        events.into_iter().filter_map(rate).collect()
    }

    /// The one failure that was reported.
    pub fn failure(&self) -> String {
        match self.results().as_slice() {
            [Event::Failed { reason, .. }] => reason.clone(),
            other => format!("not one failure but {other:?}"),
        }
    }
}

async fn session(State(heard): State<Arc<Heard>>, Json(request): Json<Value>) -> Response {
    *heard.sessions.lock().expect("not poisoned") += 1;
    assert_eq!(request["token"], TOKEN);
    assert_eq!(request["macs"], json!([MAC]));
    let status = heard.script.lock().expect("not poisoned").session.pop_front().unwrap_or(200);
    answer(status, json!({"session": "the-session", "plan": heard.plan}))
}

async fn next(State(heard): State<Arc<Heard>>, headers: axum::http::HeaderMap) -> Response {
    assert_eq!(headers["authorization"], "Bearer the-session");
    match heard.next.lock().expect("not poisoned").take() {
        Some(next) => answer(200, next),
        None => answer(410, json!({})),
    }
}

async fn report(
    State(heard): State<Arc<Heard>>,
    headers: axum::http::HeaderMap,
    Json(report): Json<Report>,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer the-session");
    let status = {
        let mut script = heard.script.lock().expect("not poisoned");
        let answers =
            if matches!(report.event, Event::Progress { .. }) { &mut script.progress } else { &mut script.report };
        answers.pop_front().unwrap_or(200)
    };
    heard.events.lock().expect("not poisoned").push(report.event);
    answer(status, json!({}))
}

fn answer(status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    if status.is_success() {
        return Json(body).into_response();
    }
    (status, [("location", "/elsewhere")], Json(Refusal { reason: "Scripted".into(), message: "no".into() }))
        .into_response()
}

/// Short waits.
pub fn patience() -> Patience {
    Patience {
        call: Duration::from_secs(5),
        retry_first: Duration::from_millis(5),
        retry_max: Duration::from_millis(20),
        session: Duration::from_secs(2),
        silence: Duration::from_secs(1),
        resumes: 3,
        progress: Duration::from_millis(10),
        sign_of_life: Duration::from_millis(300),
        disks: Duration::from_millis(100),
    }
}

/// A plan for the fake machine that may be worked on for a minute.
pub fn plan(action: Action) -> Plan {
    let issued_at = "2020-01-01T00:00:00Z".parse().expect("a time");
    let deadline = "2020-01-01T00:01:00Z".parse().expect("a time");
    Plan {
        host_uid: "host".into(),
        operation_id: "op".into(),
        boot_macs: vec![MAC.into()],
        issued_at,
        deadline,
        action,
    }
}

/// A deployment of what is behind `url`.
pub fn deployment(url: &str, digest: &str, format: ImageFormat) -> Plan {
    plan(Action::Deploy(Deploy {
        image: Image { url: url.into(), digest: digest.into(), format },
        root_device: None,
        config_drive: ConfigDrive {
            user_data: "#cloud-config\n".into(),
            meta_data: "{}".into(),
            ..ConfigDrive::default()
        },
        final_boot: Default::default(),
        read_back: Default::default(),
    }))
}
