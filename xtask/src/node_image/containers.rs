//! Container images that the node has from the beginning, so that no registry is needed: `localhost/pause:1`, in which
//! pods' sandboxes run, and `localhost/hello:1`, a shell. Both are busybox.

use crate::command;
use anyhow::{Context, Result};
use rackwright_ramdisk::packages::Packages;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const IMAGES: [(&str, &[&str]); 2] = [
    ("localhost/pause:1", &["/bin/busybox", "tail", "-f", "/dev/null"]),
    ("localhost/hello:1", &["/bin/busybox", "sh", "-c", "echo hello; exec /bin/busybox tail -f /dev/null"]),
];
/// How long containerd may take to listen.
const START: Duration = Duration::from_secs(60);

/// Puts the images into containerd's store below `root`, by that system's own containerd. `work` is a new folder.
pub fn import(root: &Path, work: &Path, packages: &Packages) -> Result<()> {
    let archive = archive(work, packages)?;
    let config = work.join("config.toml");
    let unneeded =
        ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"];
    fs::write(&config, format!("version = 2\ndisabled_plugins = {unneeded:?}\n"))?;
    let socket = work.join("containerd.sock");
    let mut containerd = Command::new(root.join("usr/bin/containerd"));
    containerd.arg("--config").arg(&config).arg("--root").arg(root.join("var/lib/containerd"));
    containerd.arg("--state").arg(work.join("state")).arg("--address").arg(&socket);
    containerd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(work.join("log"))?);
    let mut running = containerd.spawn().context("containerd cannot be started")?;
    let outcome = with_containerd(root, &socket, &archive, &mut running);
    // It writes nothing after an import that it has answered.
    running.kill()?;
    running.wait()?;
    outcome.with_context(|| fs::read_to_string(work.join("log")).unwrap_or_default())
}

fn with_containerd(root: &Path, socket: &Path, archive: &Path, running: &mut Child) -> Result<()> {
    let begun = Instant::now();
    while !socket.exists() && begun.elapsed() < START && running.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut ctr = Command::new(root.join("usr/bin/ctr"));
    ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import", "--no-unpack"]);
    command::output(ctr.arg(archive)).context("container images cannot be imported").map(drop)
}

/// All images in the format of `docker save`.
fn archive(work: &Path, packages: &Packages) -> Result<std::path::PathBuf> {
    let (files, parts) = (work.join("files"), work.join("parts"));
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(files.join(folder))?;
    }
    fs::create_dir_all(&parts)?;
    fs::copy(packages.path("bin/busybox")?, files.join("bin/busybox"))?;
    tar(&files, &parts.join("layer.tar"))?;
    let layer = hex::encode(Sha256::digest(fs::read(parts.join("layer.tar"))?));
    let mut manifest = Vec::new();
    for (name, command) in IMAGES {
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
        .to_string();
        let file = format!("{}.json", hex::encode(Sha256::digest(&config)));
        fs::write(parts.join(&file), config)?;
        manifest.push(serde_json::json!({"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}));
    }
    fs::write(parts.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    let archive = work.join("images.tar");
    tar(&parts, &archive)?;
    Ok(archive)
}

fn tar(folder: &Path, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--file"]);
    tar.arg(to).arg("--directory").arg(folder).args(fs::read_dir(folder)?.flatten().map(|entry| entry.file_name()));
    command::output(&mut tar).map(drop)
}
