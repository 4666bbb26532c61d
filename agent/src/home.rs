//! Calls home: one session, then reports. Decides which answers are final and which calls are repeated.
//!
//! Trusts only the authorities on the media, follows no redirect and uses no proxy: what is said here are secrets.

use crate::{Failure, Patience};
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::SignedPlan;
use rackwright_protocol::report::{Event, NextRequest, NextResponse, Refusal, Report, SessionRequest, SessionResponse};
use rackwright_protocol::{NEXT_PATH, NEXT_PAUSE, REPORT_PATH, SESSION_PATH, Subject};
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, redirect};
use std::future::Future;
use tokio::time::Instant;

/// The boot service, as the media describes it.
pub(crate) struct Home<'a> {
    media: &'a MediaConfig,
    patience: &'a Patience,
    client: Client,
}

/// Why a call did not succeed, by what comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// No answer, or one that may be another next time: repeat.
    Again(Failure),
    /// The answer is no.
    Refused(Failure),
    /// The answer is that the operation is over.
    Over(Failure),
}

impl CallError {
    /// What was said, whatever comes next.
    pub fn into_failure(self) -> Failure {
        match self {
            CallError::Again(failure) | CallError::Refused(failure) | CallError::Over(failure) => failure,
        }
    }
}

impl<'a> Home<'a> {
    /// A client for the boot service on the media.
    pub fn new(media: &'a MediaConfig, patience: &'a Patience) -> Result<Home<'a>, Failure> {
        let damaged = |what: String| Failure::new("MediaDamaged", format!("the boot service on the media: {what}"));
        if !media.boot_url.starts_with("https://") {
            return Err(damaged(format!("{} is not https", media.boot_url)));
        }
        let client = Client::builder()
            .tls_certs_only(authorities(media)?)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(patience.call)
            .build()
            .map_err(|why| damaged(chain(&why)))?;
        Ok(Home { media, patience, client })
    }

    /// Trades the token for a session. Asks again while nobody answers; a token that was refused is not shown again.
    pub async fn open_session(
        &self,
        macs: Vec<String>,
        system_uuid: Option<String>,
    ) -> Result<SessionResponse, Failure> {
        let (subject, token) = (self.media.subject.clone(), self.media.token.clone());
        let request = SessionRequest { subject, token, macs, system_uuid };
        let url = self.url(SESSION_PATH);
        let until = Instant::now() + self.patience.session;
        let response: Response = self
            .persist(until, || send(self.client.post(&url).json(&request)))
            .await
            .map_err(CallError::into_failure)?;
        let unreadable = |why: reqwest::Error| Failure::new("SessionUnreadable", chain(&why));
        response.json().await.map_err(unreadable)
    }

    /// The session that `response` opened, and the plan that came with it.
    pub fn session(&'a self, response: SessionResponse) -> (Session<'a>, SignedPlan) {
        let subject = self.media.subject.clone();
        (Session { home: self, subject, secret: response.session }, response.plan)
    }

    /// The session of the operation that comes after the media's own, and its plan.
    pub fn next_session(&'a self, next: NextResponse) -> (Session<'a>, SignedPlan) {
        let subject = Subject { operation_id: next.operation_id, ..self.media.subject.clone() };
        (Session { home: self, subject, secret: next.session }, next.plan)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.media.boot_url.trim_end_matches('/'))
    }

    /// Repeats `call` until it is answered for good or `until` has passed, with growing pauses.
    async fn persist<T, F>(&self, until: Instant, mut call: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut pause = self.patience.retry_first;
        loop {
            match call().await {
                Err(CallError::Again(failure)) if Instant::now() + pause < until => {
                    tracing::info!(%failure, ?pause, "the boot service did not answer; asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.patience.retry_max);
                }
                answer => return answer,
            }
        }
    }
}

/// The right to report on one operation.
pub(crate) struct Session<'a> {
    home: &'a Home<'a>,
    subject: Subject,
    secret: String,
}

