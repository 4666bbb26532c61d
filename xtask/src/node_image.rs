//! `cargo xtask node-image`: the system that end-to-end tests write to empty disks: Debian, containerd, kubelet, kubeadm
//! and cloud-init. For tests only: root has no password.
//!
//! Layout: a BIOS boot partition, an EFI system partition, 4 MiB named `cidata` for the config drive, and last the root
//! file system, which grows to the disk. Kernel, initial ramdisk and GRUB's configuration are in `/boot` of the last.

mod containers;
mod disk;

use crate::{command, paths, tools};
use anyhow::{Context, Result, bail};
use rackwright_e2e::Narrator;
use rackwright_ramdisk::architecture::AMD64;
use rackwright_ramdisk::cpio::Tree;
use rackwright_ramdisk::packages::Packages;
use rackwright_ramdisk::{initrd, modules};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image in [`prepare`]'s folder.
pub const IMAGE: &str = "node-amd64.raw.zst";
/// This, and what is made differently when it changes.
const SOURCES: [&str; 3] =
    [include_str!("node_image.rs"), include_str!("node_image/containers.rs"), include_str!("node_image/disk.rs")];
/// Where the system comes from.
const SUITE: &str = "bookworm";
const PACKAGES: &str = "ca-certificates,cloud-init,conntrack,containerd,containernetworking-plugins,dbus,fdisk,iproute2,\
    iptables,kmod,linux-image-cloud-amd64,mount,procps,runc,systemd-sysv,udev,util-linux";
/// What of Debian runs here, out of the cache.
const BUILDERS: &[&str] = &[
    "busybox-static",
    "grub-common",
    "grub-efi-amd64-signed",
    "grub-pc-bin",
    "libdevmapper1.02.1",
    "liblzma5",
    "mmdebstrap",
    "shim-signed",
];
/// Modules that find the root file system.
const ROOT_MODULES: &str = "virtio_pci virtio_blk virtio_scsi nvme sd_mod ext4";
/// Modules of the running node.
const NODE_MODULES: &str = "virtio_pci virtio_blk virtio_net virtio_scsi virtio_rng nvme sd_mod sr_mod isofs vfat \
    nls_cp437 nls_ascii nls_utf8 ext4 overlay loop efivarfs autofs4 bridge br_netfilter veth dummy vxlan tun \
    nf_conntrack nf_nat nf_tables nft_compat nft_chain_nat nft_ct nft_masq nft_limit ip_tables iptable_nat \
    iptable_filter ip_set ip_vs xt_comment xt_conntrack xt_mark xt_MASQUERADE xt_nat xt_multiport xt_addrtype \
    xt_statistic";
/// Without times to wait for: it is started hundreds of times.
const COMMAND_LINE: &str =
    "console=ttyS0 root=LABEL=root quiet panic=5 systemd.show_status=false mitigations=off net.ifnames=0";

/// Builds the image when it is not in the cache, and says where it is.
pub fn run() -> Result<()> {
    let home = prepare(&Narrator::stdout())?;
    print!("{}", fs::read_to_string(home.join("sha256sums.txt"))?);
    println!("{}", home.join(IMAGE).display());
    Ok(())
}

/// The folder with [`IMAGE`] and `sha256sums.txt`.
pub fn prepare(narrator: &Narrator) -> Result<PathBuf> {
    let from = paths::root().join("e2e/node-image");
    let programs = tools::prepare_node(narrator)?;
    let home = paths::cache()?.join(format!("node-image-{}", fingerprint(&from, &programs)?));
    let lock = File::create(home.with_extension("lock"))?;
    lock.lock().context("another run's lock on the node image cannot be waited for")?;
    if !home.exists() {
        let work = tempfile::tempdir_in(paths::cache()?)?;
        let made = build(&from, &programs, work.path(), narrator)?;
        fs::rename(&made, &home)?;
    }
    narrator.step(format!("node image: {}", home.display()));
    Ok(home)
}

fn fingerprint(from: &Path, programs: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(SOURCES.concat());
    hash.update(programs.to_string_lossy().as_bytes());
    let mut waiting = vec![from.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        entries.sort();
        for entry in entries {
            if entry.is_dir() {
                waiting.push(entry);
            } else {
                hash.update(entry.strip_prefix(from)?.to_string_lossy().as_bytes());
                hash.update(fs::read(&entry)?);
            }
        }
    }
    Ok(hex::encode(hash.finalize())[..12].to_string())
}

