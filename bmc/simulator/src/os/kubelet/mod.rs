//! The kubelet of a simulated machine: told by its unit file, flags and KubeletConfiguration, as the real one is.
//!
//! It registers a Node, keeps it Ready and starts the processes of static pods. It runs no other pods.

pub mod credentials;
pub mod heartbeat;
pub mod node;
pub mod quantity;
pub mod settings;

use std::sync::Arc;

use anyhow::{Context, bail};

use super::host::{Disk, Host};
use super::static_pods;
use super::systemd::Service;
use heartbeat::Heartbeat;
use settings::{Flags, Settings};

/// Folders of unit files, the first that has a file wins.
const UNIT_FOLDERS: &[&str] = &["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];

/// The unit that images of this simulator carry: that of the kubeadm package, without a drop-in, so that user-data which
/// brings a unit of its own in /etc/systemd/system replaces it whole.
pub const IMAGE_UNIT: &str = r#"[Unit]
Description=kubelet
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
Restart=always
RestartSec=10
[Install]
WantedBy=multi-user.target
"#;

/// Runs the kubelet once: ends only when it cannot start. Dropping it is killing it.
pub async fn run(host: &Arc<Host>) -> anyhow::Result<()> {
    let settings = settings(&host.disk, &host.hostname)?;
    if let Some(folder) = &settings.static_pods {
        static_pods::start(host, folder)?;
    }
    let Some(kubeconfig) = &settings.kubeconfig else {
        host.say("kubelet: no --kubeconfig, so it runs alone and registers no node");
        return std::future::pending().await;
    };
    if settings.bootstrap_kubeconfig.is_none() && !host.disk.exists(kubeconfig) {
        bail!("{kubeconfig} does not exist and no --bootstrap-kubeconfig is given");
    }
    let client = credentials::client(host, &settings, kubeconfig).await;
    Heartbeat::new(host, &settings, &client).run().await;
    Ok(())
}

/// What the kubelet on this disk is told.
pub fn settings(disk: &Disk, hostname: &str) -> anyhow::Result<Settings> {
    let command = command(disk)?;
    let Some((program, words)) = command.split_first() else { bail!("the unit starts nothing") };
    if program.rsplit('/').next() != Some("kubelet") {
        bail!("the unit starts {program}, which is not installed on a simulated machine");
    }
    let flags = Flags::parse(words)?;
    let file = match flags.get("config") {
        Some(path) => Some(disk.read_needed(path)?),
        None => None,
    };
    Ok(Settings::read(&flags, file.as_deref(), hostname)?)
}

/// The command line of the kubelet's unit with its drop-ins and environment files.
fn command(disk: &Disk) -> anyhow::Result<Vec<String>> {
    let unit = UNIT_FOLDERS.iter().find_map(|folder| disk.read(&format!("{folder}/kubelet.service")));
    let mut service = Service::default();
    service.read(&unit.context("Unit kubelet.service not found")?)?;
    for path in drop_ins(disk) {
        service.read(&disk.read_needed(&path)?).with_context(|| path.clone())?;
    }
    let mut texts = Vec::new();
    for file in service.environment_files() {
        match disk.read(file.path) {
            Some(text) => texts.push(text),
            None if file.optional => {}
            None => bail!("EnvironmentFile {} does not exist", file.path),
        }
    }
    Ok(service.command(&texts)?)
}

/// Drop-ins in the order systemd reads them: by file name, and of one name only the first folder's.
fn drop_ins(disk: &Disk) -> Vec<String> {
    let mut by_name = std::collections::BTreeMap::new();
    for folder in UNIT_FOLDERS.iter().rev().map(|folder| format!("{folder}/kubelet.service.d")) {
        for name in disk.list(&folder, ".conf") {
            let path = format!("{folder}/{name}");
            by_name.insert(name, path);
        }
    }
    by_name.into_values().collect()
}

#[cfg(test)]
#[path = "kubelet_tests.rs"]
mod tests;
