//! Kernel parameters: a simulated machine keeps them as files under `/proc/sys` of its disk, where tests can read them.

use anyhow::{Context, bail};

use super::host::Disk;

/// Folders of `sysctl --system`, weakest first; of one file name only the strongest folder's is read.
const FOLDERS: &[&str] = &["/usr/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"];

/// `sysctl --system`, `sysctl -p FILE`, `sysctl -w key=value`, `sysctl key`.
pub fn run(disk: &Disk, words: &[&str]) -> anyhow::Result<String> {
    match words {
        ["--system"] => system(disk),
        ["-p"] => apply(disk, &disk.read_needed("/etc/sysctl.conf")?),
        ["-p", path] => apply(disk, &disk.read_needed(path)?),
        ["-w", pairs @ ..] => apply(disk, &pairs.join("\n")),
        [pair] if pair.contains('=') => apply(disk, pair),
        [key] if !key.starts_with('-') => disk.read_needed(&path(key)).map(|value| format!("{key} = {value}")),
        _ => bail!("these arguments of sysctl are not understood by a simulated machine"),
    }
}

fn system(disk: &Disk) -> anyhow::Result<String> {
    let mut by_name = std::collections::BTreeMap::new();
    for folder in FOLDERS {
        for name in disk.list(folder, ".conf") {
            let path = format!("{folder}/{name}");
            by_name.insert(name, path);
        }
    }
    for path in by_name.values() {
        apply(disk, &disk.read_needed(path)?).with_context(|| path.clone())?;
    }
    Ok(format!("{} files applied", by_name.len()))
}

fn apply(disk: &Disk, text: &str) -> anyhow::Result<String> {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        // A leading "-" asks to go on when the kernel refuses.
        let (key, value) =
            line.trim_start_matches('-').split_once('=').with_context(|| format!("invalid syntax: {line}"))?;
        disk.write(&path(key.trim()), format!("{}\n", value.trim()).as_bytes(), 0o644)?;
    }
    Ok(String::new())
}

fn path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, Disk) {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(folder.path()).expect("a disk");
        (folder, disk)
    }

    #[test]
    fn the_systems_files_are_applied_in_their_order() {
        let (_folder, disk) = disk();
        for (path, text) in [
            ("/etc/sysctl.d/50-a.conf", "vm.max_map_count = 1\nnet.ipv4.ip_forward=1\n"),
            ("/etc/sysctl.d/99-b.conf", "# more\nvm.max_map_count=262144\n"),
            ("/usr/lib/sysctl.d/99-b.conf", "vm.max_map_count=2\n"),
        ] {
            disk.write(path, text.as_bytes(), 0o644).expect("a file");
        }
        run(&disk, &["--system"]).expect("applied");
        assert_eq!(disk.read("/proc/sys/vm/max_map_count").as_deref(), Some("262144\n"));
        assert_eq!(disk.read("/proc/sys/net/ipv4/ip_forward").as_deref(), Some("1\n"));
    }

    #[test]
    fn a_line_that_is_no_assignment_is_an_error() {
        let (_folder, disk) = disk();
        disk.write("/etc/sysctl.d/a.conf", b"vm.max_map_count\n", 0o644).expect("a file");
        let error = run(&disk, &["--system"]).expect_err("wrong");
        assert_eq!(format!("{error:#}"), "/etc/sysctl.d/a.conf: invalid syntax: vm.max_map_count");
    }
}
