//! Flags of `rackwright manager`; each may be given as an environment variable instead.

use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of `rackwright manager`.
#[derive(Args, Clone, Debug)]
pub struct ManagerArgs {
    /// Which provider's reconcilers run in this process.
    #[arg(long, value_enum, default_value = "all", env = "RACKWRIGHT_CONTROLLERS")]
    pub controllers: Controllers,
    /// Kubeconfig of the management cluster; inside a cluster the pod's own account is used.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Watch this namespace only.
    #[arg(long, env = "RACKWRIGHT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Reconcile only Hosts, RackwrightMachines, RackwrightClusters and RackwrightConfigs whose label
    /// cluster.x-k8s.io/watch-filter has this value. Managers with different values share nothing but the boot key.
    #[arg(long, env = "RACKWRIGHT_WATCH_FILTER")]
    pub watch_filter: Option<String>,
    /// Wait for a Lease before doing anything, so that a standby can take over.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, env = "RACKWRIGHT_LEADER_ELECT")]
    pub leader_elect: bool,
    /// Namespace of the Lease and of the boot key Secret.
    #[arg(long, default_value = "rackwright-system", env = "POD_NAMESPACE")]
    pub own_namespace: String,
    /// Secret (NAMESPACE/NAME) with the key that media and tokens are made with; made when it does not exist.
    #[arg(long, default_value = "rackwright-system/rackwright-boot-key", env = "RACKWRIGHT_KEY_SECRET")]
    pub key_secret: String,
    /// Address of /healthz and /readyz.
    #[arg(long, default_value = "127.0.0.1:8081", env = "RACKWRIGHT_HEALTH_ADDR")]
    pub health_addr: SocketAddr,
    /// Address of /metrics.
    #[arg(long, default_value = "127.0.0.1:8080", env = "RACKWRIGHT_METRICS_ADDR")]
    pub metrics_addr: SocketAddr,
    /// Objects of one kind that are worked on at the same time.
    #[arg(long, default_value_t = 64, env = "RACKWRIGHT_CONCURRENCY")]
    pub concurrency: u16,
    /// Seconds that one try of an inspection, deployment or wipe may take. A wipe of every block has as much time more as the
    /// largest disk takes at 25 MB/s.
    #[arg(long, default_value_t = 1800, env = "RACKWRIGHT_OPERATION_SECONDS")]
    pub operation_seconds: u32,
    /// Seconds from "switch on" until the BMC must show it.
    #[arg(long, default_value_t = 180, env = "RACKWRIGHT_POWER_SECONDS")]
    pub power_seconds: u32,
    /// Seconds from the start of a host until its ramdisk must have called home.
    #[arg(long, default_value_t = 900, env = "RACKWRIGHT_CALL_HOME_SECONDS")]
    pub call_home_seconds: u32,
    /// Seconds without a word from an agent after which its host is begun anew; it is heard of every two minutes.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(60..), env = "RACKWRIGHT_AGENT_SILENCE_SECONDS")]
    pub agent_silence_seconds: u32,
    /// Seconds before an operation is tried again that failed for a reason a person must mend.
    #[arg(long, default_value_t = 300, env = "RACKWRIGHT_RETRY_SECONDS")]
    pub retry_seconds: u32,
    /// Milliseconds between two looks at a host on which something is being done.
    #[arg(long, default_value_t = 2000, env = "RACKWRIGHT_POLL_BUSY_MILLIS")]
    pub poll_busy_millis: u32,
    /// Seconds between two looks at a host on which nothing is being done.
    #[arg(long, default_value_t = 60, env = "RACKWRIGHT_POLL_IDLE_SECONDS")]
    pub poll_idle_seconds: u32,
    /// Seconds between two tries to reach a BMC that does not answer.
    #[arg(long, default_value_t = 30, env = "RACKWRIGHT_POLL_UNREACHABLE_SECONDS")]
    pub poll_unreachable_seconds: u32,
    /// Seconds after which a deleted machine goes although its host could not be wiped (the host stays out of use).
    #[arg(long, default_value_t = 7200, env = "RACKWRIGHT_RELEASE_SECONDS")]
    pub release_seconds: u32,
    /// Seconds that a join token lives; it is renewed when half of it is over, as long as its machine has no node.
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u32).range(60..), env = "RACKWRIGHT_JOIN_TOKEN_SECONDS")]
    pub join_token_seconds: u32,
}

/// Which reconcilers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Controllers {
    /// Both providers'.
    All,
    /// Hosts, RackwrightMachines, RackwrightClusters, places.
    Infrastructure,
    /// RackwrightConfigs.
    Bootstrap,
}
