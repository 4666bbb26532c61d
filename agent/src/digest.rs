//! The digest of an image: `sha256:` or `sha512:` and lower-case hex digits, over the bytes as served.

use crate::Failure;
use aws_lc_rs::digest::{Context, SHA256, SHA512};

/// Computes a digest in the algorithm that the wanted one names.
pub(crate) struct Digester {
    wanted: String,
    name: &'static str,
    state: Context,
}

impl Digester {
    /// For comparison with `wanted`.
    pub fn new(wanted: &str) -> Result<Digester, Failure> {
        let wanted = wanted.to_ascii_lowercase();
        let (name, algorithm, digits) = match wanted.split_once(':') {
            Some(("sha256", digits)) => ("sha256", &SHA256, digits),
            Some(("sha512", digits)) => ("sha512", &SHA512, digits),
            _ => return Err(unknown(&wanted)),
        };
        let whole = digits.len() == algorithm.output_len() * 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if whole { Ok(Digester { wanted, name, state: Context::new(algorithm) }) } else { Err(unknown(&wanted)) }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// The digest, when it is the wanted one.
    pub fn check(self) -> Result<String, Failure> {
        let digits: String = self.state.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let found = format!("{}:{digits}", self.name);
        if found == self.wanted {
            return Ok(found);
        }
        let message = format!("the image that was served has digest {found}, wanted is {}", self.wanted);
        Err(Failure::new("ImageDigestMismatch", message))
    }
}

fn unknown(wanted: &str) -> Failure {
    let message = format!("{wanted:?} is not sha256: and 64, or sha512: and 128, hex digits");
    Failure::new("ImageDigestUnknown", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_are_known_by_their_published_vectors() {
        // FIPS 180-4 example "abc".
        for digest in [
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "SHA256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
             454d4423643ce80e2a9ac94fa54ca49f",
        ] {
            let mut digester = Digester::new(digest).expect("known");
            digester.update(b"a");
            digester.update(b"bc");
            assert_eq!(digester.check(), Ok(digest.to_ascii_lowercase()));
        }
    }

    #[test]
    fn other_bytes_are_a_mismatch() {
        let digester = Digester::new(&format!("sha256:{}", "0".repeat(64))).expect("well formed");
        assert_eq!(digester.check().map_err(|failure| failure.reason), Err("ImageDigestMismatch".into()));
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        let long = format!("sha256:{}", "0".repeat(128));
        for wanted in ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:xyz", long.as_str()] {
            assert_eq!(Digester::new(wanted).err().map(|f| f.reason), Some("ImageDigestUnknown".into()), "{wanted}");
        }
    }
}
