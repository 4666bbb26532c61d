//! Objects as plain YAML: applied, read and looked at without a Rust type for their kind.

use anyhow::{Context, Result, bail};
use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;

/// The objects in `text`, one per YAML document; empty documents are left out.
pub fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("this is not YAML")?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects.map(|document| DynamicObject::deserialize(document).context("this is no Kubernetes object")).collect()
}

/// Applies `object` as `field manager "bed"`; objects without a namespace go to `default`.
pub async fn apply(client: &Client, object: &DynamicObject) -> Result<DynamicObject> {
    let (api, name) = api_of(client, object).await?;
    let params = PatchParams::apply("bed").force();
    match api.patch(&name, &params, &Patch::Apply(object)).await {
        Ok(applied) => Ok(applied),
        Err(kube::Error::Api(status)) => bail!("{} is refused: {}", describe(object), status.message),
        Err(why) => Err(why).with_context(|| format!("{} cannot be applied", describe(object))),
    }
}

/// Applies every object of `text`, in order.
pub async fn apply_all(client: &Client, text: &str) -> Result<()> {
    for object in parse(text)? {
        apply(client, &object).await?;
    }
    Ok(())
}

/// `KIND NAME`, for messages.
pub fn describe(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("{kind} {}", object.metadata.name.as_deref().unwrap_or("without a name"))
}

async fn api_of(client: &Client, object: &DynamicObject) -> Result<(Api<DynamicObject>, String)> {
    let types = object.types.as_ref().with_context(|| format!("{} has no kind", describe(object)))?;
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = resource(client, &kind).await?;
    let name = object.metadata.name.clone().with_context(|| format!("a {} has no name", kind.kind))?;
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    Ok((api, name))
}

async fn resource(client: &Client, kind: &GroupVersionKind) -> Result<(ApiResource, ApiCapabilities)> {
    kube::discovery::pinned_kind(client, kind).await.with_context(|| format!("the API server has no {}", kind.kind))
}
