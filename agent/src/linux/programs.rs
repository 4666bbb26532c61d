//! Debian's programs for rare acts on disks: by absolute path, with a deadline, and with what they say kept for the error.

use crate::MachineError;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    folders: Vec<PathBuf>,
}

impl Default for Programs {
    fn default() -> Self {
        Programs { folders: ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec() }
    }
}

impl Programs {
    /// Programs of one folder: tests put scripts there.
    pub fn of(folder: &Path) -> Programs {
        Programs { folders: vec![folder.into()] }
    }

    /// Runs `name` and gives what it printed. An error says why it did not end well within `limit`; it is killed then.
    pub(crate) async fn run(&self, name: &str, arguments: &[&str], limit: Duration) -> Result<Vec<u8>, MachineError> {
        let failed = |why: String| MachineError(format!("{name} {}: {why}", arguments.join(" ")));
        let path = self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let path = path.ok_or_else(|| failed("there is no such program in this ramdisk".into()))?;
        let mut command = Command::new(path);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(limit, command.output()).await {
            Ok(output) => output.map_err(|why| failed(why.to_string()))?,
            Err(_) => return Err(failed(format!("it did not end within {} s", limit.as_secs()))),
        };
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("and says nothing");
        Err(failed(format!("it ended with {}: {}", output.status, said.chars().take(200).collect::<String>())))
    }
}
