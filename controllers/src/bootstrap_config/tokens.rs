//! Join tokens: the Secret `bootstrap-token-ID` in a workload cluster, and what this process remembers of them.
//!
//! A token lives for half an hour, is renewed while its Machine waits for a host, and is revoked once the Node is there.
//! What a node is given is in the bootstrap data Secret; the Secret here is always made from that one, so a crash between
//! the two leaves nothing over: the next pass makes the same token again.

use super::grants::TOKEN_GROUP;
use super::view::Token;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::{Client, Error};
use rackwright_bootstrap::BootstrapToken;
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// A token that nobody had before.
pub fn fresh() -> BootstrapToken {
    let half = |length: usize| -> String {
        let alphabet = BootstrapToken::ALPHABET;
        (0..length).map(|_| char::from(alphabet[rand::random_range(0..alphabet.len())])).collect()
    };
    BootstrapToken::new(&half(BootstrapToken::ID_LENGTH), &half(BootstrapToken::SECRET_LENGTH))
        .expect("made of the alphabet, in its lengths")
}

/// True when a token good until `until` must be renewed: half of its life is over.
pub fn is_due(until: Timestamp, now: Timestamp, life: SignedDuration) -> bool {
    until.duration_since(now) < life / 2
}

/// The token as the workload cluster has it.
pub async fn look(client: &Client, token: &BootstrapToken) -> Result<Token, Error> {
    let found = api(client).get_opt(&name(token.id())).await?;
    Ok(found.map_or(Token::Absent, |found| judge(&found, token)))
}

fn judge(found: &Secret, token: &BootstrapToken) -> Token {
    let text = |key: &str| std::str::from_utf8(&found.data.as_ref()?.get(key)?.0).ok();
    if text("token-secret") != Some(token.secret().expose_secret()) {
        return Token::Taken;
    }
    // A token without an end is not how we make them: it is given one.
    text("expiration").and_then(|end| end.parse().ok()).map_or(Token::Absent, Token::Until)
}

/// Makes the token, or gives it a new end.
pub async fn apply(
    client: &Client,
    token: &BootstrapToken,
    until: Timestamp,
    whose: &str,
    manager: &str,
) -> Result<(), Error> {
    let patch = Patch::Apply(secret(token, until, whose));
    api(client).patch(&name(token.id()), &PatchParams::apply(manager).force(), &patch).await?;
    Ok(())
}

/// Takes the token back. One that is gone is not missed.
pub async fn revoke(client: &Client, id: &str) -> Result<(), Error> {
    match api(client).delete(&name(id), &DeleteParams::default()).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

fn api(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

fn secret(token: &BootstrapToken, until: Timestamp, whose: &str) -> Secret {
    let until = Timestamp::from_second(until.as_second()).unwrap_or(until); // the token controllers read whole seconds
    let data = [
        ("token-id", token.id().to_owned()),
        ("token-secret", token.secret().expose_secret().to_owned()),
        ("expiration", until.to_string()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", TOKEN_GROUP.to_owned()),
        ("description", format!("join token of RackwrightConfig {whose}")),
    ];
    let data: BTreeMap<_, _> =
        data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(name(token.id())),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// The tokens that this process has seen in workload clusters, by UID of their config: so that a pass over a config whose
/// Machine waits for a host costs no request.
#[derive(Default)]
pub struct SeenTokens(Mutex<HashMap<String, Seen>>);

/// What was seen of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Public half.
    pub id: String,
    /// End of its life.
    pub until: Timestamp,
}

impl SeenTokens {
    /// The token of the config with this UID, unless its life is over.
    pub fn of(&self, uid: &str, now: Timestamp) -> Option<Seen> {
        self.lock().get(uid).filter(|seen| seen.until > now).cloned()
    }

    /// Remembers a token, and forgets those whose life is over.
    pub fn note(&self, uid: &str, seen: Seen, now: Timestamp) {
        let mut all = self.lock();
        all.retain(|_, seen| seen.until > now);
        all.insert(uid.to_owned(), seen);
    }

    /// Forgets the token of the config with this UID.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a valid time")
    }

    #[test]
    fn a_token_is_due_when_half_of_its_life_is_over() {
        let life = SignedDuration::from_secs(100);
        assert!(!is_due(at(100), at(50), life));
        assert!(is_due(at(100), at(51), life));
        assert!(is_due(at(100), at(200), life));
    }

    #[test]
    fn a_token_is_recognised_by_its_secret_half() {
        let (ours, theirs) = (fresh(), fresh());
        assert_eq!(judge(&secret(&ours, at(1_800_000_000), "a/b"), &ours), Token::Until(at(1_800_000_000)));
        assert_eq!(judge(&secret(&theirs, at(1_800_000_000), "a/b"), &ours), Token::Taken);
    }

    #[test]
    fn a_token_whose_life_is_over_is_forgotten() {
        let seen = SeenTokens::default();
        seen.note("uid", Seen { id: "abcdef".into(), until: at(100) }, at(0));
        assert!(seen.of("uid", at(99)).is_some());
        assert_eq!(seen.of("uid", at(100)), None);
    }
}
