//! Runs the containers of static pods as processes on this machine, paths led into the host's disk.
//!
//! Only programs of the bed can run; a manifest that wants another is left and said so. A process that ends is started
//! again, as the kubelet does, until the power goes.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use tokio::process::Child;

use super::host::{Disk, Host};
use super::process;

/// Where their output goes: `NAME.log` each.
const LOGS: &str = "/var/log/pods";

#[derive(Deserialize)]
struct Manifest {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
}

/// Starts what lies in `folder` and has no process yet.
pub fn start(host: &Arc<Host>, folder: &str) -> anyhow::Result<()> {
    for file in host.disk.list(folder, ".yaml") {
        let text = host.disk.read_needed(&format!("{folder}/{file}"))?;
        let manifest: Manifest = serde_saphyr::from_str(&text).with_context(|| format!("{folder}/{file} is no Pod"))?;
        let [container] = manifest.spec.containers.as_slice() else {
            host.complain(format!("{folder}/{file}: only Pods of one container can run here"));
            continue;
        };
        let words = [container.command.as_slice(), container.args.as_slice()].concat();
        let command = Command::new(&host.disk, &words).with_context(|| format!("{folder}/{file} has no command"))?;
        if let Err(error) = host.program(&command.program) {
            host.complain(format!("static pod {} does not run: {error}", manifest.metadata.name));
            continue;
        }
        let mut started = host.static_pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !started.contains(&manifest.metadata.name) {
            started.push(manifest.metadata.name.clone());
            host.tasks.spawn(keep_running(host.clone(), manifest.metadata.name, command));
        }
    }
    Ok(())
}

/// What a container runs, made to run without one.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    program: String,
    arguments: Vec<String>,
}

impl Command {
    fn new(disk: &Disk, words: &[String]) -> Option<Self> {
        let (program, arguments) = words.split_first()?;
        let program = program.rsplit('/').next()?.to_string();
        Some(Self { program, arguments: arguments.iter().map(|argument| inside(disk, argument)).collect() })
    }
}

/// `--flag=/path` (or a list of paths) with each path led into the disk.
fn inside(disk: &Disk, argument: &str) -> String {
    let real = |path: &str| match path.starts_with('/') {
        true => disk.real(path).to_string_lossy().into_owned(),
        false => path.to_string(),
    };
    match argument.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => {
            let values: Vec<String> = value.split(',').map(real).collect();
            format!("{flag}={}", values.join(","))
        }
        _ => real(argument),
    }
}

async fn keep_running(host: Arc<Host>, name: String, command: Command) {
    let mut wait = Duration::from_millis(500);
    while !host.power.is_cancelled() {
        match spawn(&host, &name, &command) {
            Ok(mut child) => match process::attend(&host, &mut child).await {
                Some(Ok(status)) => host.complain(format!("static pod {name} ended: {status}; see {LOGS}/{name}.log")),
                Some(Err(error)) => host.complain(format!("static pod {name}: {error}")),
                None => return,
            },
            Err(error) => host.complain(format!("static pod {name} does not start: {error:#}")),
        }
        host.power.run_until_cancelled(tokio::time::sleep(wait)).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

fn spawn(host: &Host, name: &str, command: &Command) -> anyhow::Result<Child> {
    host.disk.make_folder(LOGS)?;
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(host.disk.real(&format!("{LOGS}/{name}.log")))
        .context("cannot open its log")?;
    let errors = log.try_clone()?;
    let mut process = process::command(host, &command.program)?;
    process.args(&command.arguments).stdout(Stdio::from(log)).stderr(Stdio::from(errors));
    let child = process.spawn().context("cannot start it")?;
    host.say(format!("static pod {name} runs as process {}", child.id().unwrap_or_default()));
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_led_into_the_disk_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(folder.path()).expect("a disk");
        let root = disk.root().display();
        for (argument, expected) in [
            ("--data-dir=/var/lib/etcd", format!("--data-dir={root}/var/lib/etcd")),
            ("--files=/a,/b", format!("--files={root}/a,{root}/b")),
            ("--listen=https://127.1.1.1:2379", "--listen=https://127.1.1.1:2379".into()),
            ("--controllers=*,bootstrapsigner", "--controllers=*,bootstrapsigner".into()),
            ("--service-cluster-ip-range=10.96.0.0/12", "--service-cluster-ip-range=10.96.0.0/12".into()),
            ("/etc/a", format!("{root}/etc/a")),
        ] {
            assert_eq!(inside(&disk, argument), expected);
        }
    }
}
