//! A BMC that does what it is told, unless its script says otherwise.
//!
//! Its resources are plain JSON documents that a test may change; requests are kept, so that a test can count them.

use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::{Access, Bmc, Connect, Trust};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const USER: &str = "admin";
pub const PASSWORD: &str = "correct horse";
pub const SYSTEM: &str = "/redfish/v1/Systems/1";
pub const RESET: &str = "/redfish/v1/Systems/1/Actions/Reset";
pub const SLOT: &str = "/redfish/v1/Managers/1/Media/2";
pub const INSERT: &str = "/redfish/v1/Managers/1/Media/2/Insert";
pub const SESSIONS: &str = "/redfish/v1/Sessions";

/// A BMC on loopback.
pub struct FakeBmc {
    pub server: MockServer,
    pub state: Arc<Mutex<State>>,
}

/// What it is and what happened to it.
pub struct State {
    /// Resources by path. `@odata.etag` makes it demand a fitting If-Match.
    pub docs: BTreeMap<String, Value>,
    /// Answers that come before it acts, by method and path.
    pub script: Vec<(&'static str, String, VecDeque<ResponseTemplate>)>,
    /// Paths where it says yes and does nothing.
    pub lies: HashSet<String>,
    /// Sessions that are good.
    pub tokens: HashSet<String>,
    /// Its password.
    pub password: String,
    /// All requests: method, path, body.
    pub seen: Vec<(String, String, Value)>,
    sessions_made: usize,
}

impl FakeBmc {
    /// One machine that is off; its CD slot hangs under its manager.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            docs: documents(),
            script: Vec::new(),
            lies: HashSet::new(),
            tokens: HashSet::new(),
            password: PASSWORD.into(),
            seen: Vec::new(),
            sessions_made: 0,
        }));
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(Answers(state.clone())).mount(&server).await;
        Self { server, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    /// How to reach it, without TLS.
    pub fn access(&self) -> Access {
        access(&self.server.uri(), PASSWORD, Trust::System)
    }

    /// The client under test.
    pub async fn client(&self) -> Arc<dyn Bmc> {
        connect(&self.access()).await
    }

    /// Changes part of a document, as a JSON merge patch.
    pub fn set(&self, path: &str, change: Value) {
        let mut state = self.state();
        merge(state.docs.entry(path.to_owned()).or_insert_with(|| json!({})), &change);
    }

    pub fn doc(&self, path: &str) -> Value {
        self.state().docs.get(path).cloned().unwrap_or_default()
    }

    /// The next requests to a path are answered so; after that it acts again.
    pub fn answer(&self, method: &'static str, path: &str, answers: Vec<ResponseTemplate>) {
        self.state().script.push((method, path.to_owned(), answers.into()));
    }

    /// Bodies of all requests of this kind.
    pub fn requests(&self, method: &str, path: &str) -> Vec<Value> {
        let state = self.state();
        state.seen.iter().filter(|seen| seen.0 == method && seen.1 == path).map(|seen| seen.2.clone()).collect()
    }
}

pub fn access(address: &str, password: &str, trust: Trust) -> Access {
    let address = address.parse().expect("a URL");
    Access { address, username: USER.into(), password: password.to_owned().into(), trust }
}

/// A client with its own connector.
pub async fn connect(access: &Access) -> Arc<dyn Bmc> {
    RedfishConnector::new(quick()).bmc(access).await.expect("no request is made yet")
}

/// Patience for a BMC on loopback.
pub fn quick() -> RedfishConfig {
    RedfishConfig {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(2),
        call_deadline: Duration::from_secs(5),
        retry_delay: Duration::from_millis(5),
        read_back: Duration::from_millis(60),
        read_back_interval: Duration::from_millis(10),
        task_interval: Duration::from_millis(10),
        allow_plain_http: true,
        ..RedfishConfig::default()
    }
}

pub fn status(code: u16) -> ResponseTemplate {
    ResponseTemplate::new(code)
}

/// An error as DSP0266 wants it.
pub fn refusal(code: u16, id: &str, message: &str) -> ResponseTemplate {
    let info = json!([{"MessageId": id, "Message": message}]);
    status(code).set_body_json(json!({"error": {"code": id, "message": "", "@Message.ExtendedInfo": info}}))
}

pub fn link(path: &str) -> Value {
    json!({"@odata.id": path})
}

fn documents() -> BTreeMap<String, Value> {
    let docs = [
        (
            "/redfish/v1/",
            json!({"Systems": link("/redfish/v1/Systems"), "Managers": link("/redfish/v1/Managers"),
                "Links": {"Sessions": link(SESSIONS)}, "RedfishVersion": "1.17.0", "Vendor": "Nobody"}),
        ),
        ("/redfish/v1/Systems", json!({"Members": [link(SYSTEM)]})),
        (
            SYSTEM,
            json!({"Name": "one", "PowerState": "Off", "UUID": "ABCD", "Manufacturer": "Nobody",
                "Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None",
                    "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Cd", "Hdd", "UefiHttp"]},
                "LocationIndicatorActive": false,
                "Links": {"ManagedBy": [link("/redfish/v1/Managers/1")]},
                "Actions": {"#ComputerSystem.Reset": {"target": RESET,
                    "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart"]}}}),
        ),
        ("/redfish/v1/Managers/1", json!({"VirtualMedia": link("/redfish/v1/Managers/1/Media")})),
        ("/redfish/v1/Managers/1/Media", json!({"Members": [link("/redfish/v1/Managers/1/Media/1"), link(SLOT)]})),
        ("/redfish/v1/Managers/1/Media/1", json!({"MediaTypes": ["USBStick"], "Inserted": false, "Image": null})),
        (SLOT, slot(INSERT, "/redfish/v1/Managers/1/Media/2/Eject")),
    ];
    docs.into_iter().map(|(path, doc)| (path.to_owned(), doc)).collect()
}

