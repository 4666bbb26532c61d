//! An API server in memory: objects, versions, server-side apply, the status subresource, finalizers, conflicts.
//!
//! Knows just what the reconcilers use. It answers at once, except where the simulation wants the process to die: then
//! the request is carried out, or not, and never answered.

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What happens to the next request that writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    #[default]
    Answered,
    /// The process dies before it is carried out.
    DiesBefore,
    /// It is carried out, and the process dies before it hears of it.
    DiesAfter,
    /// The API server answers 500 and does nothing.
    Refused,
}

/// One change, as a watch reports it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Plural of the kind.
    pub plural: String,
    /// The object as it is now, or was last.
    pub object: Value,
    /// It is gone.
    pub deleted: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// Leaves that a field manager applied last: (path of the object, manager, status or not) to their pointers.
    applied: BTreeMap<(String, String, bool), BTreeSet<String>>,
    version: u64,
    changes: Vec<Change>,
    fate: Fate,
    writes: u64,
    time: String,
}

/// The API server. Clones are the same server.
#[derive(Clone, Default)]
pub struct ApiServer(Arc<Mutex<State>>);

enum Answer {
    Object(u16, Value),
    Never,
}

impl ApiServer {
    /// A client of it.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// What happens to the next write.
    pub fn next_write(&self, fate: Fate) {
        self.0.lock().expect("not poisoned").fate = fate;
    }

    /// Writes carried out so far.
    pub fn writes(&self) -> u64 {
        self.0.lock().expect("not poisoned").writes
    }

    /// Changes since they were last taken.
    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().expect("not poisoned").changes)
    }

    /// All objects of a kind.
    pub fn list(&self, plural: &str) -> Vec<Value> {
        let state = self.0.lock().expect("not poisoned");
        let kind = |path: &str| path.rsplit('/').nth(1) == Some(plural);
        state.objects.iter().filter(|(path, _)| kind(path)).map(|(_, object)| object.clone()).collect()
    }

    /// The object at `path`.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().expect("not poisoned").objects.get(path).cloned()
    }

    /// Puts `object` at `path`, as another client would: new, or instead of what is there.
    pub fn put(&self, path: &str, object: Value) {
        self.0.lock().expect("not poisoned").store(path, object);
    }

    /// Applies `fields` to the object at `path`, as another client would.
    pub fn apply(&self, path: &str, manager: &str, status: bool, fields: Value) {
        self.0
            .lock()
            .expect("not poisoned")
            .apply(path, manager, status, fields)
            .expect("no version given, so no conflict");
    }

    /// Deletes the object at `path`: at once, or when its last finalizer goes.
    pub fn delete(&self, path: &str) {
        // What is gone already is gone.
        let _ = self.0.lock().expect("not poisoned").delete(path);
    }

    /// What its clock shows, RFC 3339.
    pub fn set_time(&self, now: String) {
        self.0.lock().expect("not poisoned").time = now;
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let (parts, body) = request.into_parts();
        let applies = parts.headers.get("content-type").is_some_and(|kind| kind == "application/apply-patch+yaml");
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match self.carry_out(
            &parts.method,
            parts.uri.path(),
            parts.uri.query().filter(|_| applies).unwrap_or_default(),
            body,
        ) {
            Answer::Never => std::future::pending().await,
            Answer::Object(code, object) => {
                let body = serde_json::to_vec(&object).expect("plain data");
                Ok(Response::builder().status(code).body(Body::from(body)).expect("a valid response"))
            }
        }
    }

    fn carry_out(&self, method: &Method, path: &str, query: &str, body: Value) -> Answer {
        let mut state = self.0.lock().expect("not poisoned");
        let (path, status) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        if *method == Method::GET {
            return match state.objects.get(path) {
                Some(object) => Answer::Object(200, object.clone()),
                None => failure(404, "NotFound"),
            };
        }
        if path.ends_with("/events") || path.contains("/events/") {
            return Answer::Object(201, body); // nobody reads them here
        }
        let fate = std::mem::take(&mut state.fate);
        match fate {
            Fate::DiesBefore => return Answer::Never,
            Fate::Refused => return failure(500, "InternalError"),
            Fate::Answered | Fate::DiesAfter => {}
        }
        if *method == Method::POST || *method == Method::DELETE {
            let done = if *method == Method::POST { state.create(path, body) } else { state.delete(path) };
            return match (done, fate) {
                (_, Fate::DiesAfter) => Answer::Never,
                (Ok(object), _) => Answer::Object(200, object),
                (Err(code), _) => failure(code, if code == 409 { "AlreadyExists" } else { "NotFound" }),
            };
        }
        assert_eq!(*method, Method::PATCH, "the reconcilers only create, patch and delete: {path}");
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        let done = match manager {
            Some(manager) => state.apply(path, manager, status, body),
            None => state.merge(path, body),
        };
        match (done, fate) {
            (_, Fate::DiesAfter) => Answer::Never,
            (Ok(object), _) => Answer::Object(200, object),
            (Err(code), _) => failure(code, if code == 409 { "Conflict" } else { "NotFound" }),
        }
    }
}

