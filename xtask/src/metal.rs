//! `cargo xtask e2e-metal`: the stories about real machines, and what they need beyond the bed.

use crate::{bed, command, node_image, packages, paths, python, ramdisk, stand_in, test};
use anyhow::{Context, Result};
use rackwright_e2e::metal::EMULATOR;
use rackwright_e2e::metal::bed::{INSTALLER, NODE_IMAGE, RAMDISK, STAND_IN_INSTALLER};
use rackwright_e2e::metal::mirror::UPSTREAM;
use rackwright_e2e::{Narrator, Programs};
use rackwright_ramdisk::packages::Packages;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// A file of each Debian package, and the package.
const DEBIAN: [(&str, &str); 13] = [
    ("/usr/sbin/libvirtd", "libvirt-daemon-system"),
    ("/usr/bin/virsh", "libvirt-clients"),
    ("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so", "libvirt-daemon-driver-qemu"),
    ("/usr/include/libvirt/libvirt.h", "libvirt-dev"),
    ("/usr/bin/pkg-config", "pkg-config"),
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/bin/qemu-img", "qemu-utils"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("/usr/sbin/lldpd", "lldpd"),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ("/usr/bin/ip", "iproute2"),
    ("/usr/lib/ipxe/undionly.kpxe", "ipxe"),
    ("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu"),
];
/// The emulator with libvirt's bindings, and what writes UEFI variables.
const PYTHON: [&str; 4] = ["sushy-tools==2.2.0", "bcrypt==5.0.0", "libvirt-python==12.8.0", "virt-firmware==26.10"];

/// What stories about real machines are given.
pub struct Metal {
    programs: Programs,
    extra: Vec<(&'static str, PathBuf)>,
}

impl Metal {
    /// Tells stories where everything is.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let extra = self.extra.iter().map(|(name, path)| (*name, path.clone().into_os_string()));
        test::environment(&self.programs).into_iter().chain(extra).collect()
    }
}

/// Installs and builds what is missing.
pub fn prepare(narrator: &Narrator) -> Result<Metal> {
    let programs = bed::prepare(narrator)?;
    packages::need(&DEBIAN)?;
    let emulator = python::environment(&PYTHON)?;
    narrator.step("libvirt, QEMU, OVMF, sushy-emulator: installed");
    let extra = vec![
        (EMULATOR, emulator),
        (RAMDISK, ramdisk::prepare(narrator)?),
        (NODE_IMAGE, node_image::prepare(narrator)?),
    ];
    Ok(Metal { programs, extra })
}

/// The story that every test run tells: everything in it is real, and it takes the longest way.
const WHOLE: &str = "nodes::an_empty_machine_becomes_a_node_that_runs_a_pod_and_is_given_back_wiped";

/// Runs one whole machine.
pub fn one() -> Result<()> {
    let metal = prepare(&Narrator::stdout())?;
    stories(&metal, Some(WHOLE))
}

/// Runs every story about real machines, or those whose name contains `filter`.
pub fn run(filter: Option<&str>) -> Result<()> {
    let narrator = Narrator::stdout();
    let mut metal = prepare(&narrator)?;
    metal.extra.extend(debian_installer(&narrator)?);
    metal.extra.push((STAND_IN_INSTALLER, stand_in::prepare(&narrator)?));
    stories(&metal, filter)
}

/// What installs Debian, as Debian ships it, and where it finds what it installs.
fn debian_installer(narrator: &Narrator) -> Result<[(&'static str, PathBuf); 2]> {
    const PACKAGE: &str = "debian-installer-12-netboot-amd64";
    const FOLDER: &str = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
    let packages = Packages::fetch(&paths::cache()?.join("debian"), &[PACKAGE], &|line| narrator.step(line))?;
    let targets = ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Component: main"];
    let targets = command::output(Command::new("apt-get").args(targets))?;
    let mirror = targets.lines().find_map(|line| line.strip_suffix("/debian/ bookworm"));
    let mirror = mirror.context("this machine's apt does not know where Debian 12 is")?;
    Ok([(INSTALLER, packages.path(FOLDER)?), (UPSTREAM, mirror.into())])
}

/// Runs the stories, one after another.
pub fn stories(metal: &Metal, filter: Option<&str>) -> Result<()> {
    let mut cargo = Command::new(bed::cargo());
    cargo.current_dir(paths::root()).args(["test", "--package", "rackwright-e2e", "--test", "metal"]).args(filter);
    cargo.args(["--", "--include-ignored", "--test-threads=1", "--nocapture"]);
    command::run(cargo.envs(metal.environment()))
}
