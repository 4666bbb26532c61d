//! The commands that user-data may run on a simulated machine, with what they do to its disk and services.
//!
//! A command that is not in the table ends as a shell ends it, with 127, and says so: nothing succeeds silently.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use super::host::Host;
use super::shell::{self, When};
use super::{kubeadm, service, sysctl};

const NOT_FOUND: i32 = 127;

/// Units that a cloud image has and that do nothing here.
const QUIET_UNITS: &[&str] = &[
    "chrony",
    "containerd",
    "crio",
    "multipathd",
    "systemd-modules-load",
    "systemd-networkd",
    "systemd-resolved",
    "systemd-sysctl",
    "systemd-timesyncd",
    "ufw",
];

/// How a command ended.
pub struct Ended {
    code: i32,
    output: String,
}

impl Ended {
    fn well() -> Self {
        Self { code: 0, output: String::new() }
    }

    fn badly(code: i32, output: impl Into<String>) -> Self {
        Self { code, output: output.into() }
    }

    fn from(result: anyhow::Result<String>) -> Self {
        match result {
            Ok(output) => Self { code: 0, output },
            Err(error) => Self::badly(1, format!("{error:#}")),
        }
    }
}

/// Runs a script. Its exit code is that of the last command.
pub async fn run_script(host: &Arc<Host>, script: &str) -> i32 {
    let steps = match shell::parse(script) {
        Ok(steps) => steps,
        Err(error) => {
            host.complain(format!("sh: {error}"));
            return 2;
        }
    };
    let mut variables = host.variables();
    let (mut code, mut stop_at_error) = (0, false);
    for step in steps {
        match step.when {
            When::Succeeded if code != 0 => continue,
            When::Failed if code == 0 => continue,
            When::Always if stop_at_error && code != 0 => return code,
            _ => {}
        }
        let words: Vec<String> = step.words.iter().map(|word| word.expand(&variables)).collect();
        if let Some(option) = words.first().filter(|word| *word == "set").and(words.get(1)) {
            stop_at_error |= option.starts_with('-') && option.contains('e');
            code = 0;
            continue;
        }
        let ended = match assignments(&words) {
            Some(assigned) => {
                variables.extend(assigned);
                Ended::well()
            }
            None => Box::pin(run(host, &words)).await,
        };
        code = ended.code;
        match &step.output {
            Some(file) if code == 0 => code = redirect(host, &file.path.expand(&variables), file.append, &ended.output),
            _ => show(host, &words, &ended),
        }
    }
    code
}

/// Runs one command without a shell.
pub async fn run_words(host: &Arc<Host>, words: &[String]) -> i32 {
    let ended = Box::pin(run(host, words)).await;
    show(host, words, &ended);
    ended.code
}

/// `NAME=value ...` alone, or after `export`.
fn assignments(words: &[String]) -> Option<BTreeMap<String, String>> {
    let words = if words.first().is_some_and(|word| word == "export") { &words[1..] } else { words };
    let name = |name: &str| !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    let assigned = words.iter().map(|word| {
        let (key, value) = word.split_once('=').filter(|(key, _)| name(key))?;
        Some((key.to_string(), value.to_string()))
    });
    assigned.collect()
}

fn redirect(host: &Host, path: &str, append: bool, output: &str) -> i32 {
    if path == "/dev/null" {
        return 0;
    }
    let written = match append {
        true => host.disk.append(path, output.as_bytes(), 0o644),
        // A shell does not make the folder: user-data that forgets it fails here too.
        false if !host.disk.real(path).parent().is_some_and(std::path::Path::is_dir) => {
            Err(anyhow::anyhow!("cannot create {path}: Directory nonexistent"))
        }
        false => host.disk.write(path, output.as_bytes(), 0o644),
    };
    match written {
        Ok(()) => 0,
        Err(error) => {
            host.complain(format!("sh: {error:#}"));
            1
        }
    }
}

fn show(host: &Host, words: &[String], ended: &Ended) {
    let output = ended.output.trim_end();
    let command = words.first().map(String::as_str).unwrap_or_default();
    match ended.code {
        0 if output.is_empty() => {}
        0 => host.say(format!("{command}: {output}")),
        code => host.complain(format!("{command}: exit {code}: {output}")),
    }
}

