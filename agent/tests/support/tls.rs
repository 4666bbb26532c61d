//! An HTTPS server with an authority of its own, for one test.

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::{SocketAddr, TcpListener};

/// An authority, and a certificate of it for 127.0.0.1.
pub struct Tls {
    /// The authority, PEM.
    pub ca: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
}

impl Tls {
    pub fn new() -> Tls {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
        params.distinguished_name.push(DnType::CommonName, "boot"); // with its issuer's, OpenSSL takes it for self-signed
        let certificate = params.signed_by(&key, &ca).expect("a certificate");
        Tls { ca: ca.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Serves `router` on a free port until the test ends. Returns the base URL.
    pub async fn serve(&self, router: Router) -> String {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (certificate, key) = (self.certificate.clone().into_bytes(), self.key.clone().into_bytes());
        let config = RustlsConfig::from_pem(certificate, key).await.expect("a server certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("https://{}", listener.local_addr().expect("bound"));
        let server = axum_server::from_tcp_rustls(listener, config).expect("a server");
        tokio::spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));
        url
    }
}
