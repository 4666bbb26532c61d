//! Events: what happened to an object, for people who look at it.

use crate::kubeio::Kind;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Publishes events. One that cannot be published is logged and forgotten: nothing rests on them.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Events that `controller` reports.
    pub fn new(client: Client, controller: &str) -> Events {
        Events(Recorder::new(client, Reporter { controller: controller.into(), instance: None }))
    }

    /// Something ordinary happened to `object`.
    pub async fn normal<K: Kind>(&self, object: &K, reason: &str, note: String) {
        self.publish(object, EventType::Normal, reason, note).await;
    }

    /// Something happened to `object` that a person should know of.
    pub async fn warning<K: Kind>(&self, object: &K, reason: &str, note: String) {
        self.publish(object, EventType::Warning, reason, note).await;
    }

    async fn publish<K: Kind>(&self, object: &K, type_: EventType, reason: &str, note: String) {
        let event = Event { type_, reason: reason.into(), note: Some(note), action: reason.into(), secondary: None };
        if let Err(why) = self.0.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(reason, %why, "event not published");
        }
    }
}
