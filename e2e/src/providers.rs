//! Cluster API and Rackwright, installed as a platform engineer installs them: by `clusterctl init` from file
//! repositories, with contract validation on. Only then are webhooks pointed at managers that run as plain processes.

use crate::network::{Everywhere, Network, Port};
use crate::objects;
use crate::plane::Plane;
use crate::process::{Launch, Process};
use crate::programs::{CLUSTER_API_VERSION, Programs, RACKWRIGHT_VERSION};
use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One of Cluster API's managers: its name and namespace, and where it listens here.
struct Manager {
    program: &'static str,
    namespace: &'static str,
    webhook: Everywhere,
    health: Port,
    diagnostics: Port,
}

const MANAGERS: [Manager; 3] = [
    Manager {
        program: "capi-core",
        namespace: "capi-system",
        webhook: Everywhere::CoreWebhook,
        health: Port::CoreHealth,
        diagnostics: Port::CoreDiagnostics,
    },
    Manager {
        program: "capi-kubeadm-bootstrap",
        namespace: "capi-kubeadm-bootstrap-system",
        webhook: Everywhere::KubeadmBootstrapWebhook,
        health: Port::KubeadmBootstrapHealth,
        diagnostics: Port::KubeadmBootstrapDiagnostics,
    },
    Manager {
        program: "capi-kubeadm-control-plane",
        namespace: "capi-kubeadm-control-plane-system",
        webhook: Everywhere::KubeadmControlPlaneWebhook,
        health: Port::KubeadmControlPlaneHealth,
        diagnostics: Port::KubeadmControlPlaneDiagnostics,
    },
];

