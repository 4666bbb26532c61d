//! Machines without a cluster's control plane: their user-data is made by hand, so a story ends when the disk's own
//! system runs, and a deletion when the host is free again.

use super::bed::MetalBed;
use crate::objects;
use anyhow::Result;
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// Cluster of all of them.
const CLUSTER: &str = "handmade";
const CLUSTER_NAME_LABEL: &str = "cluster.x-k8s.io/cluster-name";

impl MetalBed {
    /// Makes what machines made by hand belong to, and their `user_data`.
    pub async fn prepare_machines(&self, user_data: &str) -> Result<()> {
        self.apply_json(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "user-data" },
            "stringData": { "value": user_data },
        }))
        .await?;
        self.apply_json(json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1", "kind": "RackwrightCluster",
            "metadata": { "name": CLUSTER },
            "spec": { "controlPlaneEndpoint": { "host": "192.0.2.1", "port": 6443 } },
        }))
        .await?;
        self.apply_json(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": { "name": CLUSTER },
            "spec": { "infrastructureRef": {
                "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "RackwrightCluster", "name": CLUSTER,
            } },
        }))
        .await
    }

    /// Makes a Machine `name` with the OSImage `image`; `wipe` is the policy when it goes.
    pub async fn create_machine(&self, name: &str, image: &str, wipe: &str) -> Result<()> {
        self.apply_json(json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1", "kind": "RackwrightMachine",
            "metadata": { "name": name, "labels": { CLUSTER_NAME_LABEL: CLUSTER } },
            "spec": { "image": { "name": image }, "wipe": { "policy": wipe } },
        }))
        .await?;
        self.apply_json(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
            "metadata": { "name": name, "labels": { CLUSTER_NAME_LABEL: CLUSTER } },
            "spec": {
                "clusterName": CLUSTER,
                "bootstrap": { "dataSecretName": "user-data" },
                "infrastructureRef": {
                    "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "RackwrightMachine", "name": name,
                },
            },
        }))
        .await
    }

    /// Deletes the Machine `name`, without waiting.
    pub async fn delete_machine(&self, name: &str) -> Result<()> {
        self.bed.kubectl(&["delete", "machine", name, "--wait=false"]).await.map(drop)
    }

    /// Applies one object.
    pub async fn apply_json(&self, object: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object)?;
        objects::apply(&self.bed.client(), &object).await.map(drop)
    }
}
