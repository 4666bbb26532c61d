//! The service's certificate, and its renewal while the service runs.

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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

    /// Looks at the files `every` so often. When they hold another identity than `current`, serves that from then on and
    /// hands its authorities to `renewed`. Never returns. Files that make no sense are reported and left alone: the old
    /// certificate is better than none.
    pub async fn watch(
        &self,
        mut current: Identity,
        config: RustlsConfig,
        every: Duration,
        mut renewed: impl FnMut(&str),
    ) {
        loop {
            tokio::time::sleep(every).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    /// Files with a certificate of their own, which is its own authority.
    fn write(folder: &Path) -> Files {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let file = |name: &str, content: String| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("writable");
            path
        };
        Files {
            certificate: file("tls.crt", cert.pem()),
            key: file("tls.key", signing_key.serialize_pem()),
            authorities: file("ca.crt", cert.pem()),
        }
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_served_and_one_that_makes_no_sense_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = write(folder.path());
        let first = files.read().expect("whole");
        let served = Arc::new(first.server_config().expect("fits"));
        let config = RustlsConfig::from_config(served.clone());

        write(folder.path());
        std::fs::write(&files.key, "no key").expect("writable");
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let watch = files.watch(first, config.clone(), Duration::from_millis(5), |ca| drop(told.send(ca.to_string())));
        let story = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(heard.try_recv().is_err() && Arc::ptr_eq(&config.get_inner(), &served), "half a renewal was taken");
            let authorities = std::fs::read_to_string(write(folder.path()).authorities).expect("written");
            while heard.recv().await.expect("the watch goes on") != authorities {}
            assert!(!Arc::ptr_eq(&config.get_inner(), &served));
        };
        tokio::select! {
            () = watch => {}
            () = story => {}
        }
    }

    #[test]
    fn files_without_an_authority_or_with_another_key_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = write(folder.path());
        let key = std::fs::read(&files.key).expect("written");
        let other = write(folder.path());
        std::fs::write(&other.key, key).expect("writable");
        assert!(other.read().expect("readable").server_config().is_err(), "the key of another certificate");
        std::fs::write(&other.authorities, "").expect("writable");
        assert!(other.read().is_err(), "no authority");
    }
}