fn failure(code: u16, reason: &str) -> Answer {
    Answer::Object(
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason }),
    )
}

impl State {
    fn check(&self, path: &str, body: &Value) -> Result<Value, u16> {
        let object = self.objects.get(path).ok_or(404u16)?;
        let differs = |field: &str| {
            let wanted = &body["metadata"][field];
            !wanted.is_null() && *wanted != object["metadata"][field]
        };
        if differs("resourceVersion") || differs("uid") { Err(409) } else { Ok(object.clone()) }
    }

    fn apply(&mut self, path: &str, manager: &str, status: bool, body: Value) -> Result<Value, u16> {
        let mut object = self.check(path, &body)?;
        let mut fields = Map::new();
        let parts: &[&str] = if status { &["status"] } else { &["spec"] };
        for part in parts {
            if let Some(value) = body.get(*part) {
                fields.insert((*part).into(), value.clone());
            }
        }
        if !status {
            for field in ["finalizers", "annotations", "labels"] {
                if let Some(value) = body["metadata"].get(field) {
                    fields.entry("metadata").or_insert(json!({}))[field] = value.clone();
                }
            }
        }
        let fields = Value::Object(fields);
        let key = (path.to_string(), manager.to_string(), status);
        let now = leaves(&fields);
        for gone in self.applied.get(&key).cloned().unwrap_or_default().difference(&now) {
            let others =
                self.applied.iter().any(|(other, owned)| *other != key && other.0 == path && owned.contains(gone));
            if !others {
                remove(&mut object, gone);
            }
        }
        merge(&mut object, &fields);
        prune(&mut object["spec"]);
        prune(&mut object["status"]);
        self.applied.insert(key, now);
        Ok(self.store(path, object))
    }

    fn merge(&mut self, path: &str, body: Value) -> Result<Value, u16> {
        let mut object = self.check(path, &body)?;
        json_merge(&mut object, &body);
        Ok(self.store(path, object))
    }

    fn create(&mut self, folder: &str, mut object: Value) -> Result<Value, u16> {
        let path = format!("{folder}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        if self.objects.contains_key(&path) {
            return Err(409);
        }
        let namespace = folder.split('/').skip_while(|part| *part != "namespaces").nth(1).unwrap_or_default();
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version + 1));
        object["metadata"]["creationTimestamp"] = json!(self.time);
        Ok(self.store(&path, object))
    }

    fn delete(&mut self, path: &str) -> Result<Value, u16> {
        let mut object = self.objects.get(path).cloned().ok_or(404u16)?;
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(self.time);
        }
        Ok(self.store(path, object))
    }

    /// Stores `object` in a new version, unless nothing changed; a deleted object without finalizers goes.
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        let before = self.objects.get(path).cloned();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if *before == object {
                return object; // a write that changes nothing makes no version
            }
        }
        self.version += 1;
        self.writes += 1;
        let spec_changed = before.as_ref().is_none_or(|before| before["spec"] != object["spec"]);
        if spec_changed {
            object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        let deleted = !object["metadata"]["deletionTimestamp"].is_null() && !held;
        if deleted {
            self.objects.remove(path);
            self.applied.retain(|(of, ..), _| of != path);
        } else {
            self.objects.insert(path.to_string(), object.clone());
        }
        let plural = path.rsplit('/').nth(1).unwrap_or_default().to_string();
        self.changes.push(Change { plural, object: object.clone(), deleted });
        object
    }
}

/// JSON pointers of all leaves; a list is one leaf.
fn leaves(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| {
                    walk(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found)
                });
            }
            _ if at.is_empty() => {}
            _ => {
                found.insert(at.to_string());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}

fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(map)) = object.pointer_mut(parent) {
        map.remove(&key.replace("~1", "/").replace("~0", "~"));
    }
}

/// Takes out maps that lost their last field.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(prune);
        map.retain(|_, value| !value.as_object().is_some_and(Map::is_empty));
    }
}

fn merge(object: &mut Value, fields: &Value) {
    match (object, fields) {
        (Value::Object(object), Value::Object(fields)) => {
            for (key, value) in fields {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, fields) => *object = fields.clone(),
    }
}

/// RFC 7386.
fn json_merge(object: &mut Value, patch: &Value) {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                object.remove(key);
            }
            Value::Object(_) => json_merge(object.entry(key).or_insert(json!({})), value),
            other => {
                object.insert(key.clone(), other.clone());
            }
        }
    }
}
