//! The key that media and tokens are made with: one Secret, made once, shared by the manager and the boot service.

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rackwright_protocol::token::BootKey;
use std::collections::BTreeMap;

/// The key in the Secret `NAMESPACE/NAME`; made, from 32 random bytes, when the Secret does not exist.
pub async fn load(client: &Client, secret: &str) -> anyhow::Result<BootKey> {
    let Some((namespace, name)) = secret.split_once('/') else {
        bail!("--key-secret {secret}: expected NAMESPACE/NAME");
    };
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let found = match api.get_opt(name).await.with_context(|| format!("Secret {secret}"))? {
        Some(found) => found,
        None => make(&api, namespace, name).await.with_context(|| format!("Secret {secret}"))?,
    };
    let bytes = found.data.and_then(|data| data.get("key").map(|key| key.0.clone()));
    bytes.and_then(BootKey::new).with_context(|| format!("Secret {secret} needs a key `key` with at least 32 bytes"))
}

/// For a process that makes no media.
pub fn unused() -> BootKey {
    BootKey::new(random()).expect("32 bytes are enough")
}

async fn make(api: &Api<Secret>, namespace: &str, name: &str) -> anyhow::Result<Secret> {
    let secret = Secret {
        metadata: ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("key".to_string(), ByteString(random()))])),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(made) => Ok(made),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(api.get(name).await?), // another manager was faster
        Err(why) => Err(why.into()),
    }
}

fn random() -> Vec<u8> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes.into()
}
