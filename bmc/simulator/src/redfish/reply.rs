//! Answers on the wire: the headers that DSP0266 asks for, and ETags.

use super::message::Message;
use super::resource::Resource;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use serde_json::Value;

/// An answer, before it goes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    fn bare(status: StatusCode) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("odata-version"), HeaderValue::from_static("4.0"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Reply { status, headers, body: Bytes::new() }
    }

    /// Done, and nothing to say.
    pub fn done() -> Reply {
        Reply::bare(StatusCode::NO_CONTENT)
    }

    /// The document of a resource, with its ETag.
    pub fn document(status: StatusCode, document: &Value) -> Reply {
        let kind = document["@odata.type"].as_str().and_then(|kind| kind.strip_prefix('#')?.split('.').next());
        let mut reply = Reply::json(status, document).with(ETAG, &etag(document));
        if let Some(kind) = kind {
            let schema = format!("<http://redfish.dmtf.org/schemas/v1/{kind}.json>; rel=describedby");
            reply = reply.with(LINK, &schema);
        }
        reply
    }

    /// The document is what the asker has already.
    pub fn not_modified(document: &Value) -> Reply {
        Reply::bare(StatusCode::NOT_MODIFIED).with(ETAG, &etag(document))
    }

    /// XML.
    pub fn xml(text: String) -> Reply {
        let reply = Reply::bare(StatusCode::OK).with(CONTENT_TYPE, "application/xml;charset=utf-8");
        Reply { body: text.into(), ..reply }
    }

    /// A method that `resource` does not take.
    pub fn method_not_allowed(resource: Resource) -> Reply {
        Reply::from(Message::method_not_allowed()).with(ALLOW, &allow(resource))
    }

    /// The same with one header more.
    pub fn with(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The same without its body: what HEAD gets.
    pub fn without_body(self) -> Reply {
        Reply { body: Bytes::new(), ..self }
    }

    fn json(status: StatusCode, body: &Value) -> Reply {
        let reply = Reply::bare(status).with(CONTENT_TYPE, "application/json;charset=utf-8");
        Reply { body: body.to_string().into(), ..reply }
    }
}

impl From<Message> for Reply {
    fn from(message: Message) -> Reply {
        let reply = Reply::json(message.status, &message.body());
        match message.status {
            StatusCode::UNAUTHORIZED => reply.with(WWW_AUTHENTICATE, "Basic realm=\"BMC\""),
            _ => reply,
        }
    }
}

/// ETag of a document: the same as long as it says the same.
pub fn etag(document: &Value) -> String {
    let hash = digest(&SHA256, document.to_string().as_bytes());
    format!("\"{}\"", hex::encode(&hash.as_ref()[..8]))
}

/// True when `condition` (If-Match, If-None-Match) names this ETag, weak or strong.
pub fn matches(condition: &str, etag: &str) -> bool {
    condition.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// The `Allow` header of a resource.
pub fn allow(resource: Resource) -> String {
    resource.methods().iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}
