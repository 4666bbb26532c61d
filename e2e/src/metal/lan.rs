//! The network of a lab: one bridge with the lab's own address, DHCP for the machines, nothing beyond.

use super::{machine, run};
use crate::process::{Launch, Process};
use anyhow::Result;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Network namespace of the DHCP server: a computer of its own, as at any site, so that port 67 of ours stays free.
const DHCP: &str = "dhcp";
/// The bridge that machines are plugged into.
pub const BRIDGE: &str = "rackwright0";
/// Address of the lab on it: the boot service, the images.
pub const LAB: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The same for IPv6.
pub const LAB_V6: Ipv6Addr = Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, 1);
/// The machine of this number is given no address by DHCP.
pub const WITHOUT_DHCP: u8 = 6;

/// Where the control plane of the workload cluster answers.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);

/// Address of the BMC of machine `number`.
pub fn bmc(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 1, number)
}

/// The network; it ends with its namespace.
pub struct Lan {
    _dhcp: Process,
}

impl Lan {
    /// Makes the bridge and starts DHCP in `folder`.
    pub fn start(folder: &Path) -> Result<Lan> {
        run("ip", &["link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        run("ip", &["address", "add", &format!("{LAB}/16"), "dev", BRIDGE])?;
        run("ip", &["address", "add", &format!("{CONTROL_PLANE}/16"), "dev", BRIDGE])?;
        run("ip", &["-6", "address", "add", &format!("{LAB_V6}/64"), "dev", BRIDGE, "nodad"])?;
        run("ip", &["link", "set", BRIDGE, "up"])?;
        run("ip", &["netns", "add", DHCP])?;
        run("ip", &["link", "add", "dhcp0", "type", "veth", "peer", "name", "eth0", "netns", DHCP])?;
        run("ip", &["link", "set", "dhcp0", "master", BRIDGE, "up"])?;
        run("ip", &["-n", DHCP, "address", "add", "172.30.0.3/16", "dev", "eth0"])?;
        run("ip", &["-n", DHCP, "-6", "address", "add", "fd30::3/64", "dev", "eth0", "nodad"])?;
        run("ip", &["-n", DHCP, "link", "set", "eth0", "up"])?;
        let config = folder.join("dnsmasq.conf");
        fs::write(&config, dhcp(folder))?;
        let launch = Launch::new("dnsmasq", Path::new("ip")).args(["netns", "exec", DHCP, "dnsmasq"]);
        let launch = launch.args(["--keep-in-foreground".into(), format!("--conf-file={}", config.display())]);
        Ok(Lan { _dhcp: launch.start(&folder.join("log"))? })
    }

    /// Gives the lab the address of a BMC.
    pub fn add_bmc(&self, number: u8) -> Result<()> {
        run("ip", &["address", "add", &format!("{}/16", bmc(number)), "dev", BRIDGE]).map(drop)
    }
}

/// Lets the bridge tell every machine, by LLDP and often, that it is the switch `name`; it ends with what is given.
pub fn speak_lldp(folder: &Path, name: &str) -> Result<Process> {
    fs::create_dir_all("/run/lldpd")?; // where its unprivileged half lives
    let (config, socket) = (folder.join("lldpd.conf"), folder.join("lldpd.socket"));
    let words = format!(
        "configure system hostname {name}\nconfigure lldp tx-interval 100ms\nconfigure lldp portidsubtype ifname\n"
    );
    fs::write(&config, words)?;
    let files = ["-O".into(), config.display().to_string(), "-u".into(), socket.display().to_string()];
    // libvirt calls the bridge's end of each cable vnetN.
    let launch = Launch::new("lldpd", Path::new("lldpd")).args(["-d", "-I", "vnet*"]).args(files);
    launch.start(&folder.join("log"))
}

/// Addresses and nothing to boot from: virtual media needs no more.
fn dhcp(folder: &Path) -> String {
    let leases = folder.join("dnsmasq.leases");
    // Router advertisements: iPXE in the network card's ROM waits 13 s for one before it goes on.
    format!(
        "port=0\nuser=root\ninterface=eth0\nbind-interfaces\ndhcp-authoritative\nno-ping\nlog-dhcp\n\
         log-facility=-\nenable-ra\nra-param=eth0,10\ndhcp-range=fd30::,ra-stateless\n\
         dhcp-host={},ignore\n\
         dhcp-range=172.30.2.1,172.30.2.200,255.255.0.0,1h\ndhcp-option=option:router,{LAB}\n\
         dhcp-leasefile={}\n",
        machine::mac(WITHOUT_DHCP),
        leases.display()
    )
}
