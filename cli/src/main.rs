//! The `rackwright` command: the processes of the product, and what a person asks of it.
//!
//! Thin: parses, calls, prints, and turns the result into an exit code: 0 done, 1 failed, 2 wrong use, 3 what was asked
//! about is not there. Under the name `kubectl-rackwright` it is a plugin: `kubectl rackwright timeline HOST`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to a person")]

mod access;
mod autoscaler;
#[cfg(test)]
mod fixture;
mod logs;
mod output;
mod probe;
mod rollout;
mod timeline;
mod tree;
mod why;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::path::Path;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Cluster API for bare metal: claims, powers, images, heals and retires physical hosts.
#[derive(Parser)]
#[command(
    name = "rackwright",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong use, 3 what was asked about is not there."
)]
struct Arguments {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "RACKWRIGHT_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How log lines look. What is logged: RUST_LOG, for example `info,rackwright_controllers=debug`.
#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run the reconcilers.
    Manager(rackwright_controllers::ManagerArgs),
    /// Run the service that hosts boot from and report to.
    Boot(rackwright_boot::BootArgs),
    /// Run racks of machines that do not exist.
    Sim(rackwright_simulator::args::SimArgs),
    /// Draw regions, datacenters, racks and hosts.
    Tree(tree::TreeArgs),
    /// Tell what happened to a host or machine, when, how long it took, and what it waits for.
    Timeline(timeline::TimelineArgs),
    /// Show what the agent on a host said in its last operation whose log was kept.
    Logs(logs::LogsArgs),
    /// Tell which hosts serve a node pool, and why the others do not.
    Why(why::WhyArgs),
    /// Tell where a node pool's rollout stands, stop it, let it go on, or take it back.
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Serve cluster-autoscalers, or ask about them.
    #[command(subcommand)]
    Autoscaler(autoscaler::AutoscalerCommand),
    /// Look at one BMC, without Kubernetes.
    #[command(subcommand)]
    Bmc(BmcCommand),
}

#[derive(Subcommand)]
enum BmcCommand {
    /// Tell whether the machine behind a BMC can be onboarded.
    Probe(probe::ProbeArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let program = std::env::args().next().unwrap_or_default();
    let matches = Arguments::command().bin_name(called_as(&program)).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|why| why.exit());
    log(arguments.log_format);
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::warn!("another TLS provider was installed first");
    }
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    let done = match arguments.command {
        Command::Manager(args) => rackwright_controllers::manager::run(args, shutdown).await,
        Command::Boot(args) => rackwright_boot::run(args, shutdown).await,
        Command::Sim(args) => rackwright_simulator::args::run(args, shutdown).await,
        Command::Tree(args) => tree::run(args).await,
        Command::Timeline(args) => timeline::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Autoscaler(command) => autoscaler::run(command, shutdown).await,
        Command::Why(args) => why::run(args).await,
        Command::Rollout(command) => rollout::run(command).await,
        Command::Bmc(BmcCommand::Probe(args)) => probe::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("rackwright: {why:#}");
            if why.is::<output::Absent>() { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

/// What help texts call this program: kubectl runs a plugin by its file name.
fn called_as(program: &str) -> &'static str {
    match Path::new(program).file_stem().and_then(|name| name.to_str()) {
        Some("kubectl-rackwright") => "kubectl rackwright",
        _ => "rackwright",
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match format {
        LogFormat::Text => lines.with_ansi(colours).init(),
        LogFormat::Json => lines.json().init(),
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(why) => return tracing::error!(%why, "no signal handler: only SIGKILL stops this process"),
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    shutdown.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_plugin_speaks_of_itself_as_kubectl_does() {
        assert_eq!(called_as("/usr/local/bin/kubectl-rackwright"), "kubectl rackwright");
        assert_eq!(called_as("rackwright"), "rackwright");
        let help = Arguments::command().bin_name("kubectl rackwright").render_help().to_string();
        assert!(help.contains("Usage: kubectl rackwright"), "{help}");
    }
}