async fn run(host: &Arc<Host>, words: &[String]) -> Ended {
    let Some((program, arguments)) = words.split_first() else { return Ended::well() };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (program.rsplit('/').next().unwrap_or_default(), arguments.as_slice()) {
        ("true" | ":" | "sync" | "swapoff" | "modprobe" | "chown" | "udevadm", _) => Ended::well(),
        ("false", _) => Ended::badly(1, ""),
        ("echo", words) => Ended { code: 0, output: format!("{}\n", words.join(" ")) },
        ("sh" | "bash", ["-c" | "-lc" | "-ec" | "-xc", script, ..]) => {
            Ended::badly(Box::pin(run_script(host, script)).await, "")
        }
        ("sh" | "bash", [.., path]) if !path.starts_with('-') => match host.disk.read(path) {
            Some(script) => Ended::badly(Box::pin(run_script(host, &script)).await, ""),
            None => Ended::badly(NOT_FOUND, format!("{path}: No such file or directory")),
        },
        ("sleep", [seconds]) => sleep(seconds).await,
        ("mkdir", words) => files(words, |path| host.disk.make_folder(path)),
        ("touch", words) => files(words, |path| host.disk.append(path, b"", 0o644)),
        ("rm", words) => files(words, |path| {
            host.disk.remove(path);
            Ok(())
        }),
        ("chmod", [mode, paths @ ..]) => chmod(host, mode, paths),
        ("cat", words) => files_text(host, words),
        ("test" | "[", [flag @ ("-e" | "-f" | "-d"), path, ..]) => test(host, flag, path),
        ("hostname", []) => Ended { code: 0, output: format!("{}\n", host.hostname) },
        ("sysctl", words) => Ended::from(sysctl::run(&host.disk, words)),
        ("systemctl", words) => systemctl(host, words).await,
        ("kubeadm", words) => Ended::from(kubeadm::run(host, words).await),
        (program, _) => {
            Ended::badly(NOT_FOUND, format!("{program}: command not found (not one that a simulated machine has)"))
        }
    }
}

async fn sleep(seconds: &str) -> Ended {
    match seconds
        .trim_end_matches('s')
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    {
        Some(time) => {
            tokio::time::sleep(time).await;
            Ended::well()
        }
        None => Ended::badly(1, format!("invalid time interval {seconds:?}")),
    }
}

/// Does `act` on every word that is no option.
fn files(words: &[&str], act: impl Fn(&str) -> anyhow::Result<()>) -> Ended {
    let mut paths = words.iter().filter(|word| !word.starts_with('-'));
    Ended::from(paths.try_for_each(|path| act(path)).map(|()| String::new()))
}

fn files_text(host: &Host, paths: &[&str]) -> Ended {
    Ended::from(paths.iter().map(|path| host.disk.read_needed(path)).collect())
}

fn chmod(host: &Host, mode: &str, paths: &[&str]) -> Ended {
    let Ok(bits) = u32::from_str_radix(mode, 8) else {
        return Ended::badly(1, format!("mode {mode:?} is not understood: only octal ones are"));
    };
    files(paths, |path| {
        let permissions = std::fs::Permissions::from_mode(bits);
        std::fs::set_permissions(host.disk.real(path), permissions)
            .map_err(|error| anyhow::anyhow!("cannot access {path}: {error}"))
    })
}

fn test(host: &Host, flag: &str, path: &str) -> Ended {
    let real = host.disk.real(path);
    let holds = match flag {
        "-f" => real.is_file(),
        "-d" => real.is_dir(),
        _ => real.exists(),
    };
    Ended::badly(i32::from(!holds), "")
}

async fn systemctl(host: &Arc<Host>, words: &[&str]) -> Ended {
    let now = words.contains(&"--now");
    let mut words = words.iter().filter(|word| !word.starts_with('-')).copied();
    let Some(verb) = words.next() else { return Ended::badly(1, "what should systemctl do?") };
    if matches!(verb, "daemon-reload" | "daemon-reexec" | "reset-failed") {
        return Ended::well();
    }
    for unit in words.map(|unit| unit.trim_end_matches(".service")) {
        let ended = match unit {
            "kubelet" => kubelet_unit(host, verb, now).await,
            quiet if QUIET_UNITS.contains(&quiet) => Ended::well(),
            unknown => Ended::badly(5, format!("Unit {unknown}.service not found on this simulated machine")),
        };
        if ended.code != 0 {
            return ended;
        }
    }
    Ended::well()
}

async fn kubelet_unit(host: &Arc<Host>, verb: &str, now: bool) -> Ended {
    match (verb, now) {
        ("start", _) => service::start(host).await,
        ("restart" | "reload-or-restart" | "try-restart", _) => service::restart(host).await,
        ("stop", _) => service::stop(host).await,
        ("enable", now) => {
            if let Err(error) = service::enable(host) {
                return Ended::badly(1, format!("{error:#}"));
            }
            if now {
                service::start(host).await;
            }
        }
        ("disable", now) => {
            service::disable(host);
            if now {
                service::stop(host).await;
            }
        }
        ("is-active", _) => return Ended::badly(if service::is_active(host).await { 0 } else { 3 }, ""),
        ("is-enabled", _) => return Ended::badly(i32::from(!service::is_enabled(host)), ""),
        (verb, _) => return Ended::badly(1, format!("systemctl {verb} is not understood by this simulated machine")),
    }
    Ended::well()
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
