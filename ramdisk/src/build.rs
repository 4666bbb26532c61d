//! Puts the ramdisk together: fetches, chooses, assembles, and looks at what came out.

use crate::architecture::Architecture;
use crate::cpio::Tree;
use crate::packages::Packages;
use crate::{initrd, iso, libraries, modules, uki};
use anyhow::{Context, Result, bail};
use rackwright_protocol::media::{self, MAGIC};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Debian's programs for rare acts, and the libraries that they need.
const PROGRAM_PACKAGES: &[&str] = &[
    "busybox-static",
    "hdparm",
    "kexec-tools",
    "nvme-cli",
    "util-linux", //
    "libblkid1",
    "libc6",
    "libdbus-1-3",
    "libjson-c5",
    "libnvme1",
    "libssl3",
    "libsystemd0",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenmisc4.17",
    "libxentoolcore1",
    "libxentoollog1",
    "zlib1g",
    "libcap2",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libzstd1",
];
/// Where each program is in its package, and in the ramdisk.
const PROGRAMS: [(&str, &str); 4] = [
    ("sbin/blkdiscard", "sbin/blkdiscard"),
    ("sbin/hdparm", "sbin/hdparm"),
    ("sbin/kexec", "sbin/kexec"),
    ("usr/sbin/nvme", "sbin/nvme"),
];
/// Folders that the agent mounts on or writes to.
const FOLDERS: [&str; 7] = ["dev", "mnt", "proc", "root", "run", "sys", "tmp"];

/// What a ramdisk is built from.
pub struct Inputs<'a> {
    /// For which machines.
    pub machine: &'a Architecture,
    /// Debian's kernel package.
    pub kernel: &'a str,
    /// The agent: becomes `/init`.
    pub agent: &'a Path,
    /// Folder for Debian's packages.
    pub cache: &'a Path,
}

/// A file that was made.
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// Size, bytes.
    pub size: u64,
    /// Its digest, hex.
    pub sha256: String,
}

/// Builds everything into the folder `out` and gives what was made, by name. `say` gets a line per step.
pub fn build(inputs: &Inputs, out: &Path, say: &dyn Fn(&str)) -> Result<Vec<Made>> {
    let packages = fetch(inputs, say)?;
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let work = tempfile::tempdir_in(out)?;
    let agent = fs::read(inputs.agent).with_context(|| format!("agent {}", inputs.agent.display()))?;
    let agent_digest = hex::encode(Sha256::digest(&agent));

    let (version, kernel) = kernel(&packages)?;
    let tree = tree(agent, &version, &packages, inputs.machine, say)?;
    say("compressing the initial ramdisk");
    let initrd = initrd::assemble(&tree)?;
    let command_line = command_line(inputs.machine);
    let name = |stem: &str, ending: &str| out.join(format!("{stem}-{}{ending}", inputs.machine.debian));
    let files = [name("vmlinuz", ""), name("initrd", ""), name("rackwright", ".efi"), name("rackwright", ".iso")];

    fs::write(&files[0], &kernel)?;
    fs::write(&files[1], &initrd)?;
    let stub = packages.read(inputs.machine.stub)?;
    let sections: [(&str, &[u8]); 4] = [
        (".osrel", OS_RELEASE.as_bytes()),
        (".cmdline", command_line.as_bytes()),
        (".initrd", &initrd),
        (".linux", &kernel),
    ];
    fs::write(&files[2], uki::assemble(&stub, &sections)?)?;
    say("writing the ISO");
    let parts = iso::Parts { kernel: &kernel, initrd: &initrd, command_line: &command_line };
    iso::write(&files[3], work.path(), &parts, &packages, inputs.machine)?;
    fs::write(out.join("boot.ipxe"), ipxe(inputs.machine, &command_line))?;

    for file in &files[1..] {
        one_area(file)?;
    }
    let mut made = files.iter().map(|file| describe(file)).collect::<Result<Vec<_>>>()?;
    made.push(describe(&out.join("boot.ipxe"))?);
    fs::write(out.join("digests.txt"), digests(&made, &packages, &agent_digest))?;
    Ok(made)
}

fn fetch(inputs: &Inputs, say: &dyn Fn(&str)) -> Result<Packages> {
    let mut names = vec![inputs.kernel, inputs.machine.shim.0, inputs.machine.grub.0, "systemd-boot-efi"];
    names.extend(PROGRAM_PACKAGES.iter().chain(iso::PACKAGES));
    let packages = Packages::fetch(inputs.cache, &names, say)?;
    // linux-image-amd64 is empty and depends on the kernel that is newest.
    match packages.named(inputs.kernel)?.stands_for("linux-image-").map(str::to_string) {
        Some(kernel) => Ok(packages.and(Packages::fetch(inputs.cache, &[&kernel], say)?)),
        None => Ok(packages),
    }
}

