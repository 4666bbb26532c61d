//! Work queues: who is told of what, and when to begin.
//!
//! While a process stands by nothing is queued; when it becomes the leader everything that the caches hold is.

use crate::kubeio::Kind;
use futures::Stream;
use kube::runtime::reflector::{ObjectRef, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Opens all queues of a process at once.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Lets work in from now on.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Objects of one kind that are to be looked at.
pub struct Queue<K: Kind> {
    gate: Gate,
    sender: mpsc::UnboundedSender<ObjectRef<K>>,
}

impl<K: Kind> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue { gate: self.gate.clone(), sender: self.sender.clone() }
    }
}

impl<K: Kind> Queue<K> {
    /// A queue behind `gate`, and its other end.
    pub fn new(gate: &Gate) -> (Queue<K>, impl Stream<Item = ObjectRef<K>> + Send + 'static) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        (Queue { gate: gate.clone(), sender }, stream)
    }

    /// The object of this name is to be looked at.
    pub fn add(&self, namespace: &str, name: &str) {
        if self.gate.0.load(Ordering::Acquire) {
            let _ = self.sender.send(ObjectRef::new(name).within(namespace)); // nobody listens: the process is ending
        }
    }

    /// `object` is to be looked at.
    pub fn add_object(&self, object: &K) {
        self.add(
            object.meta().namespace.as_deref().unwrap_or_default(),
            object.meta().name.as_deref().unwrap_or_default(),
        );
    }

    /// Every object in `store` for which `wanted` holds is to be looked at.
    pub fn add_which(&self, store: &Store<K>, wanted: impl Fn(&K) -> bool) {
        store.state_filter(|object| wanted(object)).iter().for_each(|object| self.add_object(object));
    }
}
