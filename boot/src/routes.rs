//! HTTP: paths, headers and bodies. Decides nothing.

use crate::entity::{Answer, Entity};
use crate::images;
use crate::limits::{Busy, Limits, Permit};
use crate::refusal::{Reason, Refusal};
use crate::service::{MediaPath, Service};
use crate::store::Store;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rackwright_protocol::media::MediaKind;
use rackwright_protocol::report::{NextRequest, Report, SessionRequest, SessionResponse};
use rackwright_protocol::{INSTALLED_PATH, NEXT_PATH, REPORT_PATH, SESSION_PATH};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Largest body of a session request, bytes.
const SESSION_BODY: usize = 64 * 1024;
/// Largest body of a report, bytes.
const REPORT_BODY: usize = 1024 * 1024;
const MEDIA_PATH: &str = "/media/{namespace}/{host}/{operation}/{file}";
/// Largest piece that is sent without a place among the transfers, bytes.
const SMALL: u64 = 1024 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(20);

/// All paths of the boot service.
pub fn router<S: Store>(service: Arc<Service<S>>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz::<S>))
        .route(MEDIA_PATH, get(media::<S>))
        .route(&format!("{}/{{source}}/{{file}}", images::PATH), get(image::<S>))
        .route(SESSION_PATH, post(session::<S>))
        .route(REPORT_PATH, post(report::<S>))
        .route(NEXT_PATH, post(next::<S>))
        .route(INSTALLED_PATH, post(installed::<S>))
        .with_state(service)
}

/// What is served without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Images, because their digests guard them.
    Images,
    /// And media, because there is firmware that knows nothing better.
    Media,
    /// And scripts for network cards.
    Pxe,
}

/// The paths of a listener without TLS.
pub fn plain_router<S: Store>(service: Arc<Service<S>>, what: Plain) -> Router {
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route(&format!("{}/{{source}}/{{file}}", images::PATH), get(image::<S>));
    let router = match what {
        Plain::Images => router,
        Plain::Media => router.route(MEDIA_PATH, get(media::<S>)),
        Plain::Pxe => router.route("/pxe/{file}", get(pxe_script::<S>)).route(MEDIA_PATH, get(media::<S>)),
    };
    router.with_state(service)
}

/// The script for a network card, while its host is to boot by way of PXE.
async fn pxe_script<S: Store>(
    State(service): State<Arc<Service<S>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let granted = file.strip_suffix(".ipxe").and_then(|mac| service.pxe_script(&mac.to_ascii_lowercase()));
    let Some(granted) = granted else { return StatusCode::NOT_FOUND.into_response() };
    service.audit_media(&granted, &peer.ip().to_string());
    let entity = granted.media.entity();
    let answer = entity.answer(&headers);
    entity.respond(&method, &answer, |range| granted.media.body(range))
}

async fn readyz<S: Store>(State(service): State<Arc<Service<S>>>) -> Response {
    if service.is_ready() {
        "ok".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting").into_response()
    }
}