/// Version of the kernel, and the kernel as Debian signed it.
fn kernel(packages: &Packages) -> Result<(String, Vec<u8>)> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(packages.path("lib/modules").context("the kernel package has no modules")?)? {
        versions.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let [version] = versions.as_slice() else { bail!("the kernel package has {} kernels", versions.len()) };
    let config = packages.read(&format!("boot/config-{version}"))?;
    if !String::from_utf8_lossy(&config).lines().any(|line| line == "CONFIG_RD_ZSTD=y") {
        bail!("kernel {version} cannot unpack a zstd initial ramdisk (CONFIG_RD_ZSTD)");
    }
    Ok((version.clone(), packages.read(&format!("boot/vmlinuz-{version}"))?))
}

/// What the agent finds when it runs.
fn tree(
    agent: Vec<u8>,
    version: &str,
    packages: &Packages,
    machine: &Architecture,
    say: &dyn Fn(&str),
) -> Result<Tree> {
    let mut tree = Tree::new();
    FOLDERS.iter().for_each(|folder| tree.folder(folder));
    tree.file("init", 0o755, agent);
    tree.file("bin/busybox", 0o755, packages.read("bin/busybox")?);
    tree.link("bin/sh", "busybox");
    // The kernel asks for modules by itself, and by this name.
    tree.link("sbin/modprobe", "../bin/busybox");
    tree.link("usr/bin", "../bin");
    tree.link("usr/sbin", "../sbin");
    tree.file("etc/os-release", 0o644, OS_RELEASE.as_bytes().to_vec());
    tree.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n".to_vec());

    let mut programs = Vec::new();
    for (from, to) in PROGRAMS {
        let program = packages.read(from)?;
        tree.file(to, 0o755, program.clone());
        programs.push(program);
    }
    let programs: Vec<_> = programs.iter().map(Vec::as_slice).collect();
    for (path, data) in libraries::closure(&programs, packages, machine)? {
        tree.file(&path, 0o755, data);
    }
    let chosen = modules::choose(&packages.path("lib/modules")?.join(version))?;
    say(&format!("kernel {version}: {} modules", chosen.files.keys().filter(|path| path.ends_with(".ko")).count()));
    if !chosen.absent.is_empty() {
        say(&format!("not in this kernel: {}", chosen.absent.join(" ")));
    }
    for (path, data) in chosen.files {
        tree.file(&format!("lib/modules/{version}/{path}"), 0o644, data);
    }
    Ok(tree)
}

/// Both consoles; the last one is the agent's own. A kernel that panics starts the machine anew, and who waits for it
/// sees that it does not call home.
fn command_line(machine: &Architecture) -> String {
    format!("console=tty0 console={} panic=30 quiet", machine.console)
}

const OS_RELEASE: &str =
    concat!("NAME=Rackwright\nID=rackwright\nPRETTY_NAME=\"Rackwright ramdisk ", env!("CARGO_PKG_VERSION"), "\"\n");

fn ipxe(machine: &Architecture, command_line: &str) -> String {
    let name = machine.debian;
    format!(
        "#!ipxe\n\
         # Names are relative to where this script came from. The initrd must hold the host's own area.\n\
         kernel vmlinuz-{name} initrd=initrd-{name} {command_line}\n\
         initrd initrd-{name}\n\
         boot\n"
    )
}

/// The boot service lays a host's own over the first area that it finds: there must not be another.
fn one_area(file: &Path) -> Result<()> {
    let data = fs::read(file)?;
    let first = media::find(&data).with_context(|| format!("{} has no area on a block", file.display()))?;
    let beginnings = data.iter().enumerate().filter(|(_, byte)| **byte == MAGIC[0]);
    let all = beginnings.filter(|(at, _)| data[*at..].starts_with(MAGIC)).count();
    if all != 1 {
        bail!("{} has {all} areas, the first at {first}", file.display());
    }
    Ok(())
}

fn describe(path: &Path) -> Result<Made> {
    let data = fs::read(path)?;
    Ok(Made { path: path.into(), size: data.len() as u64, sha256: hex::encode(Sha256::digest(&data)) })
}

/// In the format of `sha256sum --check`; what they were made from stands in comments.
fn digests(made: &[Made], packages: &Packages, agent: &str) -> String {
    let file = |made: &Made| {
        let name = made.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{}  {name}\n", made.sha256)
    };
    let mut text: String = made.iter().map(file).collect();
    text.push_str(&format!("# agent {agent}\n"));
    for package in packages.iter() {
        text.push_str(&format!("# {} {} {}\n", package.name, package.version, package.sha256));
    }
    text
}
