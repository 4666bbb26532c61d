//! `rackwright bmc probe ADDRESS`: can this machine be onboarded, and what would be done.

use anyhow::Context;
use clap::Args;
use rackwright_bmc::redfish::RedfishConfig;
use rackwright_bmc::{Access, Trust};
use std::path::PathBuf;
use url::Url;

/// Looks at one BMC.
#[derive(Args)]
pub struct ProbeArgs {
    /// `https://10.1.1.7`
    address: Url,
    /// Account.
    #[arg(long, short, env = "RACKWRIGHT_BMC_USERNAME")]
    username: String,
    /// Its password; better given in the environment than on the command line.
    #[arg(long, env = "RACKWRIGHT_BMC_PASSWORD", hide_env_values = true)]
    password: String,
    /// Authorities to trust, PEM.
    #[arg(long, conflicts_with = "pin")]
    ca_file: Option<PathBuf>,
    /// SHA-256 of the BMC's certificate, 64 hex digits.
    #[arg(long)]
    pin: Option<String>,
}

/// Prints what was found, as JSON.
pub async fn run(args: ProbeArgs) -> anyhow::Result<()> {
    let trust = match (args.ca_file, args.pin) {
        (Some(file), _) => {
            Trust::Ca(std::fs::read_to_string(&file).with_context(|| format!("--ca-file {}", file.display()))?)
        }
        (None, Some(pin)) => Trust::Pin(pin.to_lowercase()),
        (None, None) => Trust::System,
    };
    let access = Access { address: args.address, username: args.username, password: args.password.into(), trust };
    let report = rackwright_bmc::probe::probe(&access, RedfishConfig::default()).await;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
