//! The client story against sushy-tools, which nobody here wrote: Basic only, TLS 1.2, no ETags, a media slot under the system, a boot
//! override that is always `Continuous`, and power that follows 1-11 s later.

use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::story::Story;
use rackwright_bmc::{Access, Bmc, Connect, Error, Trust};
use rcgen::generate_simple_self_signed;
use std::fs::write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

const PASSWORD: &str = "correct horse";
/// `htpasswd` line of that password: bcrypt is all that the emulator takes.
const HTPASSWD: &str = "admin:$2b$04$QRUwcJ/W3sih29XCuymi/OFbZc6VpcLY43WM4ndRbvt.1ybaFF9tG\n";

#[tokio::test]
#[ignore = "needs sushy-emulator: cargo xtask test"]
async fn the_client_story_holds_against_sushy_tools() {
    let emulator = Emulator::start().await;
    let images = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(vec![0; 4096]))
        .mount(&images)
        .await;
    let story = Story {
        image: format!("{}/media/one.img", images.uri()),
        other_image: format!("{}/media/other.img", images.uri()),
        http_boot: false, // its fake machines forget the URL
        patience: Duration::from_secs(20),
        poll_interval: Duration::from_millis(500),
    };
    story.tell(&*emulator.bmc(PASSWORD).await).await.expect("told to the end");
}

#[tokio::test]
#[ignore = "needs sushy-emulator: cargo xtask test"]
async fn a_wrong_password_is_unauthorized_at_sushy_tools() {
    let emulator = Emulator::start().await;
    assert_eq!(emulator.bmc("wrong").await.system().await, Err(Error::Unauthorized));
}

#[tokio::test]
#[ignore = "needs sushy-emulator: cargo xtask test"]
async fn an_image_that_sushy_tools_cannot_fetch_is_rejected() {
    let emulator = Emulator::start().await;
    let images = MockServer::start().await;
    let gone = format!("{}/media/secret.img", images.uri());
    let error = emulator.bmc(PASSWORD).await.insert_media(&gone).await.expect_err("there is no such image");
    assert!(matches!(&error, Error::Rejected { .. }) && !error.to_string().contains("secret"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs sushy-emulator: cargo xtask test"]
async fn a_url_that_sushy_tools_cannot_boot_is_rejected_and_not_told() {
    let emulator = Emulator::start().await;
    let images = MockServer::start().await;
    let bmc = emulator.bmc(PASSWORD).await;
    let system = bmc.system().await.expect("answers");
    assert_eq!((system.boot_uri, system.bootable.http, system.bootable.pxe), (None, true, true), "it shows \"None\"");
    let gone = format!("{}/media/secret.efi", images.uri());
    let error = bmc.set_http_boot(&gone).await.expect_err("there is no such image");
    assert!(matches!(&error, Error::Rejected { .. }) && !error.to_string().contains("secret"), "{error:?}");
}

/// A sushy-emulator with one fake machine, behind TLS with a pinned certificate.
struct Emulator {
    access: Access,
    /// Ends with the test.
    _process: Child,
    _files: TempDir,
}

impl Emulator {
    async fn start() -> Self {
        let program =
            std::env::var_os("RACKWRIGHT_SUSHY_EMULATOR").expect("RACKWRIGHT_SUSHY_EMULATOR names the emulator");
        let files = TempDir::new().expect("a directory");
        let pin = configure(files.path());
        let port = free_port().await;
        let process = Command::new(program)
            .args(["--fake", "--interface", "127.0.0.1", "--port", &port.to_string(), "--config"])
            .arg(files.path().join("emulator.conf"))
            .env("NO_PROXY", "127.0.0.1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the emulator starts");
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let address = format!("https://127.0.0.1:{port}").parse().expect("a URL");
        let access =
            Access { address, username: "admin".into(), password: PASSWORD.to_owned().into(), trust: Trust::Pin(pin) };
        Self { access, _process: process, _files: files }
    }

    async fn bmc(&self, password: &str) -> Arc<dyn Bmc> {
        let access = Access { password: password.to_owned().into(), ..self.access.clone() };
        RedfishConnector::new(RedfishConfig::default()).bmc(&access).await.expect("no request is made yet")
    }
}

/// Writes the emulator's files; gives the digest of its certificate.
fn configure(files: &Path) -> String {
    let identity = generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let path = |name: &str| -> PathBuf { files.join(name) };
    write(path("cert.pem"), identity.cert.pem()).expect("written");
    write(path("key.pem"), identity.signing_key.serialize_pem()).expect("written");
    write(path("htpasswd"), HTPASSWD).expect("written");
    let settings = [
        ("SSL_CERT", path("cert.pem")),
        ("SSL_KEY", path("key.pem")),
        ("AUTH_FILE", path("htpasswd")),
        ("STATE_DIR", files.to_owned()),
    ];
    let lines: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("SUSHY_EMULATOR_{name} = {:?}", value.display().to_string()))
        .collect();
    write(path("emulator.conf"), lines.join("\n")).expect("written");
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, identity.cert.der()))
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}
