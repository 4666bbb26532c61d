//! The operating system of a simulated machine.
//!
//! Driven only by what the machine's config drive holds: the user-data is read as cloud-init reads it, its files are
//! written under a private root folder, and its commands do what they say there. So a worker joins a cluster because its
//! user-data is right, and for no other reason: nothing here knows which cluster, Machine or bootstrap provider it serves.
//! It never writes outside the root folder, and when the power goes no process of it and no request of it is left.

mod boot;
pub mod cloud_config;
mod commands;
mod host;
mod kubeadm;
mod kubeconfig;
mod kubelet;
mod process;
mod retry;
mod service;
pub mod shell;
mod static_pods;
mod sysctl;
mod systemd;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rackwright_protocol::facts::Facts;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// What one boot of the operating system starts from.
#[derive(Clone)]
pub struct OsInput {
    /// Private folder of this host: its disk. What lies there outlives a power cycle; wiping the disk is removing it.
    pub root: PathBuf,
    /// `user-data` of the config drive, byte for byte.
    pub user_data: String,
    /// `meta-data` of the config drive (JSON or YAML).
    pub meta_data: String,
    /// Address of the host.
    pub address: IpAddr,
    /// The host's hardware: what the kubelet reports as capacity.
    pub facts: Facts,
    /// Folder with `etcd`, `kube-apiserver`, `kube-controller-manager` and `kubeadm`; only a control-plane host needs it.
    pub programs: Option<PathBuf>,
    /// Pace of everything that repeats.
    pub timing: OsTiming,
}

/// Pace of a simulated operating system. Defaults are the kubelet's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OsTiming {
    /// How often the node's Lease is renewed.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub lease_interval: Duration,
    /// How often the node's status is looked at, and written when it is not what it should be.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub status_check_interval: Duration,
    /// How old a heartbeat in the status may become when nothing else changed.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub status_report_interval: Duration,
    /// First wait after a failed request; doubled up to `retry_max`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retry_min: Duration,
    /// Longest wait after a failed request.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub retry_max: Duration,
}

impl Default for OsTiming {
    fn default() -> Self {
        Self {
            lease_interval: Duration::from_secs(10),
            status_check_interval: Duration::from_secs(10),
            status_report_interval: Duration::from_secs(300),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(15),
        }
    }
}

/// Runs the operating system until the power goes (`power` cancelled); when it returns no process of it is left.
///
/// Bad user-data does not end it early: the fault stands on the console (`/var/log/console.log` of the root folder) and in
/// our log, and the host idles until the power goes. An error means that the root folder itself could not be used.
pub async fn run(input: OsInput, power: CancellationToken) -> anyhow::Result<()> {
    // A caller that drops us pulls the plug as well.
    let power = power.child_token();
    let _plug = power.clone().drop_guard();
    let (host, config) = boot::prepare(input, power.clone())?;
    power.run_until_cancelled(boot::boot(&host, config)).await;
    power.cancelled().await;
    host.tasks.close();
    host.tasks.wait().await;
    host.say("power off");
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::host::{Disk, Host};
    use super::*;

    /// A host that runs nothing, on a disk of its own.
    pub(crate) fn host() -> (tempfile::TempDir, Arc<Host>) {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(folder.path()).expect("a disk");
        for path in ["/etc", "/run", "/var/log"] {
            disk.make_folder(path).expect("a folder");
        }
        let host = Host {
            disk,
            hostname: "node-1".into(),
            address: IpAddr::from([127, 0, 0, 1]),
            facts: Facts::default(),
            programs: None,
            timing: OsTiming::default(),
            power: CancellationToken::new(),
            tasks: tokio_util::task::TaskTracker::new(),
            kubelet: service::Kubelet::default(),
            static_pods: std::sync::Mutex::new(Vec::new()),
        };
        (folder, Arc::new(host))
    }

    #[test]
    fn timing_is_written_as_people_write_durations() {
        let timing: OsTiming = serde_json::from_str(r#"{"leaseInterval":"2s"}"#).expect("readable");
        assert_eq!(timing, OsTiming { lease_interval: Duration::from_secs(2), ..OsTiming::default() });
    }
}
