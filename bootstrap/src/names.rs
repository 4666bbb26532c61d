//! Names, labels and taints: what a kubelet and an API server accept, said before a machine boots with it.

use crate::RenderError;
use crate::input::Taint;
use std::collections::BTreeMap;

/// True when `text` is a DNS name as Kubernetes takes it for object names (RFC 1123 subdomain).
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// True when `text` is a label value or the name half of a key: at most 63 of letters, digits, `-_.`, starting and
/// ending with a letter or digit.
fn is_short_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `[prefix/]name`.
fn check_key(field: &str, key: &str) -> Result<(), RenderError> {
    let good = match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_short_name(name),
        None => is_short_name(key),
    };
    if good {
        return Ok(());
    }
    Err(RenderError::new(field, "a key is [prefix/]name: a DNS prefix and at most 63 letters, digits, '-', '_' or '.'"))
}

fn check_value(field: &str, value: &str) -> Result<(), RenderError> {
    if value.is_empty() || is_short_name(value) {
        return Ok(());
    }
    Err(RenderError::new(
        field,
        "a value is at most 63 letters, digits, '-', '_' or '.', and starts and ends with a letter or digit",
    ))
}

/// Labels that a kubelet may give its own Node.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), RenderError> {
    for (key, value) in labels {
        let field = format!("nodeLabels[{key}]");
        check_key(&field, key)?;
        check_value(&field, value)?;
        if !kubelet_may_set(key) {
            return Err(RenderError::new(
                field,
                "a kubelet may not set this label on its own Node; put it on the Machine under node-restriction.kubernetes.io, \
                 node-role.kubernetes.io or node.cluster.x-k8s.io and Cluster API copies it",
            ));
        }
    }
    Ok(())
}

/// The kubelet's own rule, which the NodeRestriction admission enforces too (k8s.io/kubelet, `IsKubeletLabel`): in
/// Kubernetes' own domains only what is listed.
fn kubelet_may_set(key: &str) -> bool {
    const KEYS: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    ];
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    !kubernetes || KEYS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// Taints that a node can register with.
pub(crate) fn check_taints(taints: &[Taint]) -> Result<(), RenderError> {
    for (index, taint) in taints.iter().enumerate() {
        let field = format!("nodeTaints[{index}]");
        check_key(&field, &taint.key)?;
        check_value(&field, &taint.value)?;
        let twice = taints[..index].iter().any(|other| (&other.key, other.effect) == (&taint.key, taint.effect));
        if twice {
            return Err(RenderError::new(field, format!("{}:{} is there twice", taint.key, taint.effect.as_str())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::TaintEffect;

    fn check_label(key: &str, value: &str) -> Result<(), RenderError> {
        check_labels(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn labels_that_a_kubelet_may_set_pass() {
        for key in ["tier", "node.example.com/tier", "node.kubernetes.io/pool", "a.node.kubernetes.io/b"] {
            assert_eq!(check_label(key, "web"), Ok(()), "{key}");
        }
        assert_eq!(check_label("topology.kubernetes.io/zone", "rack-a"), Ok(()));
        assert_eq!(check_label("tier", ""), Ok(()));
    }

    #[test]
    fn labels_that_a_kubelet_may_not_set_are_refused_by_name() {
        for key in ["node-role.kubernetes.io/web", "kubernetes.io/x", "apps.k8s.io/x", "topology.kubernetes.io/rack"] {
            let refusal = check_label(key, "x").expect_err("a restricted label");
            assert_eq!(refusal.field, format!("nodeLabels[{key}]"));
            assert!(refusal.why.contains("put it on the Machine"), "{refusal}");
        }
    }

    #[test]
    fn labels_of_the_wrong_shape_are_refused() {
        for (key, value) in [("", "x"), ("a b", "x"), ("-a", "x"), ("A_/b", "x"), ("a/b/c", "x"), ("a", "x,b=c")] {
            assert!(check_label(key, value).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn a_taint_given_twice_is_refused() {
        let taint = |effect| Taint { key: "dedicated".into(), value: "web".into(), effect };
        assert_eq!(check_taints(&[taint(TaintEffect::NoSchedule), taint(TaintEffect::NoExecute)]), Ok(()));
        let refusal = check_taints(&[taint(TaintEffect::NoSchedule), taint(TaintEffect::NoSchedule)]);
        assert_eq!(refusal.map_err(|refusal| refusal.field), Err("nodeTaints[1]".to_owned()));
    }
}