/// An empty CD slot.
pub fn slot(insert: &str, eject: &str) -> Value {
    json!({"MediaTypes": ["CD", "DVD"], "Inserted": false, "Image": null, "Actions": {
        "#VirtualMedia.InsertMedia": {"target": insert}, "#VirtualMedia.EjectMedia": {"target": eject}}})
}

struct Answers(Arc<Mutex<State>>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.0.lock().expect("no test panics while it holds this").respond(request)
    }
}

impl State {
    fn respond(&mut self, request: &Request) -> ResponseTemplate {
        let (method, path) = (request.method.as_str(), request.url.path());
        let body: Value = request.body_json().unwrap_or_default();
        self.seen.push((method.to_owned(), path.to_owned(), body.clone()));
        if let Some(answer) = self.scripted(method, path) {
            return answer;
        }
        if path == "/redfish/v1/" {
            return status(200).set_body_json(&self.docs[path]);
        }
        if method == "POST" && path == SESSIONS {
            return self.log_in(&body);
        }
        if !self.knows(request) {
            return refusal(401, "Base.1.8.NoValidSession", "There is no valid session.");
        }
        match method {
            "GET" => self.show(path),
            "DELETE" => self.log_out(request),
            _ if self.lies.contains(path) => status(204),
            "PATCH" => self.change(path, request, &body),
            "POST" => self.act(path, &body),
            _ => status(405),
        }
    }

    fn scripted(&mut self, method: &str, path: &str) -> Option<ResponseTemplate> {
        let script =
            self.script.iter_mut().find(|script| script.0 == method && script.1 == path && !script.2.is_empty());
        script?.2.pop_front()
    }

    fn log_in(&mut self, body: &Value) -> ResponseTemplate {
        if body["UserName"] != USER || body["Password"] != self.password.as_str() {
            return refusal(401, "Base.1.8.ResourceAtUriUnauthorized", "Login failed.");
        }
        self.sessions_made += 1;
        let token = format!("token-{}", self.sessions_made);
        self.tokens.insert(token.clone());
        let location = format!("{SESSIONS}/{}", self.sessions_made);
        status(201).insert_header("X-Auth-Token", token).insert_header("Location", location).set_body_json(json!({}))
    }

    fn log_out(&mut self, request: &Request) -> ResponseTemplate {
        let token = request.headers.get("X-Auth-Token").and_then(|token| token.to_str().ok()).unwrap_or_default();
        status(if self.tokens.remove(token) { 204 } else { 404 })
    }

    fn knows(&self, request: &Request) -> bool {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        // "admin:correct horse"
        let basic = header("Authorization") == Some("Basic YWRtaW46Y29ycmVjdCBob3JzZQ==") && self.password == PASSWORD;
        basic || header("X-Auth-Token").is_some_and(|token| self.tokens.contains(token))
    }

    fn show(&self, path: &str) -> ResponseTemplate {
        match self.docs.get(path) {
            Some(doc) => status(200).set_body_json(doc),
            None => refusal(404, "Base.1.8.ResourceMissingAtURI", "Not here."),
        }
    }

    fn change(&mut self, path: &str, request: &Request, body: &Value) -> ResponseTemplate {
        let Some(doc) = self.docs.get_mut(path) else { return status(404) };
        let given = request.headers.get("If-Match").and_then(|etag| etag.to_str().ok());
        if let Some(etag) = doc["@odata.etag"].as_str()
            && given != Some(etag)
        {
            return status(412);
        }
        merge(doc, body);
        status(204)
    }

    fn act(&mut self, path: &str, body: &Value) -> ResponseTemplate {
        let owner = |action: &str, docs: &BTreeMap<String, Value>| {
            let found = docs.iter().find(|(_, doc)| doc["Actions"][action]["target"] == path);
            found.map(|(path, _)| path.clone())
        };
        let (owner, change) = if let Some(owner) = owner("#ComputerSystem.Reset", &self.docs) {
            let off = body["ResetType"] == "ForceOff";
            (owner, json!({"PowerState": if off { "Off" } else { "On" }}))
        } else if let Some(owner) = owner("#VirtualMedia.InsertMedia", &self.docs) {
            (owner, json!({"Image": body["Image"], "Inserted": true}))
        } else if let Some(owner) = owner("#VirtualMedia.EjectMedia", &self.docs) {
            (owner, json!({"Image": null, "Inserted": false}))
        } else {
            return status(404);
        };
        merge(self.docs.get_mut(&owner).expect("its owner was just found"), &change);
        status(204)
    }
}

/// A merge patch, except that `null` is kept as Redfish does.
fn merge(doc: &mut Value, change: &Value) {
    match (doc, change) {
        (Value::Object(doc), Value::Object(change)) => {
            for (key, value) in change {
                merge(doc.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (doc, change) => *doc = change.clone(),
    }
}
