//! What can go wrong with one request, before it is named by what the caller does next.
//!
//! A refusal keeps what the BMC said (DSP0266 "Error responses": `@Message.ExtendedInfo`), so that the verbs can choose another way.
//! Whatever leaves here as text is scrubbed: of a URL only the origin stays, since a media URL is a secret.

use crate::error::Error;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Longest part of a BMC's words in an error.
const LONGEST: usize = 300;

/// Message identifiers (without registry and version) that mean "not now", whatever the status code.
const BUSY: [&str; 9] = [
    "ServiceTemporarilyUnavailable",
    "ServiceInUnknownState",
    "ServiceShuttingDown",
    "SessionLimitExceeded",
    "ResourceInUse",
    "ResourceInStandby",
    "UnableToModifyDuringSystemPOST",
    "InvalidOperationForSystemState",
    "SYS518",
];

/// Why one request did not end well.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The BMC answered with an error.
    Refused(Refusal),
    /// The connection broke before the whole answer came; whether the request was carried out is unknown.
    Broken(String),
    /// Anything that is already named.
    Named(Error),
}

/// An error answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// What was asked, as it reads after "the BMC refused to".
    pub what: String,
    /// True for GET.
    pub reading: bool,
    /// The status code.
    pub status: StatusCode,
    messages: Vec<Message>,
}

#[derive(Clone, Debug, Default)]
struct Message {
    id: String,
    text: String,
    /// `MessageArgs` and `RelatedProperties`: the names of properties are here.
    names: Vec<String>,
}

impl Fault {
    /// True when the same reading may well succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Fault::Refused(refusal) => {
                refusal.status.is_server_error() && refusal.status != StatusCode::NOT_IMPLEMENTED
            }
            Fault::Broken(_) => true,
            Fault::Named(_) => false,
        }
    }

    /// True when there is nothing behind the link (any more).
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Fault::Refused(refusal) if matches!(refusal.status, StatusCode::NOT_FOUND | StatusCode::GONE))
    }

    /// True for the given status code.
    pub(crate) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Fault::Refused(refusal) if refusal.status == status)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Named(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) => refusal.into_error(),
            Fault::Broken(why) => Error::Unreachable { why },
            Fault::Named(error) => error,
        }
    }
}

impl Refusal {
    /// Reads an error answer. `body` is whatever came: JSON as DSP0266 says, other JSON, bare text or a page for people.
    pub(crate) fn read(what: &str, method: &Method, status: StatusCode, body: &[u8]) -> Self {
        let messages = match serde_json::from_slice::<Value>(body) {
            Ok(json) => messages(&json),
            Err(_) => bare_text(body).into_iter().collect(),
        };
        Self { what: what.to_owned(), reading: *method == Method::GET, status, messages }
    }

    /// True when the BMC only wants to be asked later.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::LOCKED
        ) || self.messages.iter().any(|message| BUSY.contains(&message.key()))
    }

    /// True when a login was refused only because others hold all the sessions there are.
    pub(crate) fn is_session_limit(&self) -> bool {
        self.messages.iter().any(|message| message.key() == "SessionLimitExceeded")
    }

    /// True when another way to the same goal is worth a try: the BMC is not busy, it does not like this request.
    pub(crate) fn is_about_the_way(&self) -> bool {
        !self.is_busy()
            && matches!(self.status.as_u16(), 400 | 403 | 404 | 405 | 410 | 415 | 422 | 500 | 501)
            && !self.messages.iter().any(|message| message.key() == "InsufficientPrivilege")
    }

    /// True when the BMC's words name this property.
    pub(crate) fn names(&self, property: &str) -> bool {
        self.messages.iter().any(|message| {
            message.names.iter().any(|name| name.rsplit('/').next() == Some(property))
                || message.text.split(|c: char| !c.is_alphanumeric()).any(|word| word == property)
        })
    }

    /// Takes secret words out of what the BMC said.
    pub(crate) fn hide(mut self, secrets: &[&str]) -> Self {
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            for message in &mut self.messages {
                message.text = message.text.replace(secret, "***");
                message.id = message.id.replace(secret, "***");
            }
        }
        self
    }

    /// What the BMC said, in one line, scrubbed.
    pub(crate) fn words(&self) -> String {
        let texts: Vec<String> =
            self.messages.iter().map(|m| scrub(if m.text.is_empty() { &m.id } else { &m.text })).collect();
        let said = shorten(texts.join(" "));
        if said.is_empty() { self.status.to_string() } else { format!("{} ({})", said, self.status.as_u16()) }
    }

    /// Names it by what the caller does next.
    pub(crate) fn into_error(self) -> Error {
        let why = self.words();
        match self.status.as_u16() {
            401 => Error::Unauthorized,
            _ if self.is_busy() => Error::Busy { why },
            502 | 504 => Error::Unreachable { why },
            404 | 410 if self.reading => Error::Garbled { why: format!("it does not {}: {why}", self.what) },
            404 | 405 | 410 | 501 => Error::Unsupported { what: self.what },
            500.. if self.reading => Error::Busy { why },
            _ => Error::Rejected { what: self.what, why },
        }
    }
}

