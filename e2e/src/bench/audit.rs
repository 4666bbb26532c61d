//! Who asked the API server for what, from its own audit log: exact counts per account, verb and resource.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Every request but watches, told once it is answered.
const POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
  "rules": [{"level": "None", "verbs": ["watch"]}, {"level": "None", "nonResourceURLs": ["*"]}, {"level": "Metadata"}]
}"#;

/// Flags of an API server that keeps an audit log in `folder`.
pub fn flags(folder: &Path) -> Result<[String; 2]> {
    let policy = folder.join("audit-policy.json");
    fs::write(&policy, POLICY).with_context(|| format!("{} cannot be written", policy.display()))?;
    Ok([format!("--audit-policy-file={}", policy.display()), format!("--audit-log-path={}", path(folder).display())])
}

fn path(folder: &Path) -> PathBuf {
    folder.join("log/audit.log")
}

/// A place in the log: what comes later is counted.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl Mark {
    /// The end of the log in `folder`.
    pub fn now(folder: &Path) -> Result<Mark> {
        Ok(Mark(fs::metadata(path(folder)).context("the API server keeps no audit log")?.len()))
    }

    /// What was asked since.
    pub fn since(self, folder: &Path) -> Result<Requests> {
        let mut log = File::open(path(folder))?;
        log.seek(SeekFrom::Start(self.0))?;
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        Ok(Requests::read(&text))
    }
}

/// Counted requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<Request, u64>);

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Name of the ServiceAccount; of an administrator, the program.
    pub who: String,
    /// `get`, `list`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// `hosts` or `hosts/status`.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Done,
    /// 409: somebody else was faster, or it is there already.
    Conflict,
    /// Any other refusal.
    Refused,
}

impl Request {
    /// Whether it changed something.
    pub fn is_write(&self) -> bool {
        self.outcome == Outcome::Done && !matches!(self.verb.as_str(), "get" | "list")
    }
}

impl Requests {
    fn read(log: &str) -> Requests {
        let mut counted = BTreeMap::new();
        // The last line may not be whole yet.
        for event in log.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
            if let Some(request) = event.request() {
                *counted.entry(request).or_default() += 1;
            }
        }
        Requests(counted)
    }

    /// How many there were for which `wanted` holds.
    pub fn count(&self, wanted: impl Fn(&Request) -> bool) -> u64 {
        self.iter().filter(|(request, _)| wanted(request)).map(|(_, count)| count).sum()
    }

    /// All of them, with their number.
    pub fn iter(&self) -> impl Iterator<Item = (&Request, u64)> {
        self.0.iter().map(|(request, count)| (request, *count))
    }
}

/// An audit event (audit.k8s.io/v1), as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    resource: String,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

impl Event {
    fn request(self) -> Option<Request> {
        let object = self.object_ref?;
        let who = match self.user.username.strip_prefix("system:serviceaccount:") {
            Some(account) => account.split(':').next_back(),
            None => self.user_agent.split('/').next().filter(|program| !program.is_empty()),
        };
        Some(Request {
            who: who.unwrap_or(&self.user.username).to_string(),
            verb: self.verb,
            what: object.resource + &object.subresource.map(|part| format!("/{part}")).unwrap_or_default(),
            outcome: match self.response_status.and_then(|status| status.code) {
                Some(409) => Outcome::Conflict,
                Some(400..) => Outcome::Refused,
                _ => Outcome::Done,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
{"verb":"patch","user":{"username":"system:serviceaccount:rackwright-system:rackwright-boot"},"userAgent":"x","objectRef":{"resource":"hosts","subresource":"status"},"responseStatus":{"code":200}}
{"verb":"patch","user":{"username":"system:serviceaccount:rackwright-system:rackwright-boot"},"userAgent":"x","objectRef":{"resource":"hosts","subresource":"status"},"responseStatus":{"code":409}}
{"verb":"get","user":{"username":"admin"},"userAgent":"capi-core/v1.14.2 (linux/amd64)","objectRef":{"resource":"machines"},"responseStatus":{"code":200}}
{"verb":"patch","user":{"username":"adm"#;

    #[test]
    fn requests_are_told_apart_by_account_verb_resource_and_outcome() {
        let requests = Requests::read(LOG);
        assert_eq!(requests.count(|_| true), 3);
        assert_eq!(requests.count(|request| request.who == "rackwright-boot" && request.is_write()), 1);
        assert_eq!(requests.count(|request| request.outcome == Outcome::Conflict), 1);
        assert_eq!(requests.count(|request| request.who == "capi-core" && request.what == "machines"), 1);
    }
}
