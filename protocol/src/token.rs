//! Secrets that prove who asks: the media key, the one-time token, the session, and signatures under them.
//!
//! All are derived from one key that the manager and every replica of the boot service share, so nothing needs to be
//! stored to check them; that a token is used once is the boot service's to record.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The key that the manager and the boot service share. At least 32 random bytes.
#[derive(Clone)]
pub struct BootKey(Vec<u8>);

/// What a secret is for; a secret made for one purpose proves nothing for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// In the media's URL: whoever has it may fetch the media.
    Media,
    /// In the media: whoever has it may open a session, once.
    Token,
    /// In an installer's answers: whoever has it may report that this operation's installation is done or has failed.
    Installed,
}

impl BootKey {
    /// A key from raw bytes; `None` when there are fewer than 32.
    pub fn new(bytes: Vec<u8>) -> Option<BootKey> {
        (bytes.len() >= 32).then_some(BootKey(bytes))
    }

    /// The secret of one operation on one host.
    pub fn secret(&self, purpose: Purpose, host_uid: &str, operation_id: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, host_uid, operation_id).finalize().into_bytes())
    }

    /// True when `secret` is the one for this purpose, host and operation. Takes the same time for every wrong one.
    pub fn proves(&self, purpose: Purpose, host_uid: &str, operation_id: &str, secret: &str) -> bool {
        fits(self.mac(purpose, host_uid, operation_id), secret)
    }

    fn mac(&self, purpose: Purpose, host_uid: &str, operation_id: &str) -> Hmac<Sha256> {
        let purpose: &[u8] = match purpose {
            Purpose::Media => b"rackwright media v1",
            Purpose::Token => b"rackwright token v1",
            Purpose::Installed => b"rackwright installed v1",
        };
        mac(&self.0, &[purpose, host_uid.as_bytes(), operation_id.as_bytes()])
    }
}

impl std::fmt::Debug for BootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BootKey(…)")
    }
}

/// Signature over `text` by whoever holds `secret`.
pub fn sign(secret: &str, text: &str) -> String {
    URL_SAFE_NO_PAD.encode(plan_mac(secret, text).finalize().into_bytes())
}

/// True when `signature` was made over `text` with `secret`.
pub fn verify(secret: &str, text: &str, signature: &str) -> bool {
    fits(plan_mac(secret, text), signature)
}

/// SHA-256 of a secret, URL-safe base64: it can be stored, it cannot be used. Comparing two of them in plain tells
/// nothing about the secrets.
pub fn digest(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

fn plan_mac(secret: &str, text: &str) -> Hmac<Sha256> {
    mac(secret.as_bytes(), &[b"rackwright plan v1", text.as_bytes()])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        // The length goes in first: ("ab", "c") must not sign the same bytes as ("a", "bc").
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

/// True when `claimed` is the text of this MAC. The comparison is the MAC library's own, which takes the same time for
/// every wrong one.
fn fits(mac: Hmac<Sha256>, claimed: &str) -> bool {
    URL_SAFE_NO_PAD.decode(claimed).is_ok_and(|claimed| mac.verify_slice(&claimed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BootKey {
        BootKey::new(vec![7; 32]).expect("long enough")
    }

    #[test]
    fn a_secret_proves_only_its_own_purpose_host_and_operation() {
        let secret = key().secret(Purpose::Token, "host-1", "op-1");
        assert!(key().proves(Purpose::Token, "host-1", "op-1", &secret));
        assert!(!key().proves(Purpose::Media, "host-1", "op-1", &secret));
        assert!(!key().proves(Purpose::Installed, "host-1", "op-1", &secret));
        assert!(!key().proves(Purpose::Token, "host-2", "op-1", &secret));
        assert!(!key().proves(Purpose::Token, "host-1", "op-2", &secret));
        assert!(!key().proves(Purpose::Token, "host-1o", "p-1", &secret));
        let other = BootKey::new(vec![8; 32]).expect("long enough");
        assert!(!other.proves(Purpose::Token, "host-1", "op-1", &secret));
    }

    #[test]
    fn a_short_key_is_no_key() {
        assert!(BootKey::new(vec![1; 31]).is_none());
    }

    #[test]
    fn a_signature_holds_for_its_text_and_secret_only() {
        let signature = sign("secret", "plan");
        assert!(verify("secret", "plan", &signature));
        assert!(!verify("secret", "plan!", &signature));
        assert!(!verify("Secret", "plan", &signature));
        assert!(!verify("secret", "plan", ""));
    }
}
