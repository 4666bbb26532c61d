//! What this process wrote, until the watch brings it: without it the next call would count the past.

use rackwright_controllers::kubeio::{Kind, version};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Own writes of one kind, by UID.
pub struct Overlay<K>(Mutex<HashMap<String, Arc<K>>>);

impl<K> Default for Overlay<K> {
    fn default() -> Overlay<K> {
        Overlay(Mutex::default())
    }
}

impl<K: Kind> Overlay<K> {
    /// Remembers what was written.
    pub fn note(&self, written: K) {
        if let Some(uid) = written.meta().uid.clone() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, Arc::new(written));
        }
    }

    /// The newer of what a watch brought and what was written here. Once the watch is as new, the write is forgotten.
    pub fn newest(&self, seen: Arc<K>) -> Arc<K> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(uid) = seen.meta().uid.as_ref() else { return seen };
        let Some(own) = written.get(uid) else { return seen };
        if version(own.meta()) > version(seen.meta()) {
            return own.clone();
        }
        written.remove(uid);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rackwright_api::NodePool;
    use serde_json::json;

    fn pool(version: &str) -> NodePool {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "uid": "1", "resourceVersion": version },
            "spec": { "clusterName": "c", "version": "v1.36.3", "image": { "name": "i" }, "bootstrap": { "config": {} } },
        }))
        .expect("a pool")
    }

    #[test]
    fn an_own_write_is_seen_until_the_watch_has_caught_up() {
        let overlay = Overlay::default();
        overlay.note(pool("10"));
        let shown = |seen: &str| overlay.newest(Arc::new(pool(seen))).metadata.resource_version.clone();
        assert_eq!(shown("9").as_deref(), Some("10"));
        assert_eq!(shown("11").as_deref(), Some("11"));
        assert_eq!(shown("9").as_deref(), Some("9"), "forgotten");
    }
}
