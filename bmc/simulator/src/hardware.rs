//! What a simulated machine is made of, and where it stands. All of it follows from rack, unit and a template: two runs
//! with the same configuration have the same MAC addresses, UUIDs and serial numbers.

use crate::faults::{Fault, Faults};
use crate::machine::Target;
use rackwright_protocol::facts::{Cpu, Disk, Facts, Nic};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Highest unit of a rack, and highest rack: both are octets of an address whose 0 and 255 mean something else.
pub const OCTET_MAX: u8 = 254;

/// What machines of one kind are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Hardware {
    /// SMBIOS manufacturer.
    pub vendor: String,
    /// SMBIOS product name.
    pub model: String,
    /// Physical cores; each has two threads.
    pub cores: i32,
    /// Memory, MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: i64,
    /// Disks, in the kernel's order.
    pub disks: Vec<DiskTemplate>,
    /// Number of network interfaces. The first one is the boot interface.
    pub nics: u8,
    /// What its BMC can have it boot besides its disks. Without `Cd` there is no virtual drive.
    pub boots: Vec<Target>,
}

/// One disk of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskTemplate {
    /// Kernel name, for example `/dev/nvme0n1`.
    pub device: String,
    /// Size, GiB.
    #[serde(rename = "sizeGiB")]
    pub size_gib: i64,
    /// Turning disk or not.
    #[serde(default)]
    pub rotational: bool,
}

impl Default for Hardware {
    fn default() -> Self {
        let disk = |device: &str, size_gib, rotational| DiskTemplate { device: device.into(), size_gib, rotational };
        Self {
            vendor: "Rackwright".into(),
            model: "Simulated 1U".into(),
            cores: 16,
            memory_mib: 64 * 1024,
            disks: vec![disk("/dev/nvme0n1", 480, false), disk("/dev/sda", 4000, true)],
            nics: 2,
            boots: vec![Target::Cd, Target::UefiHttp, Target::Pxe],
        }
    }
}

/// One machine: who it is and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// For example `rack-a-u01`.
    pub name: String,
    /// Rack.
    pub rack: String,
    /// Lowest height unit in the rack, from 1.
    pub unit: u8,
    /// Address of the BMC and of the host.
    pub address: Ipv4Addr,
    /// What an inspection finds.
    pub facts: Facts,
    /// What its BMC can have it boot besides its disks.
    pub boots: Vec<Target>,
}

impl Spec {
    /// The machine in `unit` of the rack called `rack`, the `rack_number`th of datacenter number `datacenter`.
    pub fn new(datacenter: u8, rack: &str, rack_number: u8, unit: u8, hardware: &Hardware) -> Spec {
        let place = [datacenter, rack_number, unit];
        let address = Ipv4Addr::new(127, datacenter, rack_number, unit);
        let facts = Facts {
            vendor: Some(hardware.vendor.clone()),
            model: Some(hardware.model.clone()),
            serial: Some(format!("SIM{:03}{:03}{:03}", datacenter, rack_number, unit)),
            // "rackwright" in ASCII, then the place: easy to tell from a real one, never twice the same.
            system_uuid: Some(format!("7261636b-7772-4967-8874-000000{}", hex::encode(place))),
            boot_mode: Some("UEFI".into()),
            cpu: Cpu {
                architecture: "amd64".into(),
                model: Some("Simulated CPU".into()),
                cores: hardware.cores,
                threads: hardware.cores * 2,
            },
            memory_mib: hardware.memory_mib,
            disks: hardware.disks.iter().enumerate().map(|(at, disk)| disk_facts(place, at, disk)).collect(),
            nics: (0..hardware.nics).map(|number| nic_facts(place, rack, number, address)).collect(),
            ..Facts::default()
        };
        Spec {
            name: format!("{rack}-u{unit:02}"),
            rack: rack.into(),
            unit,
            address,
            facts,
            boots: hardware.boots.clone(),
        }
    }

    /// MAC address of the interface it boots from, lower case; empty when it has none.
    pub fn boot_mac(&self) -> &str {
        self.facts.nics.first().map_or("", |nic| &nic.mac)
    }

    /// True when its BMC can have it boot that.
    pub fn boots(&self, target: Target) -> bool {
        matches!(target, Target::None | Target::Hdd) || self.boots.contains(&target)
    }

    /// The UUID that its BMC shows.
    pub fn shown_uuid(&self, faults: &Faults) -> Option<String> {
        let uuid = self.facts.system_uuid.as_ref()?;
        // Another machine's: these begin with other letters than those of any machine here.
        Some(if faults.has(Fault::WrongUuid) { uuid.replacen("7261636b", "6f746865", 1) } else { uuid.clone() })
    }

    /// SMBIOS system UUID, lower case.
    pub fn uuid(&self) -> &str {
        self.facts.system_uuid.as_deref().unwrap_or_default()
    }
}

fn disk_facts([datacenter, rack, unit]: [u8; 3], at: usize, disk: &DiskTemplate) -> Disk {
    let serial = format!("D{datacenter:03}{rack:03}{unit:03}N{at}");
    Disk {
        device: disk.device.clone(),
        size_bytes: disk.size_gib << 30,
        rotational: disk.rotational,
        read_only: false,
        model: Some(if disk.rotational { "Simulated HDD" } else { "Simulated SSD" }.into()),
        wwn: Some(format!("0x5000{datacenter:02x}{rack:02x}{unit:02x}0000{at:02x}")),
        serial: Some(serial),
        by_path: Some(format!("pci-0000:00:{:02x}.0", 4 + at)),
    }
}

fn nic_facts([datacenter, rack_number, unit]: [u8; 3], rack: &str, number: u8, address: Ipv4Addr) -> Nic {
    let first = number == 0;
    Nic {
        name: format!("eno{}", number + 1),
        mac: format!("52:54:{number:02x}:{datacenter:02x}:{rack_number:02x}:{unit:02x}"),
        speed_mbps: first.then_some(25_000),
        addresses: if first { vec![address.to_string()] } else { Vec::new() },
        lldp_switch: first.then(|| format!("tor-{rack}")),
        lldp_port: first.then(|| format!("Ethernet{unit}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_a_machine_follows_from_its_place() {
        let spec = Spec::new(10, "rack-a", 1, 7, &Hardware::default());
        assert_eq!(spec.name, "rack-a-u07");
        assert_eq!(spec.address.to_string(), "127.10.1.7");
        assert_eq!(spec.boot_mac(), "52:54:00:0a:01:07");
        assert_eq!(spec.uuid(), "7261636b-7772-4967-8874-0000000a0107");
    }
}
