//! What a kubelet writes to its cluster: the Node once, then conditions and the Lease, until it is stopped.
//!
//! A Node of the same name that is there already is kept, providerID and all, as the kubelet keeps it; a Node that
//! somebody deletes is not made again before the kubelet restarts.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{GetParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::node;
use super::settings::Settings;
use crate::os::host::Host;
use crate::os::retry;

/// One kubelet at work.
pub struct Heartbeat<'a> {
    host: &'a Host,
    settings: &'a Settings,
    nodes: Api<Node>,
    leases: Api<Lease>,
    boot_id: String,
}

impl<'a> Heartbeat<'a> {
    /// Acts with `client` as the node of `settings`.
    pub fn new(host: &'a Host, settings: &'a Settings, client: &kube::Client) -> Self {
        Self {
            host,
            settings,
            nodes: Api::all(client.clone()),
            leases: Api::namespaced(client.clone(), "kube-node-lease"),
            boot_id: hex::encode(rand::random::<[u8; 16]>()),
        }
    }

    /// Registers, then keeps the node alive. Never ends by itself.
    pub async fn run(&self) {
        if self.settings.register {
            retry::for_ever(self.host, "kubelet: cannot register the node", || self.register()).await;
        }
        tokio::join!(self.keep_lease(), self.keep_status());
    }

    fn name(&self) -> &str {
        &self.settings.node_name
    }

    fn address(&self) -> IpAddr {
        self.host.address
    }

    async fn register(&self) -> anyhow::Result<()> {
        let node = node::node(self.settings, &self.host.facts, self.address(), &self.boot_id, Timestamp::now());
        match self.nodes.create(&PostParams::default(), &node).await {
            Ok(_) => self.host.say(format!("kubelet: registered node {}", self.name())),
            Err(kube::Error::Api(status)) if status.is_already_exists() => self.take_over().await?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A Node of this name exists: its labels and status are set right, the rest is kept.
    async fn take_over(&self) -> anyhow::Result<()> {
        let existing = self.nodes.get(self.name()).await?;
        let provider_id = existing.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
        if provider_id != self.settings.provider_id.as_deref() {
            self.host.complain(format!(
                "kubelet: node {} exists with providerID {:?}, not {:?}; it is kept as it is",
                self.name(),
                provider_id.unwrap_or_default(),
                self.settings.provider_id.as_deref().unwrap_or_default(),
            ));
        }
        let labels = node::default_labels(self.settings, &self.host.facts);
        let has = existing.metadata.labels.unwrap_or_default();
        if labels.iter().any(|(key, value)| has.get(key) != Some(value)) {
            let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
            self.nodes.patch(self.name(), &PatchParams::default(), &patch).await?;
        }
        let before = existing.status.and_then(|status| status.conditions).unwrap_or_default();
        let status =
            node::status(self.settings, &self.host.facts, self.address(), &self.boot_id, &before, Timestamp::now());
        let patch = Patch::Strategic(json!({ "status": status }));
        self.nodes.patch_status(self.name(), &PatchParams::default(), &patch).await?;
        self.host.say(format!("kubelet: node {} was registered before", self.name()));
        Ok(())
    }

    /// Looks at the Node's conditions now and then, and writes them when they are wrong or old.
    async fn keep_status(&self) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(self.host.timing.status_check_interval.mul_f64(rand::random_range(0.96..1.04))).await;
            let failure = self.report().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
            if failure != said && !failure.is_empty() {
                self.host.complain(format!("kubelet: cannot update the status of node {}: {failure}", self.name()));
            }
            said = failure;
        }
    }

    async fn report(&self) -> anyhow::Result<()> {
        let node = self.nodes.get_with(self.name(), &GetParams::any()).await?;
        let now = Timestamp::now();
        if node::must_report(&node, self.host.timing.status_report_interval, now) {
            let before = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let patch = Patch::Strategic(json!({ "status": { "conditions": node::conditions(&before, now) } }));
            self.nodes.patch_status(self.name(), &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    /// Renews the Lease. A failed renewal is tried again soon, for the node is given up when it is too late.
    async fn keep_lease(&self) {
        let quarter = std::time::Duration::from_secs(1) * self.settings.lease_duration_seconds.unsigned_abs() / 4;
        let interval = self.host.timing.lease_interval.min(quarter);
        let mut wait = self.host.timing.retry_min;
        loop {
            match self.renew_lease().await {
                Ok(()) => {
                    wait = self.host.timing.retry_min;
                    tokio::time::sleep(interval.mul_f64(rand::random_range(0.96..1.04))).await;
                }
                Err(error) => {
                    self.host.complain(format!("kubelet: cannot renew the lease of node {}: {error:#}", self.name()));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(interval);
                }
            }
        }
    }

    async fn renew_lease(&self) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "spec": self.lease_spec() }));
        match self.leases.patch(self.name(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => self.create_lease().await,
            other => other.map(drop).map_err(Into::into),
        }
    }

    /// The Lease belongs to the Node, so none is made when that is not there (any more).
    async fn create_lease(&self) -> anyhow::Result<()> {
        let Some(node) = self.nodes.get_opt(self.name()).await? else { return Ok(()) };
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name().into(),
            uid: node.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        };
        let metadata =
            ObjectMeta { name: Some(self.name().into()), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(self.lease_spec()) };
        match self.leases.create(&PostParams::default(), &lease).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            other => other.map(drop).map_err(Into::into),
        }
    }

    fn lease_spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.name().into()),
            lease_duration_seconds: Some(self.settings.lease_duration_seconds),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }
    }
}
