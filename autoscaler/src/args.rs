//! Flags of `rackwright autoscaler serve`; each may be given as an environment variable instead.

use crate::store::ClusterKey;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of `rackwright autoscaler serve`.
#[derive(Args, Clone, Debug)]
pub struct AutoscalerArgs {
    /// Kubeconfig of the management cluster; inside a cluster the pod's own account is used.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Watch this namespace only.
    #[arg(long, env = "RACKWRIGHT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where cluster-autoscalers call. With NAMESPACE/CLUSTER= in front, whoever calls there speaks for that workload
    /// cluster; without, the client's certificate says which: its DNS name CLUSTER.NAMESPACE.autoscaler.rackwright.dev.
    #[arg(
        long,
        env = "RACKWRIGHT_AUTOSCALER_LISTEN",
        value_name = "[NAMESPACE/CLUSTER=]ADDRESS:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8086"
    )]
    pub listen: Vec<Listen>,
    /// Certificate chain of this service, PEM. It is read again when it changes.
    #[arg(
        long,
        env = "RACKWRIGHT_AUTOSCALER_TLS_CERT_FILE",
        value_name = "FILE",
        required_unless_present = "plaintext"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(
        long,
        env = "RACKWRIGHT_AUTOSCALER_TLS_PRIVATE_KEY_FILE",
        value_name = "FILE",
        required_unless_present = "plaintext"
    )]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authorities whose certificates cluster-autoscalers must show, PEM.
    #[arg(
        long,
        env = "RACKWRIGHT_AUTOSCALER_CLIENT_CA_FILE",
        value_name = "FILE",
        required_unless_present = "plaintext"
    )]
    pub client_ca_file: Option<PathBuf>,
    /// No TLS, and whoever can reach the port may grow and shrink the cluster: only on loopback addresses with a cluster in
    /// front, for a cluster-autoscaler in the same pod.
    #[arg(long, conflicts_with_all = ["tls_cert_file", "tls_private_key_file", "client_ca_file"])]
    pub plaintext: bool,
    /// Seconds from the hold on a host until its image must be on its disk; then the autoscaler is told to try elsewhere.
    /// Must be below its --max-node-provision-time.
    #[arg(long, default_value_t = 1800, env = "RACKWRIGHT_AUTOSCALER_IMAGE_SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub image_seconds: u32,
    /// Seconds from then until its node must have registered.
    #[arg(long, default_value_t = 900, env = "RACKWRIGHT_AUTOSCALER_NODE_SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub node_seconds: u32,
    /// Address of /healthz and /readyz.
    #[arg(long, default_value = "127.0.0.1:8083", env = "RACKWRIGHT_HEALTH_ADDR")]
    pub health_addr: SocketAddr,
    /// Address of /metrics.
    #[arg(long, default_value = "127.0.0.1:8082", env = "RACKWRIGHT_METRICS_ADDR")]
    pub metrics_addr: SocketAddr,
}

/// One place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Whose autoscaler calls there; absent: the client's certificate says.
    pub cluster: Option<ClusterKey>,
    /// Where.
    pub address: SocketAddr,
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let (cluster, address) = match text.split_once('=') {
            Some((cluster, address)) => (Some(cluster.parse()?), address),
            None => (None, text),
        };
        let address = address.parse().map_err(|_| format!("{address:?} is not ADDRESS:PORT"))?;
        Ok(Listen { cluster, address })
    }
}

impl AutoscalerArgs {
    /// What cannot be meant, as a sentence.
    pub fn problem(&self) -> Option<String> {
        let open = self.listen.iter().find(|listen| !listen.address.ip().is_loopback() || listen.cluster.is_none());
        let text = |listen: &Listen| {
            format!(
                "--plaintext with --listen {}: only NAMESPACE/CLUSTER= and a loopback address will do without TLS",
                listen.address
            )
        };
        open.filter(|_| self.plaintext).map(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: AutoscalerArgs,
    }

    fn parse(args: &[&str]) -> Result<AutoscalerArgs, clap::Error> {
        Command::try_parse_from([&["autoscaler"], args].concat()).map(|command| command.args)
    }

    #[test]
    fn tls_is_asked_for_unless_it_is_waived_and_waived_only_on_loopback() {
        assert!(parse(&[]).is_err(), "no certificate");
        let problem = |listen: &str| parse(&["--plaintext", "--listen", listen]).expect("parses").problem();
        assert_eq!(problem("metal/prod=127.0.0.1:8086"), None);
        assert!(problem("127.0.0.1:8086").is_some());
        assert!(problem("metal/prod=0.0.0.0:8086").is_some());
        let tls = ["--tls-cert-file=c", "--tls-private-key-file=k", "--client-ca-file=a"];
        assert_eq!(parse(&[&tls[..], &["--listen=0.0.0.0:1"]].concat()).expect("parses").problem(), None);
        assert!(parse(&[&tls[..], &["--plaintext"]].concat()).is_err());
    }

    #[test]
    fn a_place_to_listen_may_name_a_cluster() {
        let all = parse(&["--plaintext", "--listen=a/b=127.0.0.1:1,c/d=[::1]:2"]).expect("parses").listen;
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].cluster.as_ref().map(ToString::to_string).as_deref(), Some("c/d"));
        assert!("a=127.0.0.1:1".parse::<Listen>().is_err());
        assert!("a/b=127.0.0.1".parse::<Listen>().is_err());
    }
}