/// Builds in the empty folder `work`; gives a folder with what was made.
fn build(from: &Path, programs: &Path, work: &Path, narrator: &Narrator) -> Result<PathBuf> {
    let packages = Packages::fetch(&paths::cache()?.join("debian"), BUILDERS, &|line| narrator.step(line))?;
    let root = work.join("root");
    narrator.step(format!("node image: Debian {SUITE} (about a minute)"));
    install(from, programs, &root, &packages)?;

    let version = one_folder(&root.join("lib/modules"))?;
    let initrd = initial_ramdisk(from, &root.join("lib/modules").join(&version), &packages)?;
    keep_modules(&root, &version)?;
    let boot = root.join("boot");
    fs::rename(boot.join(format!("vmlinuz-{version}")), boot.join("vmlinuz"))?;
    fs::write(boot.join("initrd.img"), initrd)?;
    fs::create_dir_all(boot.join("grub"))?;
    fs::write(boot.join("grub/grub.cfg"), grub_menu())?;
    narrator.step("node image: container images");
    containers::import(&root, &work.join("containers"), &packages)?;

    narrator.step("node image: disk");
    let out = work.join("out");
    fs::create_dir_all(&out)?;
    disk::write(&root, &work.join("node-amd64.raw"), &packages, &AMD64)?;
    disk::compress(&work.join("node-amd64.raw"), &out)?;
    Ok(out)
}

fn install(from: &Path, programs: &Path, root: &Path, packages: &Packages) -> Result<()> {
    let hook = |text: String| format!("--customize-hook={text}");
    let mut debian = Command::new(packages.path("usr/bin/mmdebstrap")?);
    debian.args(["--quiet", "--variant=minbase", "--mode=root", "--format=directory"]);
    debian.arg(format!("--include={PACKAGES}")).arg("--aptopt=APT::Install-Recommends \"false\"");
    for folder in ["man", "doc", "locale", "info"] {
        debian.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    // The initial ramdisk is ours; Debian's would take half a minute to make.
    debian.arg("--dpkgopt=force-confold");
    debian.arg(
        "--essential-hook=mkdir -p \"$1/etc/initramfs-tools\" && echo 'do_initrd = no' > \"$1/etc/kernel-img.conf\" \
         && echo update_initramfs=no > \"$1/etc/initramfs-tools/update-initramfs.conf\"",
    );
    debian.arg(hook(format!("cp -r --preserve=mode -T '{}' \"$1\"", from.join("root").display())));
    debian.arg(hook(format!("install -m 755 -t \"$1/usr/bin\" '{0}/kubeadm' '{0}/kubelet'", programs.display())));
    debian.arg(hook(format!("'{}' \"$1\"", from.join("customize.sh").display())));
    command::output(debian.arg(SUITE).arg(root)).context("Debian cannot be unpacked: this needs root").map(drop)
}

/// The name of the only thing in `folder`.
fn one_folder(folder: &Path) -> Result<String> {
    let names: Vec<_> = fs::read_dir(folder)?.collect::<std::io::Result<_>>()?;
    match names.as_slice() {
        [name] => Ok(name.file_name().to_string_lossy().into_owned()),
        _ => bail!("{} has {} folders instead of one", folder.display(), names.len()),
    }
}

fn initial_ramdisk(from: &Path, all: &Path, packages: &Packages) -> Result<Vec<u8>> {
    let mut tree = Tree::new();
    ["dev", "proc", "root", "sys"].iter().for_each(|folder| tree.folder(folder));
    tree.file("bin/busybox", 0o755, packages.read("bin/busybox")?);
    tree.file("init", 0o755, fs::read(from.join("initramfs-init"))?);
    let mut chosen = modules::choose_from(all, ROOT_MODULES, "")?;
    let mut order = String::new();
    for path in &chosen.order {
        let name = path.rsplit('/').next().unwrap_or(path);
        tree.file(&format!("modules/{name}"), 0o644, chosen.files.remove(path).unwrap_or_default());
        order.push_str(&format!("{name}\n"));
    }
    tree.file("modules/order", 0o644, order.into_bytes());
    initrd::compress(&tree.archive(4))
}

/// Leaves only what a node needs of the kernel's modules: 7 MB instead of 90.
fn keep_modules(root: &Path, version: &str) -> Result<()> {
    let folder = root.join("lib/modules").join(version);
    let chosen = modules::choose_from(&folder, NODE_MODULES, "")?;
    fs::remove_dir_all(folder.join("kernel"))?;
    for path in &chosen.order {
        let to = folder.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&folder))?;
        fs::write(to, &chosen.files[path])?;
    }
    command::output(Command::new("chroot").arg(root).args(["depmod", version])).map(drop)
}

fn grub_menu() -> String {
    format!(
        "set timeout=0\n\
         menuentry \"node\" {{\n    \
             linux /boot/vmlinuz {COMMAND_LINE}\n    \
             initrd /boot/initrd.img\n\
         }}\n"
    )
}