/// GET and HEAD. Whoever does not have the very URL gets 404, whatever is wrong with it.
async fn media<S: Store>(
    State(service): State<Arc<Service<S>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((namespace, host, operation, file)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some((secret, kind)) = MediaKind::split(&file) else { return StatusCode::NOT_FOUND.into_response() };
    let path = MediaPath { namespace: &namespace, host: &host, operation: &operation, secret, kind };
    let granted = match service.media(path).await {
        Ok(Some(granted)) => granted,
        Ok(None) => {
            tracing::info!("media that is not there was asked for"); // the path may be anything: it is not logged
            return StatusCode::NOT_FOUND.into_response();
        }
        Err(refusal) => return refusal.into_response(),
    };
    let entity = granted.media.entity();
    let answer = entity.answer(&headers);
    if let Answer::Bytes(_, range) = &answer
        && method == Method::GET
        && granted.media.is_own(range)
    {
        service.audit_media(&granted, &peer.ip().to_string());
    }
    tracing::debug!(namespace, host, operation, ?answer, "media read");
    let permit = match admit(service.limits(), &method, &answer, &granted.rack).await {
        Ok(permit) => permit,
        Err(refusal) => return refusal.into_response(),
    };
    let limits = service.limits();
    entity.respond(&method, &answer, |range| Body::from_stream(limits.carry(permit, granted.media.stream(range))))
}

/// GET and HEAD. The digests in the path are all that a host needs to know, and all that guards the image.
async fn image<S: Store>(
    State(service): State<Arc<Service<S>>>,
    Path((source, file)): Path<(String, String)>,
    Query(asked): Query<ImageQuery>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let reading = match service.image(&source, &file).await {
        Ok(reading) => reading,
        // Here it is a gateway that speaks: the agent asks again before it gives up.
        Err(refusal) if refusal.reason == Reason::ImageUnavailable => {
            return (StatusCode::BAD_GATEWAY, refusal.into_response()).into_response();
        }
        Err(refusal) => return refusal.into_response(),
    };
    let (length, tag) = (reading.cached.length, reading.digest.clone());
    let entity = Entity { length, tag, media_type: "application/octet-stream", secret: false };
    let answer = entity.answer(&headers);
    let limits = service.limits();
    let rack = asked.rack.as_deref().filter(|rack| rack.len() <= 63).unwrap_or_default();
    match admit(limits, &method, &answer, rack).await {
        Ok(permit) => {
            entity.respond(&method, &answer, |range| Body::from_stream(limits.carry(permit, reading.stream(range))))
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// What the URL of an image says beside its path.
#[derive(serde::Deserialize)]
struct ImageQuery {
    /// The rack of the host that was given it: whose share of the transfers it is.
    rack: Option<String>,
}

/// The right to send `answer`. Small pieces need none: a BMC reads a CD in many of them, and must not wait behind images.
async fn admit(limits: &Arc<Limits>, method: &Method, answer: &Answer, rack: &str) -> Result<Option<Permit>, Refusal> {
    match answer {
        Answer::Bytes(_, range) if range.end - range.start > SMALL && method == Method::GET => {
            let busy = |Busy| Refusal::new(Reason::Busy, "too many hosts are being served; ask again");
            limits.admit(rack).await.map(Some).map_err(busy)
        }
        _ => Ok(None),
    }
}

async fn session<S: Store>(
    State(service): State<Arc<Service<S>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<SessionResponse>, Refusal> {
    let request: SessionRequest = read(request, SESSION_BODY).await?;
    service.open_session(&request, &peer.ip().to_string()).await.map(Json)
}

async fn report<S: Store>(State(service): State<Arc<Service<S>>>, request: Request) -> Result<StatusCode, Refusal> {
    let stranger = || Refusal::new(Reason::SessionInvalid, "a report needs the session as bearer token");
    let session = bearer(request.headers()).ok_or_else(stranger)?;
    let report: Report = read(request, REPORT_BODY).await?;
    service.take_report(&session, &report).await.map(|()| StatusCode::NO_CONTENT)
}

async fn next<S: Store>(
    State(service): State<Arc<Service<S>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, Refusal> {
    let stranger = || Refusal::new(Reason::SessionInvalid, "whoever waits needs the session as bearer token");
    let session = bearer(request.headers()).ok_or_else(stranger)?;
    let asked: NextRequest = read(request, SESSION_BODY).await?;
    let next = service.next(&session, &asked.subject, &peer.ip().to_string()).await?;
    Ok(next.map_or_else(|| StatusCode::NO_CONTENT.into_response(), |next| Json(next).into_response()))
}

async fn installed<S: Store>(State(service): State<Arc<Service<S>>>, request: Request) -> Result<StatusCode, Refusal> {
    let stranger = || Refusal::new(Reason::TokenInvalid, "an installer's report needs its token as bearer token");
    let token = bearer(request.headers()).ok_or_else(stranger)?;
    let report: Report = read(request, SESSION_BODY).await?;
    service.take_installed(&token, &report).await.map(|()| StatusCode::NO_CONTENT)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(ToString::to_string)
}

/// A JSON body of at most `limit` bytes whose size is told beforehand.
async fn read<T: DeserializeOwned>(request: Request<Body>, limit: usize) -> Result<T, Refusal> {
    let invalid = |why: &str| Refusal::new(Reason::BodyInvalid, why);
    let too_large = || Refusal::new(Reason::BodyTooLarge, format!("a body may have {limit} bytes"));
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = length.ok_or_else(|| Refusal::new(Reason::LengthRequired, "say Content-Length"))?;
    if length > limit {
        return Err(too_large());
    }
    let bytes = tokio::time::timeout(BODY_TIME, to_bytes(request.into_body(), limit)).await;
    let bytes = bytes.map_err(|_| invalid("the body did not come in time"))?.map_err(|_| too_large())?;
    // The parser's message may quote the body: it is not passed on.
    serde_json::from_slice(&bytes).map_err(|_| invalid("the body is not what this path takes"))
}
