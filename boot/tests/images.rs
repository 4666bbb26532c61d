//! Images by way of the boot service: kept, unpacked, from a registry, and by way of whichever replica answers.

#![allow(clippy::panic, reason = "that is how a test fails")]

mod support;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use rackwright_agent::Outcome;
use rackwright_api::host::OperationKind::Deploy;
use rackwright_api::image::ImageFormat;
use rackwright_boot::{Bounds, ImageOptions, Images, Patience, Service, router};
use rackwright_protocol::plan::{Action, Image};
use rackwright_protocol::token::Purpose;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::host::{OPERATION, UID, status};
use support::images::{Images as Upstream, Serve};
use support::machine::FakeMachine;
use support::memory::Memory;
use support::qcow2::made_by_hand;
use support::{Bed, digest, image};
use tempfile::TempDir;

fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        silence: Duration::from_millis(400),
        retry_first: Duration::from_millis(5),
        retry_max: Duration::from_millis(20),
        resumes: 3,
        wait: Duration::from_secs(5),
        grudge: Duration::from_secs(60),
    }
}

/// One replica with images in `folder`; gives its base URL.
async fn replica(bed: &Bed, folder: &Path, capacity: u64) -> (Arc<Service<Memory>>, String) {
    let options = ImageOptions { proxy: true, port: None, patience: patience() };
    let images = Arc::new(Images::open(folder, capacity, &bed.tls.ca, options).expect("opens"));
    let service = Arc::new(bed.replica().with_images(images));
    let url = bed.tls.serve(router(service.clone())).await;
    (service, url)
}

/// A host that is to be deployed, and a replica with images; all hosts are sent there.
struct Site {
    bed: Bed,
    folder: TempDir,
    url: String,
}

impl Site {
    async fn new() -> Site {
        let (bed, folder) = (Bed::of(Deploy).await, tempfile::tempdir().expect("a folder"));
        let (_, url) = replica(&bed, folder.path(), 1 << 30).await;
        bed.store.state().boot_url = Some(url.clone());
        Site { bed, folder, url }
    }

    /// The host's claim wants `content`, of this format, from `url`.
    fn claim(&self, url: &str, content: &[u8], format: ImageFormat) {
        self.bed.claim_image(url, content);
        let mut state = self.bed.store.state();
        let claim = state.host.as_mut().and_then(|host| host.spec.claim.as_mut()).expect("claimed");
        claim.image.format = format;
    }

