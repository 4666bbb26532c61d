//! `rackwright sim`: a fleet as a process.

use crate::admin;
use crate::config::FleetConfig;
use crate::fleet::{Fleet, HostEntry};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Run racks of machines that do not exist.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// What the fleet looks like, YAML.
    #[arg(long, env = "RACKWRIGHT_SIM_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Port on 127.0.0.1 for faults and for the truth about the machines; 0: a free one.
    #[arg(long, env = "RACKWRIGHT_SIM_ADMIN_PORT", default_value_t = 0)]
    pub admin_port: u16,
}

/// What is printed when all BMCs answer: one JSON object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inventory {
    /// PEM file of the authority that vouches for every BMC.
    ca_file: PathBuf,
    /// Where faults are switched.
    admin: String,
    hosts: Vec<HostEntry>,
}

/// Starts the fleet, prints its inventory on standard output, and runs until `stop`.
///
/// # Errors
/// A file that cannot be read or makes no sense, a port that is taken, a state folder that cannot be written.
pub async fn run(args: SimArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let file = args.config.display();
    let text = tokio::fs::read_to_string(&args.config).await.with_context(|| format!("reading {file}"))?;
    let config: FleetConfig = serde_saphyr::from_str(&text).with_context(|| format!("reading {file}"))?;
    let ca_file = config.state_dir.join("ca.crt");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.admin_port)).await.context("the admin port")?;
    let admin = format!("http://{}", listener.local_addr()?);

    let fleet = Arc::new(Fleet::start(config).await?);
    tokio::fs::write(&ca_file, fleet.ca_pem()).await.with_context(|| format!("writing {}", ca_file.display()))?;
    let inventory = Inventory { ca_file: std::path::absolute(ca_file)?, admin, hosts: fleet.hosts() };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&inventory)?)?;
    out.flush()?;
    drop(out);

    let served = admin::serve(fleet.clone(), listener, stop).await;
    fleet.shutdown().await;
    Ok(served?)
}
