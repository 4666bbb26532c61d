//! `rackwright autoscaler`: the service that cluster-autoscalers call, and what in their flags does not fit bare metal.
//!
//! The doctor looks at the Deployments of a workload cluster; the rules are [`rackwright_autoscaler::doctor`]'s. Changes nothing.

use crate::output::{Absent, Output};
use anyhow::Context;
use clap::{Args, Subcommand};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, ListParams};
use rackwright_api::HostHardware;
use rackwright_autoscaler::doctor::{Size, check};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// What is done for cluster-autoscalers, or asked about them.
#[derive(Subcommand)]
pub enum AutoscalerCommand {
    /// Run the service that cluster-autoscalers call (`--cloud-provider=externalgrpc`).
    Serve(Box<rackwright_autoscaler::AutoscalerArgs>),
    /// Check the flags of a workload cluster's autoscaler. Exit code 1: something is to be changed.
    Doctor(DoctorArgs),
}

/// Where to look.
#[derive(Args)]
pub struct DoctorArgs {
    /// Kubeconfig of the workload cluster.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the management cluster: limits are compared with all hosts that were inspected there.
    #[arg(long)]
    inventory_kubeconfig: Option<PathBuf>,
    /// Text for people, or JSON or YAML for scripts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// One thing to change.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Advice {
    about: String,
    advice: String,
}

/// Serves, or prints what is to be changed.
pub async fn run(command: AutoscalerCommand, shutdown: CancellationToken) -> anyhow::Result<()> {
    match command {
        AutoscalerCommand::Serve(args) => rackwright_autoscaler::run(*args, shutdown).await,
        AutoscalerCommand::Doctor(args) => doctor(args).await,
    }
}

async fn doctor(args: DoctorArgs) -> anyhow::Result<()> {
    let client = client(args.kubeconfig.as_deref()).await?;
    let deployments = Api::<Deployment>::all(client).list(&ListParams::default()).await?.items;
    let (commands, images) = autoscalers(&deployments);
    if commands.is_empty() {
        return Err(Absent(
            "no Deployment of this cluster runs cluster-autoscaler; is it the workload cluster?".into(),
        )
        .into());
    }
    let size = match &args.inventory_kubeconfig {
        Some(path) => size(path).await?,
        None => Size::default(),
    };
    let advice: Vec<_> = (check(&commands, &images, size).into_iter())
        .map(|finding| Advice { about: finding.about, advice: finding.advice })
        .collect();
    print!("{}", args.output.of(&advice, |all| text(all))?);
    anyhow::ensure!(advice.is_empty(), "{} to be changed", advice.len());
    Ok(())
}

async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    rackwright_controllers::manager::client_for(kubeconfig).await.context("set --kubeconfig")
}

async fn size(kubeconfig: &Path) -> anyhow::Result<Size> {
    let hardware = Api::<HostHardware>::all(client(Some(kubeconfig)).await?).list(&ListParams::default()).await?;
    let facts = || hardware.items.iter().map(|found| &found.spec.facts);
    Ok(Size {
        cores: facts().map(|facts| u64::try_from(facts.cpu.threads).unwrap_or_default()).sum(),
        memory_gib: facts().map(|facts| u64::try_from(facts.memory_mib / 1024).unwrap_or_default()).sum(),
    })
}

/// Command and arguments of every container that runs cluster-autoscaler, and their images.
fn autoscalers(deployments: &[Deployment]) -> (Vec<Vec<String>>, Vec<String>) {
    let containers =
        deployments.iter().filter_map(|found| Some(&found.spec.as_ref()?.template.spec.as_ref()?.containers));
    let is_one = |text: &String| text.contains("cluster-autoscaler");
    containers
        .flatten()
        .filter_map(|container| {
            let image = container.image.clone().unwrap_or_default();
            let mut command = container.command.clone().unwrap_or_default();
            let found = is_one(&image) || command.first().is_some_and(is_one);
            command.extend(container.args.clone().unwrap_or_default());
            found.then_some((command, image))
        })
        .unzip()
}

fn text(advice: &[Advice]) -> String {
    if advice.is_empty() {
        return "cluster-autoscaler's flags fit\n".into();
    }
    let mut text = String::new();
    for Advice { about, advice } in advice {
        let _ = writeln!(text, "{about} {advice}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_containers_that_run_cluster_autoscaler_are_looked_at() {
        let deployment = |image: &str, command: serde_json::Value| {
            let spec = json!({
                "selector": {},
                "template": { "spec": { "containers": [{ "name": "c", "image": image, "command": command, "args": ["--v=4"] }] } },
            });
            let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": spec });
            serde_json::from_value::<Deployment>(deployment).expect("a Deployment")
        };
        let all = [
            deployment("registry.example/coredns:1", json!(["/coredns"])),
            deployment("registry.example/cluster-autoscaler:v1.36.1", json!(["./cluster-autoscaler"])),
        ];
        let (commands, images) = autoscalers(&all);
        assert_eq!(commands, [["./cluster-autoscaler", "--v=4"]]);
        assert_eq!(images, ["registry.example/cluster-autoscaler:v1.36.1"]);
    }

    #[test]
    fn the_deployment_that_we_ship_has_nothing_to_be_changed() {
        let shipped = include_str!("../../config/samples/cluster-autoscaler.yaml");
        let deployments: Vec<Deployment> = shipped
            .split("\n---\n")
            .filter(|part| part.contains("kind: Deployment"))
            .map(|part| serde_saphyr::from_str(part).expect("a Deployment"))
            .collect();
        let (commands, images) = autoscalers(&deployments);
        assert_eq!((commands.len(), check(&commands, &images, Size::default())), (1, vec![]));
    }
}
