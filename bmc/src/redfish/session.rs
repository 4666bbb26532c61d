//! How requests prove who they are: a session where the BMC has one to give, the account itself where it has none.

use super::client::{Ask, Client, Line};
use super::fault::Fault;
use super::value::{link, text};
use crate::error::{Error, Result};
use reqwest::header::{HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

const TOKEN: &str = "X-Auth-Token";

/// How requests prove who they are.
#[derive(Default)]
pub(crate) enum Auth {
    /// Not known yet.
    #[default]
    None,
    /// By a session (DSP0266 "Session-based authentication").
    Session {
        /// Its token.
        token: SecretString,
        /// Where it can be deleted.
        uri: Option<String>,
    },
    /// By name and password in each request.
    Basic {
        /// All sessions were taken; when to ask for one again. `None`: the BMC has no sessions.
        until: Option<Instant>,
    },
}

impl Auth {
    /// Adds the proof to a request.
    pub(super) fn sign(&self, request: RequestBuilder, client: &Client) -> RequestBuilder {
        match self {
            Auth::None => request,
            Auth::Basic { .. } => request.basic_auth(&client.username, Some(client.password.expose_secret())),
            Auth::Session { token, .. } => match secret_header(token.expose_secret()) {
                Some(value) => request.header(TOKEN, value),
                None => request,
            },
        }
    }

    /// Deletes a session.
    pub(super) async fn end_session(
        http: &reqwest::Client,
        uri: Url,
        token: &SecretString,
        limit: Duration,
    ) -> std::result::Result<(), reqwest::Error> {
        let Some(value) = secret_header(token.expose_secret()) else { return Ok(()) };
        let request = http.request(Method::DELETE, uri).header(TOKEN, value).timeout(limit);
        request
            .send()
            .await
            .map_err(reqwest::Error::without_url)?
            .error_for_status()
            .map_err(reqwest::Error::without_url)?;
        Ok(())
    }
}

impl Line<'_> {
    /// Makes a session if there is no proof yet. A BMC without sessions gets name and password with each request; so does,
    /// for a while, one that has no session left: processes that died left theirs open.
    pub(super) async fn log_in(&mut self) -> std::result::Result<(), Fault> {
        let wanted = match &self.state.auth {
            Auth::None => true,
            Auth::Basic { until } => until.is_some_and(|until| Instant::now() >= until),
            Auth::Session { .. } => false,
        };
        if wanted {
            self.state.auth = match self.sessions().await? {
                Some(sessions) => self.new_session(&sessions).await?,
                None => Auth::Basic { until: None },
            };
        }
        Ok(())
    }

    /// True while the BMC gets name and password only because it had no session left.
    pub(super) fn is_without_session(&self) -> bool {
        matches!(self.state.auth, Auth::Basic { until: Some(_) })
    }

    /// How this BMC is talked to, in a word, for people.
    pub(crate) fn auth_mode(&self) -> &'static str {
        match self.state.auth {
            Auth::None => "none",
            Auth::Session { .. } => "Session",
            Auth::Basic { .. } => "Basic",
        }
    }

    /// Ends the session, best effort. The next call makes a new one.
    pub(crate) async fn log_out(&mut self) {
        if let Auth::Session { uri: Some(uri), .. } = &self.state.auth {
            let uri = uri.clone();
            let ask = Ask { what: "end the session", method: Method::DELETE, uri: &uri, body: None, etag: None };
            if let Err(fault) = self.exchange(&ask, true).await {
                tracing::debug!(?fault, "the session stays until the BMC ends it");
            }
        }
        self.state.auth = Auth::None;
    }

    /// Where sessions are made: linked from the root itself, or through the session service.
    async fn sessions(&mut self) -> std::result::Result<Option<String>, Fault> {
        let root = self.root().await?;
        if let Some(sessions) = root.sessions {
            return Ok(Some(sessions));
        }
        let Some(service) = root.session_service else { return Ok(None) };
        match self.get_as(&service, false).await {
            Ok(service) => Ok(link(&service.body, "/Sessions").map(str::to_owned)),
            Err(fault) if has_no_sessions(&fault) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn new_session(&mut self, sessions: &str) -> std::result::Result<Auth, Fault> {
        let password = self.client.password.expose_secret();
        let body = json!({"UserName": self.client.username, "Password": password});
        let ask = Ask { what: "log in", method: Method::POST, uri: sessions, body: Some(&body), etag: None };
        let answer = match self.exchange(&ask, false).await {
            Ok(answer) => answer,
            Err(fault) if has_no_sessions(&fault) => return Ok(Auth::Basic { until: None }),
            Err(Fault::Refused(refusal)) if refusal.is_session_limit() => {
                tracing::debug!("no session is free, so name and password are sent with each request");
                return Ok(Auth::Basic { until: Some(Instant::now() + self.client.config.session_retry) });
            }
            // Messages about a bad login may repeat what was sent.
            Err(Fault::Refused(refusal)) => return Err(Fault::Refused(refusal.hide(&[password]))),
            Err(fault) => return Err(fault),
        };
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let Some(token) = header(TOKEN) else {
            tracing::debug!("no token in the answer to the login, so name and password are sent with each request");
            return Ok(Auth::Basic { until: None });
        };
        let uri = header(LOCATION.as_str()).or_else(|| text(&answer.body, "/@odata.id").map(str::to_owned));
        Ok(Auth::Session { token: token.into(), uri })
    }
}

fn has_no_sessions(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused(refusal) if matches!(refusal.status.as_u16(), 404 | 405 | 501))
}

/// A header value that is never printed.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Refuses an account that cannot be put into a header or a login.
pub(crate) fn check_account(username: &str) -> Result<()> {
    if username.is_empty() || username.contains(':') || username.chars().any(char::is_control) {
        return Err(Error::Unauthorized);
    }
    Ok(())
}
