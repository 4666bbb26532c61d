//! The whole boot service over TLS, with a store in memory, and the real agent on a machine that remembers.
#![allow(dead_code, missing_docs, unused_imports, reason = "each test file uses a part of it")]

pub mod host;
#[path = "../../../agent/tests/support/images.rs"]
pub mod images;
#[path = "../../../agent/tests/support/machine.rs"]
pub mod machine;
pub mod memory;
pub mod qcow2;
#[path = "../../../agent/tests/support/tls.rs"]
pub mod tls;

use host::{NAME, NAMESPACE, OPERATION, UID};
use images::{Images, Serve};
use jiff::Timestamp;
use machine::FakeMachine;
use memory::Memory;
use rackwright_agent::{Outcome, Patience, run_with};
use rackwright_api::host::{Host, OperationKind};
use rackwright_boot::{Media, Service, Throttle, router};
use rackwright_protocol::media::{self, MediaConfig};
use rackwright_protocol::report::{Refusal, Report, SessionRequest, SessionResponse};
use rackwright_protocol::token::{BootKey, Purpose};
use reqwest::{Certificate, Client, Response, StatusCode};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;

pub const USER_DATA: &str = "#cloud-config\npassword: correct-horse-battery-staple\n";

/// A boot service for one host.
pub struct Bed {
    pub store: Memory,
    pub url: String,
    pub client: Client,
    pub tls: Tls,
    pub key: BootKey,
    pub service: Arc<Service<Memory>>,
}

impl Bed {
    /// A host in an operation of this kind that began a moment ago.
    pub async fn of(kind: OperationKind) -> Bed {
        Bed::with(host::host(kind, Timestamp::now()), Duration::from_secs(5)).await
    }

    pub async fn with(host: Host, progress: Duration) -> Bed {
        let (store, tls) = (Memory::new(host), Tls::new());
        let key = BootKey::new(vec![7; 32]).expect("long enough");
        let service = Arc::new(Service::new(store.clone(), &tls.ca, Media::Bare, Throttle::new(progress)));
        service.set_key(key.clone());
        let url = tls.serve(router(service.clone())).await;
        store.state().boot_url = Some(url.clone());
        let ca = Certificate::from_pem(tls.ca.as_bytes()).expect("PEM");
        let client = Client::builder().tls_certs_only([ca]).build().expect("a client");
        Bed { store, url, client, tls, key, service }
    }

    /// Another replica with the same store.
    pub fn replica(&self) -> Service<Memory> {
        let replica =
            Service::new(self.store.clone(), &self.tls.ca, Media::Bare, Throttle::new(Duration::from_secs(5)));
        replica.set_key(self.key.clone());
        replica
    }

    /// The host's claim wants this image, served over HTTP.
    pub async fn image(&self, image: &[u8], script: &[Serve]) -> Images {
        let images = Images::serve(image.to_vec(), script).await;
        self.claim_image(&images.url, image);
        images
    }

    /// The host's claim wants this image behind `url`.
    pub fn claim_image(&self, url: &str, image: &[u8]) {
        let mut state = self.store.state();
        let claim = state.host.as_mut().and_then(|host| host.spec.claim.as_mut()).expect("claimed");
        (claim.image.url, claim.image.digest) = (url.into(), digest(image));
    }

    /// URL of the media, as the BMC gets it.
    pub fn media_url(&self) -> String {
        let secret = self.key.secret(Purpose::Media, UID, OPERATION);
        format!("{}{}", self.url, media::path(NAMESPACE, NAME, OPERATION, &secret, media::MediaKind::Iso))
    }

    /// What stands on the media, fetched as firmware does.
    pub async fn media(&self) -> MediaConfig {
        let response = self.client.get(self.media_url()).send().await.expect("answers");
        assert_eq!(response.status(), StatusCode::OK);
        media::read(&response.bytes().await.expect("bytes")).expect("media")
    }

    /// Boots `machine` from the media.
    pub async fn boot(&self, machine: &mut FakeMachine) -> Outcome {
        run_with(&self.media().await, machine, &patience()).await
    }

    /// A session request as the agent of this host makes it.
    pub fn request(&self) -> SessionRequest {
        let token = self.key.secret(Purpose::Token, UID, OPERATION);
        SessionRequest { subject: host::subject(), token, macs: vec![machine::MAC.into()], system_uuid: None }
    }

    pub async fn ask_session(&self, request: &SessionRequest) -> Result<SessionResponse, (u16, String)> {
        let response = self.client.post(format!("{}/v1/session", self.url)).json(request).send().await;
        answer(response.expect("answers")).await.map(|text| serde_json::from_str(&text).expect("a session"))
    }

    pub async fn send_report(&self, session: &str, report: &Report) -> Result<(), (u16, String)> {
        let request = self.client.post(format!("{}/v1/report", self.url)).bearer_auth(session).json(report);
        answer(request.send().await.expect("answers")).await.map(drop)
    }
}

/// The body, or status and reason of a refusal.
pub async fn answer(response: Response) -> Result<String, (u16, String)> {
    let status = response.status();
    let text = response.text().await.expect("text");
    if status.is_success() {
        return Ok(text);
    }
    let refusal: Refusal = serde_json::from_str(&text).expect("a refusal says why");
    Err((status.as_u16(), refusal.reason))
}

pub fn refused<T>(status: u16, reason: &str) -> Result<T, (u16, String)> {
    Err((status, reason.into()))
}

pub fn patience() -> Patience {
    Patience {
        retry_first: Duration::from_millis(5),
        retry_max: Duration::from_millis(20),
        session: Duration::from_secs(2),
        silence: Duration::from_millis(200),
        progress: Duration::from_millis(5),
        disks: Duration::from_millis(100),
        ..Patience::default()
    }
}

/// As the claim of a host wants it.
pub fn digest(image: &[u8]) -> String {
    let digits: String = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// An image that is not the same anywhere and has a boot sector.
pub fn image(length: usize) -> Vec<u8> {
    let byte = |at: usize| match at {
        510 => 0x55,
        511 => 0xaa,
        _ => (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1,
    };
    (0..length).map(byte).collect()
}
