//! Repeats what a daemon repeats for ever, with growing and jittered waits.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::host::Host;

/// Calls `attempt` until it succeeds. Says what fails the first time and whenever the reason changes.
pub async fn for_ever<T, F>(host: &Host, what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut waits = waits(host);
    let mut said = String::new();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                let error = format!("{error:#}");
                if error != said {
                    host.complain(format!("{what}: {error}; trying again"));
                    said = error;
                }
            }
        }
        tokio::time::sleep(waits.next().unwrap_or(host.timing.retry_max)).await;
    }
}

/// As [`for_ever`], but gives up with the last error after `limit`.
pub async fn for_at_most<T, F>(host: &Host, limit: Duration, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    let mut waits = waits(host);
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = waits.next().unwrap_or(host.timing.retry_max);
        if tokio::time::Instant::now() + wait > deadline {
            return Err(error.context(format!("gave up after {} s", limit.as_secs())));
        }
        tokio::time::sleep(wait).await;
    }
}

fn waits(host: &Host) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(host.timing.retry_min)
        .with_max_delay(host.timing.retry_max)
        .with_factor(1.6)
        .with_jitter()
        .without_max_times()
        .build()
}
