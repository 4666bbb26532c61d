//! Why a host gets no for an answer. The status says what its agent does next (see `protocol::report::Refusal`), the
//! reason what a person should know. Nothing here tells a stranger more than that he is one.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rackwright_api::host::AgentFailure;
use rackwright_protocol::report;

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The token is not the one of this host and operation.
    TokenInvalid,
    /// A session was opened with it before.
    TokenUsed,
    /// Not the session of this operation.
    SessionInvalid,
    /// The host's operation is another one, or needs no agent.
    OperationOver,
    /// The operation is past its deadline, and with it token, media and session.
    Expired,
    /// The Host is not there, or is another one of that name.
    HostGone,
    /// The machine that asks does not have the Host's boot MAC address, or another system UUID than the BMC told.
    WrongMachine,
    /// The Secret with the user-data, or its key, is not there.
    UserDataMissing,
    /// The claim's installer, or what it is told, cannot be used on this host.
    InstallerInvalid,
    /// The report does not fit the plan.
    ReportUnexpected,
    /// The API server does not accept what was reported.
    ReportInvalid,
    /// Not JSON of the expected shape.
    BodyInvalid,
    /// Larger than any honest body.
    BodyTooLarge,
    /// A body whose size is not told beforehand.
    LengthRequired,
    /// The API server does not answer, or we are starting: ask again.
    Unavailable,
    /// The host's image is being fetched or unpacked: ask again.
    ImagePreparing,
    /// Too many are being served: ask again.
    Busy,
    /// No host is to have this image.
    ImageUnknown,
    /// Where the OSImage says the image is, it is not.
    ImageUnavailable,
    /// The image has another digest than the OSImage says.
    ImageDigestMismatch,
    /// The image cannot be unpacked.
    ImageUnreadable,
}

impl Reason {
    /// CamelCase, as it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TokenInvalid => "TokenInvalid",
            Reason::TokenUsed => "TokenUsed",
            Reason::SessionInvalid => "SessionInvalid",
            Reason::OperationOver => "OperationOver",
            Reason::Expired => "Expired",
            Reason::HostGone => "HostGone",
            Reason::WrongMachine => "WrongMachine",
            Reason::UserDataMissing => "UserDataMissing",
            Reason::InstallerInvalid => "InstallerInvalid",
            Reason::ReportUnexpected => "ReportUnexpected",
            Reason::ReportInvalid => "ReportInvalid",
            Reason::BodyInvalid => "BodyInvalid",
            Reason::BodyTooLarge => "BodyTooLarge",
            Reason::LengthRequired => "LengthRequired",
            Reason::Unavailable => "Unavailable",
            Reason::ImagePreparing => "ImagePreparing",
            Reason::Busy => "Busy",
            Reason::ImageUnknown => "ImageUnknown",
            Reason::ImageUnavailable => "ImageUnavailable",
            Reason::ImageDigestMismatch => "ImageDigestMismatch",
            Reason::ImageUnreadable => "ImageUnreadable",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Reason::TokenInvalid | Reason::SessionInvalid => StatusCode::UNAUTHORIZED,
            Reason::WrongMachine => StatusCode::FORBIDDEN,
            Reason::TokenUsed => StatusCode::CONFLICT,
            Reason::OperationOver | Reason::Expired | Reason::HostGone => StatusCode::GONE,
            Reason::UserDataMissing
            | Reason::InstallerInvalid
            | Reason::ReportUnexpected
            | Reason::ReportInvalid
            | Reason::ImageUnavailable
            | Reason::ImageDigestMismatch
            | Reason::ImageUnreadable => StatusCode::UNPROCESSABLE_ENTITY,
            Reason::ImageUnknown => StatusCode::NOT_FOUND,
            Reason::BodyInvalid => StatusCode::BAD_REQUEST,
            Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Reason::Unavailable | Reason::ImagePreparing | Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A no, and what the manager should learn of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One sentence for whoever reads the host's console.
    pub message: String,
    /// Ends the operation: goes to `status.agent.failure`, so that the manager need not wait for the deadline.
    pub failure: Option<AgentFailure>,
}

impl Refusal {
    /// A no that the manager need not know of.
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: message.into(), failure: None }
    }

    /// A no that ends the operation.
    pub fn ending(reason: Reason, message: impl Into<String>) -> Refusal {
        let message = message.into();
        let failure = AgentFailure { reason: reason.as_str().into(), message: message.clone() };
        Refusal { reason, message, failure: Some(failure) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = report::Refusal { reason: self.reason.as_str().into(), message: self.message };
        let mut response = (self.reason.status(), Json(body)).into_response();
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
