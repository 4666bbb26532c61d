//! One BMC on the wire: one session, one request at a time, a deadline on each call.
//!
//! Who wants to ask takes the [`Line`]; while it is held nobody else talks to this BMC. Reads are repeated on passing errors, writes
//! never, except after a 401 or a 412, which both say that nothing was done. Links are followed on this BMC only: of an absolute
//! link the host is ignored, so that no token ever goes elsewhere.

use super::RedfishConfig;
use super::fault::{Fault, Refusal};
use super::session::Auth;
use super::tls::wire_fault;
use super::value::{Resource, link, links, text};
use crate::access::Access;
use crate::error::{Error, Result};
use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::header::{ETAG, HeaderMap, IF_MATCH, LOCATION};
use reqwest::{Method, Response, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

/// The one path that Redfish lets a client know (DSP0266 "Protocol version").
const SERVICE_ROOT: &str = "/redfish/v1/";
/// Most of an answer that is read, in bytes.
const LARGEST_ANSWER: usize = 8 << 20;
/// A turn that comes later than this before the call's deadline is no use to it.
const LEAST: Duration = Duration::from_millis(10);
/// Redirects followed for one read.
const MOST_REDIRECTS: usize = 3;

/// One BMC.
pub(crate) struct Client {
    pub(super) http: Arc<reqwest::Client>,
    pub(super) base: Url,
    pub(super) username: String,
    pub(super) password: SecretString,
    pub(crate) config: Arc<RedfishConfig>,
    state: Mutex<State>,
}

/// What is remembered between calls.
#[derive(Default)]
pub(super) struct State {
    pub(super) auth: Auth,
    root: Option<Root>,
}

/// What is needed of the service root after it was read once; the whole of it is kept for nobody.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) systems: Option<String>,
    pub(crate) managers: Option<String>,
    pub(super) sessions: Option<String>,
    pub(super) session_service: Option<String>,
}

impl Root {
    fn of(body: &Value) -> Root {
        let link = |pointer: &str| link(body, pointer).map(str::to_owned);
        Root {
            systems: link("/Systems"),
            managers: link("/Managers"),
            sessions: link("/Links/Sessions"),
            session_service: link("/SessionService"),
        }
    }
}

/// The right to talk to the BMC for the length of one call.
pub(crate) struct Line<'a> {
    pub(super) client: &'a Client,
    pub(super) state: MutexGuard<'a, State>,
    until: Instant,
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 2xx.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// JSON, `null` when there was none.
    pub body: Value,
}

/// One request.
pub(super) struct Ask<'r> {
    /// As it reads after "the BMC refused to".
    pub what: &'r str,
    pub method: Method,
    pub uri: &'r str,
    pub body: Option<&'r Value>,
    pub etag: Option<&'r str>,
}

impl Client {
    /// No request is made.
    pub(crate) fn new(access: &Access, http: Arc<reqwest::Client>, config: Arc<RedfishConfig>) -> Self {
        let mut base = access.address.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        // An account belongs into the Secret; in the address it would get into logs.
        let _ = (base.set_username(""), base.set_password(None));
        Self {
            http,
            base,
            username: access.username.clone(),
            password: access.password.clone(),
            config,
            state: Mutex::default(),
        }
    }

    /// Waits for its turn; the call's deadline runs already.
    pub(crate) async fn line(&self) -> Result<Line<'_>> {
        let until = Instant::now() + self.config.call_deadline;
        match timeout_at(until, self.state.lock()).await {
            Ok(state) if Instant::now() + LEAST < until => Ok(Line { client: self, state, until }),
            _ => Err(Error::Busy { why: "another call to it is still running".into() }),
        }
    }

    fn resolve(&self, uri: &str) -> Result<Url> {
        let garbled = || Error::Garbled { why: format!("{uri:?} is no link") };
        let linked = self.base.join(uri).map_err(|_| garbled())?;
        let mut url = self.base.clone();
        url.set_path(linked.path());
        url.set_query(linked.query());
        Ok(url)
    }
}

impl Drop for Client {
    /// Gives the session back, best effort: BMCs have few (some XCC: 16).
    fn drop(&mut self) {
        let auth = std::mem::take(&mut self.state.get_mut().auth);
        if let (Auth::Session { token, uri: Some(uri) }, Ok(runtime)) = (auth, tokio::runtime::Handle::try_current())
            && let Ok(url) = self.resolve(&uri)
        {
            let http = self.http.clone();
            let limit = self.config.request_timeout;
            runtime.spawn(async move {
                if let Err(error) = Auth::end_session(&http, url, &token, limit).await {
                    tracing::debug!(%error, "the old session stays until the BMC ends it");
                }
            });
        }
    }
}

