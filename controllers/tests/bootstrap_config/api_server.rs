//! A plain HTTP API server in memory that knows just what passes over configs use: get, create, server-side apply (without
//! field ownership), the status subresource, delete. It keeps a log of what was asked of it.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Value>,
    log: Vec<String>,
    version: u64,
    refusing: bool,
}

/// The API server. Clones are the same server; it ends with the runtime.
#[derive(Clone)]
pub struct ApiServer {
    held: Arc<Mutex<Held>>,
    address: SocketAddr,
}

impl ApiServer {
    pub async fn start() -> ApiServer {
        let held = Arc::new(Mutex::new(Held::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().fallback(answer).with_state(held.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        ApiServer { held, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every request is answered by 403, or answered again.
    pub fn refuse(&self, refusing: bool) {
        self.lock().refusing = refusing;
    }

    /// Puts an object there, as another client would.
    pub fn put(&self, path: &str, object: Value) {
        self.lock().store(path, object);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub fn remove(&self, path: &str) {
        self.lock().objects.remove(path);
    }

    /// Paths of all objects below `prefix`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        self.lock().objects.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// What was asked since the log was last taken, as `METHOD path`.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// The writes of [`ApiServer::take_log`].
    pub fn take_writes(&self) -> Vec<String> {
        self.take_log().into_iter().filter(|line| !line.starts_with("GET ")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("not poisoned")
    }
}

async fn answer(State(held): State<Arc<Mutex<Held>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut held = held.lock().expect("not poisoned");
    held.log.push(format!("{method} {}", uri.path()));
    if held.refusing {
        return failure(StatusCode::FORBIDDEN);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (path, status) = uri.path().strip_suffix("/status").map_or((uri.path(), false), |path| (path, true));
    let before = held.objects.get(path).cloned();
    match (method.as_str(), before) {
        ("GET", Some(object)) => Json(object).into_response(),
        ("POST", _) => {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().expect("a name"));
            if held.objects.contains_key(&path) {
                return failure(StatusCode::CONFLICT);
            }
            (StatusCode::CREATED, Json(held.store(&path, body))).into_response()
        }
        ("PATCH", Some(before)) if differs(&before, &body, "resourceVersion") || differs(&before, &body, "uid") => {
            failure(StatusCode::CONFLICT)
        }
        ("PATCH", Some(mut object)) if status => {
            object["status"] = body["status"].clone();
            Json(held.store(path, object)).into_response()
        }
        ("PATCH", _) => Json(held.store(path, body)).into_response(),
        ("DELETE", Some(object)) => {
            held.objects.remove(path);
            Json(object).into_response()
        }
        _ => failure(StatusCode::NOT_FOUND),
    }
}

fn differs(object: &Value, body: &Value, field: &str) -> bool {
    let wanted = &body["metadata"][field];
    !wanted.is_null() && *wanted != object["metadata"][field]
}

fn failure(code: StatusCode) -> Response {
    let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16() });
    (code, Json(status)).into_response()
}

impl Held {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}
