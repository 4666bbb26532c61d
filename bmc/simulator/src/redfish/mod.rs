//! One BMC as Redfish shows it (DSP0266, DSP0268): a request and a machine go in, an answer and the machine's effects
//! come out. No socket, no clock and no task in here; [`crate::server`] puts it behind TLS.
//!
//! Strict where clients are careless: sessions are few and end, every read has an ETag and every write honours If-Match,
//! unknown properties are refused, an occupied drive takes no other image, and an order that comes while the machine is
//! being switched off is refused with 409.

mod actions;
mod documents;
mod message;
mod patch;
mod reply;
mod resource;
mod session;

pub use reply::Reply;
pub use session::Sessions;

use crate::faults::Fault;
use crate::hardware::Spec;
use crate::machine::{Effect, Event, Machine, Order, Refusal, Target};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use documents::View;
use jiff::Timestamp;
use message::Message;
use resource::Resource;
use serde_json::{Map, Value};

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The one account of a BMC.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    /// User name.
    pub username: &'a str,
    /// Password.
    pub password: &'a str,
}

/// One BMC at one moment.
pub struct Service<'a> {
    /// What its machine is made of.
    pub spec: &'a Spec,
    /// Its machine.
    pub machine: &'a mut Machine,
    /// Its sessions.
    pub sessions: &'a mut Sessions,
    /// Who may use it.
    pub account: Account<'a>,
    /// The time.
    pub now: Timestamp,
    /// What follows for the machine from what was asked.
    pub effects: Vec<Effect>,
}

/// A body: one JSON object.
type Body = Map<String, Value>;

