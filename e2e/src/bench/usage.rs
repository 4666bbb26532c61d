//! What a process uses, as the kernel counts it, and what it asked of the API server, as it counts itself.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// Length of a clock tick in `/proc/PID/stat`: USER_HZ is 100 on every architecture that Linux runs on today.
const TICK: Duration = Duration::from_millis(10);

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory that it has now, bytes.
    pub memory: u64,
    /// The most that it ever had, bytes.
    pub memory_peak: u64,
    /// Processor time since its start.
    pub cpu: Duration,
}

impl Usage {
    /// Of the process with this id.
    pub fn of(process: u32) -> Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
        };
        let status = read("status")?;
        let memory = |name| kibibytes(&status, name).with_context(|| format!("/proc/{process}/status has no {name}"));
        let cpu = ticks(&read("stat")?).with_context(|| format!("/proc/{process}/stat makes no sense"))?;
        Ok(Usage { memory: memory("VmRSS:")?, memory_peak: memory("VmHWM:")?, cpu: TICK * cpu })
    }
}

/// The value of a line of `/proc/PID/status`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// User and system time of `/proc/PID/stat`: fields 14 and 15, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?)
}

/// Bytes as MiB, for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Requests to the API server by verb, from the metrics of one of our managers.
pub async fn requests(metrics: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let text = reqwest::get(format!("http://{metrics}/metrics")).await?.error_for_status()?.text().await?;
    Ok(counters(&text, "rackwright_api_requests_total", "verb"))
}

fn counters(text: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let sample = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
        let named = labels.split(',').find_map(|pair| pair.strip_prefix(label)?.strip_prefix("=\""))?;
        Some((named.trim_end_matches('"').to_string(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(sample).collect()
}

/// What was counted between two looks; every verb that was ever counted is in it.
pub fn between(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |(verb, count): (&String, &u64)| (verb.clone(), count - before.get(verb).copied().unwrap_or(0));
    after.iter().map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).expect("Linux");
        assert!(usage.memory > 0 && usage.memory_peak >= usage.memory, "{usage:?}");
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(200));
    }

    #[test]
    fn requests_are_counted_by_verb() {
        let text = "# TYPE rackwright_api_requests counter\nrackwright_api_requests_total{verb=\"get\"} 12\n\
                    rackwright_api_requests_total{verb=\"patch\"} 3\nrackwright_passes_total{kind=\"Host\"} 9\n";
        let before = counters(text, "rackwright_api_requests_total", "verb");
        assert_eq!(before, BTreeMap::from([("get".into(), 12), ("patch".into(), 3)]));
        let after = BTreeMap::from([("get".to_string(), 15), ("patch".into(), 3), ("list".into(), 1)]);
        let expected = BTreeMap::from([("get".to_string(), 3), ("patch".into(), 0), ("list".into(), 1)]);
        assert_eq!(between(&before, &after), expected);
    }
}
