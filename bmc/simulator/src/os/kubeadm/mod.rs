//! `kubeadm` of a simulated machine. `init` lets the real kubeadm do its phases; `join` is read and done here, because
//! the real one insists on a real kubelet.

pub mod config;
pub mod discovery;
pub mod init;
pub mod join;
pub mod patches;

use std::sync::Arc;

use anyhow::{Context, bail};

use super::host::Host;

/// Flags that change nothing on a simulated machine; `true` when a value follows.
const IGNORED: &[(&str, bool)] = &[
    ("ignore-preflight-errors", true),
    ("skip-certificate-key-print", false),
    ("skip-phases", true),
    ("skip-token-print", false),
    ("upload-certs", false),
    ("v", true),
];

/// Runs kubeadm with these arguments.
pub async fn run(host: &Arc<Host>, words: &[&str]) -> anyhow::Result<String> {
    match words {
        ["init", flags @ ..] => init::init(host, &host.disk.read_needed(config_path(flags)?)?).await,
        ["join", flags @ ..] => join::join(host, &host.disk.read_needed(config_path(flags)?)?).await,
        ["version", ..] => Ok(super::kubelet::node::KUBELET_VERSION.into()),
        _ => bail!("kubeadm {}: a simulated machine knows init and join only", words.join(" ")),
    }
}

fn config_path<'a>(flags: &[&'a str]) -> anyhow::Result<&'a str> {
    let mut path = None;
    let mut flags = flags.iter();
    while let Some(word) = flags.next() {
        let flag = word.trim_start_matches('-');
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        match name {
            _ if !word.starts_with('-') => bail!("unknown argument {word:?}: give --config"),
            "config" => path = value.or_else(|| flags.next().copied()),
            name => {
                let ignored = IGNORED.iter().find(|(ignored, _)| *ignored == name);
                let (_, takes_value) =
                    ignored.with_context(|| format!("unknown flag: {word} (a simulated machine needs --config)"))?;
                if *takes_value && value.is_none() {
                    flags.next();
                }
            }
        }
    }
    path.context("--config is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_found_among_the_flags() {
        for words in [
            vec!["--config", "/a"],
            vec!["--config=/a", "-v", "5"],
            vec!["--v=5", "--ignore-preflight-errors=all", "--config", "/a", "--upload-certs"],
        ] {
            assert_eq!(config_path(&words).expect("a path"), "/a");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (words, message) in [
            (vec![], "--config is needed"),
            (vec!["--token", "x"], "unknown flag: --token (a simulated machine needs --config)"),
            (vec!["127.0.0.1:6443"], "unknown argument \"127.0.0.1:6443\": give --config"),
        ] {
            assert_eq!(config_path(&words).expect_err(message).to_string(), message);
        }
    }
}