impl Service<'_> {
    /// Answers one request. What it does to the machine is done when this returns; what follows stands in `effects`.
    pub fn answer(&mut self, request: &Request<Bytes>) -> Reply {
        if self.machine.take_unavailable() {
            return Message::unavailable().into();
        }
        let reply = self.route(request).unwrap_or_else(Reply::from);
        if request.method() == Method::HEAD { reply.without_body() } else { reply }
    }

    fn route(&mut self, request: &Request<Bytes>) -> Result<Reply, Message> {
        let (method, headers, path) = (request.method(), request.headers(), request.uri().path());
        if headers.get("odata-version").is_some_and(|version| version != "4.0") {
            return Err(Message::odata_version());
        }
        let found = Resource::at(path);
        if !found.is_some_and(|resource| resource.is_open_to(method)) {
            self.authenticate(headers)?;
        }
        let resource = found.ok_or_else(|| Message::missing(path))?;
        if !resource.methods().contains(method) {
            return Ok(Reply::method_not_allowed(resource));
        }
        if has_query_option(request.uri().query()) {
            return Err(Message::query_not_supported());
        }
        match *method {
            Method::POST => self.post(resource, body(request)?),
            Method::PATCH => self.patch(resource, headers, body(request)?),
            Method::DELETE => self.delete(resource, headers),
            _ => self.get(resource, headers),
        }
    }

    fn authenticate(&mut self, headers: &HeaderMap) -> Result<(), Message> {
        if self.machine.faults().has(Fault::WrongPassword) {
            return Err(Message::wrong_account());
        }
        if let Some(token) = headers.get(TOKEN) {
            let open = token.to_str().is_ok_and(|token| self.sessions.accept(token, self.now));
            return if open { Ok(()) } else { Err(Message::no_valid_session()) };
        }
        let basic = headers.get(AUTHORIZATION).ok_or_else(Message::no_valid_session)?;
        match basic.to_str().ok().and_then(basic_account) {
            Some((username, password)) if self.knows(&username, &password) => Ok(()),
            _ => Err(Message::wrong_account()),
        }
    }

    fn knows(&self, username: &str, password: &str) -> bool {
        !self.machine.faults().has(Fault::WrongPassword)
            && username == self.account.username
            && password == self.account.password
    }

    fn get(&self, resource: Resource, headers: &HeaderMap) -> Result<Reply, Message> {
        if resource == Resource::Metadata {
            return Ok(Reply::xml(documents::metadata()).with(axum::http::header::ALLOW, &reply::allow(resource)));
        }
        let document = self.document(resource)?;
        let known = header(headers, IF_NONE_MATCH);
        if known.is_some_and(|known| reply::matches(known, &reply::etag(&document))) {
            return Ok(Reply::not_modified(&document));
        }
        Ok(Reply::document(StatusCode::OK, &document).with(axum::http::header::ALLOW, &reply::allow(resource)))
    }

    fn document(&self, resource: Resource) -> Result<Value, Message> {
        let Service { spec, machine, sessions, account, .. } = self;
        let view = View { spec, machine, sessions, username: account.username };
        view.document(resource).ok_or_else(|| Message::missing(&resource.uri()))
    }

    fn post(&mut self, resource: Resource, body: Body) -> Result<Reply, Message> {
        match resource {
            Resource::InsertMedia | Resource::EjectMedia if !self.spec.boots(Target::Cd) => {
                Err(Message::missing(&resource.uri()))
            }
            Resource::Sessions | Resource::SessionMembers => self.log_in(&body),
            Resource::Reset => self.reset(&body),
            Resource::InsertMedia => self.insert_media(&body),
            Resource::EjectMedia => self.eject_media(&body),
            _ => Err(Message::method_not_allowed()),
        }
    }

    fn log_in(&mut self, body: &Body) -> Result<Reply, Message> {
        let field = |name: &str| {
            let value = body.get(name).ok_or_else(|| Message::parameter_missing("Create", name))?;
            value.as_str().ok_or_else(|| Message::property_type(name))
        };
        if !self.knows(field("UserName")?, field("Password")?) {
            return Err(Message::wrong_account());
        }
        let (id, token) = self.sessions.open(self.now).ok_or_else(Message::session_limit)?;
        let session = Resource::Session(id);
        let created = Reply::document(StatusCode::CREATED, &self.document(session)?);
        Ok(created.with(LOCATION, &session.uri()).with(TOKEN, &token))
    }

    fn patch(&mut self, resource: Resource, headers: &HeaderMap, body: Body) -> Result<Reply, Message> {
        self.check_unchanged(resource, headers)?;
        for order in patch::orders(resource, &body, self.spec, self.machine)? {
            self.order(order)?;
        }
        Ok(Reply::document(StatusCode::OK, &self.document(resource)?))
    }

    fn delete(&mut self, resource: Resource, headers: &HeaderMap) -> Result<Reply, Message> {
        self.check_unchanged(resource, headers)?;
        match resource {
            Resource::Session(id) if self.sessions.close(id) => Ok(Reply::done()),
            _ => Err(Message::missing(&resource.uri())),
        }
    }

    /// A write that is bound to an ETag is refused when the resource says something else by now.
    fn check_unchanged(&self, resource: Resource, headers: &HeaderMap) -> Result<(), Message> {
        let Some(condition) = header(headers, IF_MATCH) else { return Ok(()) };
        let current = reply::etag(&self.document(resource)?);
        if reply::matches(condition, &current) { Ok(()) } else { Err(Message::precondition_failed()) }
    }

    fn order(&mut self, order: Order) -> Result<(), Message> {
        let effects = self.machine.handle(Event::Order(order), self.now).map_err(|refusal| match refusal {
            Refusal::Busy | Refusal::DriveInUse => Message::busy(&refusal.to_string()),
            _ => Message::failed(&refusal.to_string()),
        })?;
        self.effects.extend(effects);
        Ok(())
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// User name and password of Basic authentication (RFC 7617).
fn basic_account(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((username.into(), password.into()))
}

/// True when the query has an option of the protocol (`$expand` and the like): none is supported. Others are ignored.
fn has_query_option(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|option| option.starts_with('$') || option.starts_with("%24"))
}

/// The JSON object in the body; an empty body is an empty object.
fn body(request: &Request<Bytes>) -> Result<Body, Message> {
    if request.body().is_empty() {
        return Ok(Body::new());
    }
    let kind = header(request.headers(), CONTENT_TYPE).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Message::not_json());
    }
    serde_json::from_slice(request.body()).map_err(|_| Message::malformed_json())
}

#[cfg(test)]
mod tests;