impl Message {
    /// `Base.1.8.ResourceInUse` -> `ResourceInUse`.
    fn key(&self) -> &str {
        self.id.rsplit('.').next().unwrap_or_default()
    }
}

/// All messages of an error body, wherever they stand.
fn messages(json: &Value) -> Vec<Message> {
    let error = json.get("error").unwrap_or(json);
    let mut found: Vec<Message> = [error, json]
        .iter()
        .filter_map(|level| level.as_object())
        .flat_map(|object| object.iter().filter(|(key, _)| key.ends_with("@Message.ExtendedInfo")))
        .flat_map(|(_, value)| match value {
            Value::Array(items) => items.iter().map(message).collect(),
            single => vec![message(single)],
        })
        .collect();
    if found.is_empty() {
        let id = error.get("code").and_then(Value::as_str).unwrap_or_default();
        let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
        found.push(Message { id: id.to_owned(), text: text.to_owned(), names: Vec::new() });
    }
    found.retain(|message| !(message.id.is_empty() && message.text.is_empty()));
    found
}

fn message(value: &Value) -> Message {
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let names = list("MessageArgs")
        .iter()
        .chain(&list("RelatedProperties"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    Message { id: field("MessageId"), text: field("Message"), names }
}

/// A body that is no JSON: its text, unless it is a page for people.
fn bare_text(body: &[u8]) -> Option<Message> {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * LONGEST)]).trim().to_owned();
    (!text.is_empty() && !text.starts_with('<')).then(|| Message { text, ..Message::default() })
}

/// Of every URL in `text` only the origin stays.
pub(crate) fn scrub(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(scrub_word).collect()
}

fn scrub_word(word: &str) -> String {
    let Some(scheme) = word.find("://") else { return word.to_owned() };
    let host = scheme + 3;
    let Some(path) = word[host..].find('/').map(|at| host + at) else { return word.to_owned() };
    let end = word[path..].find(['\'', '"', ')', ',', ' ', '\n', '\t']).map_or(word.len(), |at| path + at);
    // User and password may stand before the host.
    let origin = word[host..path].rsplit('@').next().unwrap_or_default();
    format!("{}{origin}/…{}", &word[..host], &word[end..])
}

fn shorten(text: String) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(status: u16, body: Value) -> Refusal {
        let status = StatusCode::from_u16(status).expect("a status code");
        Refusal::read("switch the machine on", &Method::POST, status, body.to_string().as_bytes())
    }

    fn extended(id: &str, text: &str) -> Value {
        json!({"error": {"code": "Base.1.0.GeneralError", "message": "See ExtendedInfo",
            "@Message.ExtendedInfo": [{"MessageId": id, "Message": text, "MessageArgs": ["Inserted"]}]}})
    }

    #[test]
    fn extended_info_is_told() {
        let error = refusal(400, extended("Base.1.8.ActionParameterMissing", "The parameter is missing.")).into_error();
        let expected =
            Error::Rejected { what: "switch the machine on".into(), why: "The parameter is missing. (400)".into() };
        assert_eq!(error, expected);
    }

    #[test]
    fn a_busy_message_counts_more_than_the_status() {
        let error = refusal(400, extended("iLO.2.14.UnableToModifyDuringSystemPOST", "In POST.")).into_error();
        assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    }

    #[test]
    fn a_conflict_is_busy_and_a_missing_action_is_unsupported() {
        assert!(matches!(refusal(409, json!({})).into_error(), Error::Busy { .. }));
        assert!(matches!(refusal(405, json!({})).into_error(), Error::Unsupported { .. }));
    }

    #[test]
    fn a_property_is_found_in_arguments_and_in_text() {
        let told = refusal(400, extended("Base.1.8.PropertyMissing", "The property WriteProtected is required."));
        assert!(told.names("Inserted") && told.names("WriteProtected") && !told.names("Image"));
    }

    #[test]
    fn the_secret_part_of_a_url_is_not_told() {
        let text = "The value 'https://u:p@10.0.0.1:8443/media/ns/host/op/secret.img' for Image is wrong.";
        let error = refusal(400, extended("Base.1.8.ActionParameterValueError", text)).into_error();
        assert!(error.to_string().contains("'https://10.0.0.1:8443/…' for Image"), "{error}");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("u:p"), "{error}");
    }

    #[test]
    fn hidden_words_are_not_told() {
        let error = refusal(400, extended("X", "bad password hunter2")).hide(&["hunter2"]).into_error();
        assert!(error.to_string().ends_with("bad password *** (400)"), "{error}");
    }

    #[test]
    fn a_page_for_people_is_not_told() {
        let page = Refusal::read("log in", &Method::POST, StatusCode::BAD_REQUEST, b"<html>long page</html>");
        assert_eq!(page.words(), "400 Bad Request");
    }
}
