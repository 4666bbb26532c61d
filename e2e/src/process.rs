//! Programs that the bed runs beside itself. Each writes to its own log file and ends with the bed.
//!
//! Two things see to that: dropping a [`Process`] kills it and waits until it is gone, and the kernel kills it when the
//! thread that started it dies (`setpriv --pdeathsig`, util-linux), so that nothing survives a bed that was itself
//! killed. Start processes from a thread that lives as long as the bed.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A program to run.
pub struct Launch {
    name: String,
    command: Command,
}

impl Launch {
    /// `program` under a `name` for messages and the log file.
    pub fn new(name: &str, program: &Path) -> Launch {
        let mut command = Command::new("setpriv");
        // Out of the terminal's process group: Ctrl-C is for the bed, which then ends its programs in order.
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).process_group(0).kill_on_drop(true);
        Launch { name: name.into(), command }
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<str>>(mut self, args: I) -> Launch {
        for arg in args {
            self.command.arg(arg.as_ref());
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Launch {
        self.command.env(name, value);
        self
    }

    /// Starts it; what it prints goes to `logs/NAME.log`.
    pub fn start(mut self, logs: &Path) -> Result<Process> {
        fs::create_dir_all(logs)?;
        let log = logs.join(format!("{}.log", self.name));
        let out = File::options().create(true).append(true).open(&log)?;
        self.command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = self.command.spawn().context("setpriv (util-linux) is needed to run the bed's programs")?;
        Ok(Process { name: self.name, child, log })
    }
}

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Its process id; `None` once it ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it writes what it prints.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Kills it without warning, as a crash would, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("{} cannot be killed", self.name))
    }

    /// Waits until `probe` holds; fails at once when the program ends first.
    pub async fn ready(&mut self, within: Duration, probe: impl AsyncFn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !probe().await {
            if let Some(status) = self.ended()? {
                bail!("{} ended ({status}) before it was ready:\n{}", self.name, self.last_words());
            }
            if begun.elapsed() > within {
                bail!("{} is not ready after {} s:\n{}", self.name, within.as_secs(), self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// How it ended, when it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.start_kill(); // an error means that it is gone already
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(logs: &Path) -> Process {
        Launch::new("sleeper", Path::new("sleep")).args(["1000"]).start(logs).expect("starts")
    }

    fn runs(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let logs = tempfile::tempdir().expect("temp folder");
        let process = sleeper(logs.path());
        let id = process.id().expect("runs");
        assert!(runs(id));
        drop(process);
        assert!(!runs(id));
    }

    #[test]
    fn a_process_whose_starter_died_without_a_word_is_gone() {
        let logs = tempfile::tempdir().expect("temp folder");
        let folder = logs.path().to_path_buf();
        let id = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            let _inside = runtime.enter();
            let process = sleeper(&folder);
            let id = process.id().expect("runs");
            std::thread::sleep(Duration::from_millis(200)); // setpriv has to get as far as its prctl
            std::mem::forget(process);
            id
        })
        .join()
        .expect("no panic");
        let begun = Instant::now();
        // Nobody reaps it here, so it may stay as a zombie: its state says that it is dead.
        let dead = || match fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
            Err(_) => true,
        };
        while !dead() {
            assert!(begun.elapsed() < Duration::from_secs(5), "still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let logs = tempfile::tempdir().expect("temp folder");
        let launch = Launch::new("talker", Path::new("sh")).args(["-c", "echo no such disk; exit 3"]);
        let mut process = launch.start(logs.path()).expect("starts");
        let why = process.ready(Duration::from_secs(5), async || false).await.expect_err("never ready").to_string();
        assert!(why.contains("exit status: 3") && why.contains("no such disk"), "{why}");
    }
}
