//! The BMC of one machine: a sushy-emulator of its own, on an address of its own, with a password, behind a [`Front`].

use super::front::Front;
use super::lan;
use super::libvirt::{POOL, URI};
use super::machine::Spec;
use crate::pki::Authority;
use crate::process::{Launch, Process};
use anyhow::{Context, Result};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// Where each of them listens.
const PORT: u16 = 8000;
/// Where the emulator behind each of them listens, on loopback.
const EMULATOR_PORTS: u16 = 8100;
/// Account of every BMC.
pub const USERNAME: &str = "admin";
/// Password of every BMC.
pub const PASSWORD: &str = "correct horse";
/// `htpasswd` line of that account: bcrypt is all that the emulator takes.
const HTPASSWD: &str = "admin:$2b$04$QRUwcJ/W3sih29XCuymi/OFbZc6VpcLY43WM4ndRbvt.1ybaFF9tG\n";

/// A running BMC.
pub struct Bmc {
    /// For example `https://172.30.1.1:8000`.
    pub url: String,
    /// What is done before the emulator is asked, or in its place.
    pub front: Front,
    process: Process,
}

impl Bmc {
    /// Starts the BMC of `spec`; `media_ca` vouches for where it fetches media.
    pub async fn start(spec: &Spec, authority: &Authority, folder: &Path) -> Result<Bmc> {
        let (at, behind) = addresses(spec);
        let home = folder.join("bmc").join(&spec.name);
        for needed in ["state", "tmp"] {
            fs::create_dir_all(home.join(needed))?;
        }
        let config = home.join("emulator.conf");
        fs::write(&config, configuration(spec, behind, &home)?)?;
        let program = emulator("sushy-emulator")?;
        let launch = Launch::new(&format!("{}.bmc", spec.name), &program)
            .args(["--config".into(), config.display().to_string()])
            .env("TMPDIR", home.join("tmp"))
            // It fetches media with Python's requests, which takes the authorities that it trusts from here.
            .env("REQUESTS_CA_BUNDLE", folder.join("pki/ca.crt"))
            .env("NO_PROXY", "*");
        let mut process = launch.start(&folder.join("log"))?;
        process.ready(Duration::from_secs(60), async || TcpStream::connect(behind).await.is_ok()).await?;
        let identity = authority.server(&[lan::bmc(spec.number)])?.write(&home, "bmc")?;
        let front = Front::start(spec, folder, at, format!("http://{behind}"), identity).await?;
        Ok(Bmc { url: format!("https://{at}"), front, process })
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }
}

/// A program of the emulator's environment.
pub fn emulator(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os(super::EMULATOR)
        .with_context(|| format!("{} is not set: run `cargo xtask e2e-metal`", super::EMULATOR))?;
    Ok(PathBuf::from(home).join("bin").join(name))
}

/// Where the BMC answers, and where the emulator behind it.
fn addresses(spec: &Spec) -> (SocketAddr, SocketAddr) {
    let behind = EMULATOR_PORTS + u16::from(spec.number);
    (SocketAddr::from((lan::bmc(spec.number), PORT)), SocketAddr::from((Ipv4Addr::LOCALHOST, behind)))
}

/// The emulator's configuration is a Python file.
fn configuration(spec: &Spec, at: SocketAddr, home: &Path) -> Result<String> {
    let accounts = home.join("htpasswd");
    fs::write(&accounts, HTPASSWD)?;
    let text = |value: &dyn std::fmt::Display| format!("{:?}", value.to_string());
    let ovmf = |name: &str| text(&format!("/usr/share/OVMF/{name}"));
    let settings = [
        ("LISTEN_IP", text(&at.ip())),
        ("LISTEN_PORT", at.port().to_string()),
        ("AUTH_FILE", text(&accounts.display())),
        ("STATE_DIR", text(&home.join("state").display())),
        ("LIBVIRT_URI", text(&URI)),
        ("STORAGE_POOL", text(&POOL)),
        ("ALLOWED_INSTANCES", format!("[{:?}]", spec.uuid())),
        // A legacy loader must be named, or a machine with BIOS cannot be told to boot.
        (
            "BOOT_LOADER_MAP",
            format!(
                "{{'UEFI': {{'x86_64': {}}}, 'Legacy': {{'x86_64': '/usr/share/seabios/bios-256k.bin'}}}}",
                ovmf("OVMF_CODE_4M.fd")
            ),
        ),
        ("SECURE_BOOT_ENABLED_NVRAM", ovmf("OVMF_VARS_4M.ms.fd")),
        ("SECURE_BOOT_DISABLED_NVRAM", ovmf("OVMF_VARS_4M.fd")),
    ];
    Ok(settings.map(|(name, value)| format!("SUSHY_EMULATOR_{name} = {value}\n")).concat())
}
