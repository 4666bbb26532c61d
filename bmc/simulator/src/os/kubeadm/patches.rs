//! `patches.directory` of a Join- or InitConfiguration, as far as it concerns the kubelet's configuration.
//!
//! Pure. Files are named `kubeletconfiguration[suffix][+type].{yaml,json}`. A strategic patch is a merge patch here: no
//! list of a KubeletConfiguration has a merge key.

use anyhow::{Context, bail};
use serde_json::Value;

/// A patch file.
pub struct Patch {
    /// File name.
    pub name: String,
    /// Content.
    pub text: String,
}

/// Applies the patches for the kubelet to its configuration, in the order of their names.
pub fn apply(configuration: &str, mut patches: Vec<Patch>) -> anyhow::Result<String> {
    patches.retain(|patch| patch.name.starts_with("kubeletconfiguration"));
    if patches.is_empty() {
        return Ok(configuration.into());
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    let mut document: Value = read(configuration).context("the KubeletConfiguration cannot be read")?;
    for Patch { name, text } in &patches {
        let kind =
            name.rsplit_once('.').and_then(|(stem, _)| stem.split_once('+')).map_or("strategic", |(_, kind)| kind);
        if !["strategic", "merge"].contains(&kind) {
            bail!("patch {name}: type {kind:?} is not known to a simulated machine (strategic and merge are)");
        }
        merge(&mut document, read(text).with_context(|| format!("patch {name} cannot be read"))?);
    }
    Ok(serde_saphyr::to_string(&document)?)
}

fn read(text: &str) -> anyhow::Result<Value> {
    let options = serde_saphyr::options! { with_snippet: false };
    Ok(serde_saphyr::from_str_with_options(text, options)?)
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(name: &str, text: &str) -> Patch {
        Patch { name: name.into(), text: text.into() }
    }

    #[test]
    fn patches_for_the_kubelet_are_merged_in_the_order_of_their_names() {
        let patches = vec![
            patch("kubeletconfiguration1+merge.yaml", "maxPods: 20\nkubeReserved: {memory: 1Gi}\n"),
            patch("kubeletconfiguration0.json", "{\"maxPods\": 10, \"clusterDomain\": null, \"clusterDNS\": [\"b\"]}"),
            patch("etcd.json", "not read"),
        ];
        let text = apply("kubeReserved: {cpu: 1m}\nclusterDomain: x\nclusterDNS: [a]\n", patches).expect("applied");
        let expected =
            serde_json::json!({ "kubeReserved": { "cpu": "1m", "memory": "1Gi" }, "clusterDNS": ["b"], "maxPods": 20 });
        assert_eq!(read(&text).expect("readable"), expected);
    }

    #[test]
    fn without_patches_the_text_stays_as_it_is() {
        assert_eq!(apply("a:   b # c\n", vec![]).expect("applied"), "a:   b # c\n");
    }

    #[test]
    fn a_patch_of_another_type_is_refused() {
        let error = apply("{}", vec![patch("kubeletconfiguration+json.yaml", "[]")]).expect_err("another type");
        assert!(error.to_string().contains("type \"json\" is not known"), "{error}");
    }
}
