//! Small shapes that several kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names one key of a Secret or ConfigMap in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key inside it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Names an object exactly: a later object of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UidReference {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
}

/// Host and port of an API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiEndpoint {
    /// DNS name or IP address.
    #[schemars(length(min = 1, max = 512))]
    pub host: String,
    /// TCP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// Labels and annotations that a template gives to what is made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMeta {
    /// Labels of what is made from the template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of what is made from the template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// True when `labels` fulfil `selector`. An absent or empty selector selects nothing: a forgotten line must never
/// mean "everything".
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else {
        return false;
    };
    let equals = selector.match_labels.as_ref();
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    if equals.is_none_or(BTreeMap::is_empty) && expressions.is_empty() {
        return false;
    }
    equals.is_none_or(|equals| equals.iter().all(|(key, value)| labels.get(key) == Some(value)))
        && expressions.iter().all(|requirement| fulfils(requirement, labels))
}

fn fulfils(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.as_ref().is_some_and(|values| values.contains(value));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false, // an operator we do not know selects nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn an_absent_or_empty_selector_selects_nothing() {
        assert!(!selects(None, &labels(&[("a", "b")])));
        assert!(!selects(Some(&LabelSelector::default()), &labels(&[("a", "b")])));
        let empty = LabelSelector { match_labels: Some(BTreeMap::new()), match_expressions: Some(vec![]) };
        assert!(!selects(Some(&empty), &labels(&[])));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let requirement = |key: &str, operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        };
        let selector = |requirements| LabelSelector {
            match_labels: Some(labels(&[("team", "search")])),
            match_expressions: Some(requirements),
        };
        let host = labels(&[("team", "search"), ("tier", "prod")]);
        for (requirements, expected) in [
            (vec![], true),
            (vec![requirement("tier", "In", &["prod", "test"])], true),
            (vec![requirement("tier", "NotIn", &["prod"])], false),
            (vec![requirement("gpu", "NotIn", &["a100"])], true),
            (vec![requirement("gpu", "Exists", &[])], false),
            (vec![requirement("gpu", "DoesNotExist", &[])], true),
            (vec![requirement("tier", "Gt", &["1"])], false),
        ] {
            assert_eq!(selects(Some(&selector(requirements.clone())), &host), expected, "{requirements:?}");
        }
        assert!(!selects(Some(&selector(vec![])), &labels(&[("team", "ads")])));
    }
}
