//! `rackwright logs HOST`: what the agent and its kernel said in the host's last operation whose log was kept.
//!
//! The boot service keeps it in a ConfigMap beside the Host. Reads only; says why when there is none.

use crate::access::Access;
use crate::output::{Absent, Output, printable};
use anyhow::Context;
use clap::Args;
use flate2::read::GzDecoder;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::Api;
use rackwright_api::Host;
use rackwright_api::log::{LOG_KEY, LOG_OPERATION, LOG_OPERATION_TYPE, LOG_OUTCOME, LOG_TIME, config_map_name};
use serde::Serialize;
use std::fmt::Write;
use std::io::Read;

/// Longest log that is unpacked, bytes; a ConfigMap holds 1 MiB packed.
const UNPACKED_MAX: u64 = 64 << 20;

/// Shows the log of a host's last operation whose log was kept.
#[derive(Args)]
pub struct LogsArgs {
    #[command(flatten)]
    access: Access,
    /// Name of the Host.
    host: String,
    /// Text for people, or JSON or YAML for scripts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// A log, and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Name of the Host.
    pub host: String,
    /// Identifier of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// What it was, for example `Deploy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Its lines, oldest first.
    pub lines: Vec<String>,
}

/// Prints the log.
pub async fn run(args: LogsArgs) -> anyhow::Result<()> {
    let (client, namespace) = args.access.client().await?;
    let host = Api::<Host>::namespaced(client.clone(), &namespace).get_opt(&args.host).await?;
    let Some(host) = host else {
        let message = format!("namespace {namespace} has no Host {}; `kubectl get hosts -A` lists them", args.host);
        return Err(Absent(message).into());
    };
    let map = Api::<ConfigMap>::namespaced(client, &namespace).get_opt(&config_map_name(&args.host)).await?;
    let log = match map {
        Some(map) => unpack(&args.host, &map)?,
        None => return Err(Absent(why_none(&host)).into()),
    };
    print!("{}", args.output.of(&log, text)?);
    Ok(())
}

/// The log in `map`.
fn unpack(host: &str, map: &ConfigMap) -> anyhow::Result<Log> {
    let packed = map.binary_data.as_ref().and_then(|data| data.get(LOG_KEY));
    let packed = packed.with_context(|| format!("ConfigMap {} has no key {LOG_KEY}", map.name_any()))?;
    let mut bytes = Vec::new();
    GzDecoder::new(packed.0.as_slice())
        .take(UNPACKED_MAX)
        .read_to_end(&mut bytes)
        .with_context(|| format!("key {LOG_KEY} of ConfigMap {} is not gzip", map.name_any()))?;
    let said = |key: &str| map.annotations().get(key).cloned();
    Ok(Log {
        host: host.into(),
        operation: said(LOG_OPERATION),
        kind: said(LOG_OPERATION_TYPE),
        outcome: said(LOG_OUTCOME),
        ended_at: said(LOG_TIME),
        lines: String::from_utf8_lossy(&bytes).lines().map(printable).collect(),
    })
}

fn text(log: &Log) -> String {
    let known = |part: &Option<String>| part.clone().unwrap_or_else(|| "?".into());
    let mut text =
        format!("# {}: {}, {}, ended {}\n", log.host, known(&log.kind), known(&log.outcome), known(&log.ended_at));
    for line in &log.lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Why there is no log of `host`, and what to do.
fn why_none(host: &Host) -> String {
    let name = host.name_any();
    let status = host.status.clone().unwrap_or_default();
    let why = match (&status.operation, status.history.last()) {
        (Some(operation), _) if status.agent.as_ref().is_some_and(|agent| agent.operation_id == operation.id) => {
            format!(
                "its agent is at work since {}, and a log is kept when that ends, at the latest at {}",
                operation.started_at, operation.deadline
            )
        }
        (Some(_), _) => "its ramdisk has not called home yet; until then only the serial console says something".into(),
        (None, Some(last)) => format!(
            "its last operation ({:?}) ended as {:?}, and logs are kept of failures; `rackwright boot --keep-logs always` \
             keeps all",
            last.kind, last.outcome
        ),
        (None, None) => "nothing was done to it by way of the ramdisk yet".into(),
    };
    format!("host {name} has no log: {why}; `rackwright timeline {name}` tells what happened")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, host};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use insta::assert_snapshot;
    use k8s_openapi::ByteString;
    use std::collections::BTreeMap;
    use std::io::Write as _;

    fn kept(lines: &str) -> ConfigMap {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(lines.as_bytes()).expect("packs");
        let mut map = ConfigMap::default();
        map.metadata.name = Some("osl1-a01-u07-log".into());
        let said = [(LOG_OPERATION, "op-1"), (LOG_OPERATION_TYPE, "Deploy"), (LOG_OUTCOME, "ImageDigestMismatch")];
        let said = said.map(|(key, value)| (key.to_owned(), value.to_owned()));
        map.metadata.annotations = Some(said.into_iter().chain([(LOG_TIME.into(), at(90).to_string())]).collect());
        map.binary_data = Some(BTreeMap::from([(LOG_KEY.into(), ByteString(packer.finish().expect("packs")))]));
        map
    }

    #[test]
    fn a_log_is_shown_with_what_it_is_of() {
        let log =
            unpack("osl1-a01-u07", &kept("[    1.000] hello\n[    2.000] the digest differs\n")).expect("unpacks");
        assert_snapshot!(text(&log), @r"
        # osl1-a01-u07: Deploy, ImageDigestMismatch, ended 2026-11-27T05:01:30Z
        [    1.000] hello
        [    2.000] the digest differs
        ");
        assert!(Output::Json.of(&log, text).expect("JSON").contains("\"outcome\": \"ImageDigestMismatch\""));
    }

    #[test]
    fn a_log_cannot_command_the_terminal() {
        let log = unpack("a", &kept("\u{1b}]0;title\u{7}\u{1b}[2J\tx\n")).expect("unpacks");
        assert_eq!(log.lines, ["\u{fffd}]0;title\u{fffd}\u{fffd}[2J\tx"]);
    }

    #[test]
    fn a_broken_log_is_an_error_that_names_it() {
        let mut map = kept("");
        map.binary_data = Some(BTreeMap::from([(LOG_KEY.into(), ByteString(b"no gzip".to_vec()))]));
        let why = format!("{:#}", unpack("a", &map).expect_err("refused"));
        assert!(why.starts_with("key log.gz of ConfigMap osl1-a01-u07-log is not gzip"), "{why}");
    }

    #[test]
    fn a_missing_log_is_explained() {
        let mut idle = host();
        idle.status = None;
        assert!(why_none(&idle).contains("nothing was done to it by way of the ramdisk yet"), "{}", why_none(&idle));
        let at_work = host();
        assert!(
            why_none(&at_work).contains("its agent is at work since 2026-11-27T05:02:00Z"),
            "{}",
            why_none(&at_work)
        );
        let mut silent = host();
        silent.status.as_mut().expect("set").agent = None;
        assert!(why_none(&silent).contains("has not called home yet"), "{}", why_none(&silent));
        let mut done = host();
        done.status.as_mut().expect("set").operation = None;
        assert!(why_none(&done).contains("logs are kept of failures"), "{}", why_none(&done));
    }
}
