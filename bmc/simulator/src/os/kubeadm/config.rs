//! kubeadm's configuration file: several YAML documents, of versions v1beta3 and v1beta4.
//!
//! Pure. Documents stay as they are written; only what is asked for is read out of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Taint;
use serde_json::Value;

/// The documents of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Documents(Vec<Value>);

impl Documents {
    /// Reads a file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let options = serde_saphyr::options! { with_snippet: false };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| anyhow::anyhow!("the kubeadm configuration cannot be read: {error}"))?;
        Ok(Self(documents.into_iter().filter(|document| !document.is_null()).collect()))
    }

    /// The document of a kind.
    pub fn get(&self, kind: &str) -> Option<&Value> {
        self.0.iter().find(|document| document["kind"] == kind)
    }

    /// The document of a kind, made when it is not there.
    pub fn get_or_add(&mut self, kind: &str) -> &mut Value {
        let index = self.0.iter().position(|document| document["kind"] == kind).unwrap_or_else(|| {
            let version = self.0.first().map_or(Value::Null, |first| first["apiVersion"].clone());
            self.0.push(serde_json::json!({ "apiVersion": version, "kind": kind }));
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// The file again; JSON, which kubeadm reads as the YAML it is.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|document| format!("---\n{document}\n")).collect()
    }
}

/// `nodeRegistration` of an Init- or JoinConfiguration.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRegistration {
    /// Name of the Node, when it is not the host's.
    pub name: Option<String>,
    /// Flags for the kubelet.
    pub kubelet_extra_args: BTreeMap<String, String>,
    /// Taints; `None` when kubeadm's own choice is wanted.
    pub taints: Option<Vec<Taint>>,
}

impl NodeRegistration {
    /// Reads it from its document.
    pub fn read(document: &Value) -> anyhow::Result<Self> {
        let registration = &document["nodeRegistration"];
        let taints = &registration["taints"];
        Ok(Self {
            name: registration["name"].as_str().filter(|name| !name.is_empty()).map(String::from),
            kubelet_extra_args: arguments(&registration["kubeletExtraArgs"])?,
            taints: serde_json::from_value(taints.clone()).context("nodeRegistration.taints cannot be read")?,
        })
    }
}

/// v1beta4 has a list of name and value, v1beta3 a map.
fn arguments(value: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    const WRONG: &str = "kubeletExtraArgs must be a list of name and value, or a map of strings";
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Array(list) => list
            .iter()
            .map(|item| match (item["name"].as_str(), item["value"].as_str()) {
                (Some(name), Some(value)) => Ok((name.to_string(), value.to_string())),
                _ => bail!(WRONG),
            })
            .collect(),
        Value::Object(map) => {
            let pair =
                |(name, value): (&String, &Value)| Ok((name.clone(), value.as_str().context(WRONG)?.to_string()));
            map.iter().map(pair).collect()
        }
        _ => bail!(WRONG),
    }
}

/// A taint as flags write it.
pub fn taint_text(taint: &Taint) -> String {
    match &taint.value {
        Some(value) if !value.is_empty() => format!("{}={value}:{}", taint.key, taint.effect),
        _ => format!("{}:{}", taint.key, taint.effect),
    }
}

/// `timeouts.<name>`, else `default`.
pub fn timeout(document: &Value, name: &str, default: Duration) -> Duration {
    let text = document["timeouts"][name].as_str().unwrap_or_default();
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed.map(|time| time.unsigned_abs()).filter(|time| !time.is_zero()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_arguments_are_read_in_both_versions() {
        let expected = BTreeMap::from([("provider-id".to_string(), "x://y".to_string())]);
        for text in ["[{name: provider-id, value: 'x://y'}]", "{provider-id: 'x://y'}"] {
            let text = format!("kind: JoinConfiguration\nnodeRegistration: {{kubeletExtraArgs: {text}}}\n");
            let documents = Documents::parse(&text).expect("readable");
            let registration =
                NodeRegistration::read(documents.get("JoinConfiguration").expect("there")).expect("readable");
            assert_eq!(registration.kubelet_extra_args, expected);
        }
    }

    #[test]
    fn no_taints_and_an_empty_list_of_taints_are_different_wishes() {
        for (text, expected) in [("{}", None), ("{taints: null}", None), ("{taints: []}", Some(vec![]))] {
            let documents =
                Documents::parse(&format!("kind: InitConfiguration\nnodeRegistration: {text}\n")).expect("readable");
            let registration =
                NodeRegistration::read(documents.get("InitConfiguration").expect("there")).expect("readable");
            assert_eq!(registration.taints, expected, "{text}");
        }
    }

    #[test]
    fn a_missing_document_is_made_with_the_version_of_the_others() {
        let mut documents = Documents::parse("---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n")
            .expect("readable");
        documents.get_or_add("InitConfiguration")["a"] = 1.into();
        let again = Documents::parse(&documents.to_text()).expect("readable");
        assert_eq!(again.get("InitConfiguration").expect("there")["apiVersion"], "kubeadm.k8s.io/v1beta4");
        assert_eq!(again, documents);
    }

    #[test]
    fn timeouts_are_go_durations() {
        let document = serde_json::json!({ "timeouts": { "discovery": "1m30s", "tlsBootstrap": "0s" } });
        let default = Duration::from_secs(300);
        assert_eq!(timeout(&document, "discovery", default), Duration::from_secs(90));
        assert_eq!(timeout(&document, "tlsBootstrap", default), default);
        assert_eq!(timeout(&document, "other", default), default);
    }
}
