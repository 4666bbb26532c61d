//! A machine as libvirt is told of it (libvirt.org/formatdomain.html).

use super::lan::BRIDGE;
use super::machine::{Bus, DiskSpec, Firmware, Spec};
use std::path::{Path, PathBuf};

/// What libvirt calls disk `index`, and most kernels.
pub(super) fn target(index: usize) -> String {
    format!("vd{}", char::from(b'a' + index as u8))
}

/// The files that a machine is made of.
pub(super) struct Files<'a> {
    /// Its disks.
    pub disks: &'a [PathBuf],
    /// Its firmware's variables.
    pub variables: &'a Path,
    /// What it says on its serial port.
    pub serial: &'a Path,
    /// Socket for what is typed there.
    pub keyboard: &'a Path,
}

/// The whole machine.
pub(super) fn domain(spec: &Spec, files: &Files<'_>) -> String {
    let (name, uuid) = (&spec.name, spec.uuid());
    let firmware = match spec.firmware {
        Firmware::Bios => "<bios useserial='yes' rebootTimeout='0'/>".to_owned(),
        Firmware::Uefi => format!(
            "<loader readonly='yes' secure='no' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>\
             <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{}</nvram>",
            files.variables.display()
        ),
    };
    let (mut devices, mut beyond) = (String::new(), String::new());
    for (at, (disk, path)) in spec.disks.iter().zip(files.disks).enumerate() {
        match disk.bus {
            Bus::Virtio => devices += &virtio_disk(disk, at, path),
            Bus::Nvme => beyond += &nvme_disk(disk, at, path),
        }
    }
    let clock = spec.clock.map(|start| format!("<clock offset='absolute' start='{start}'/>")).unwrap_or_default();
    let rom = if spec.boot_rom { "" } else { "<rom enabled='no'/>" };
    // qemu64 is the quickest processor without hardware virtualization. libvirt wants the UUID in both places.
    format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>{name}</name><uuid>{uuid}</uuid>\
         <memory unit='MiB'>{memory}</memory><vcpu>{cpus}</vcpu>\
         <sysinfo type='smbios'><system><entry name='manufacturer'>Rackwright</entry>\
         <entry name='product'>Lab machine</entry><entry name='serial'>{sn}</entry>\
         <entry name='uuid'>{uuid}</entry></system></sysinfo>\
         <os><type arch='x86_64' machine='q35'>hvm</type>{firmware}<smbios mode='sysinfo'/></os>\
         <features><acpi/><apic/><tcg><tb-cache unit='MiB'>256</tb-cache></tcg></features>\
         <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>\
         {clock}<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>\
         <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>\
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}\
         <interface type='bridge'><mac address='{mac}'/><source bridge='{BRIDGE}'/><model type='virtio'/>\
         <boot order='{nic_order}'/>{rom}</interface>\
         <serial type='unix'><source mode='bind' path='{keyboard}'/><log file='{serial}' append='on'/>\
         <target port='0'/></serial>\
         <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
         <memballoon model='none'/><video><model type='none'/></video></devices>\
         <qemu:commandline>{beyond}</qemu:commandline></domain>",
        memory = spec.memory_mib,
        cpus = spec.cpus,
        sn = spec.serial(),
        mac = spec.mac(),
        nic_order = spec.disks.len() + 1,
        serial = files.serial.display(),
        keyboard = files.keyboard.display(),
    )
}

fn virtio_disk(disk: &DiskSpec, at: usize, path: &Path) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe' discard='unmap' \
         error_policy='report'/><source file='{}'/><target dev='{}' bus='virtio'/>{}<serial>{}</serial>\
         <boot order='{}'/></disk>",
        path.display(),
        target(at),
        if disk.read_only { "<readonly/>" } else { "" },
        disk.serial,
        at + 1
    )
}

/// libvirt knows no NVMe controller that is emulated; QEMU does.
fn nvme_disk(disk: &DiskSpec, at: usize, path: &Path) -> String {
    let file = format!("file={},format=raw,if=none,id=nvme{at},cache=unsafe,discard=unmap", path.display());
    // A slot that libvirt, which knows nothing of it, gives to nobody.
    let device = format!("nvme,drive=nvme{at},serial={},bus=pcie.0,addr={:#x}", disk.serial, 0x10 + at);
    let words = ["-drive", &file, "-device", &device];
    words.map(|word| format!("<qemu:arg value='{word}'/>")).concat()
}