impl Line<'_> {
    /// True when the call's deadline has passed.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// The links of the service root, read once.
    pub(crate) async fn root(&mut self) -> std::result::Result<Root, Fault> {
        if let Some(root) = &self.state.root {
            return Ok(root.clone());
        }
        let root = Root::of(&self.whole_root().await?.body);
        // AMI shows a root without links until the BMC was reset once: look again next time.
        if root.systems.is_some() {
            self.state.root = Some(root.clone());
        }
        Ok(root)
    }

    /// The service root with all that it says.
    pub(crate) async fn whole_root(&mut self) -> std::result::Result<Resource, Fault> {
        self.get_as(SERVICE_ROOT, false).await
    }

    /// Reads the resource behind a link.
    pub(crate) async fn get(&mut self, uri: &str) -> std::result::Result<Resource, Fault> {
        self.get_as(uri, true).await
    }

    /// The links of all members of a collection, over all its pages.
    pub(crate) async fn members(&mut self, uri: &str) -> std::result::Result<Vec<String>, Fault> {
        let mut found: Vec<String> = Vec::new();
        let mut page = Some(uri.to_owned());
        // A page that links to itself must not keep us here.
        for _ in 0..16 {
            let Some(uri) = page else { break };
            let collection = self.get(&uri).await?;
            for member in links(&collection.body, "/Members") {
                if !found.iter().any(|known| known == member) {
                    found.push(member.to_owned());
                }
            }
            page = text(&collection.body, "/Members@odata.nextLink").map(str::to_owned);
        }
        Ok(found)
    }

    /// Reads what need not be a resource: the monitor of a task answers 202 without a body.
    pub(super) async fn look(&mut self, uri: &str) -> std::result::Result<(StatusCode, Value), Fault> {
        let what = format!("show {uri}");
        let answer = self.read(Ask { what: &what, method: Method::GET, uri, body: None, etag: None }, true).await?;
        Ok((answer.status, answer.body))
    }

    /// Posts to an action or a collection.
    pub(crate) async fn post(&mut self, what: &str, uri: &str, body: &Value) -> std::result::Result<Answer, Fault> {
        self.send(Ask { what, method: Method::POST, uri, body: Some(body), etag: None }).await
    }

    /// Changes a resource, if it is still as it was read: on 412 once more with its newest version, then without condition.
    pub(crate) async fn patch(
        &mut self,
        what: &str,
        old: &Resource,
        body: &Value,
    ) -> std::result::Result<Answer, Fault> {
        let first = self.patch_if(what, &old.uri, body, old.etag.as_deref()).await;
        if !matches!(&first, Err(fault) if is_about_the_version(fault)) {
            return first;
        }
        let etag = self.get(&old.uri).await?.etag;
        let etag = match etag {
            // The same weak ETag again will not do; some want it without the mark.
            Some(same) if old.etag.as_deref() == Some(&same) => same.strip_prefix("W/").map(str::to_owned),
            other => other,
        };
        if let Some(etag) = etag {
            let second = self.patch_if(what, &old.uri, body, Some(&etag)).await;
            if !matches!(&second, Err(fault) if is_about_the_version(fault)) {
                return second;
            }
        }
        self.patch_if(what, &old.uri, body, None).await
    }

    /// Waits, but not past the deadline of the call: false when there is no time left for that.
    pub(crate) async fn pause(&mut self, time: Duration) -> bool {
        let fits = Instant::now() + time < self.until;
        if fits {
            sleep(time).await;
        }
        fits
    }

    /// Reads a resource, again after passing errors. Not `authorized`: what must be known before there can be a session.
    pub(super) async fn get_as(&mut self, uri: &str, authorized: bool) -> std::result::Result<Resource, Fault> {
        let config = &self.client.config;
        let delays = ExponentialBuilder::default().with_min_delay(config.retry_delay).with_jitter();
        let mut delays = delays.with_max_times(config.read_retries).build();
        let what = format!("show {uri}");
        loop {
            let ask = Ask { what: &what, method: Method::GET, uri, body: None, etag: None };
            let fault = match self.read(ask, authorized).await {
                Err(fault) if fault.is_passing() => fault,
                Err(fault) => return Err(fault),
                Ok(answer) => return resource(uri, answer),
            };
            match delays.next() {
                Some(delay) if self.pause(delay).await => tracing::debug!(uri, ?fault, "reading once more"),
                _ => return Err(fault),
            }
        }
    }

    /// One read, with its redirects.
    async fn read(&mut self, ask: Ask<'_>, authorized: bool) -> std::result::Result<Answer, Fault> {
        let mut at = ask.uri.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let ask = Ask { uri: &at, method: Method::GET, ..ask };
            let answer = if authorized { self.send(ask).await? } else { self.send_openly(ask).await? };
            let next = answer.headers.get(LOCATION).and_then(|location| location.to_str().ok());
            match next {
                Some(next) if answer.status.is_redirection() => at = next.to_owned(),
                _ => return Ok(answer),
            }
        }
        Err(Error::Garbled { why: format!("{} leads in circles", ask.uri) }.into())
    }

    async fn patch_if(
        &mut self,
        what: &str,
        uri: &str,
        body: &Value,
        etag: Option<&str>,
    ) -> std::result::Result<Answer, Fault> {
        self.send(Ask { what, method: Method::PATCH, uri, body: Some(body), etag }).await
    }

    /// One exchange with the session's token. A 401 means that nothing was done: log in again, once.
    async fn send(&mut self, ask: Ask<'_>) -> std::result::Result<Answer, Fault> {
        let had_session = matches!(self.state.auth, Auth::Session { .. });
        // Logging in reads the service root, which ends here again: the box closes the circle.
        Box::pin(self.log_in()).await?;
        match self.exchange(&ask, true).await {
            Err(fault) if fault.is(StatusCode::UNAUTHORIZED) => {
                if self.is_without_session() {
                    self.state.auth = Auth::None;
                    let why = "no session is free, and it takes no name and password without one";
                    return Err(Error::Busy { why: why.into() }.into());
                }
                self.state.auth = Auth::None;
                if !had_session {
                    // A fresh login or the password itself was refused; trying again only locks accounts.
                    return Err(Error::Unauthorized.into());
                }
                Box::pin(self.log_in()).await?;
                self.exchange(&ask, true).await
            }
            other => other,
        }
    }

    /// One exchange without a name, as DSP0266 allows for the service root; with one where the BMC insists.
    async fn send_openly(&mut self, ask: Ask<'_>) -> std::result::Result<Answer, Fault> {
        match self.exchange(&ask, false).await {
            Err(fault) if fault.is(StatusCode::UNAUTHORIZED) => {
                let auth = std::mem::replace(&mut self.state.auth, Auth::Basic { until: None });
                let answer = self.exchange(&ask, true).await;
                self.state.auth = auth;
                answer
            }
            other => other,
        }
    }

    /// One request on the wire, within its own time and the call's.
    pub(super) async fn exchange(&mut self, ask: &Ask<'_>, authorized: bool) -> std::result::Result<Answer, Fault> {
        let url = self.client.resolve(ask.uri)?;
        let config = &self.client.config;
        let own = if ask.method == Method::GET { config.request_timeout } else { config.write_timeout };
        let mut request = self.client.http.request(ask.method.clone(), url);
        if authorized {
            request = self.state.auth.sign(request, self.client);
        }
        if let Some(etag) = ask.etag {
            request = request.header(IF_MATCH, etag);
        }
        if let Some(body) = ask.body {
            request = request.json(body);
        }
        let until = self.until.min(Instant::now() + own);
        match timeout_at(until, answer(ask, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unreachable { why: format!("it did not {} in time", ask.what) }.into()),
        }
    }
}

