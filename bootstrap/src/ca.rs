//! What `kubeadm join` pins of a cluster's CA: the SHA-256 of its public key, as RFC 7469 pins are taken
//! (kubeadm, "discovery-token-ca-cert-hash").

use crate::RenderError;
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;

/// `sha256:HEX` of the SubjectPublicKeyInfo of every certificate in `ca_pem`, in their order. Refused when there is
/// none, or when one of them is not a certificate.
pub fn ca_cert_hashes(ca_pem: &str) -> Result<Vec<String>, RenderError> {
    let refuse = |why: String| RenderError::new("CA certificate", why);
    let mut hashes = Vec::new();
    for pem in Pem::iter_from_buffer(ca_pem.as_bytes()) {
        let pem = pem.map_err(|error| refuse(format!("is not PEM: {error}")))?;
        if pem.label != "CERTIFICATE" {
            return Err(refuse(format!("is a PEM block of type {}, not CERTIFICATE", pem.label)));
        }
        let certificate = pem.parse_x509().map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let digest = Sha256::digest(certificate.tbs_certificate.subject_pki.raw);
        hashes.push(format!("sha256:{}", hex::encode(digest)));
    }
    if hashes.is_empty() {
        return Err(refuse("holds no certificate".into()));
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CA made with OpenSSL; its hash is that of
    /// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum`.
    const CA: &str = include_str!("../tests/data/ca.crt");
    const HASH: &str = "sha256:5a2ac85b1a325c05a7d528c2eb92a22b2ec2401517a49f228e8a99bed9480a3a";

    #[test]
    fn the_hash_is_the_one_that_openssl_computes() {
        assert_eq!(ca_cert_hashes(CA), Ok(vec![HASH.to_owned()]));
    }

    #[test]
    fn a_bundle_gives_a_hash_per_certificate() {
        assert_eq!(ca_cert_hashes(&format!("{CA}{CA}")).map(|hashes| hashes.len()), Ok(2));
    }

    #[test]
    fn what_is_not_a_certificate_is_refused() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (pem, why) in [("", "holds no certificate"), ("hello", "holds no certificate"), (key, "PRIVATE KEY")] {
            let refusal = ca_cert_hashes(pem).expect_err("not a certificate");
            assert!(refusal.to_string().contains(why), "{refusal}");
        }
    }
}
