//! Certificates of the bed: one authority, and what it vouches for.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};

/// The authority of one bed.
pub struct Authority {
    pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Certificate {
    /// The certificate.
    pub pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
}

impl Authority {
    /// A new authority.
    pub fn new(name: &str) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { pem, key_pem: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server on these IP addresses.
    pub fn server(&self, addresses: &[impl ToString]) -> Result<Certificate> {
        let names: Vec<_> = addresses.iter().map(ToString::to_string).chain(["localhost".to_string()]).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "bed");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A certificate for a client: a user and its group, as Kubernetes reads them.
    pub fn client(&self, user: &str, group: &str) -> Result<Certificate> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A certificate for a client with these DNS names.
    pub fn client_named(&self, names: Vec<String>) -> Result<Certificate> {
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Writes `ca.crt` and `ca.key` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write(&folder.join("ca.crt"), &self.pem)?;
        write(&folder.join("ca.key"), &self.key_pem)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Certificate> {
        params.not_before = rcgen::date_time_ymd(2026, 1, 1); // as certificates are: not for a clock that stands in the past
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certificate { pem, key_pem: key.serialize_pem() })
    }
}

impl Certificate {
    /// Writes `NAME.crt` and `NAME.key` into `folder` and gives their paths.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        write(&certificate, &self.pem)?;
        write(&key, &self.key_pem)?;
        Ok((certificate, key))
    }
}

/// Writes the key that signs service account tokens, `service-accounts.key`, and `service-accounts.pub`.
pub fn write_service_account_key(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    write(&folder.join("service-accounts.key"), &key.serialize_pem())?;
    write(&folder.join("service-accounts.pub"), &key.public_key_pem())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
