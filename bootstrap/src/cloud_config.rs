//! The user-data itself: a cloud-config that writes the files, runs what joins the node, and leaves a mark.
//!
//! cloud-init runs `runcmd` as one shell script that goes on after a failure. So everything is one chain of `&&`: the
//! mark that Cluster API looks for exists only when every step before it worked. Kernel parameters come first, since
//! what follows may depend on them.

use crate::RenderError;
use crate::input::{BootstrapInput, Join};
use crate::yaml::{Yaml, document, texts};
use crate::{ca_cert_hashes, kubeadm, kubelet, network, validate};
use std::fmt;

/// The node's mark that it has done all its user-data says (Cluster API, contract "BootstrapConfig").
pub const SENTINEL: &str = "/run/cluster-api/bootstrap-success.complete";
/// The provider ID of the host, from the metadata on its config drive.
pub(crate) const PROVIDER_ID: &str = "{{ ds.meta_data.provider_id }}";
/// The node's name, from the metadata on its config drive.
pub(crate) const HOSTNAME: &str = "{{ ds.meta_data.local_hostname }}";

const SYSCTLS: &str = "/etc/sysctl.d/90-rackwright.conf";

/// User-data of one node. Holds a token that lets anybody join the cluster, so it does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct UserData(String);

impl UserData {
    /// The value of key `format` in a bootstrap data Secret.
    pub const FORMAT: &'static str = "cloud-config";

    /// The text. Only to be put into a Secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("UserData(..)")
    }
}

/// A file to write.
pub(crate) struct OsFile {
    path: String,
    permissions: String,
    owner: Option<String>,
    content: Yaml,
}

impl OsFile {
    /// A file of root's. `permissions` is an octal mode.
    pub(crate) fn new(path: impl Into<String>, permissions: &str, content: Yaml) -> OsFile {
        OsFile { path: path.into(), permissions: permissions.to_owned(), owner: None, content }
    }
}

/// The user-data for `input`; the same input gives the same bytes. Refused, with the field's name, when a node could
/// not come up with it.
pub fn render(input: &BootstrapInput) -> Result<UserData, RenderError> {
    validate::check(input)?;
    ca_cert_hashes(&input.ca_pem)?; // a kubelet with an unreadable CA would only say so on its console
    let mut config = vec![("write_files".to_owned(), Yaml::List(files(input)?.into_iter().map(write_file).collect()))];
    if !input.ssh_authorized_keys.is_empty() {
        config.push(("disable_root".to_owned(), Yaml::Bool(false)));
        config.push(("ssh_authorized_keys".to_owned(), texts(&input.ssh_authorized_keys)));
    }
    config.push(("runcmd".to_owned(), texts([steps(input).join(" && ")])));
    Ok(UserData(format!("## template: jinja\n#cloud-config\n{}", document(&Yaml::Map(config)))))
}

/// All files: those that join the node, the person's, and those of kernel and network.
fn files(input: &BootstrapInput) -> Result<Vec<OsFile>, RenderError> {
    let mut files = match input.join {
        Join::Kubelet => kubelet::files(input)?,
        Join::Kubeadm => kubeadm::files(input)?,
    };
    if !input.sysctls.is_empty() {
        let lines: String = input.sysctls.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        files.push(OsFile::new(SYSCTLS, "0644", lines.into()));
    }
    files.extend(input.network.iter().flat_map(network::files));
    let ours = files.len();
    for (index, file) in input.files.iter().enumerate() {
        if files[..ours].iter().any(|own| own.path == file.path) {
            return Err(RenderError::new(
                format!("files[{index}].path"),
                format!("{} is written by Rackwright itself; use the settings of RackwrightConfig", file.path),
            ));
        }
        files.push(OsFile {
            path: file.path.clone(),
            permissions: file.permissions.clone().unwrap_or_else(|| "0644".to_owned()),
            owner: file.owner.clone(),
            content: file.content.as_str().into(),
        });
    }
    Ok(files)
}

fn write_file(file: OsFile) -> Yaml {
    let mut entries = vec![("path".to_owned(), file.path.into())];
    if let Some(owner) = file.owner {
        entries.push(("owner".to_owned(), owner.into()));
    }
    entries.push(("permissions".to_owned(), file.permissions.into()));
    entries.push(("content".to_owned(), file.content));
    Yaml::Map(entries)
}

/// What the node runs, in order.
fn steps(input: &BootstrapInput) -> Vec<String> {
    let mut steps = Vec::new();
    if !input.sysctls.is_empty() {
        steps.push(format!("sysctl -p {SYSCTLS}")); // not --system: a key of the image's that fails is not ours to judge
    }
    if input.network.is_some() {
        steps.push("systemctl restart systemd-networkd".to_owned());
    }
    steps.extend(input.before_join.iter().map(|command| in_a_shell(command)));
    match input.join {
        Join::Kubelet => {
            steps.push(format!("mkdir -p {}", kubelet::MANIFESTS));
            steps.push("systemctl daemon-reload".to_owned());
            steps.push("systemctl enable --now kubelet".to_owned());
        }
        Join::Kubeadm => steps.push(format!("kubeadm join --config {}", kubeadm::CONFIG)),
    }
    steps.extend(input.after_join.iter().map(|command| in_a_shell(command)));
    steps.push("mkdir -p /run/cluster-api".to_owned());
    steps.push(format!("echo success > {SENTINEL}"));
    steps
}

/// `command` in a shell of its own: whatever it holds, it is one step with one exit status.
fn in_a_shell(command: &str) -> String {
    format!("bash -c '{}'", command.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_word_to_the_shell() {
        assert_eq!(in_a_shell("echo 'a b'; false || true"), r"bash -c 'echo '\''a b'\''; false || true'");
    }
}
