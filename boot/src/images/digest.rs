//! Digests of images, as an OSImage writes them: `sha256:` or `sha512:` and hex digits.

use aws_lc_rs::digest::{Context, SHA256, SHA512};

/// Computes a digest.
#[derive(Clone)]
pub struct Hasher {
    name: &'static str,
    context: Context,
}

impl Hasher {
    /// For a digest of the same kind as `digest`; `None` when that is not one.
    pub fn like(digest: &str) -> Option<Hasher> {
        is_digest(digest).then(|| match digest.starts_with("sha512:") {
            true => Hasher { name: "sha512", context: Context::new(&SHA512) },
            false => Hasher::sha256(),
        })
    }

    /// SHA-256.
    pub fn sha256() -> Hasher {
        Hasher { name: "sha256", context: Context::new(&SHA256) }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> String {
        let digits: String = self.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{digits}", self.name)
    }
}

/// True for `sha256:` and 64, or `sha512:` and 128, lower-case hex digits.
pub fn is_digest(text: &str) -> bool {
    let hex = |digits: &str, length: usize| {
        digits.len() == length && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match text.split_once(':') {
        Some(("sha256", digits)) => hex(digits, 64),
        Some(("sha512", digits)) => hex(digits, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_computed_of_the_kind_that_is_wanted() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hasher::like(empty).map(Hasher::finish).as_deref(), Some(empty));
        let long = format!("sha512:{}", "0".repeat(128));
        assert_eq!(Hasher::like(&long).map(|hasher| hasher.finish().len()), Some(135));
        for text in ["", "sha256:", "sha256:00", "md5:00", "sha256:../../etc/passwd", &empty.to_uppercase()] {
            assert!(Hasher::like(text).is_none(), "{text}");
        }
    }
}
