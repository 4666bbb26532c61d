//! Which certificate is trusted, as an HTTP client.
//!
//! A pin replaces the authorities and the host name, never the proof: the handshake's signature is always verified with the
//! key of the pinned certificate, so knowing the certificate is not enough to stand in for the BMC.

use super::RedfishConfig;
use super::fault::Fault;
use crate::access::Trust;
use crate::error::{Error, Result};
use aws_lc_rs::digest::{SHA256, digest};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long an unused connection is kept. Long enough for the next look at a machine that something is done to; all others are looked
/// at once a minute, and a fleet's open connections would be most of the manager's memory. Some BMCs choke on long-lived ones, too.
const IDLE_CONNECTION: Duration = Duration::from_secs(5);

/// A client that trusts as `trust` says. Clients for the system's authorities or a given authority fit any BMC.
pub(crate) fn http_client(trust: &Trust, config: &RedfishConfig) -> Result<reqwest::Client> {
    let builder = builder(config);
    let builder = match trust {
        // Built through reqwest, which knows where the platform keeps its authorities.
        Trust::System => builder.tls_backend_rustls(),
        Trust::Ca(pem) => builder.tls_backend_preconfigured(ca_config(pem)?),
        Trust::Pin(pin) => builder.tls_backend_preconfigured(pin_config(parse_pin(pin)?)?),
    };
    builder.build().map_err(|error| untrusted(root_cause(&error)))
}

/// SHA-256 of the certificate that `address` shows, 64 lower-case hex digits. Nothing is sent to it: the handshake is always refused.
pub(crate) async fn shown_certificate(address: &url::Url, config: &RedfishConfig) -> Result<String> {
    let client = builder(config).tls_backend_preconfigured(pin_config([0; 32])?).build();
    let client = client.map_err(|error| untrusted(root_cause(&error)))?;
    match client.get(address.clone()).send().await {
        Err(error) => match find::<rustls::Error>(&error).and_then(mismatch) {
            Some(mismatch) => Ok(hex::encode(mismatch.shown)),
            None => Err(wire_fault(error).into()),
        },
        Ok(_) => Err(Error::Garbled { why: "it speaks no TLS".into() }),
    }
}

fn builder(config: &RedfishConfig) -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Some BMCs turn a strong ETag into a weak one when they compress.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert("OData-Version", HeaderValue::from_static("4.0"));
    reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(config.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_CONNECTION)
}

fn ca_config(pem: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| untrusted("the given authority is not PEM"))?;
        roots.add(certificate).map_err(|error| untrusted(format!("the given authority cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(untrusted("there is no certificate in the given authority"));
    }
    let config = protocols()?.with_root_certificates(roots).with_no_client_auth();
    Ok(http1(config))
}

fn pin_config(pin: [u8; 32]) -> Result<ClientConfig> {
    let verifier = Arc::new(PinVerifier { pin, provider: provider::default_provider() });
    let config = protocols()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(http1(config))
}

fn protocols() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| untrusted(error.to_string()))
}

fn http1(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn parse_pin(pin: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(pin, &mut bytes).map_err(|_| untrusted("the pin is not 64 hex digits"))?;
    Ok(bytes)
}

/// Trusts exactly one certificate, by its SHA-256.
#[derive(Debug)]
struct PinVerifier {
    pin: [u8; 32],
    provider: CryptoProvider,
}

/// Why a pinned certificate was refused.
#[derive(Debug, thiserror::Error)]
#[error("its SHA-256 is {}, wanted is {}", hex::encode(.shown), hex::encode(.wanted))]
struct PinMismatch {
    shown: [u8; 32],
    wanted: [u8; 32],
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let mut shown = [0; 32];
        shown.copy_from_slice(digest(&SHA256, leaf).as_ref());
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch { shown, wanted: self.pin };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a failed exchange means. URLs stay out of the text.
pub(crate) fn wire_fault(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let unreachable = |why: String| Error::Unreachable { why }.into();
    match find::<rustls::Error>(&error) {
        Some(tls @ rustls::Error::InvalidCertificate(why)) => match mismatch(tls) {
            Some(mismatch) => untrusted(mismatch.to_string()).into(),
            None => untrusted(why.to_string()).into(),
        },
        Some(tls) => unreachable(format!("TLS: {tls}")),
        None if error.is_connect() && error.is_timeout() => unreachable("no connection in time".into()),
        None if error.is_timeout() => unreachable("no answer in time".into()),
        None if error.is_connect() => unreachable(root_cause(&error)),
        None => Fault::Broken(format!("the connection broke: {}", root_cause(&error))),
    }
}

fn mismatch(error: &rustls::Error) -> Option<&PinMismatch> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

fn untrusted(why: impl Into<String>) -> Error {
    Error::Untrusted { why: why.into() }
}

/// The last error of the chain says it best ("connection refused").
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Finds an error of a type in the chain, also inside [`io::Error`], whose `source` skips the error it wraps.
fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = find(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_that_is_no_digest_is_refused() {
        let error = http_client(&Trust::Pin("ab".into()), &RedfishConfig::default()).expect_err("too short");
        assert_eq!(error, untrusted("the pin is not 64 hex digits"));
    }

    #[test]
    fn an_authority_without_certificates_is_refused() {
        let error = http_client(&Trust::Ca("no PEM".into()), &RedfishConfig::default()).expect_err("nothing to trust");
        assert_eq!(error, untrusted("there is no certificate in the given authority"));
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let error = io::Error::other(io::Error::other(rustls::Error::HandshakeNotComplete));
        assert_eq!(find(&error), Some(&rustls::Error::HandshakeNotComplete));
    }
}
