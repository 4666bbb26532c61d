//! How `kubeadm join` comes to trust a cluster it only has an address, a token and a hash of.
//!
//! `cluster-info` is fetched without trust, its signature is checked with the token, its CA with the hash; then it is
//! fetched again over a connection that this CA proves.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::os::host::Host;
use crate::os::{kubeconfig, retry};

/// `discovery.bootstrapToken` of a JoinConfiguration.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapToken {
    /// `id.secret`.
    pub token: String,
    /// `host:port`.
    pub api_server_endpoint: String,
    /// `sha256:HEX` of the CA's public key.
    #[serde(default)]
    pub ca_cert_hashes: Vec<String>,
    /// Do without the hash.
    #[serde(default)]
    pub unsafe_skip_ca_verification: bool,
}

/// The cluster as a kubeconfig names it, found and proven.
pub async fn discover(host: &Host, discovery: &BootstrapToken, limit: Duration) -> anyhow::Result<Value> {
    let (id, secret) = discovery.token.split_once('.').context("discovery.bootstrapToken.token is not ID.SECRET")?;
    ensure!(
        !discovery.ca_cert_hashes.is_empty() || discovery.unsafe_skip_ca_verification,
        "discovery.bootstrapToken: caCertHashes are needed, or unsafeSkipCAVerification"
    );
    let server = format!("https://{}", discovery.api_server_endpoint);
    let untrusting = json!({ "server": server, "insecure-skip-tls-verify": true });
    let info = cluster_info(host, &untrusting, id, limit).await?;
    let signature = &info[&signature_key(id)];
    ensure!(
        signature_holds(signature, &info["kubeconfig"], id, secret),
        "the signature of cluster-info is not made with this token, so this API server cannot be trusted"
    );
    let mut cluster = kubeconfig::current_cluster(&with_context(&info["kubeconfig"])?).context("cluster-info")?;
    if !discovery.ca_cert_hashes.is_empty() {
        let ca = cluster["certificate-authority-data"].as_str().context("cluster-info has no CA")?;
        ensure!(is_pinned(ca, &discovery.ca_cert_hashes)?, "the CA in cluster-info is not one of the caCertHashes");
        let trusting = json!({ "server": server, "certificate-authority-data": ca });
        let again = cluster_info(host, &trusting, id, limit).await?;
        ensure!(again["kubeconfig"] == info["kubeconfig"], "cluster-info over the proven connection is another one");
    }
    // kubeadm takes the address from the cluster, not from the joining machine.
    if cluster["server"].as_str().is_none_or(str::is_empty) {
        cluster["server"] = server.into();
    }
    Ok(cluster)
}

fn signature_key(id: &str) -> String {
    format!("jws-kubeconfig-{id}")
}

/// `data` of cluster-info, once it is signed for this token.
async fn cluster_info(
    host: &Host,
    cluster: &Value,
    id: &str,
    limit: Duration,
) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let client = kubeconfig::client_of(&host.disk, &kubeconfig::write(cluster, &json!({}))?).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-public");
    let maps = &maps;
    retry::for_at_most(host, "kubeadm: [discovery]", limit, || async move {
        let map = maps.get("cluster-info").await.context("cannot get ConfigMap kube-public/cluster-info")?;
        let data = map.data.unwrap_or_default();
        ensure!(data.contains_key("kubeconfig"), "cluster-info has no kubeconfig");
        ensure!(
            data.contains_key(&signature_key(id)),
            "cluster-info is not signed for token {id}: it is unknown or expired"
        );
        Ok(data)
    })
    .await
}

/// A detached JWS (`header..signature`, HS256) over the kubeconfig.
fn signature_holds(signature: &str, kubeconfig: &str, id: &str, secret: &str) -> bool {
    let Some((header, signature)) = signature.split_once("..") else { return false };
    let read = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let (Some(header_bytes), Some(signature)) = (read(header), read(signature)) else { return false };
    let Ok(fields) = serde_json::from_slice::<Value>(&header_bytes) else { return false };
    let payload = URL_SAFE_NO_PAD.encode(kubeconfig);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    fields["alg"] == "HS256"
        && fields["kid"] == id
        && hmac::verify(&key, format!("{header}.{payload}").as_bytes(), &signature).is_ok()
}

/// Whether one certificate of the bundle has a public key with one of these hashes.
fn is_pinned(ca: &str, hashes: &[String]) -> anyhow::Result<bool> {
    let pem = STANDARD.decode(ca).context("the CA in cluster-info is no base64")?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| anyhow::anyhow!("the CA in cluster-info is no certificate"))?;
        let parsed = ParsedCertificate::try_from(&certificate).context("the CA in cluster-info is no certificate")?;
        let hash = format!("sha256:{}", hex::encode(Sha256::digest(parsed.subject_public_key_info())));
        if hashes.iter().any(|pinned| pinned.eq_ignore_ascii_case(&hash)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The kubeconfig of cluster-info has one cluster and no context; one is put in, so that it reads like any other.
fn with_context(text: &str) -> anyhow::Result<String> {
    let mut kubeconfig: Value = match serde_saphyr::from_str(text) {
        Ok(kubeconfig) => kubeconfig,
        Err(_) => bail!("the kubeconfig in cluster-info cannot be read"),
    };
    let name = kubeconfig["clusters"][0]["name"].clone();
    kubeconfig["contexts"] = json!([{ "name": "cluster-info", "context": { "cluster": name, "user": "" } }]);
    kubeconfig["current-context"] = "cluster-info".into();
    Ok(kubeconfig.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_token_and_text_only() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"abcdef"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode("text"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let signature = format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())));
        assert!(signature_holds(&signature, "text", "abcdef", "0123456789abcdef"));
        assert!(!signature_holds(&signature, "text", "abcdef", "0000000000000000"), "another secret");
        assert!(!signature_holds(&signature, "other", "abcdef", "0123456789abcdef"), "another text");
        assert!(!signature_holds(&signature, "text", "fedcba", "0123456789abcdef"), "another token");
        assert!(!signature_holds("", "text", "abcdef", "0123456789abcdef"), "none");
    }

    #[test]
    fn a_ca_is_known_by_the_hash_of_its_public_key() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
        let ca = STANDARD.encode(certificate.pem());
        let hash =
            format!("sha256:{}", hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key))));
        assert!(is_pinned(&ca, &[hash.to_uppercase().replace("SHA256", "sha256")]).expect("a certificate"));
        assert!(!is_pinned(&ca, &["sha256:00".into()]).expect("a certificate"));
    }
}
