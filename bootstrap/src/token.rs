//! Bootstrap tokens: `[a-z0-9]{6}.[a-z0-9]{16}` (Kubernetes, "Authenticating with Bootstrap Tokens").

use crate::RenderError;
use secrecy::{ExposeSecret, SecretString};

/// What a node proves itself with until it has a certificate. Does not print itself.
#[derive(Clone)]
pub struct BootstrapToken {
    id: String,
    secret: SecretString,
}

impl BootstrapToken {
    /// Length of a token's public half.
    pub const ID_LENGTH: usize = 6;
    /// Length of a token's secret half.
    pub const SECRET_LENGTH: usize = 16;
    /// The characters both halves are made of.
    pub const ALPHABET: &'static [u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

    /// A token from its public and its secret half. Refused unless they have the shape that API servers accept.
    pub fn new(id: &str, secret: &str) -> Result<BootstrapToken, RenderError> {
        if !made_of_alphabet(id, Self::ID_LENGTH) {
            return Err(RenderError::new("token", "its public half is not 6 characters of a-z and 0-9"));
        }
        if !made_of_alphabet(secret, Self::SECRET_LENGTH) {
            return Err(RenderError::new("token", "its secret half is not 16 characters of a-z and 0-9"));
        }
        Ok(BootstrapToken { id: id.to_owned(), secret: secret.into() })
    }

    /// The public half: it names the token's Secret, `bootstrap-token-ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret half.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// `id.secret`, as a client presents it.
    pub(crate) fn expose(&self) -> String {
        format!("{}.{}", self.id, self.secret.expose_secret())
    }
}

fn made_of_alphabet(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| BootstrapToken::ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_shape_is_refused_without_being_repeated() {
        for (id, secret) in [("abcde", "0123456789abcdef"), ("abcdef", "0123456789ABCDEF"), ("abcdef", "")] {
            let refusal = BootstrapToken::new(id, secret).err().expect("a token of the wrong shape");
            assert!(secret.is_empty() || !refusal.to_string().contains(secret));
        }
    }
}
