//! What stands in front of the emulator, where a BMC's own Redfish service would: TLS, UEFI HTTP boot, and a lie.
//!
//! The emulator takes `HttpBootUri` for a CD to fetch. Here it becomes what a BMC makes of it: a boot entry and `BootNext`
//! in the firmware's variables, used up by one start. Everything else is the emulator's, and so is who may do what.

use super::machine::{Firmware, Spec};
use super::{bmc, machine, run};
use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum_server::tls_rustls::RustlsConfig;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Variables of a machine that was never on.
const EMPTY_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const HTTP: &str = "UefiHttp";

/// A running front; it ends when this is dropped.
pub struct Front {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    /// Where the emulator answers, without a path.
    emulator: String,
    http: reqwest::Client,
    /// The path of the one system.
    system: String,
    firmware: Firmware,
    variables: PathBuf,
    /// The override that was taken here and never told to the emulator, until the machine is started.
    told: Mutex<Option<Value>>,
    /// Whether overrides are taken and nothing comes of them.
    forgets: AtomicBool,
}

impl Front {
    /// Serves `at` for the emulator at `emulator` with the certificate and key in these files.
    pub async fn start(
        spec: &Spec,
        folder: &Path,
        at: SocketAddr,
        emulator: String,
        (certificate, key): (PathBuf, PathBuf),
    ) -> Result<Front> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // an error: somebody else did
        let tls = RustlsConfig::from_pem_file(certificate, key).await.context("the certificate of a BMC")?;
        let shared = Arc::new(Shared {
            emulator,
            http: reqwest::Client::builder().no_proxy().build()?,
            system: format!("/redfish/v1/Systems/{}", spec.uuid()),
            firmware: spec.firmware,
            variables: machine::variables(folder, &spec.name),
            told: Mutex::default(),
            forgets: AtomicBool::new(false),
        });
        let state = shared.clone();
        let app = Router::new().fallback(async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            state
                .answer(Call { method, path: uri.path().into(), headers, body })
                .await
                .unwrap_or_else(|why| (StatusCode::BAD_GATEWAY, format!("{why:#}")).into_response())
        });
        let server = axum_server::bind_rustls(at, tls).serve(app.into_make_service());
        let server = tokio::spawn(async move {
            if let Err(why) = server.await {
                tracing::error!(%why, %at, "a BMC does not answer any more");
            }
        });
        Ok(Front { shared, server })
    }

    /// From now on what is told about the next boot is taken, shown, and forgotten; or no longer.
    pub fn forget_boot_device(&self, forgets: bool) {
        self.shared.forgets.store(forgets, Ordering::Relaxed);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A request as it came.
struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What the emulator said.
struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Shared {
    async fn answer(&self, call: Call) -> Result<Response> {
        let path = call.path.trim_end_matches('/');
        if path == self.system && call.method == Method::PATCH {
            return self.set_boot(call).await;
        }
        let is_start = call.method == Method::POST
            && path.strip_prefix(&self.system) == Some("/Actions/ComputerSystem.Reset")
            && starts(&call.body);
        if is_start && self.may(&call).await?.is_none() {
            self.use_up()?;
        }
        let shows_boot = path == self.system && call.method == Method::GET;
        let mut said = self.pass(&call).await?;
        if shows_boot && said.status.is_success() {
            let mut body: Value = serde_json::from_slice(&said.body)?;
            self.show(&mut body);
            said.body = serde_json::to_vec(&body)?.into();
        }
        said.into_response()
    }

    /// Takes an override here when it is one that the emulator cannot do, or that nothing shall come of.
    async fn set_boot(&self, call: Call) -> Result<Response> {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let boot = body.get("Boot").filter(|boot| boot.get("BootSourceOverrideTarget").is_some());
        let Some(boot) = boot else { return self.pass(&call).await?.into_response() };
        let is_http = boot["BootSourceOverrideTarget"] == HTTP;
        if !is_http && !self.forgets.load(Ordering::Relaxed) {
            *lock(&self.told) = None;
            return self.pass(&call).await?.into_response();
        }
        if let Some(refused) = self.may(&call).await? {
            return refused.into_response();
        }
        if is_http && (self.firmware == Firmware::Bios || boot["HttpBootUri"].as_str().is_none()) {
            return Ok((StatusCode::BAD_REQUEST, "UefiHttp needs UEFI and HttpBootUri").into_response());
        }
        *lock(&self.told) = Some(boot.clone());
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// What the emulator says to whoever may not even look; `None` when the caller may.
    async fn may(&self, call: &Call) -> Result<Option<Said>> {
        let look =
            Call { method: Method::GET, path: self.system.clone(), headers: call.headers.clone(), body: Bytes::new() };
        let said = self.pass(&look).await?;
        Ok((!said.status.is_success()).then_some(said))
    }

    /// The machine is about to start: the override holds for this start only.
    fn use_up(&self) -> Result<()> {
        let Some(told) = lock(&self.told).take() else { return Ok(()) };
        match told["HttpBootUri"].as_str() {
            Some(url) if told["BootSourceOverrideTarget"] == HTTP && !self.forgets.load(Ordering::Relaxed) => {
                self.boot_next(url)
            }
            _ => Ok(()),
        }
    }

    fn boot_next(&self, url: &str) -> Result<()> {
        if !self.variables.exists() {
            fs::copy(EMPTY_VARIABLES, &self.variables)?;
        }
        let path = self.variables.display().to_string();
        let program = bmc::emulator("virt-fw-vars")?.display().to_string();
        run(&program, &["--inplace", &path, "--set-boot-uri", url]).map(drop)
    }

    fn show(&self, body: &mut Value) {
        let boot = &mut body["Boot"];
        if self.firmware == Firmware::Uefi {
            boot["BootSourceOverrideTarget@Redfish.AllowableValues"] = json!(["Pxe", "Cd", "Hdd", HTTP]);
        }
        if let (Some(Value::Object(told)), Some(boot)) = (&*lock(&self.told), boot.as_object_mut()) {
            boot.extend(told.clone());
        }
    }

    async fn pass(&self, call: &Call) -> Result<Said> {
        let url = format!("{}{}", self.emulator, call.path);
        let mut headers = call.headers.clone();
        for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        let request = self.http.request(call.method.clone(), url).headers(headers).body(call.body.clone());
        let answer = request.send().await.context("the emulator does not answer")?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Said { status, headers, body: answer.bytes().await? })
    }
}

impl Said {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::builder().status(self.status);
        let kept =
            |name: &HeaderName| ![header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(name);
        for (name, value) in self.headers.iter().filter(|(name, _)| kept(name)) {
            response = response.header(name, value);
        }
        Ok(response.body(Body::from(self.body))?)
    }
}

/// Whether a Reset action starts the machine anew.
fn starts(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["ResetType"].as_str().is_some_and(|kind| ["On", "ForceOn", "ForceRestart", "PowerCycle"].contains(&kind))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
