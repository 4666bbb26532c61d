//! A boot service that knows one operation, behind TLS with an authority of its own.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use rackwright_protocol::media::{self, MediaConfig};
use rackwright_protocol::plan::{Action, Plan, SignedPlan};
use rackwright_protocol::report::{Event, Report, SessionRequest, SessionResponse};
use rackwright_protocol::{REPORT_PATH, SESSION_PATH, Subject};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const TOKEN: &str = "token";
const SESSION: &str = "session";

/// The service.
#[derive(Clone)]
pub struct Boot(Arc<Inner>);

struct Inner {
    url: String,
    ca: String,
    image: Vec<u8>,
    action: Mutex<Action>,
    events: Mutex<Vec<Event>>,
    macs: Mutex<Vec<String>>,
}

impl Boot {
    /// Serves `image` and wants the machine inspected.
    pub async fn start(image: Vec<u8>) -> Boot {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
        let certificate = params.signed_by(&key, &ca).expect("a certificate").pem();
        // The server's library takes the process's default; another test may have set it already.
        let _set_or_not = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = RustlsConfig::from_pem(certificate.into(), key.serialize_pem().into()).await.expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let inner = Inner {
            url: format!("https://{}", listener.local_addr().expect("bound")),
            ca: ca.pem(),
            image,
            action: Mutex::new(Action::Inspect),
            events: Mutex::default(),
            macs: Mutex::default(),
        };
        let boot = Boot(Arc::new(inner));
        let router = Router::new()
            .route("/media/secret.img", get(serve_media))
            .route("/image.raw", get(serve_image))
            .route(SESSION_PATH, post(open_session))
            .route(REPORT_PATH, post(report))
            .with_state(boot.clone());
        let server = axum_server::from_tcp_rustls(listener, tls).expect("a server");
        tokio::spawn(server.serve(router.into_make_service()));
        boot
    }

    /// Its authority, PEM.
    pub fn ca(&self) -> String {
        self.0.ca.clone()
    }

    /// URL of the media.
    pub fn media_url(&self) -> String {
        format!("{}/media/secret.img", self.0.url)
    }

    /// URL of the image.
    pub fn image_url(&self) -> String {
        format!("{}/image.raw", self.0.url)
    }

    /// Wants this done from now on.
    pub fn want(&self, action: Action) {
        *self.0.action.lock().expect("whole") = action;
    }

    /// What the agent has reported, but for progress.
    pub fn events(&self) -> Vec<Event> {
        let events = self.0.events.lock().expect("whole").clone();
        events.into_iter().filter(|event| !matches!(event, Event::Progress { .. })).collect()
    }

    /// The MAC addresses that the agent has called with.
    pub fn macs(&self) -> Vec<String> {
        self.0.macs.lock().expect("whole").clone()
    }
}

fn subject() -> Subject {
    let text = String::from;
    Subject { namespace: text("metal"), host: text("host"), host_uid: text("uid"), operation_id: text("op") }
}

async fn serve_media(State(Boot(inner)): State<Boot>) -> Vec<u8> {
    let (boot_url, ca) = (inner.url.clone(), inner.ca.clone());
    let config = MediaConfig { boot_url, ca, subject: subject(), token: TOKEN.into(), ..MediaConfig::default() };
    // As a ramdisk: the area is somewhere in it.
    let mut media = vec![1; 64 * 512];
    media.extend(media::write(&config).expect("it fits"));
    media.extend(vec![2; 100_000]);
    media
}

async fn serve_image(State(Boot(inner)): State<Boot>) -> Vec<u8> {
    inner.image.clone()
}

async fn open_session(State(Boot(inner)): State<Boot>, Json(request): Json<SessionRequest>) -> Json<SessionResponse> {
    assert_eq!((request.subject, request.token.as_str()), (subject(), TOKEN));
    *inner.macs.lock().expect("whole") = request.macs.clone();
    let now = jiff::Timestamp::now();
    let plan = Plan {
        host_uid: subject().host_uid,
        operation_id: subject().operation_id,
        boot_macs: request.macs,
        issued_at: now,
        deadline: now + std::time::Duration::from_secs(60),
        action: inner.action.lock().expect("whole").clone(),
    };
    let plan = SignedPlan::sign(&plan, TOKEN).expect("it signs");
    Json(SessionResponse { session: SESSION.into(), plan })
}

async fn report(State(Boot(inner)): State<Boot>, headers: HeaderMap, Json(report): Json<Report>) -> StatusCode {
    assert_eq!(headers["authorization"], format!("Bearer {SESSION}"));
    inner.events.lock().expect("whole").push(report.event);
    StatusCode::NO_CONTENT
}
