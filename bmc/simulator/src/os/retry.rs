//! Repeats what a daemon repeats, with growing and jittered waits.
//!
//! What fails is said the first time and whenever the reason changes, not at every attempt.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::host::Host;

/// Calls `attempt` until it succeeds.
pub async fn for_ever<T, F>(host: &Host, what: &str, attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = anyhow::Result<T>>,
{
    // More than 100 years, and still a point in time that the clock can name.
    const FOR_EVER: Duration = Duration::from_secs(1 << 32);
    match for_at_most(host, what, FOR_EVER, attempt).await {
        Ok(value) => value,
        Err(_) => std::future::pending().await,
    }
}

/// Calls `attempt` until it succeeds or `limit` is over; then gives the last error.
pub async fn for_at_most<T, F>(
    host: &Host,
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    let mut waits = waits(host);
    let mut said = String::new();
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = waits.next().unwrap_or(host.timing.retry_max);
        if tokio::time::Instant::now() + wait > deadline {
            return Err(error.context(format!("gave up after {} s", limit.as_secs())));
        }
        let text = format!("{error:#}");
        if text != said {
            host.complain(format!("{what}: {text}; trying again"));
            said = text;
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

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::os::tests::host;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_said_once_for_each_reason() {
        let (_folder, host) = host();
        let mut reasons = ["a", "a", "b", "a"].into_iter();
        for_ever(&host, "kubelet", || {
            let reason = reasons.next();
            async move {
                match reason {
                    Some(reason) => bail!(reason),
                    None => Ok(()),
                }
            }
        })
        .await;
        let console = host.disk.read("/var/log/console.log").unwrap_or_default();
        let said: Vec<&str> = console.lines().filter_map(|line| line.split_once(' ')).map(|(_, line)| line).collect();
        assert_eq!(said, ["kubelet: a; trying again", "kubelet: b; trying again", "kubelet: a; trying again"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_given_when_the_time_is_over() {
        let (_folder, host) = host();
        let begin = tokio::time::Instant::now();
        let limit = Duration::from_secs(60);
        let result: anyhow::Result<()> = for_at_most(&host, "kubeadm", limit, || async { bail!("refused") }).await;
        assert_eq!(format!("{:#}", result.expect_err("never succeeds")), "gave up after 60 s: refused");
        assert!(begin.elapsed() <= limit);
    }
}
