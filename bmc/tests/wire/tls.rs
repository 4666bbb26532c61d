//! Which certificate is trusted.

use crate::fake::{FakeBmc, PASSWORD, access, connect};
use rackwright_bmc::{Error, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn the_pinned_certificate_is_trusted() {
    let bmc = FakeBmc::start().await;
    let identity = Identity::self_signed("elsewhere.example");
    let address = identity.front(*bmc.server.address()).await;
    connect(&access(&address, PASSWORD, Trust::Pin(identity.digest())))
        .await
        .system()
        .await
        .expect("its name does not matter");
}

#[tokio::test]
async fn a_wrong_pin_is_refused_with_both_digests() {
    let bmc = FakeBmc::start().await;
    let identity = Identity::self_signed("127.0.0.1");
    let address = identity.front(*bmc.server.address()).await;
    let wanted = "ab".repeat(32);
    let error =
        connect(&access(&address, PASSWORD, Trust::Pin(wanted.clone()))).await.system().await.expect_err("another");
    let Error::Untrusted { why } = &error else { panic!("{error:?}") };
    assert!(why.contains(&identity.digest()) && why.contains(&wanted), "{why}");
    assert!(bmc.state().seen.is_empty(), "nothing was sent to a stranger");
}

#[tokio::test]
async fn knowing_the_pinned_certificate_is_not_enough() {
    let bmc = FakeBmc::start().await;
    let real = Identity::self_signed("127.0.0.1");
    let thief = Identity { key: KeyPair::generate().expect("a key"), ..real.clone_certificate() };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let address = thief.front_with(*bmc.server.address(), version).await;
        let answer = connect(&access(&address, PASSWORD, Trust::Pin(real.digest()))).await.system().await;
        assert!(answer.is_err(), "{version:?}");
        assert!(bmc.state().seen.is_empty(), "{version:?}: nothing was sent to a thief");
    }
}

#[tokio::test]
async fn a_certificate_of_the_given_authority_is_trusted() {
    let bmc = FakeBmc::start().await;
    let authority = Authority::new();
    let address = authority.issue("127.0.0.1").front(*bmc.server.address()).await;
    connect(&access(&address, PASSWORD, Trust::Ca(authority.pem.clone()))).await.system().await.expect("trusted");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let bmc = FakeBmc::start().await;
    let address = Authority::new().issue("127.0.0.1").front(*bmc.server.address()).await;
    let trust = Trust::Ca(Authority::new().pem);
    let error = connect(&access(&address, PASSWORD, trust)).await.system().await.expect_err("another authority");
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let bmc = FakeBmc::start().await;
    let authority = Authority::new();
    let address = authority.issue("127.0.0.2").front(*bmc.server.address()).await;
    let trust = Trust::Ca(authority.pem.clone());
    let error = connect(&access(&address, PASSWORD, trust)).await.system().await.expect_err("another name");
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_not_trusted_by_the_system() {
    let bmc = FakeBmc::start().await;
    let address = Identity::self_signed("127.0.0.1").front(*bmc.server.address()).await;
    let error = connect(&access(&address, PASSWORD, Trust::System)).await.system().await.expect_err("unknown issuer");
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
}

/// A certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        Self { certificate: params.self_signed(&key).expect("a certificate").der().clone(), key }
    }

    fn clone_certificate(&self) -> Self {
        Self { certificate: self.certificate.clone(), key: KeyPair::generate().expect("a key") }
    }

    /// SHA-256 in hex.
    pub fn digest(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate))
    }

    /// Speaks TLS in front of a server that does not; its address.
    pub async fn front(&self, to: SocketAddr) -> String {
        self.front_with(to, &rustls::version::TLS13).await
    }

    async fn front_with(&self, to: SocketAddr, version: &'static rustls::SupportedProtocolVersion) -> String {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
        let shown = Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Show(shown)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        format!("https://{address}")
    }
}

/// Shows a certificate without asking whether the key fits, as a thief would.
#[derive(Debug)]
struct Show(Arc<CertifiedKey>);

impl ResolvesServerCert for Show {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        Identity { certificate: params.signed_by(&key, &self.issuer).expect("a certificate").der().clone(), key }
    }
}
