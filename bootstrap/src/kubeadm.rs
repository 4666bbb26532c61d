//! The files of a node that joins by `kubeadm join` (kubeadm.k8s.io/v1beta4).

use crate::RenderError;
use crate::cloud_config::{HOSTNAME, OsFile, PROVIDER_ID};
use crate::input::BootstrapInput;
use crate::yaml::{Yaml, document, map, texts};
use crate::{ca_cert_hashes, kubelet};
use std::collections::BTreeMap;

/// Where Cluster API's own kubeadm provider puts it too.
pub(crate) const CONFIG: &str = "/run/kubeadm/kubeadm-join-config.yaml";
const PATCHES: &str = "/etc/kubernetes/patches";
/// The first minor version whose kubeadm reads v1beta4.
const FIRST_MINOR: u32 = 31;

/// The files, in the order they are written.
pub(crate) fn files(input: &BootstrapInput) -> Result<Vec<OsFile>, RenderError> {
    check_version(input.kubernetes_version.as_deref())?;
    let settings = kubelet::settings(&input.kubelet);
    let mut files = vec![];
    if !settings.is_empty() {
        let patch = Yaml::Map(kubelet::header().into_iter().chain(settings.iter().cloned()).collect());
        let path = format!("{PATCHES}/kubeletconfiguration+merge.yaml");
        files.push(OsFile::new(path, "0644", Yaml::Jinja(document(&patch))));
    }
    let config = join_configuration(input, !settings.is_empty())?;
    files.push(OsFile::new(CONFIG, "0600", Yaml::Jinja(document(&config))));
    Ok(files)
}

fn check_version(version: Option<&str>) -> Result<(), RenderError> {
    let Some(version) = version else {
        return Ok(());
    };
    let mut parts = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor))) if minor >= FIRST_MINOR => Ok(()),
        _ => Err(RenderError::new("version", format!("kubeadm join needs Kubernetes v1.{FIRST_MINOR} or newer"))),
    }
}

fn join_configuration(input: &BootstrapInput, patched: bool) -> Result<Yaml, RenderError> {
    let token = map([
        ("apiServerEndpoint", input.api_server.authority().into()),
        ("caCertHashes", texts(ca_cert_hashes(&input.ca_pem)?)),
        ("token", input.token.expose().into()),
    ]);
    let registration = map([
        ("kubeletExtraArgs", kubelet_args(input)),
        ("name", Yaml::Jinja(HOSTNAME.into())),
        ("taints", kubelet::taints(&input.node_taints)),
    ]);
    let mut entries = vec![
        ("apiVersion".to_owned(), "kubeadm.k8s.io/v1beta4".into()),
        ("kind".to_owned(), "JoinConfiguration".into()),
        ("discovery".to_owned(), map([("bootstrapToken", token)])),
        ("nodeRegistration".to_owned(), registration),
    ];
    if patched {
        entries.push(("patches".to_owned(), map([("directory", PATCHES.into())])));
    }
    Ok(Yaml::Map(entries))
}

/// The kubelet's flags, sorted; those of the person win over ours, except the provider ID.
fn kubelet_args(input: &BootstrapInput) -> Yaml {
    let mut flags: BTreeMap<&str, Yaml> = BTreeMap::new();
    if let Some(labels) = kubelet::node_labels(&input.node_labels) {
        flags.insert("node-labels", labels.into());
    }
    for (name, value) in &input.kubelet.extra_args {
        flags.insert(name, value.as_str().into());
    }
    flags.insert("provider-id", Yaml::Jinja(PROVIDER_ID.into()));
    Yaml::List(flags.into_iter().map(|(name, value)| map([("name", name.into()), ("value", value)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_whose_kubeadm_reads_v1beta4_pass() {
        for version in [None, Some("v1.31.0"), Some("1.36.3"), Some("v1.40.0-rc.1+build")] {
            assert_eq!(check_version(version), Ok(()), "{version:?}");
        }
        for version in ["v1.30.9", "v2.0.0", "latest", ""] {
            assert!(check_version(Some(version)).is_err(), "{version}");
        }
    }
}
