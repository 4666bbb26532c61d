//! How much goes out at once: transfers per rack and in total, and bytes a second. Who has to wait waits in a queue in
//! which the rack that gets the least comes first; when that is too long he is told to come again.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A pause of bytes that is made up for: the pace is even over this time.
const BURST: Duration = Duration::from_millis(100);

/// The limits.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Transfers to the hosts of one rack.
    pub per_rack: usize,
    /// Transfers to all.
    pub total: usize,
    /// How many may wait.
    pub queue: usize,
    /// How long one may wait.
    pub wait: Duration,
    /// Bytes a second to all, when they are limited.
    pub bytes_per_second: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { per_rack: 64, total: 256, queue: 1024, wait: Duration::from_secs(20), bytes_per_second: None }
    }
}

/// Keeps the limits.
pub struct Limits {
    bounds: Bounds,
    state: Mutex<State>,
    /// When the next byte may go.
    next: Mutex<Instant>,
}

#[derive(Default)]
struct State {
    active: usize,
    by_rack: HashMap<String, usize>,
    queue: Vec<Waiter>,
}

struct Waiter {
    rack: String,
    admit: oneshot::Sender<Permit>,
}

/// The right to one transfer, until it is dropped.
pub struct Permit {
    limits: Arc<Limits>,
    rack: String,
}

/// Too much is asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Limits {
    /// With these bounds.
    pub fn new(bounds: Bounds) -> Arc<Limits> {
        Arc::new(Limits { bounds, state: Mutex::default(), next: Mutex::new(Instant::now()) })
    }

    /// Waits for the right to one transfer to `rack`.
    pub async fn admit(self: &Arc<Limits>, rack: &str) -> Result<Permit, Busy> {
        let (admit, admitted) = oneshot::channel();
        {
            let mut state = self.lock();
            state.queue.retain(|waiter| !waiter.admit.is_closed());
            if state.queue.len() >= self.bounds.queue {
                return Err(Busy);
            }
            state.queue.push(Waiter { rack: rack.into(), admit });
        }
        self.dispatch();
        match tokio::time::timeout(self.bounds.wait, admitted).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Busy),
        }
    }

    /// `stream` at the pace that is allowed, holding `permit` while it lasts.
    pub fn carry<S>(
        self: &Arc<Limits>,
        permit: Option<Permit>,
        stream: S,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let limits = self.clone();
        stream.then(move |chunk| {
            let (limits, _held) = (limits.clone(), &permit);
            async move {
                if let Ok(bytes) = &chunk {
                    limits.pace(bytes.len()).await;
                }
                chunk
            }
        })
    }

    /// Waits until so many more bytes may go.
    async fn pace(&self, bytes: usize) {
        let Some(rate) = self.bounds.bytes_per_second else { return };
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let at = (*next).max(now.checked_sub(BURST).unwrap_or(now));
            *next = at + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            at
        };
        tokio::time::sleep_until(at).await;
    }

    /// Lets in whoever may come.
    fn dispatch(self: &Arc<Limits>) {
        loop {
            let picked = self.lock().pick(&self.bounds); // not locked any more while a permit comes back
            let Some(waiter) = picked else { return };
            let permit = Permit { limits: self.clone(), rack: waiter.rack };
            drop(waiter.admit.send(permit)); // gone meanwhile: the permit comes back and is dropped
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whose turn it is: of those whose rack has room, the first of the rack that has the fewest. He counts from now on.
    fn pick(&mut self, bounds: &Bounds) -> Option<Waiter> {
        self.queue.retain(|waiter| !waiter.admit.is_closed());
        if self.active >= bounds.total {
            return None;
        }
        let of = |rack: &str| self.by_rack.get(rack).copied().unwrap_or(0);
        let fits = |(_, waiter): &(usize, &Waiter)| of(&waiter.rack) < bounds.per_rack;
        let (at, _) = self.queue.iter().enumerate().filter(fits).min_by_key(|(_, waiter)| of(&waiter.rack))?;
        let waiter = self.queue.remove(at);
        self.active += 1;
        *self.by_rack.entry(waiter.rack.clone()).or_default() += 1;
        Some(waiter)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.limits.lock();
            state.active = state.active.saturating_sub(1);
            let left = state.by_rack.get(&self.rack).copied().unwrap_or(1) - 1;
            match left {
                0 => drop(state.by_rack.remove(&self.rack)),
                left => drop(state.by_rack.insert(self.rack.clone(), left)),
            }
        }
        self.limits.dispatch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn limits(per_rack: usize, total: usize, queue: usize) -> Arc<Limits> {
        Limits::new(Bounds { per_rack, total, queue, ..Bounds::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_rack_gets_no_more_than_its_share_and_all_no_more_than_the_total() {
        let limits = limits(2, 3, 10);
        let first = [limits.admit("a").await, limits.admit("a").await];
        assert!(limits.admit("a").now_or_never().is_none(), "rack a has its two");
        let other = limits.admit("b").await;
        assert!(limits.admit("c").now_or_never().is_none(), "all have their three");
        drop(other);
        let third = limits.admit("c").await;
        assert!(third.is_ok());
        drop(first);
        drop(third);
        let state = limits.lock();
        assert_eq!((state.active, state.by_rack.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rack_that_gets_least_comes_first_and_within_it_who_came_first() {
        let limits = limits(10, 2, 10);
        let (one, two) = (limits.admit("a").await, limits.admit("a").await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = [("a", 1), ("a", 2), ("b", 3), ("b", 4)]
            .map(|(rack, number)| {
                let (limits, order) = (limits.clone(), order.clone());
                tokio::spawn(async move {
                    let permit = limits.admit(rack).await;
                    order.lock().expect("not poisoned").push(number);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(permit);
                })
            })
            .into();
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(one);
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(two);
        for task in waiting {
            task.await.expect("no panic");
        }
        assert_eq!(*order.lock().expect("not poisoned"), [3, 1, 4, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_queue_and_a_long_wait_end_in_come_again() {
        let limits = limits(1, 1, 1);
        let held = limits.admit("a").await;
        let waiting = tokio::spawn({
            let limits = limits.clone();
            async move { limits.admit("a").await.is_err() }
        });
        tokio::task::yield_now().await;
        assert!(limits.admit("a").await.is_err(), "the queue is full");
        assert!(waiting.await.expect("no panic"), "the wait is over");
        drop(held);
        assert!(limits.admit("a").await.is_ok(), "who gave up takes no place");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_go_at_the_pace_that_is_allowed() {
        let limits = Limits::new(Bounds { bytes_per_second: Some(1000), ..Bounds::default() });
        let begun = Instant::now();
        let chunks = || futures::stream::iter((0..5).map(|_| Ok(Bytes::from(vec![0; 1000]))));
        let (one, two) = (limits.carry(None, chunks()), limits.carry(None, chunks()));
        tokio::join!(one.count(), two.count());
        let took = begun.elapsed().as_secs_f64();
        assert!((8.5..10.5).contains(&took), "{took}");
    }
}
