//! Two replicas against a real API server, each with the rights of the boot service's own role and nothing more.

mod support;

use anyhow::{Context, Result};
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use rackwright_agent::{Outcome, run_with};
use rackwright_api::host::{Host, OperationKind};
use rackwright_api::topology::{BootService, DatacenterSpec, RackSpec};
use rackwright_api::{Datacenter, HostHardware, Rack, log};
use rackwright_boot::BootArgs;
use rackwright_e2e::{Bed, Level, Narrator, Programs, accounts, kubeconfig, objects};
use rackwright_protocol::Subject;
use rackwright_protocol::media;
use rackwright_protocol::report::{Event, Report, SessionRequest, SessionResponse};
use rackwright_protocol::token::{BootKey, Purpose};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use support::host::{NAME, NAMESPACE, host, operation, subject};
use support::images::Images;
use support::machine::{FakeMachine, MAC};
use support::tls::Tls;
use support::{USER_DATA, image};
use tokio_util::sync::CancellationToken;

const KEY: [u8; 32] = [9; 32];

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    args: BootArgs,
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_host_is_inspected_deployed_and_wiped_by_way_of_a_real_api_server() -> Result<()> {
    let bed = Bed::start(Programs::from_env()?, Level::ApiServer, Narrator::stdout()).await?;
    let site = Site::build(&bed).await?;

    let host = site.begin(OperationKind::Inspect, "op-1").await?;
    let mut machine = FakeMachine::new();
    assert_eq!(site.boot(&host, &mut machine).await?, Outcome::Done);
    let hardware = Api::<HostHardware>::namespaced(bed.client(), NAMESPACE).get(NAME).await?;
    assert_eq!((hardware.spec.operation_id.as_str(), &hardware.spec.facts), ("op-1", &machine.facts));
    assert_eq!(hardware.owner_references()[0].uid, host.uid().unwrap_or_default());

    let content = image(2 << 20);
    let images = Images::serve(content.clone(), &[]).await;
    site.claim(&images.url, &content).await?;
    let host = site.begin(OperationKind::Deploy, "op-2").await?;
    assert_eq!(site.boot(&host, &mut machine).await?, Outcome::Done);
    assert_eq!(machine.drive.as_ref().map(|drive| drive.user_data.as_str()), Some(USER_DATA));
    let deployed = site.host().await?;
    assert!(deployed.spec.is_deployed());
    assert_eq!(site.writes_between(&host, &deployed).await?, 2, "writes of a deployment");

    site.release().await?;
    let host = site.begin(OperationKind::Wipe, "op-3").await?;
    assert_eq!(site.boot(&host, &mut machine).await?, Outcome::Done);
    let wiped = site.host().await?;
    assert!(!wiped.spec.needs_wipe());
    assert_eq!(wiped.spec.deployed, deployed.spec.deployed, "one result does not remove the other");
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn of_many_agents_with_one_token_one_gets_the_plan() -> Result<()> {
    let bed = Bed::start(Programs::from_env()?, Level::ApiServer, Narrator::stdout()).await?;
    let site = Site::build(&bed).await?;
    let host = site.begin(OperationKind::Inspect, "op-1").await?;
    let ask = |replica: usize| site.ask_session(&host, replica % 2);
    let statuses = futures::future::try_join_all((0..16).map(ask)).await?;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 15, "{statuses:?}");

    Api::<Host>::namespaced(bed.client(), NAMESPACE).delete(NAME, &DeleteParams::default()).await?;
    // Until the replica has seen it, the host as it was has its session.
    let gone = async {
        while site.ask_session(&host, 0).await? != 410 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await?
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn the_log_of_a_failed_agent_is_kept_and_no_other_config_map_can_be_written() -> Result<()> {
    let bed = Bed::start(Programs::from_env()?, Level::ApiServer, Narrator::stdout()).await?;
    let site = Site::build(&bed).await?;
    for (operation, line) in [("op-1", "[1.0] the first"), ("op-2", "[1.0] the second")] {
        let host = site.begin(OperationKind::Inspect, operation).await?;
        let session = site.open_session(&host, 0).await?;
        site.report(&host, &session, Event::Log { lines: vec![line.into()] }).await?;
        let failed = Event::Failed { reason: "DiskWriteFailed".into(), message: "stuck".into(), wiped: Vec::new() };
        site.report(&host, &session, failed).await?;
        let kept = site.config_maps(NAMESPACE).get(&log::config_map_name(NAME)).await?;
        assert_eq!(kept.annotations()[log::LOG_OPERATION], operation);
        assert_eq!(kept.annotations()[log::LOG_OPERATION_TYPE], "Inspect");
        assert_eq!(kept.annotations()[log::LOG_OUTCOME], "DiskWriteFailed");
        assert_eq!(kept.owner_references()[0].uid, host.uid().unwrap_or_default());
        let packed = kept.binary_data.context("has data")?.remove(log::LOG_KEY).context("has a log")?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.0.as_slice()).read_to_string(&mut text)?;
        assert_eq!(text, format!("{line}\n"));
    }

    let params = PatchParams::apply("rackwright-boot").force();
    let reference = json!([site.host().await?.owner_ref(&())]);
    for (namespace, name, labels, owners, data) in [
        ("kube-system", "coredns", json!({}), json!([]), json!({ "Corefile": "x" })),
        (NAMESPACE, "other-log", json!({ "rackwright.dev/log": "agent" }), reference.clone(), json!(null)),
        (NAMESPACE, "a01-u07-log", json!({ "rackwright.dev/log": "agent" }), reference, json!({ "x": "y" })),
    ] {
        let metadata = json!({ "name": name, "labels": labels, "ownerReferences": owners });
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
        let api = Api::<ConfigMap>::namespaced(site.account.clone(), namespace);
        let refused = api.patch(name, &params, &Patch::Apply(body)).await.err().map(|why| why.to_string());
        assert!(refused.is_some_and(|why| why.contains("no other ConfigMaps")), "{namespace}/{name}");
    }
    Ok(())
}

/// A host in its rack and datacenter, and two replicas of the boot service.
struct Site {
    client: Client,
    /// The API server as the boot service's own account sees it.
    account: Client,
    http: reqwest::Client,
    urls: Vec<String>,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Site {
    async fn build(bed: &Bed) -> Result<Site> {
        let client = bed.client();
        install(&client).await?;
        let (folder, tls) = (tempfile::tempdir()?, Tls::new());
        for (name, content) in [("tls.crt", &tls.certificate), ("tls.key", &tls.key), ("ca.crt", &tls.ca)] {
            std::fs::write(folder.path().join(name), content)?;
        }
        let config = accounts::kubeconfig(&bed.plane, accounts::BOOT, folder.path()).await?;
        let shutdown = CancellationToken::new();
        let mut urls = Vec::new();
        for _ in 0..2 {
            let account = kubeconfig::client(&std::fs::read_to_string(&config)?).await?;
            urls.push(serve(account, folder.path(), shutdown.clone())?);
        }
        let account = kubeconfig::client(&std::fs::read_to_string(&config)?).await?;
        place(&client, &urls[0]).await?;
        let ca = reqwest::Certificate::from_pem(tls.ca.as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_only([ca]).build()?;
        let site = Site { client, account, http, urls, shutdown, _folder: folder };
        for url in &site.urls {
            site.ready(url).await?;
        }
        Ok(site)
    }

    async fn ready(&self, url: &str) -> Result<()> {
        for _ in 0..200 {
            let answer = self.http.get(format!("{url}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{url} does not get ready")
    }

    fn config_maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn hosts(&self) -> Api<Host> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn host(&self) -> Result<Host> {
        Ok(self.hosts().get(NAME).await?)
    }

    /// How often the host was written after `before` and until `after`.
    async fn writes_between(&self, before: &Host, after: &Host) -> Result<usize> {
        let version = before.resource_version().context("has a version")?;
        let mut changes = self.hosts().watch(&WatchParams::default(), &version).await?.boxed();
        let mut writes = 0;
        while let Some(WatchEvent::Modified(host)) = changes.try_next().await? {
            writes += 1;
            if host.resource_version() == after.resource_version() {
                return Ok(writes);
            }
        }
        anyhow::bail!("the watch ended before the last write")
    }

    /// Records an operation, as the manager does.
    async fn begin(&self, kind: OperationKind, id: &str) -> Result<Host> {
        let mut wanted = host(kind, Timestamp::now());
        operation(&mut wanted).id = id.into();
        let status = json!({ "status": { "operation": wanted.status.and_then(|status| status.operation) } });
        Ok(self.hosts().patch_status(NAME, &PatchParams::default(), &Patch::Merge(status)).await?)
    }

    /// Claims the host for an image, as the manager does.
    async fn claim(&self, url: &str, content: &[u8]) -> Result<()> {
        let mut claim = host(OperationKind::Deploy, Timestamp::now()).spec.claim.context("claimed")?;
        (claim.image.url, claim.image.digest) = (url.into(), support::digest(content));
        self.patch(json!({ "claim": claim })).await
    }

    /// Lets the host go and orders a wipe, as the manager does.
    async fn release(&self) -> Result<()> {
        let order = host(OperationKind::Wipe, Timestamp::now()).spec.wipe;
        self.patch(json!({ "claim": null, "wipe": order })).await
    }

    async fn patch(&self, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.hosts().patch(NAME, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Boots `machine` from the media that the BMC of `host` would be told of.
    async fn boot(&self, host: &Host, machine: &mut FakeMachine) -> Result<Outcome> {
        let (uid, id) = names(host);
        let secret = key().secret(Purpose::Media, &uid, &id);
        let url = format!("{}{}", self.urls[1], media::path(NAMESPACE, NAME, &id, &secret, media::MediaKind::Iso));
        let bytes = self.http.get(url).send().await?.error_for_status()?.bytes().await?;
        Ok(run_with(&media::read(&bytes)?, machine, &support::patience()).await)
    }

    /// Asks one replica for a session; gives the status.
    async fn ask_session(&self, host: &Host, replica: usize) -> Result<u16> {
        Ok(self.call_for_session(host, replica).await?.status().as_u16())
    }

    /// Opens a session; gives its secret.
    async fn open_session(&self, host: &Host, replica: usize) -> Result<String> {
        let response = self.call_for_session(host, replica).await?.error_for_status()?;
        Ok(response.json::<SessionResponse>().await?.session)
    }

    async fn call_for_session(&self, host: &Host, replica: usize) -> Result<reqwest::Response> {
        let (uid, id) = names(host);
        let token = key().secret(Purpose::Token, &uid, &id);
        let request = SessionRequest { subject: subject_of(host), token, macs: vec![MAC.into()], system_uuid: None };
        Ok(self.http.post(format!("{}/v1/session", self.urls[replica])).json(&request).send().await?)
    }

    async fn report(&self, host: &Host, session: &str, event: Event) -> Result<()> {
        let report = Report { subject: subject_of(host), event };
        let request = self.http.post(format!("{}/v1/report", self.urls[0])).bearer_auth(session).json(&report);
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

fn subject_of(host: &Host) -> Subject {
    let mut subject = subject();
    (subject.host_uid, subject.operation_id) = names(host);
    subject
}

fn key() -> BootKey {
    BootKey::new(KEY.into()).expect("long enough")
}

fn names(host: &Host) -> (String, String) {
    let operation = host.status.as_ref().and_then(|status| status.operation.as_ref()).expect("in an operation");
    (host.uid().expect("has a UID"), operation.id.clone())
}

/// Definitions, roles, namespaces and Secrets.
async fn install(client: &Client) -> Result<()> {
    for namespace in ["rackwright-system", NAMESPACE, "prod"] {
        let metadata = ObjectMeta { name: Some(namespace.into()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for entry in std::fs::read_dir(config.join("crd"))? {
        objects::apply_all(client, &std::fs::read_to_string(entry?.path())?).await?;
    }
    objects::apply_all(client, &std::fs::read_to_string(config.join("rbac/boot.yaml"))?).await?;
    secret(client, "rackwright-system", "rackwright-boot-key", "key", &KEY).await?;
    secret(client, "prod", "web-1-user-data", "value", USER_DATA.as_bytes()).await
}

async fn secret(client: &Client, namespace: &str, name: &str, key: &str, value: &[u8]) -> Result<()> {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let data = Some(BTreeMap::from([(key.into(), ByteString(value.into()))]));
    let secret = Secret { metadata, data, ..Secret::default() };
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &secret).await?;
    Ok(())
}

/// The host, its rack and datacenter.
async fn place(client: &Client, url: &str) -> Result<()> {
    let boot = BootService { url: url.into(), firmware_url: None };
    let datacenter = Datacenter::new("osl1", DatacenterSpec { region: "eu".into(), boot, host_defaults: None });
    let spec: RackSpec = serde_json::from_value(json!({ "datacenter": "osl1" }))?;
    let mut host = host(OperationKind::Inspect, Timestamp::now());
    host.metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
    let params = PostParams::default();
    // The definitions were made a moment ago: the API server may not serve them yet.
    for _ in 0..100 {
        match Api::namespaced(client.clone(), NAMESPACE).create(&params, &datacenter).await {
            Err(kube::Error::Api(status)) if status.code == 404 => tokio::time::sleep(Duration::from_millis(100)).await,
            other => {
                other?;
                break;
            }
        }
    }
    Api::namespaced(client.clone(), NAMESPACE).create(&params, &Rack::new("a01", spec)).await?;
    Api::namespaced(client.clone(), NAMESPACE).create(&params, &host).await?;
    Ok(())
}

/// Starts a replica; gives its base URL.
fn serve(client: Client, folder: &Path, shutdown: CancellationToken) -> Result<String> {
    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let file = |name: &str| folder.join(name).display().to_string();
    let line = CommandLine::try_parse_from([
        "boot".into(),
        format!("--listen={listen}"),
        format!("--tls-cert-file={}", file("tls.crt")),
        format!("--tls-private-key-file={}", file("tls.key")),
        format!("--ca-file={}", file("ca.crt")),
    ])?;
    tokio::spawn(async move {
        rackwright_boot::run_with(client, line.args, shutdown).await.expect("it serves until it is stopped");
    });
    Ok(format!("https://{listen}"))
}
