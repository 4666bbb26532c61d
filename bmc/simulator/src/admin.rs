//! Faults and truth over plain HTTP on 127.0.0.1, for people and scripts beside a running fleet.
//!
//! | Call | Does |
//! |---|---|
//! | `GET /hosts` | the truth about all machines |
//! | `GET /hosts/NAME` | the truth about one |
//! | `POST /hosts/NAME/faults/KIND` | breaks it; parameters of the fault as a JSON object in the body |
//! | `DELETE /hosts/NAME/faults/KIND` | mends it |
//!
//! KIND is the name of a [`Fault`] in kebab-case, such as `power-supply-dead`. No answer holds a secret.

use crate::faults::Fault;
use crate::fleet::{Fleet, NoSuchHost};
use crate::machine::Snapshot;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves it on `listener` until `stop`.
pub async fn serve(fleet: Arc<Fleet>, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/hosts", get(all))
        .route("/hosts/{name}", get(one))
        .route("/hosts/{name}/faults/{kind}", post(break_down).delete(heal))
        .with_state(fleet);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Why a call did nothing.
enum Refused {
    NoSuchHost(NoSuchHost),
    NoSuchFault(String),
}

impl From<NoSuchHost> for Refused {
    fn from(why: NoSuchHost) -> Refused {
        Refused::NoSuchHost(why)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Refused::NoSuchHost(why) => (StatusCode::NOT_FOUND, why.to_string()),
            Refused::NoSuchFault(why) => (StatusCode::BAD_REQUEST, why),
        };
        (status, Json(json!({"message": why}))).into_response()
    }
}

async fn all(State(fleet): State<Arc<Fleet>>) -> Json<Vec<Snapshot>> {
    Json(fleet.snapshots())
}

async fn one(State(fleet): State<Arc<Fleet>>, Path(name): Path<String>) -> Result<Json<Snapshot>, Refused> {
    Ok(Json(fleet.snapshot(&name)?))
}

async fn break_down(
    State(fleet): State<Arc<Fleet>>,
    Path((name, kind)): Path<(String, String)>,
    parameters: Bytes,
) -> Result<Json<Snapshot>, Refused> {
    fleet.fault(&name, fault(&kind, &parameters)?)?;
    Ok(Json(fleet.snapshot(&name)?))
}

async fn heal(
    State(fleet): State<Arc<Fleet>>,
    Path((name, kind)): Path<(String, String)>,
) -> Result<Json<Snapshot>, Refused> {
    // Only the kind counts; `slow` is the one that needs a parameter to be named at all.
    fleet.heal(&name, fault(&kind, br#"{"delay": "0s"}"#)?)?;
    Ok(Json(fleet.snapshot(&name)?))
}

/// The fault of that kind with parameters from a JSON object; an empty text is an empty object.
fn fault(kind: &str, parameters: &[u8]) -> Result<Fault, Refused> {
    let refused = |why: serde_json::Error| Refused::NoSuchFault(format!("{kind}: {why}"));
    let mut fault: Map<String, Value> = match parameters {
        [] => Map::new(),
        parameters => serde_json::from_slice(parameters).map_err(refused)?,
    };
    fault.insert("kind".into(), kind.into());
    serde_json::from_value(fault.into()).map_err(refused)
}
