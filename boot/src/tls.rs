//! The service's certificate, and its renewal while the service runs.

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often files are looked at; a mounted Secret is renewed about once a minute.
const LOOK: Duration = Duration::from_secs(30);

/// The files that make up the service's identity.
#[derive(Clone, Debug)]
pub struct Files {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// What agents shall trust, PEM.
    pub authorities: PathBuf,
}

/// What stands in the files.
#[derive(PartialEq, Eq)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// What agents shall trust, PEM.
    pub authorities: String,
}

impl Files {
    /// Reads all of them.
    pub fn read(&self) -> anyhow::Result<Identity> {
        let authorities = String::from_utf8(read(&self.authorities)?)
            .with_context(|| format!("{} is not PEM", self.authorities.display()))?;
        if CertificateDer::pem_slice_iter(authorities.as_bytes()).flatten().next().is_none() {
            bail!("{} holds no certificate", self.authorities.display());
        }
        Ok(Identity { certificate: read(&self.certificate)?, key: read(&self.key)?, authorities })
    }

    /// Calls `renewed` each time the files hold another identity than `current`. Never returns. Files that make no
    /// sense are reported and left alone: the old certificate is better than none.
    pub async fn watch(&self, mut current: Identity, config: RustlsConfig, renewed: impl Fn(&str)) {
        loop {
            tokio::time::sleep(LOOK).await;
            let read = self.read().and_then(|identity| {
                let server = if identity == current { None } else { Some(identity.server_config()?) };
                Ok((identity, server))
            });
            match read {
                Ok((_, None)) => {}
                Ok((identity, Some(server))) => {
                    config.reload_from_config(Arc::new(server));
                    renewed(&identity.authorities);
                    tracing::info!("certificate renewed");
                    current = identity;
                }
                Err(why) => tracing::warn!(why = format!("{why:#}"), "certificate not renewed"),
            }
        }
    }
}

impl Identity {
    /// A TLS server with this certificate.
    pub fn server_config(&self) -> anyhow::Result<ServerConfig> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .context("the certificate is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("the private key is not PEM")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate and the private key do not fit")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
