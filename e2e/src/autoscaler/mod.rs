//! `rackwright autoscaler serve` on a bed, and who calls it: a stand-in that asks as the real cluster-autoscaler does.

mod rules;
mod show;
mod stand_in;

pub use show::show;
pub use stand_in::{Did, StandIn};

use crate::accounts;
use crate::bed::Bed;
use crate::cluster::Cluster;
use crate::network::Port;
use crate::programs::KUBERNETES_VERSION;
use crate::racks::{NAMESPACE, OS_IMAGE};
use crate::services::Service;
use anyhow::{Context, Result};
use rackwright_api::NodePool;
use rackwright_autoscaler::wire::cloud_provider_client::CloudProviderClient;
use serde_json::{Value, json};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How patient the service is with simulated machines: seconds.
const QUICK: [&str; 2] = ["--image-seconds=150", "--node-seconds=60"];

/// A NodePool of `cluster` that joins its nodes by our own config, with `extra` fields in its spec.
pub fn pool(cluster: &str, name: &str, extra: Value) -> Result<NodePool> {
    let mut spec = json!({
        "clusterName": cluster, "version": KUBERNETES_VERSION,
        "image": { "name": OS_IMAGE }, "bootstrap": { "config": { "join": "Kubelet" } },
        "deletion": { "nodeDrainTimeoutSeconds": 10 },
    });
    if let (Value::Object(spec), Value::Object(extra)) = (&mut spec, extra) {
        spec.extend(extra);
    }
    Ok(NodePool::new(name, serde_json::from_value(spec)?))
}

impl Bed {
    /// Starts the service and waits until it is ready.
    pub async fn start_autoscaler(&self) -> Result<Service> {
        let pki = self.folder().join("pki");
        let (certificate, key) =
            self.plane.authority.server(&[self.network.management()])?.write(&pki, "autoscaler")?;
        let health = self.network.at(Port::AutoscalerHealth);
        let mut args: Vec<String> = vec![
            "autoscaler".into(),
            "serve".into(),
            format!("--listen={}", self.network.at(Port::Autoscaler)),
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-private-key-file={}", key.display()),
            format!("--client-ca-file={}", pki.join("ca.crt").display()),
            format!("--health-addr={health}"),
            format!("--metrics-addr={}", self.network.at(Port::AutoscalerMetrics)),
        ];
        args.extend(QUICK.map(str::to_owned));
        let health = format!("http://{health}/readyz");
        let mut service = self.service("rackwright-autoscaler", accounts::AUTOSCALER, args, health).await?;
        service.start()?;
        service.ready().await?;
        Ok(service)
    }

    /// A connection to the service with a certificate that names `clusters`; with none of them, without a certificate.
    pub async fn call_autoscaler(&self, clusters: &[&str]) -> Result<CloudProviderClient<Channel>> {
        let ca = Certificate::from_pem(self.plane.authority.pem());
        let mut tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
        if !clusters.is_empty() {
            let names = clusters.iter().map(|name| format!("{name}.{NAMESPACE}.autoscaler.rackwright.dev")).collect();
            let own = self.plane.authority.client_named(names)?;
            tls = tls.identity(Identity::from_pem(own.pem, own.key_pem));
        }
        let url = format!("https://{}", self.network.at(Port::Autoscaler));
        let channel = Endpoint::from_shared(url)?.tls_config(tls)?.connect_lazy();
        Ok(CloudProviderClient::new(channel))
    }

    /// A stand-in for the cluster-autoscaler of `cluster`.
    pub async fn stand_in(&self, cluster: &Cluster) -> Result<StandIn> {
        let client = self.call_autoscaler(&[&cluster.name]).await?;
        let workload = self.workload(cluster).await.context("the workload cluster does not answer")?;
        Ok(StandIn::new(client, workload))
    }
}
