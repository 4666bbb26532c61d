//! Flags of `rackwright boot`; each can be given in the environment.

use crate::reports::KeepLogs;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Serves boot media, plans and reports to hosts.
#[derive(Args, Clone, Debug)]
pub struct BootArgs {
    /// Address and port to listen on, for hosts and their BMCs.
    #[arg(long, env = "RACKWRIGHT_BOOT_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Certificate chain of this service, PEM. Read again when the file changes.
    #[arg(long, env = "RACKWRIGHT_BOOT_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Private key of that certificate, PEM.
    #[arg(long, env = "RACKWRIGHT_BOOT_TLS_PRIVATE_KEY_FILE", value_name = "FILE")]
    pub tls_private_key_file: PathBuf,
    /// Authorities that agents shall trust for this service, PEM; and no others.
    #[arg(long, env = "RACKWRIGHT_BOOT_CA_FILE", value_name = "FILE")]
    pub ca_file: PathBuf,
    /// Secret with the key that tokens are derived from, under `key`.
    #[arg(
        long,
        env = "RACKWRIGHT_BOOT_KEY_SECRET",
        value_name = "NAMESPACE/NAME",
        default_value = "rackwright-system/rackwright-boot-key"
    )]
    pub key_secret: String,
    /// Serve only the hosts of this namespace. Default: of all.
    #[arg(long, env = "RACKWRIGHT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Folder that `cargo xtask ramdisk` made, or one ISO or UEFI image of it. Default: just the part of it that is a
    /// host's own, which only simulated machines can boot.
    #[arg(long, env = "RACKWRIGHT_BOOT_RAMDISK", value_name = "FOLDER")]
    pub ramdisk: Option<PathBuf>,
    /// How long open calls may go on after a request to stop.
    #[arg(long, env = "RACKWRIGHT_BOOT_GRACE", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub grace: Duration,
    /// Shortest time between two writes of one host's progress.
    #[arg(long, env = "RACKWRIGHT_BOOT_PROGRESS", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub progress_interval: Duration,
    /// Of which operations the agent's log is kept, in a ConfigMap beside the Host: one write for each.
    #[arg(long, env = "RACKWRIGHT_BOOT_KEEP_LOGS", value_enum, default_value = "failures")]
    pub keep_logs: KeepLogs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())
}
