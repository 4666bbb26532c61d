//! Our release in the hands of the real clusterctl and the real Cluster API, with contract validation on.

use anyhow::Result;
use rackwright_e2e::programs::{KUBERNETES_VERSION, RACKWRIGHT_VERSION};
use rackwright_e2e::{Bed, Level, Look, Narrator, Programs, objects};
use std::time::Duration;

async fn bed() -> Result<Bed> {
    Bed::start(Programs::from_env()?, Level::ClusterApi, Narrator::stdout()).await
}

/// What a user sets for our templates.
const VARIABLES: [(&str, &str); 2] = [("CONTROL_PLANE_ENDPOINT_HOST", "192.0.2.10"), ("OS_IMAGE", "debian-12")];

async fn generate(bed: &Bed, cluster: &str, flavor: &[&str]) -> Result<String> {
    let infrastructure = format!("rackwright:{RACKWRIGHT_VERSION}");
    let mut args = vec!["generate", "cluster", cluster, "--infrastructure", &infrastructure];
    args.extend(["--kubernetes-version", KUBERNETES_VERSION, "--target-namespace", "default"]);
    args.extend(["--worker-machine-count", "3"]);
    args.extend(flavor);
    bed.clusterctl.run(&args, &VARIABLES).await
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn init_installs_both_providers_as_they_are_in_the_release() -> Result<()> {
    let bed = bed().await?;

    let providers = bed.kubectl(&["get", "providers.clusterctl.cluster.x-k8s.io", "--all-namespaces"]).await?;

    for provider in ["infrastructure-rackwright", "bootstrap-rackwright"] {
        let line = providers.lines().find(|line| line.contains(provider)).unwrap_or_default();
        assert!(line.contains(RACKWRIGHT_VERSION), "{providers}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn both_templates_are_taken_by_cluster_api_and_shown_by_describe() -> Result<()> {
    let bed = bed().await?;
    // Core makes no workers before it has seen a control plane; without one, as in development, it makes them at once.
    for (flavor, shown) in [
        (&[][..], &["KubeadmControlPlane default/prod-control-plane", "RackwrightCluster default/prod"][..]),
        (&["--flavor", "development"], &["RackwrightCluster default/dev", "MachineDeployment default/dev-workers"]),
    ] {
        let cluster = if flavor.is_empty() { "prod" } else { "dev" };
        objects::apply_all(&bed.client(), &generate(&bed, cluster, flavor).await?).await?;

        bed.wait(&format!("clusterctl describe cluster {cluster}"), Duration::from_secs(60), async || {
            let tree = bed.clusterctl.run(&["describe", "cluster", cluster], &[]).await?;
            Ok(Look::when(shown.iter().all(|line| tree.contains(line)), tree))
        })
        .await?;
    }
    Ok(())
}
