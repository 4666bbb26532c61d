//! The Secret with the data of one node (Cluster API, contract "BootstrapConfig"): key `value` is the user-data, `format`
//! says how to read it, and `token` keeps the join token so that it can be renewed as long as the node has not come.

use super::view::Data;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use rackwright_api::RackwrightConfig;
use rackwright_api::contract::{CLUSTER_NAME_LABEL, SECRET_TYPE, controller};
use rackwright_bootstrap::{BootstrapToken, UserData};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;

const TOKEN_KEY: &str = "token";

/// The Secret to create for `config`.
pub fn secret(config: &RackwrightConfig, cluster: &str, user_data: &UserData, token: &BootstrapToken) -> Secret {
    let owner = OwnerReference {
        api_version: RackwrightConfig::api_version(&()).into_owned(),
        kind: RackwrightConfig::kind(&()).into_owned(),
        name: config.name_any(),
        uid: config.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let token = format!("{}.{}", token.id(), token.secret().expose_secret());
    let data = [
        ("value", user_data.expose().as_bytes()),
        ("format", UserData::FORMAT.as_bytes()),
        (TOKEN_KEY, token.as_bytes()),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(config.name_any()),
            namespace: config.namespace(),
            labels: Some(BTreeMap::from([(CLUSTER_NAME_LABEL.to_owned(), cluster.to_owned())])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.into()),
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.to_vec()))).collect()),
        ..Secret::default()
    }
}

/// What `found` is to `config`, and the token in it.
pub fn read(found: Option<&Secret>, config: &RackwrightConfig) -> (Data, Option<BootstrapToken>) {
    let Some(found) = found else {
        return (Data::Absent, None);
    };
    if controller(&found.metadata).map(|owner| &owner.uid) != config.uid().as_ref() {
        return (Data::Foreign, None);
    }
    let text = found.data.as_ref().and_then(|data| std::str::from_utf8(&data.get(TOKEN_KEY)?.0).ok());
    match text.and_then(|text| text.split_once('.')).and_then(|(id, secret)| BootstrapToken::new(id, secret).ok()) {
        Some(token) => (Data::Ours, Some(token)),
        None => (Data::Spoiled, None),
    }
}
