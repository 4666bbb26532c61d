//! What an inspection finds, and what a person may ask of disks. The same shapes stand in HostHardware and Host.

use serde::{Deserialize, Serialize};

const GIB: i64 = 1 << 30;

/// Hardware facts, as the agent reports them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// SMBIOS manufacturer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// SMBIOS product name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// SMBIOS serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// SMBIOS system UUID, lower case.
    #[serde(default, rename = "systemUUID", skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
    /// The machine's firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Secure Boot, when the machine has it: on or off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Version of the TPM, for example `2.0`; absent when there is none.
    #[serde(default, rename = "tpmVersion", skip_serializing_if = "Option::is_none")]
    pub tpm_version: Option<String>,
    /// `UEFI` or `BIOS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    /// Processors.
    pub cpu: Cpu,
    /// Memory, MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: i64,
    /// Disks, in the kernel's order.
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub disks: Vec<Disk>,
    /// Network interfaces, in the kernel's order.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub nics: Vec<Nic>,
    /// GPUs and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub accelerators: Vec<Accelerator>,
}

/// Firmware of a machine, as SMBIOS tells it (DSP0134 type 0).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Firmware {
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its date, as the vendor writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// Processors of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// Model name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Physical cores, all sockets.
    pub cores: i32,
    /// Hardware threads, all sockets.
    pub threads: i32,
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Kernel name, for example `/dev/nvme0n1`.
    pub device: String,
    /// Size, bytes.
    pub size_bytes: i64,
    /// Turning disk or not.
    pub rotational: bool,
    /// Nothing can be written to it: worn out, or locked. It takes no image, and cannot be wiped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World Wide Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Where it is plugged in: the name of its link in `/dev/disk/by-path`, for example `pci-0000:00:04.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_path: Option<String>,
}

impl Disk {
    /// Whether `other` is this disk at another time: kernels name disks anew at each start, and people plug them in
    /// elsewhere. Where nothing but the place is known, what is in the same place and as large is the same.
    pub fn is(&self, other: &Disk) -> bool {
        let both = |mine: &Option<String>, its: &Option<String>| mine.as_ref().zip(its.as_ref()).map(|(a, b)| a == b);
        let place = || both(&self.by_path, &other.by_path).unwrap_or(self.device == other.device);
        both(&self.wwn, &other.wwn)
            .or_else(|| both(&self.serial, &other.serial))
            .unwrap_or_else(|| self.size_bytes == other.size_bytes && place())
    }

    /// Why it cannot take an image, or the first hint that it does not fit.
    pub fn misfit(&self, hints: Option<&RootDevice>) -> Option<String> {
        if self.read_only {
            return Some("it is read-only".into());
        }
        let RootDevice { min_size_gib, rotational, serial, wwn, model, by_path, device_name } = hints?;
        if let Some(wanted) = min_size_gib
            && self.size_bytes < wanted.saturating_mul(GIB)
        {
            return Some(format!("smaller than {wanted} GiB"));
        }
        if let Some(wanted) = rotational
            && self.rotational != *wanted
        {
            return Some(if self.rotational { "it turns" } else { "it does not turn" }.into());
        }
        if let Some(wanted) = model
            && !self.model.as_ref().is_some_and(|model| model.contains(wanted.as_str()))
        {
            return Some(format!("model {} does not contain {wanted:?}", self.model.as_deref().unwrap_or("unknown")));
        }
        let exact = [
            ("serial", serial, self.serial.as_deref()),
            ("wwn", wwn, self.wwn.as_deref()),
            ("path", by_path, self.by_path.as_deref()),
            ("device", device_name, Some(self.device.as_str())),
        ];
        exact.into_iter().find_map(|(what, wanted, found)| {
            let wanted = wanted.as_deref()?;
            (found != Some(wanted)).then(|| format!("{what} is {}, not {wanted}", found.unwrap_or("unknown")))
        })
    }
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// MAC address, lower case.
    pub mac: String,
    /// Link speed, Mbit/s, when there is a link.
    #[serde(default, rename = "speedMbps", skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<i64>,
    /// IP addresses it had in the ramdisk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// LLDP: name of the switch at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lldp_switch: Option<String>,
    /// LLDP: port of that switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lldp_port: Option<String>,
}

/// One accelerator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Lower-case vendor, for example `nvidia`.
    pub vendor: String,
    /// Model.
    pub model: String,
}

/// Hints that must all hold for the disk that the image is written to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RootDevice {
    /// At least this large, GiB.
    #[serde(default, rename = "minSizeGiB", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub min_size_gib: Option<i64>,
    /// Turning disk or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World Wide Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Model contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where it is plugged in: the name of its link in `/dev/disk/by-path`, for example `pci-0000:00:04.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_path: Option<String>,
    /// Kernel name, for example `/dev/nvme0n1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

/// How disks are wiped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WipePolicy {
    /// Partition tables and file-system signatures.
    #[default]
    Metadata,
    /// All blocks discarded (TRIM, NVMe deallocate), then as Metadata.
    Discard,
    /// The drive's own secure erase, or an overwrite where it has none.
    SecureErase,
    /// Every block overwritten with zeros.
    Overwrite,
}

/// What was done to one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WipedDisk {
    /// Kernel name.
    pub device: String,
    /// Serial number, when the disk has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What was done, for example `discard`, and after a `;` why it was not what the policy asks for.
    pub method: String,
    /// What the disk holds, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// What was read afterwards and found as it must be, for example `every byte reads zero`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
    /// How long it took, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// How an image file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Byte for byte what goes to the disk.
    #[default]
    Raw,
    /// Raw, packed with gzip.
    #[serde(rename = "raw.gz")]
    RawGz,
    /// Raw, packed with Zstandard.
    #[serde(rename = "raw.zst")]
    RawZst,
    /// Raw, packed with xz.
    #[serde(rename = "raw.xz")]
    RawXz,
    /// QEMU's copy-on-write format, version 2 or 3, without a backing file. The boot service unpacks it for the hosts.
    Qcow2,
}

/// Which config drive an image's operating system reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConfigDriveKind {
    /// cloud-init's NoCloud: label `cidata`, files `user-data` and `meta-data`.
    #[default]
    NoCloud,
    /// OpenStack's: label `config-2`, files `openstack/latest/user_data` and `openstack/latest/meta_data.json`.
    OpenStack,
}

/// How the written operating system is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FinalBoot {
    /// The machine is switched off, the media taken out, and it starts from its disk: what every later start is like.
    #[default]
    PowerCycle,
    /// The ramdisk's kernel hands over to the written one: saves the power-on self-test. Falls back to PowerCycle.
    Kexec,
}

/// How much of a written image is read from the disk again and compared with what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ReadBack {
    /// Both ends of the image and up to 256 places in between: takes a second or two, finds a disk that lost writes.
    #[default]
    Sampled,
    /// All of it: takes as long as reading the disk takes.
    Whole,
}

/// Address of a host in the ramdisk, where there is neither DHCP nor router advertisement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StaticNetwork {
    /// Address and prefix length, for example `10.1.0.7/24` or `fd00::7/64`.
    pub address: String,
    /// Router for everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8)))]
    pub dns: Vec<String>,
    /// VLAN of the boot interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4094)))]
    pub vlan: Option<u16>,
}
