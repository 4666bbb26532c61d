//! Network interfaces that are hardware.

use crate::linux::{Roots, names, number, text};
use rackwright_protocol::facts::Nic;

/// `ARPHRD_ETHER` of the kernel.
const ETHERNET: i64 = 1;

/// Ethernet interfaces with a device behind them, without the virtual functions of SR-IOV.
pub fn read(roots: &Roots) -> Vec<Nic> {
    let folder = roots.sys.join("class/net");
    let mut nics = Vec::new();
    for name in names(&folder) {
        let nic = folder.join(&name);
        let hardware = nic.join("device").exists() && !nic.join("device/physfn").exists();
        let Some(mac) = text(nic.join("address")).map(|mac| mac.to_ascii_lowercase()) else { continue };
        if !hardware || number(nic.join("type")) != Some(ETHERNET) || mac == "00:00:00:00:00:00" {
            continue;
        }
        // Reads as -1, or not at all, while there is no link.
        let speed_mbps = number(nic.join("speed")).filter(|mbps| (1..=10_000_000).contains(mbps));
        nics.push(Nic { name, mac, speed_mbps, ..Nic::default() });
    }
    nics.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    nics
}
