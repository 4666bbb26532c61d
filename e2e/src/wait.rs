//! Waiting: for what, how long, what was seen last, and, when it does not come, the state of everything that matters.

use crate::bed::Bed;
use anyhow::{Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// What a look at the world says about something that is awaited.
pub enum Look<T> {
    /// It is there.
    Seen(T),
    /// It is not there yet; what is there instead, for the error.
    NotYet(String),
}

impl Look<()> {
    /// Seen when `holds`.
    pub fn when(holds: bool, otherwise: impl Into<String>) -> Look<()> {
        if holds { Look::Seen(()) } else { Look::NotYet(otherwise.into()) }
    }
}

/// Objects that an error report shows, in this order: from what people asked for down to the hardware.
const SHOWN: [(&str, &str, &str, &str); 10] = [
    ("cluster.x-k8s.io", "v1beta2", "Cluster", "clusters"),
    ("infrastructure.cluster.x-k8s.io", "v1alpha1", "RackwrightCluster", "rackwrightclusters"),
    ("cluster.x-k8s.io", "v1beta2", "MachineDeployment", "machinedeployments"),
    ("cluster.x-k8s.io", "v1beta2", "MachineHealthCheck", "machinehealthchecks"),
    ("cluster.x-k8s.io", "v1beta2", "Machine", "machines"),
    ("bootstrap.cluster.x-k8s.io", "v1beta2", "KubeadmConfig", "kubeadmconfigs"),
    ("bootstrap.cluster.x-k8s.io", "v1alpha1", "RackwrightConfig", "rackwrightconfigs"),
    ("infrastructure.cluster.x-k8s.io", "v1alpha1", "RackwrightMachine", "rackwrightmachines"),
    ("rackwright.dev", "v1alpha1", "Rack", "racks"),
    ("rackwright.dev", "v1alpha1", "Host", "hosts"),
];

impl Bed {
    /// Waits until `look` sees `what`. An error of `look` counts as "not yet": a control plane that is starting gives
    /// many. After `within` it fails with what was seen last and the conditions of every object of ours.
    pub async fn wait<T>(&self, what: &str, within: Duration, look: impl AsyncFn() -> Result<Look<T>>) -> Result<T> {
        let begun = Instant::now();
        loop {
            let instead = match look().await {
                Ok(Look::Seen(seen)) => return Ok(seen),
                Ok(Look::NotYet(instead)) => instead,
                Err(why) => format!("{why:#}"),
            };
            if begun.elapsed() > within {
                self.keep_folder();
                bail!("waited {} s for: {what}\nlast seen: {instead}\n\n{}", within.as_secs(), self.report().await);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// What every object of interest says about itself, as text.
    pub async fn report(&self) -> String {
        let mut text = String::new();
        for (group, version, kind, plural) in SHOWN {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api = Api::<DynamicObject>::all_with(self.client(), &resource);
            let Ok(objects) = api.list(&ListParams::default()).await else { continue };
            for object in objects {
                describe(&mut text, kind, &object);
            }
        }
        text
    }
}

fn describe(text: &mut String, kind: &str, object: &DynamicObject) {
    let status = &object.data["status"];
    let _ = write!(text, "{kind} {}", object.name_any()); // writing to a String cannot fail
    for field in ["phase", "power", "waitingFor"] {
        if let Some(value) = status[field].as_str() {
            let _ = write!(text, "  {field}: {value}");
        }
    }
    if object.metadata.deletion_timestamp.is_some() {
        let _ = write!(text, "  being deleted, finalizers: {}", object.finalizers().join(" "));
    }
    text.push('\n');
    let conditions = serde_json::from_value::<Vec<Condition>>(status["conditions"].clone()).unwrap_or_default();
    for condition in conditions {
        let Condition { type_, status, reason, message, .. } = condition;
        let _ = writeln!(text, "    {type_}={status} {reason} {}", message.replace('\n', " | "));
    }
}
