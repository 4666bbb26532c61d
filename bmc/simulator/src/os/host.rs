//! What the parts of one running operating system share: its disk, its console, its power.
//!
//! Paths are those of the machine (`/etc/...`); here they are mapped under the private root folder, and nowhere else.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use rackwright_protocol::facts::Facts;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::OsTiming;
use super::service::Kubelet;

/// Log of everything a person would read on the machine's console.
const CONSOLE: &str = "/var/log/console.log";

/// One running operating system.
pub struct Host {
    pub disk: Disk,
    pub hostname: String,
    pub address: IpAddr,
    pub facts: Facts,
    pub programs: Option<PathBuf>,
    pub timing: OsTiming,
    /// Cancelled when the power goes.
    pub power: CancellationToken,
    /// Everything that runs beside the boot sequence; awaited when the power has gone.
    pub tasks: TaskTracker,
    /// The kubelet's unit, as systemd keeps it.
    pub kubelet: Kubelet,
    /// Names of static pods that have a process.
    pub static_pods: Mutex<Vec<String>>,
}

impl Host {
    /// A line for a person: on the machine's console (a file of its disk) and in our log.
    pub fn say(&self, line: impl AsRef<str>) {
        tracing::info!(host = %self.hostname, address = %self.address, "{}", line.as_ref());
        self.disk.log(CONSOLE, line.as_ref());
    }

    /// A line about something that went wrong.
    pub fn complain(&self, line: impl AsRef<str>) {
        tracing::warn!(host = %self.hostname, address = %self.address, "{}", line.as_ref());
        self.disk.log(CONSOLE, line.as_ref());
    }

    /// The file of one of the programs of the bed.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.programs.as_ref().with_context(|| {
            format!("{name} is not installed on this host: no folder of programs was given to the simulator")
        })?;
        let path = folder.join(name);
        anyhow::ensure!(path.is_file(), "{name} is not installed on this host: {} does not exist", path.display());
        Ok(path)
    }

    /// Variables that scripts of the user-data may use.
    pub fn variables(&self) -> BTreeMap<String, String> {
        [("HOSTNAME", self.hostname.as_str()), ("HOME", "/root"), ("USER", "root"), ("PWD", "/")]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into()
    }
}

/// The root folder.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// The disk in folder `root`, made when it is not there; absolute, so that programs may be started anywhere.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root).with_context(|| format!("cannot make the host's disk {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("cannot use the host's disk {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where `path` of the machine lies really. `..` cannot leave the root.
    pub fn real(&self, path: &str) -> PathBuf {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.iter().fold(self.root.clone(), |path, part| path.join(part))
    }

    /// The text of a file, when it is there.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.real(path)).ok()
    }

    /// The text of a file that must be there; the error names the machine's path.
    pub fn read_needed(&self, path: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.real(path)).with_context(|| format!("cannot read {path}"))
    }

    /// Whether something is at `path`.
    pub fn exists(&self, path: &str) -> bool {
        self.real(path).exists()
    }

    /// Writes a whole file with its folders. A reader sees the old one or the new one.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let real = self.real(path);
        let temporary = real.with_added_extension("new");
        let write = || -> std::io::Result<()> {
            if let Some(folder) = real.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&temporary, content)?;
            std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))?;
            std::fs::rename(&temporary, &real)
        };
        write().with_context(|| format!("cannot write {path}"))
    }

    /// Adds to the end of a file, made when it is not there.
    pub fn append(&self, path: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let mut whole = std::fs::read(self.real(path)).unwrap_or_default();
        whole.extend_from_slice(content);
        self.write(path, &whole, mode)
    }

    /// Makes a folder and those above it.
    pub fn make_folder(&self, path: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.real(path)).with_context(|| format!("cannot make {path}"))
    }

    /// Removes a file or folder; one that is not there is fine.
    pub fn remove(&self, path: &str) {
        let real = self.real(path);
        let removed = if real.is_dir() { std::fs::remove_dir_all(&real) } else { std::fs::remove_file(&real) };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%path, %error, "cannot remove");
        }
    }

    /// Names in a folder that end with `extension`, sorted.
    pub fn list(&self, folder: &str, extension: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.real(folder)) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(extension)).collect();
        names.sort();
        names
    }

    /// One line into a log file. A log that cannot be written stops nothing.
    fn log(&self, path: &str, line: &str) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(self.real(path));
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{} {line}", jiff::Timestamp::now().strftime("%H:%M:%S%.3f"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_disk() {
        let disk = Disk { root: "/disk".into() };
        for (path, real) in [
            ("/etc/hostname", "/disk/etc/hostname"),
            ("etc//./hostname", "/disk/etc/hostname"),
            ("/../../etc/passwd", "/disk/etc/passwd"),
            ("/a/../../b", "/disk/b"),
            ("/", "/disk"),
        ] {
            assert_eq!(disk.real(path), Path::new(real), "{path}");
        }
    }
}
