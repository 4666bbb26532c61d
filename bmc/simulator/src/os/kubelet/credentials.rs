//! How a kubelet comes by its identity: the kubeconfig on its disk, or TLS bootstrap.
//!
//! The bootstrap kubeconfig's token asks for a client certificate (`system:node:NAME`), the cluster approves and signs,
//! and the kubeconfig is written. Key and certificate stay on the disk, so a power cycle brings the same node back.

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::settings::Settings;
use crate::os::host::Host;
use crate::os::{kubeconfig, retry};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// A client that acts as this node; for ever trying.
pub async fn client(host: &Host, settings: &Settings, path: &str) -> kube::Client {
    retry::for_ever(host, "kubelet: no credentials yet", || async move {
        if !host.disk.exists(path) {
            bootstrap(host, settings, path).await?;
        }
        kubeconfig::client(&host.disk, path).await
    })
    .await
}

/// One TLS bootstrap; on success the kubeconfig lies at `path`.
async fn bootstrap(host: &Host, settings: &Settings, path: &str) -> anyhow::Result<()> {
    let Some(bootstrap_path) = &settings.bootstrap_kubeconfig else {
        bail!("{path} does not exist and no --bootstrap-kubeconfig is given");
    };
    let text = host.disk.read_needed(bootstrap_path)?;
    let cluster = kubeconfig::current_cluster(&text).with_context(|| format!("kubeconfig {bootstrap_path}"))?;
    let client = kubeconfig::client(&host.disk, bootstrap_path).await?;
    let key = key(host, settings)?;
    let certificate = certificate(&client, &settings.node_name, &key).await?;
    let pem = format!("{}/kubelet-client-current.pem", settings.cert_dir);
    host.disk.write(&pem, format!("{certificate}{}", key.serialize_pem()).as_bytes(), 0o600)?;
    let user = json!({ "client-certificate": pem, "client-key": pem });
    host.disk.write(path, kubeconfig::write(&cluster, &user)?.as_bytes(), 0o600)?;
    host.disk.remove(&key_path(settings));
    host.say(format!("kubelet: got a certificate for system:node:{}", settings.node_name));
    Ok(())
}

fn key_path(settings: &Settings) -> String {
    format!("{}/kubelet-client.key.tmp", settings.cert_dir)
}

/// The key of the bootstrap in progress: kept, so that a restarted kubelet finds its own request again.
fn key(host: &Host, settings: &Settings) -> anyhow::Result<KeyPair> {
    let path = key_path(settings);
    if let Some(pem) = host.disk.read(&path) {
        return KeyPair::from_pem(&pem).with_context(|| format!("{path} is no key"));
    }
    let key = KeyPair::generate()?;
    host.disk.write(&path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

async fn certificate(client: &kube::Client, node_name: &str, key: &KeyPair) -> anyhow::Result<String> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let request = request(node_name, key)?;
    let name = request.metadata.name.clone().unwrap_or_default();
    match requests.create(&PostParams::default(), &request).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        other => drop(other.context("cannot ask for a certificate")?),
    }
    let mut wait = std::time::Duration::from_millis(100);
    for _ in 0..120 {
        let status =
            requests.get(&name).await.context("cannot read the certificate request")?.status.unwrap_or_default();
        if let Some(certificate) = status.certificate {
            return String::from_utf8(certificate.0).context("the certificate is no PEM");
        }
        let conditions = status.conditions.unwrap_or_default();
        if let Some(condition) =
            conditions.iter().find(|condition| ["Denied", "Failed"].contains(&condition.type_.as_str()))
        {
            bail!(
                "certificate request {name} is {}: {}",
                condition.type_,
                condition.message.clone().unwrap_or_default()
            );
        }
        tokio::time::sleep(wait).await;
        wait = wait.mul_f64(1.5).min(std::time::Duration::from_secs(2));
    }
    bail!("certificate request {name} is neither approved nor denied")
}

fn request(node_name: &str, key: &KeyPair) -> anyhow::Result<CertificateSigningRequest> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{node_name}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    let pem = params.serialize_request(key)?.pem()?;
    let digest = hex::encode(Sha256::digest([key.der_bytes(), node_name.as_bytes()].concat()));
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta { name: Some(format!("node-csr-{digest}")), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.into(),
            usages: Some(vec!["digital signature".into(), "client auth".into()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}