/// clusterctl asks for cert-manager and is content with two kinds that can be created; nothing here needs a
/// certificate from it.
const CERT_MANAGER: &str = r#"
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: issuers.cert-manager.io},
 spec: {group: cert-manager.io, scope: Namespaced, names: {kind: Issuer, plural: issuers, singular: issuer},
 versions: [{name: v1, served: true, storage: true,
 schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}
---
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: certificates.cert-manager.io},
 spec: {group: cert-manager.io, scope: Namespaced, names: {kind: Certificate, plural: certificates, singular: certificate},
 versions: [{name: v1, served: true, storage: true,
 schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}
"#;
const CERT_MANAGER_VERSION: &str = "v1.21.1";

/// clusterctl with the configuration of one bed.
#[derive(Clone, Debug)]
pub struct Clusterctl {
    program: PathBuf,
    config: PathBuf,
    kubeconfig: PathBuf,
}

impl Clusterctl {
    /// Writes the configuration into `folder`.
    pub fn new(programs: &Programs, kubeconfig: &Path, folder: &Path) -> Result<Clusterctl> {
        let provider = |repository: &Path, label: &str, version: &str, name: &str, kind: &str, file: &str| json!({ "name": name, "type": kind, "url": repository.join(label).join(version).join(file) });
        let theirs =
            |label, name, kind, file| provider(&programs.cluster_api, label, CLUSTER_API_VERSION, name, kind, file);
        let ours = |label, kind, file| provider(&programs.release, label, RACKWRIGHT_VERSION, "rackwright", kind, file);
        let cert_manager = folder.join("cert-manager").join(CERT_MANAGER_VERSION).join("cert-manager.yaml");
        let config = json!({
            "providers": [
                theirs("cluster-api", "cluster-api", "CoreProvider", "core-components.yaml"),
                theirs("bootstrap-kubeadm", "kubeadm", "BootstrapProvider", "bootstrap-components.yaml"),
                theirs("control-plane-kubeadm", "kubeadm", "ControlPlaneProvider", "control-plane-components.yaml"),
                ours("infrastructure-rackwright", "InfrastructureProvider", "infrastructure-components.yaml"),
                ours("bootstrap-rackwright", "BootstrapProvider", "bootstrap-components.yaml"),
            ],
            "cert-manager": { "url": cert_manager, "version": CERT_MANAGER_VERSION },
        });
        fs::create_dir_all(cert_manager.parent().unwrap_or(folder))?;
        fs::write(&cert_manager, "")?;
        let path = folder.join("clusterctl.yaml");
        fs::write(&path, serde_json::to_string_pretty(&config)?)?;
        Ok(Clusterctl { program: programs.path("clusterctl"), config: path, kubeconfig: kubeconfig.to_path_buf() })
    }

    /// Runs clusterctl and gives what it prints; fails with all it says when it fails.
    pub async fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<String> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(args).arg("--config").arg(&self.config).env("KUBECONFIG", &self.kubeconfig);
        // Nothing is asked of the internet.
        command.env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true").env("GOPROXY", "off");
        command.envs(variables.iter().copied()).kill_on_drop(true);
        let output = command.output().await.context("clusterctl cannot be started")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("clusterctl {} ended with {}:\n{}", args.join(" "), output.status, said.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// `clusterctl init` with our providers; gives what it prints.
pub async fn init(plane: &Plane, clusterctl: &Clusterctl) -> Result<String> {
    objects::apply_all(&plane.client, CERT_MANAGER).await?;
    clusterctl.run(&["init", "--infrastructure", "rackwright", "--bootstrap", "rackwright,kubeadm"], &[]).await
}

/// Points every webhook and conversion at the managers that [`start_managers`] starts.
pub async fn repoint(plane: &Plane, network: &Network) -> Result<()> {
    let api = Api::<ValidatingWebhookConfiguration>::all(plane.client.clone());
    for mut configuration in api.list(&ListParams::default()).await? {
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let client = &mut webhook.client_config;
            local(plane, network, &mut client.service, &mut client.url, &mut client.ca_bundle)?;
        }
        api.replace(&configuration.name_any(), &PostParams::default(), &configuration).await?;
    }
    let api = Api::<MutatingWebhookConfiguration>::all(plane.client.clone());
    for mut configuration in api.list(&ListParams::default()).await? {
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let client = &mut webhook.client_config;
            local(plane, network, &mut client.service, &mut client.url, &mut client.ca_bundle)?;
        }
        api.replace(&configuration.name_any(), &PostParams::default(), &configuration).await?;
    }
    repoint_conversions(plane, network).await
}

async fn repoint_conversions(plane: &Plane, network: &Network) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(plane.client.clone());
    for mut definition in api.list(&ListParams::default()).await? {
        let conversion = definition.spec.conversion.as_mut().and_then(|conversion| conversion.webhook.as_mut());
        let Some(client) = conversion.and_then(|webhook| webhook.client_config.as_mut()) else { continue };
        let mut service = client.service.take().map(|service| ServiceReference {
            name: service.name,
            namespace: service.namespace,
            path: service.path,
            port: service.port,
        });
        local(plane, network, &mut service, &mut client.url, &mut client.ca_bundle)?;
        api.replace(&definition.name_any(), &PostParams::default(), &definition).await?;
    }
    Ok(())
}

fn local(
    plane: &Plane,
    network: &Network,
    service: &mut Option<ServiceReference>,
    url: &mut Option<String>,
    ca: &mut Option<ByteString>,
) -> Result<()> {
    let Some(service) = service.take() else { return Ok(()) };
    let manager = MANAGERS.iter().find(|manager| manager.namespace == service.namespace);
    let manager = manager.with_context(|| format!("nothing serves the webhooks of {}", service.namespace))?;
    let (address, port) = (network.management(), network.everywhere(manager.webhook));
    *url = Some(format!("https://{address}:{port}{}", service.path.as_deref().unwrap_or("/")));
    *ca = Some(ByteString(plane.authority.pem().as_bytes().to_vec()));
    Ok(())
}

/// Starts Cluster API's managers and waits until their webhooks answer.
pub async fn start_managers(
    programs: &Programs,
    plane: &Plane,
    network: &Network,
    folder: &Path,
) -> Result<Vec<Process>> {
    let certificates = folder.join("webhook-certificates");
    fs::create_dir_all(&certificates)?;
    let certificate = plane.authority.server(&[network.management()])?;
    fs::write(certificates.join("tls.crt"), &certificate.pem)?;
    fs::write(certificates.join("tls.key"), &certificate.key_pem)?;

    let mut processes = Vec::new();
    for manager in &MANAGERS {
        let launch = manager.launch(programs, plane, network, &certificates);
        processes.push(launch.start(&folder.join("log"))?);
    }
    let http = reqwest::Client::new();
    for (manager, process) in MANAGERS.iter().zip(&mut processes) {
        let url = format!("http://{}/readyz", network.at(manager.health));
        let answers = async || http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        process.ready(Duration::from_secs(90), answers).await?;
    }
    Ok(processes)
}

impl Manager {
    fn launch(&self, programs: &Programs, plane: &Plane, network: &Network, certificates: &Path) -> Launch {
        Launch::new(self.program, &programs.path(self.program))
            .args([
                format!("--kubeconfig={}", plane.admin.display()),
                "--leader-elect=false".into(),
                format!("--webhook-port={}", network.everywhere(self.webhook)),
                format!("--webhook-cert-dir={}", certificates.display()),
                format!("--health-addr={}", network.at(self.health)),
                format!("--diagnostics-address={}", network.at(self.diagnostics)),
                "--insecure-diagnostics".into(),
            ])
            .env("POD_NAMESPACE", self.namespace)
            .env("POD_NAME", self.program)
            .env("POD_UID", "bed")
    }
}
