//! The management plane: a real etcd, kube-apiserver and kube-controller-manager as plain processes.

use crate::bench::audit;
use crate::kubeconfig::{self, Server};
use crate::network::{Network, Port};
use crate::pki::{self, Authority};
use crate::process::{Launch, Process};
use crate::programs::Programs;
use anyhow::Result;
use kube::Client;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one of its programs may take to answer; it is long because the machine may be busy with other beds.
const READY: Duration = Duration::from_secs(90);

/// A running management plane.
pub struct Plane {
    /// The authority that vouches for its servers and clients.
    pub authority: Authority,
    /// Its API server.
    pub server: Server,
    /// Kubeconfig of the cluster's administrator.
    pub admin: PathBuf,
    /// Client of the cluster's administrator.
    pub client: Client,
    folder: PathBuf,
    // Dropped in this order: who writes goes before who stores.
    controllers: Option<Process>,
    _api_server: Process,
    _etcd: Process,
}

impl Plane {
    /// Starts etcd and the API server in `folder` and waits until they are ready. `audit`: it writes down its requests.
    pub async fn start(programs: &Programs, network: &Network, folder: &Path, audit: bool) -> Result<Plane> {
        let pki = folder.join("pki");
        let authority = Authority::new("bed-ca")?;
        authority.write(&pki)?;
        authority.server(&[network.management()])?.write(&pki, "server")?;
        pki::write_service_account_key(&pki)?;
        let server = Server { url: format!("https://{}", network.at(Port::ApiServer)), ca: authority.pem().into() };
        let admin =
            server.with_certificate(&folder.join("admin.conf"), &authority.client("admin", "system:masters")?)?;
        let client = kubeconfig::client(&std::fs::read_to_string(&admin)?).await?;

        let logs = folder.join("log");
        let etcd = etcd(programs, network, folder).start(&logs)?;
        let mut api_server = api_server(programs, network, &pki);
        if audit {
            api_server = api_server.args(audit::flags(folder)?);
        }
        let mut api_server = api_server.start(&logs)?;
        api_server.ready(READY, async || is_ready(&client).await).await?;
        let folder = folder.to_path_buf();
        Ok(Plane { authority, server, admin, client, folder, controllers: None, _api_server: api_server, _etcd: etcd })
    }

    /// Starts the controller manager: garbage collection, service accounts, signing of node certificates.
    pub fn start_controllers(&mut self, programs: &Programs) -> Result<()> {
        let pki = self.folder.join("pki");
        let at = |name: &str| pki.join(name).display().to_string();
        let launch = Launch::new("kube-controller-manager", &programs.path("kube-controller-manager")).args([
            format!("--kubeconfig={}", self.admin.display()),
            format!("--service-account-private-key-file={}", at("service-accounts.key")),
            format!("--root-ca-file={}", at("ca.crt")),
            format!("--cluster-signing-cert-file={}", at("ca.crt")),
            format!("--cluster-signing-key-file={}", at("ca.key")),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
        ]);
        self.controllers = Some(launch.start(&self.folder.join("log"))?);
        Ok(())
    }
}

fn etcd(programs: &Programs, network: &Network, folder: &Path) -> Launch {
    let client = format!("http://{}", network.at(Port::EtcdClient));
    let peer = format!("http://{}", network.at(Port::EtcdPeer));
    Launch::new("etcd", &programs.path("etcd")).args([
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".into(), // the data need not outlive the bed
        "--log-level=warn".into(),
    ])
}

fn api_server(programs: &Programs, network: &Network, pki: &Path) -> Launch {
    let at = |name: &str| pki.join(name).display().to_string();
    Launch::new("kube-apiserver", &programs.path("kube-apiserver")).args([
        format!("--etcd-servers=http://{}", network.at(Port::EtcdClient)),
        format!("--bind-address={}", network.management()),
        format!("--secure-port={}", Port::ApiServer as u16),
        // Nothing is told where it is but by kubeconfig; a loopback address would be refused here.
        "--advertise-address=192.0.2.1".into(),
        "--endpoint-reconciler-type=none".into(),
        format!("--tls-cert-file={}", at("server.crt")),
        format!("--tls-private-key-file={}", at("server.key")),
        format!("--client-ca-file={}", at("ca.crt")),
        format!("--service-account-key-file={}", at("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", at("service-accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--service-cluster-ip-range=10.0.0.0/16".into(),
        "--authorization-mode=Node,RBAC".into(),
    ])
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = axum::http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}