async fn answer(ask: &Ask<'_>, request: reqwest::RequestBuilder) -> std::result::Result<Answer, Fault> {
    let mut response = request.send().await.map_err(wire_fault)?;
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let body = whole_body(response).await?;
    if status.is_client_error() || status.is_server_error() {
        return Err(Fault::Refused(Refusal::read(ask.what, &ask.method, status, &body)));
    }
    match serde_json::from_slice(&body) {
        Ok(body) => Ok(Answer { status, headers, body }),
        Err(_) if ask.method != Method::GET || body.is_empty() => Ok(Answer { status, headers, body: Value::Null }),
        Err(error) => Err(Error::Garbled { why: format!("{} is no JSON: {error}", ask.uri) }.into()),
    }
}

async fn whole_body(mut response: Response) -> std::result::Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(wire_fault)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Error::Garbled { why: format!("an answer of more than {LARGEST_ANSWER} bytes") }.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn resource(uri: &str, answer: Answer) -> std::result::Result<Resource, Fault> {
    if !answer.body.is_object() {
        return Err(Error::Garbled { why: format!("{uri} is no Redfish resource") }.into());
    }
    let header = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
    let etag = header.or_else(|| text(&answer.body, "/@odata.etag")).map(str::to_owned);
    Ok(Resource { uri: uri.to_owned(), etag, body: answer.body })
}

/// 412: another version; 428: it wants one to be named.
fn is_about_the_version(fault: &Fault) -> bool {
    fault.is(StatusCode::PRECONDITION_FAILED) || fault.is(StatusCode::PRECONDITION_REQUIRED)
}
