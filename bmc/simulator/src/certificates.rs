//! The fleet's own authority: it vouches for one certificate per BMC, made when somebody first asks that BMC.

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Signs the certificates of one fleet.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What one BMC shows.
pub struct Identity {
    /// TLS as its server does it.
    pub tls: Arc<ServerConfig>,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new one; nothing of it is kept anywhere.
    pub fn new() -> anyhow::Result<Authority> {
        let key = KeyPair::generate().context("making the key of the authority")?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "Simulated BMCs");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).context("signing the authority")?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the BMC at `address`.
    pub fn issue(&self, address: Ipv4Addr) -> anyhow::Result<Identity> {
        let key = KeyPair::generate().context("making the key of a BMC")?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, address.to_string());
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).context("signing a BMC's certificate")?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A thousand BMCs must not keep a thousand caches of sessions.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Identity { tls: Arc::new(tls), certificate })
    }
}
