//! What small systems of our own are made of, out of Debian's packages: a kernel, busybox, and curl with all that it needs.

use crate::paths;
use anyhow::{Context, Result};
use rackwright_ramdisk::architecture::AMD64;
use rackwright_ramdisk::cpio::Tree;
use rackwright_ramdisk::packages::Packages;
use rackwright_ramdisk::{libraries, modules};
use std::fs;

const KERNEL: &str = "linux-image-cloud-amd64";
/// Of every such system. The libraries are curl's.
const PACKAGES: [&str; 33] = [
    KERNEL,
    "busybox-static",
    "ca-certificates",
    "curl",
    "libbrotli1",
    "libc6",
    "libcom-err2",
    "libcurl4",
    "libffi8",
    "libgcc-s1",
    "libgmp10",
    "libgnutls30",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblzma5",
    "libnettle8",
    "libnghttp2-14",
    "libp11-kit0",
    "libpsl5",
    "librtmp1",
    "libsasl2-2",
    "libssh2-1",
    "libssl3",
    "libtasn1-6",
    "libunistring2",
    "libzstd1",
    "zlib1g",
];
const MODULES: &str = "virtio_pci virtio_net virtio_blk af_packet";
/// What `/init` of such a system begins with: every applet of busybox, devices, and the network card's driver.
pub const INIT: &str = "#!/bin/busybox sh\n\
    /bin/busybox mkdir -p /proc /sys /dev /tmp\n\
    /bin/busybox --install -s /bin\n\
    export PATH=/bin:/usr/bin\n\
    mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys\n\
    mount -t tmpfs -o size=90% tmpfs /tmp\n\
    for module in /modules/*; do insmod $module; done\n\
    ip link set lo up; ip link set eth0 up\n";

/// The packages of a small system, and the version of its kernel.
pub struct Debian {
    packages: Packages,
    version: String,
}

impl Debian {
    /// Fetches what every such system has, and the packages `more`.
    pub fn fetch(more: &[&str], say: &dyn Fn(&str)) -> Result<Debian> {
        let cache = paths::cache()?.join("debian");
        let mut packages = Packages::fetch(&cache, &[&PACKAGES[..], more].concat(), say)?;
        if let Some(kernel) = packages.named(KERNEL)?.stands_for("linux-image-").map(str::to_owned) {
            packages = packages.and(Packages::fetch(&cache, &[&kernel], say)?);
        }
        let mut versions = fs::read_dir(packages.path("lib/modules")?)?;
        let version = versions.next().context("the kernel package has no modules")??.file_name();
        Ok(Debian { version: version.to_string_lossy().into_owned(), packages })
    }

    /// The kernel.
    pub fn kernel(&self) -> Result<Vec<u8>> {
        self.packages.read(&format!("boot/vmlinuz-{}", self.version))
    }

    /// A system with `init`, busybox, the modules for QEMU's disks and networks, and below `root` curl and the `programs` that
    /// are at these paths of the packages.
    pub fn tree(&self, init: String, root: &str, programs: &[&str]) -> Result<Tree> {
        let mut tree = Tree::new();
        tree.file("init", 0o755, init.into_bytes());
        tree.file("bin/busybox", 0o755, self.packages.read("bin/busybox")?);
        let folder = self.packages.path("lib/modules")?.join(&self.version);
        let mut chosen = modules::choose_from(&folder, MODULES, "")?;
        for (at, path) in chosen.order.iter().enumerate() {
            tree.file(&format!("modules/{at:02}.ko"), 0o644, chosen.files.remove(path).unwrap_or_default());
        }
        // A client of HTTP wants to trust somebody, also where nobody is asked for a certificate.
        let authority = self.packages.read("usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt")?;
        tree.file(&format!("{root}etc/ssl/certs/ca-certificates.crt"), 0o644, authority);
        let paths = [&["usr/bin/curl"], programs].concat();
        let programs = paths.iter().map(|path| self.packages.read(path)).collect::<Result<Vec<_>>>()?;
        for (path, program) in paths.iter().zip(&programs) {
            let name = path.rsplit('/').next().unwrap_or(path);
            tree.file(&format!("{root}usr/bin/{name}"), 0o755, program.clone());
        }
        let programs: Vec<&[u8]> = programs.iter().map(Vec::as_slice).collect();
        for (path, data) in libraries::closure(&programs, &self.packages, &AMD64)? {
            tree.file(&format!("{root}{path}"), 0o755, data);
        }
        Ok(tree)
    }
}
