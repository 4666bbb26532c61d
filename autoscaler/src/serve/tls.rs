//! The service's certificate and whose certificates it asks for, and their renewal.

use crate::args::AutoscalerArgs;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// The files that make up the service's identity.
#[derive(Clone, Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    clients: PathBuf,
}

/// What stands in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
    clients: Vec<u8>,
}

impl Files {
    /// The files that `args` name; none with `--plaintext`.
    pub fn of(args: &AutoscalerArgs) -> Option<Files> {
        Some(Files {
            certificate: args.tls_cert_file.clone()?,
            key: args.tls_private_key_file.clone()?,
            clients: args.client_ca_file.clone()?,
        })
    }

    /// Reads all of them.
    pub fn read(&self) -> anyhow::Result<Read> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
        Ok(Read { certificate: read(&self.certificate)?, key: read(&self.key)?, clients: read(&self.clients)? })
    }

    /// Returns what stands in them once that is not `current` any more and makes a server. Looks `every` so often.
    pub async fn changed(&self, current: &Read, every: Duration) -> Read {
        loop {
            tokio::time::sleep(every).await;
            match self.read() {
                Ok(read) if read == *current => {}
                Ok(read) => match tonic::transport::Server::builder().tls_config(read.config()) {
                    Ok(_) => return read,
                    Err(why) => tracing::warn!(%why, "certificate not renewed"),
                },
                Err(why) => tracing::warn!(why = format!("{why:#}"), "certificate not renewed"),
            }
        }
    }
}

impl Read {
    /// A TLS server that asks every client for a certificate.
    pub fn config(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .client_ca_root(Certificate::from_pem(&self.clients))
    }
}