impl Session<'_> {
    /// The operation that it is about.
    pub fn operation_id(&self) -> &str {
        &self.subject.operation_id
    }

    /// What comes after this operation. Waits for it as long as the boot service says "nothing yet", and puts up with its
    /// silence as long as with that before a session.
    pub async fn next(&self) -> Result<NextResponse, CallError> {
        loop {
            let (asked, until) = (Instant::now(), Instant::now() + self.home.patience.session);
            let answer = self.home.persist(until, || self.ask_next()).await?;
            if answer.status() != StatusCode::NO_CONTENT {
                let unreadable = |why: reqwest::Error| Failure::new("SessionUnreadable", chain(&why));
                return answer.json().await.map_err(|why| CallError::Refused(unreadable(why)));
            }
            // It waits before it says so; one that does not must not be asked all the time.
            tokio::time::sleep_until(asked + NEXT_PAUSE / 10).await;
        }
    }

    async fn ask_next(&self) -> Result<Response, CallError> {
        let (url, request) = (self.home.url(NEXT_PATH), NextRequest { subject: self.subject.clone() });
        send(self.home.client.post(url).bearer_auth(&self.secret).json(&request)).await
    }

    /// Reports once.
    pub async fn report(&self, event: Event) -> Result<(), CallError> {
        self.send(&Report { subject: self.subject.clone(), event }).await
    }

    /// Reports until the report is taken, refused, or `until` has passed.
    pub async fn report_until(&self, event: Event, until: Instant) -> Result<(), CallError> {
        let report = Report { subject: self.subject.clone(), event };
        self.home.persist(until, || self.send(&report)).await
    }

    async fn send(&self, report: &Report) -> Result<(), CallError> {
        let url = self.home.url(REPORT_PATH);
        send(self.home.client.post(url).bearer_auth(&self.secret).json(report)).await.map(drop)
    }
}

async fn send(request: RequestBuilder) -> Result<Response, CallError> {
    let unreachable = |why: reqwest::Error| CallError::Again(Failure::new("BootServiceUnreachable", chain(&why)));
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = response.json::<Refusal>().await.ok();
    Err(refusal(status, said))
}

fn refusal(status: StatusCode, said: Option<Refusal>) -> CallError {
    let failure = match said {
        Some(refusal) => Failure { reason: refusal.reason, message: refusal.message },
        None => Failure::new("BootServiceRefused", format!("the boot service answered {status} and no reason")),
    };
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => CallError::Again(failure),
        StatusCode::CONFLICT | StatusCode::GONE => CallError::Over(failure),
        status if status.is_server_error() => CallError::Again(failure),
        _ => CallError::Refused(failure),
    }
}

/// The authorities on the media; at least one.
pub(crate) fn authorities(media: &MediaConfig) -> Result<Vec<Certificate>, Failure> {
    let damaged = |what: String| Failure::new("MediaDamaged", format!("the authorities on the media: {what}"));
    let found = Certificate::from_pem_bundle(media.ca.as_bytes()).map_err(|why| damaged(chain(&why)))?;
    if found.is_empty() {
        return Err(damaged("there is none".into()));
    }
    Ok(found)
}

/// An HTTP error with its causes, in one line and without the URL (which may carry a signature).
pub(crate) fn chain(why: &reqwest::Error) -> String {
    let without_url = match why.url() {
        Some(url) => why.to_string().replace(&format!(" for url ({url})"), ""),
        None => why.to_string(),
    };
    let mut text = without_url;
    let mut cause = std::error::Error::source(why);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_a_call_is_repeated() {
        let refused = |status: u16| refusal(StatusCode::from_u16(status).expect("a status"), None);
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(refused(status), CallError::Again(_)), "{status}");
        }
        for status in [409, 410] {
            assert!(matches!(refused(status), CallError::Over(_)), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 413, 422] {
            assert!(matches!(refused(status), CallError::Refused(_)), "{status}");
        }
    }

    #[test]
    fn media_without_an_authority_or_without_tls_is_damaged() {
        let patience = Patience::default();
        let mut media = MediaConfig {
            boot_url: "https://127.0.0.1:1".into(),
            ca: String::new(),
            subject: Subject {
                namespace: "metal".into(),
                host: "a01-u07".into(),
                host_uid: "uid".into(),
                operation_id: "op".into(),
            },
            token: "token".into(),
            ..MediaConfig::default()
        };
        assert_eq!(Home::new(&media, &patience).err().map(|failure| failure.reason), Some("MediaDamaged".into()));
        media.boot_url = "http://127.0.0.1:1".into();
        assert_eq!(Home::new(&media, &patience).err().map(|failure| failure.reason), Some("MediaDamaged".into()));
    }
}