    /// What an agent is told to fetch, once it is told.
    async fn told(&self) -> Result<Image, (u16, String)> {
        for _ in 0..400 {
            match ask_session(&self.bed, &self.url).await {
                Ok(image) => return Ok(image),
                Err((503, reason)) => assert_eq!(reason, "ImagePreparing"),
                Err(refused) => return Err(refused),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never ready")
    }

    /// Waits until the file with this digest is in the cache under its name.
    async fn kept(&self, digest: &str) {
        for _ in 0..500 {
            let names = std::fs::read_dir(self.folder.path()).expect("a folder");
            let mut names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
            if names.any(|name| name.contains(digest) && !name.ends_with(".part")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never kept")
    }

    async fn read(&self, url: &str, from: usize) -> (u16, Vec<u8>) {
        let request = self.bed.client.get(url).header("range", format!("bytes={from}-"));
        let response = request.send().await.expect("answers");
        (response.status().as_u16(), response.bytes().await.expect("bytes").to_vec())
    }
}

async fn ask_session(bed: &Bed, url: &str) -> Result<Image, (u16, String)> {
    let response = bed.client.post(format!("{url}/v1/session")).json(&bed.request()).send().await.expect("answers");
    let text = support::answer(response).await?;
    let session: rackwright_protocol::report::SessionResponse = serde_json::from_str(&text).expect("a session");
    let token = bed.key.secret(Purpose::Token, UID, OPERATION);
    match session.plan.open(&token, UID, OPERATION).expect("signed").action {
        Action::Deploy(deploy) => Ok(deploy.image),
        other => panic!("not a deployment: {other:?}"),
    }
}

#[tokio::test]
async fn a_qcow2_image_is_unpacked_while_the_agent_asks_again() {
    let site = Site::new().await;
    let raw = [image(300_000), vec![0; 400_000], image(100_000)].concat();
    let packed = made_by_hand(&raw);
    let upstream = Upstream::serve(packed.clone(), &[Serve::Break(100_000)]).await;
    site.claim(&upstream.url, &packed, ImageFormat::Qcow2);
    let mut machine = FakeMachine::new();
    assert_eq!(site.bed.boot(&mut machine).await, Outcome::Done);
    let wrong = machine.content(raw.len()).iter().zip(&raw).position(|(found, wanted)| found != wanted);
    assert_eq!(wrong, None, "the disk differs there");
    let host = site.bed.store.host();
    let deployed = host.spec.deployed.expect("recorded");
    assert_ne!(deployed.digest, digest(&packed), "the digest is that of what the host was sent");
    assert_eq!(host.status.and_then(|status| status.agent?.image_digest), Some(deployed.digest));
}

#[tokio::test]
async fn many_hosts_cost_one_download_which_goes_on_where_it_broke() {
    let site = Site::new().await;
    let content = image(3 << 20);
    let upstream = Upstream::serve(content.clone(), &[Serve::Break(1_200_000), Serve::Stall(700_000)]).await;
    site.claim(&upstream.url, &content, ImageFormat::Raw);
    let told = site.told().await.expect("told");
    assert_eq!((told.digest.as_str(), told.format), (digest(&content).as_str(), ImageFormat::Raw));
    assert!(told.url.starts_with(&site.url) && told.url.ends_with("?rack=a01"), "{}", told.url);
    let reads = (0..12).map(|host| site.read(&told.url, host * 100_000));
    for (host, (status, bytes)) in futures::future::join_all(reads).await.into_iter().enumerate() {
        assert_eq!(status, 206);
        assert!(bytes == content[host * 100_000..], "host {host}");
    }
    let ranges = upstream.ranges();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges[0].is_empty() && ranges[1..].iter().all(|range| !range.is_empty()), "{ranges:?}");
}

#[tokio::test]
async fn a_host_reads_what_has_come_before_the_rest_is_there() {
    let site = Site::new().await;
    let content = image(4 << 20);
    let (go, gate) = tokio::sync::watch::channel(false);
    let served = content.clone();
    let slow = Router::new().route(
        "/disk.raw",
        get(async move || {
            let (first, second) = (served[..2 << 20].to_vec(), served[2 << 20..].to_vec());
            let rest = async move {
                gate.clone().wait_for(|open| *open).await.expect("open");
                Ok::<_, std::io::Error>(second)
            };
            let chunks = futures::StreamExt::chain(futures::stream::iter([Ok(first)]), futures::stream::once(rest));
            ([("content-length", (4 << 20).to_string())], axum::body::Body::from_stream(chunks))
        }),
    );
    let url = site.bed.tls.serve(slow).await;
    site.claim(&format!("{url}/disk.raw"), &content, ImageFormat::Raw);
    let told = site.told().await.expect("told");
    let mut response = site.bed.client.get(&told.url).send().await.expect("answers");
    let mut read = Vec::new();
    while read.len() < 1 << 20 {
        read.extend_from_slice(&response.chunk().await.expect("goes on").expect("more"));
    }
    go.send(true).expect("somebody waits");
    while let Some(chunk) = response.chunk().await.expect("goes on") {
        read.extend_from_slice(&chunk);
    }
    assert!(read == content);
}

#[tokio::test]
async fn a_restart_and_another_replica_go_on_with_the_same_image() {
    let site = Site::new().await;
    let raw = [image(500_000), vec![0; 200_000]].concat();
    for (content, format) in [(image(2 << 20), ImageFormat::Raw), (made_by_hand(&raw), ImageFormat::Qcow2)] {
        let upstream = Upstream::serve(content.clone(), &[]).await;
        site.claim(&upstream.url, &content, format);
        status(site.bed.store.state().host.as_mut().expect("there")).agent = None;
        let told = site.told().await.expect("told");
        let (_, whole) = site.read(&told.url, 0).await;
        assert_eq!(digest(&whole), told.digest);
        site.kept(&told.digest).await;

        let (_, restarted) = replica(&site.bed, site.folder.path(), 1 << 30).await;
        let (status, bytes) = site.read(&told.url.replace(&site.url, &restarted), 1000).await;
        assert_eq!(status, 206);
        assert!(bytes == whole[1000..]);
        assert_eq!(upstream.ranges().len(), 1, "the cache outlives the process");

        let other = tempfile::tempdir().expect("a folder");
        let (_, other) = replica(&site.bed, other.path(), 1 << 30).await;
        let (status, bytes) = site.read(&told.url.replace(&site.url, &other), 5000).await;
        assert_eq!(status, 206, "{format:?}");
        assert!(bytes == whole[5000..], "the other replica made the same of it");
        assert_eq!(upstream.ranges().len(), 2);
    }
}

#[tokio::test]
async fn a_download_that_a_killed_process_began_is_gone_on_with_unless_it_was_of_something_else() {
    for (left, ranges) in [(image(700_000), vec!["700000-"]), (vec![1; 5000], vec!["5000-", ""])] {
        let site = Site::new().await;
        let content = image(2 << 20);
        std::fs::write(site.folder.path().join(format!("{}.part", digest(&content))), &left).expect("writable");
        let upstream = Upstream::serve(content.clone(), &[]).await;
        site.claim(&upstream.url, &content, ImageFormat::Raw);
        let told = site.told().await.expect("told");
        let fetched = async {
            loop {
                let answer = site.bed.client.get(&told.url).send().await.expect("answers").bytes().await;
                if answer.as_ref().is_ok_and(|bytes| *bytes == content) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), fetched).await.expect("comes whole in the end");
        assert_eq!(upstream.ranges(), ranges);
    }
}

#[tokio::test]
async fn an_image_that_is_wrong_gone_or_no_qcow2_ends_the_operation_with_the_reason() {
    let content = image(100_000);
    let packed = made_by_hand(&content);
    for (served, script, claimed, reason) in [
        (packed.clone(), vec![], b"another".to_vec(), "ImageDigestMismatch"),
        (packed.clone(), vec![Serve::Status(404)], packed.clone(), "ImageUnavailable"),
        (packed.clone(), vec![Serve::Status(500); 9], packed, "ImageUnavailable"),
        (content.clone(), vec![], content, "ImageUnreadable"),
    ] {
        let site = Site::new().await;
        let upstream = Upstream::serve(served, &script).await;
        site.claim(&upstream.url, &claimed, ImageFormat::Qcow2);
        assert_eq!(site.told().await.err(), Some((422, reason.into())));
        assert_eq!(site.bed.store.failure().as_deref(), Some(reason));
        let names: Vec<_> = std::fs::read_dir(site.folder.path()).expect("a folder").collect();
        assert!(names.len() <= 1, "nothing but what was right is kept: {names:?}");
    }
}

#[tokio::test]
async fn without_a_cache_what_agents_cannot_fetch_is_refused_and_the_rest_is_fetched_from_where_it_is() {
    let bed = Bed::of(Deploy).await;
    let content = image(1000);
    bed.claim_image("https://images.example/disk.raw", &content);
    let told = ask_session(&bed, &bed.url).await.expect("told");
    assert_eq!(told.url, "https://images.example/disk.raw");
    let bed = Bed::of(Deploy).await;
    bed.claim_image(&format!("oci://registry.example/x@{}", digest(b"")), &content);
    assert_eq!(ask_session(&bed, &bed.url).await.err(), Some((422, "ImageUnavailable".into())));
    assert_eq!(bed.store.failure().as_deref(), Some("ImageUnavailable"));
}

#[tokio::test]
async fn only_images_that_a_claim_names_are_fetched() {
    let site = Site::new().await;
    let content = image(1000);
    let upstream = Upstream::serve(content.clone(), &[]).await;
    site.claim(&upstream.url, &content, ImageFormat::Raw);
    let (ours, other) = (digest(&content), digest(b"other"));
    for path in [
        format!("{other}/{other}.raw"),
        format!("{ours}/nonsense.raw"),
        format!("{ours}/..%2F..%2Fetc%2Fpasswd"),
        format!("{ours}/{ours}"),
        format!("x/{other}.raw"),
    ] {
        let (status, _) = site.read(&format!("{}/images/{path}", site.url), 0).await;
        assert_eq!(status, 404, "{path}");
    }
    assert_eq!(upstream.ranges().len(), 0);
    assert_eq!(site.read(&format!("{}/images/{ours}/{other}.raw", site.url), 0).await.0, 404, "another file of it");
    assert_eq!(site.read(&format!("{}/images/{ours}/{ours}.raw", site.url), 0).await, (206, content));
}

/// A registry that gives `layer` to whoever fetched a token; gives the URL of the artifact and its manifest's digest.
async fn registry(layer: &[u8], manifest_lies: bool) -> (String, String) {
    let layers = json!([
        { "mediaType": "text/plain", "digest": digest(b"readme"), "size": 6 },
        {
            "mediaType": "application/vnd.example.disk", "digest": digest(layer), "size": layer.len(),
            "annotations": { "org.opencontainers.image.title": "disk.raw" },
        },
    ]);
    let manifest = json!({ "schemaVersion": 2, "layers": layers }).to_string();
    let own = digest(manifest.as_bytes());
    let served = if manifest_lies { manifest.replace("disk.raw", "disk.img") } else { manifest };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let challenge =
        format!("Bearer realm=\"http://{address}/token\",service=\"x\",scope=\"repository:team/debian:pull\"");
    let guarded = move |headers: HeaderMap, body: Vec<u8>| {
        if headers.get("authorization").is_some_and(|token| token == "Bearer let-me-in") {
            (StatusCode::OK, [("x-ok", String::new())], body)
        } else {
            (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge.clone())], Vec::new())
        }
    };
    let (manifests, blobs, layer) = (guarded.clone(), guarded, layer.to_vec());
    let router = Router::new()
        .route("/token", get(async || r#"{"token":"let-me-in"}"#))
        .route(&format!("/v2/team/debian/manifests/{own}"), get(async move |h: HeaderMap| manifests(h, served.into())))
        .route(&format!("/v2/team/debian/blobs/{}", digest(&layer)), get(async move |h: HeaderMap| blobs(h, layer)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("oci://{address}/team/debian@{own}"), own)
}

#[tokio::test]
async fn an_artifact_of_a_registry_is_found_by_its_manifest_and_checked() {
    let content = image(2 << 20);
    for by_layer in [true, false] {
        let site = Site::new().await;
        let (url, manifest) = registry(&content, false).await;
        site.claim(&url, &content, ImageFormat::Raw);
        if !by_layer {
            let mut state = site.bed.store.state();
            let claim = state.host.as_mut().and_then(|host| host.spec.claim.as_mut()).expect("claimed");
            claim.image.digest = manifest;
        }
        let mut machine = FakeMachine::new();
        assert_eq!(site.bed.boot(&mut machine).await, Outcome::Done);
        assert!(machine.content(content.len()) == content);
    }
    let site = Site::new().await;
    let (url, _) = registry(&content, true).await;
    site.claim(&url, &content, ImageFormat::Qcow2);
    assert_eq!(site.told().await.err(), Some((422, "ImageDigestMismatch".into())));
}

#[tokio::test]
async fn when_too_many_are_being_served_a_host_is_told_to_come_again() {
    let bed = Bed::of(Deploy).await;
    let folder = tempfile::tempdir().expect("a folder");
    let options = ImageOptions { proxy: true, port: None, patience: patience() };
    let images = Arc::new(Images::open(folder.path(), 1 << 30, &bed.tls.ca, options).expect("opens"));
    let bounds = Bounds { per_rack: 1, wait: Duration::from_millis(50), ..Bounds::default() };
    let url = bed.tls.serve(router(Arc::new(bed.replica().with_images(images).limited(bounds)))).await;
    let content = image(24 << 20);
    let _upstream = bed.image(&content, &[]).await;
    let name = digest(&content);
    let ask = async |rack: &str| {
        let url = format!("{url}/images/{name}/{name}.raw?rack={rack}");
        bed.client.get(url).send().await.expect("answers")
    };
    let first = ask("a").await;
    assert_eq!(first.status(), 200);
    let second = ask("a").await;
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (503, &"5".parse().expect("a header")));
    assert_eq!(ask("b").await.status(), 200, "another rack has a share of its own");
    assert!(first.bytes().await.expect("bytes") == content);
    assert_eq!(ask("a").await.status(), 200);
}
