//! The answers that an installer gets: from what a host is to become to the files in the installer's initial ramdisk.
//!
//! Two installers are known: anaconda, by kickstart, and debian-installer, by preseed. Both end alike: the user-data is
//! left where cloud-init's NoCloud reads it (`scripts`), the boot service is told, the machine switches itself off, and
//! the manager goes on as after any deployment. Nothing is fetched and nothing secret stands on the kernel command
//! line: the answers are files. Which disk it is stands in them as the text that the caller gives (`Install::disk`);
//! the agent knows the disk before the installer starts, so no answer looks for one.

mod kickstart;
mod preseed;
mod scripts;
mod template;
mod words;

use crate::RenderError;
use std::collections::BTreeMap;
use std::net::IpAddr;
pub use template::VARIABLES;

/// Longest kernel command line, bytes: x86 takes 2048 with the end mark (`COMMAND_LINE_SIZE`), and some room is left
/// for the path of the disk.
const COMMAND_LINE_MAX: usize = 1900;

/// Everything that the answers for one host depend on. Does not print itself: it holds the user-data.
#[derive(Clone)]
pub struct Install {
    /// What is to be installed, and by which installer.
    pub wanted: Wanted,
    /// Path of the disk, or the text that the agent puts the path in the place of.
    pub disk: String,
    /// Host name of the node.
    pub hostname: String,
    /// MAC address of the interface to use, lower case.
    pub boot_mac: String,
    /// Its address while installing; absent: DHCP.
    pub address: Option<Address>,
    /// More arguments of the kernel, each one word.
    pub kernel_arguments: Vec<String>,
    /// What cloud-init is to read.
    pub user_data: String,
    /// `meta-data` of NoCloud.
    pub meta_data: String,
    /// What else a person's own template may name, see [`VARIABLES`].
    pub facts: BTreeMap<String, String>,
    /// How the end is told.
    pub report: Report,
}

/// What is to be installed, and by which installer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By anaconda.
    Kickstart(Kickstart),
    /// By debian-installer.
    Preseed(Preseed),
}

/// What anaconda installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kickstart {
    /// What a person's own kickstart says; a template.
    Own(String),
    /// An ostree of a repository.
    OstreeSetup {
        /// Name of the operating system in it.
        osname: String,
        /// The repository.
        url: String,
        /// Branch or commit.
        reference: String,
        /// Whether signatures are checked.
        gpg: bool,
    },
    /// An ostree in a container image.
    OstreeContainer {
        /// The image.
        url: String,
        /// How it is fetched.
        transport: Option<String>,
        /// Name of the state root.
        stateroot: Option<String>,
        /// Name of the remote for updates.
        remote: Option<String>,
        /// Whether ostree checks the signature.
        signature_verification: bool,
    },
    /// Packages.
    Packages {
        /// The repository.
        url: String,
        /// Their names, beside what we need ourselves.
        names: Vec<String>,
    },
}

/// What debian-installer installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preseed {
    /// What a person's own preseed says; a template.
    Own(String),
    /// Packages of a mirror.
    Mirror {
        /// Host.
        host: String,
        /// Folder.
        directory: String,
        /// Release.
        suite: Option<String>,
        /// Names of packages, beside what we need ourselves.
        packages: Vec<String>,
    },
}

/// A static address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// With its prefix length, for example `10.1.0.7/24`.
    pub address: String,
    /// Router for everything else.
    pub gateway: Option<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// VLAN tag.
    pub vlan: Option<u16>,
}

/// How an installer tells its end: a POST to the boot service.
#[derive(Clone)]
pub struct Report {
    /// Where to.
    pub url: String,
    /// Authorities to trust for it, PEM; and no others.
    pub ca_pem: String,
    /// Bearer token.
    pub token: String,
    /// Body when it is done; one line.
    pub done: String,
    /// Body when it failed; one line.
    pub failed: String,
}

/// What an installer is given.
#[derive(Clone, PartialEq, Eq)]
pub struct Answers {
    /// Path in the initial ramdisk, and content.
    pub files: Vec<(String, String)>,
    /// The kernel's command line.
    pub command_line: String,
}

/// The answers for `install`; the same input gives the same bytes. Refused, with the field's name, when a text could
/// leave its place, or when a person's own template cannot be used.
pub fn render(install: &Install) -> Result<Answers, RenderError> {
    check(install)?;
    let (files, first) = match &install.wanted {
        Wanted::Kickstart(wanted) => {
            let text = kickstart::render(install, wanted)?;
            (vec![("/ks.cfg".to_owned(), text)], "inst.ks=file:/ks.cfg inst.cmdline")
        }
        // debian-installer reads /preseed.cfg of its initial ramdisk unasked.
        Wanted::Preseed(wanted) => (preseed::render(install, wanted)?, "auto=true priority=critical"),
    };
    let anaconda = matches!(install.wanted, Wanted::Kickstart(_));
    let mut arguments = vec![first.to_owned(), format!("BOOTIF=01-{}", install.boot_mac.replace(':', "-"))];
    arguments.push(format!("rackwright.disk={}", install.disk));
    if anaconda {
        arguments.extend(dracut_network(install)?);
    }
    arguments.extend(install.kernel_arguments.iter().cloned());
    let command_line = arguments.join(" ");
    if command_line.len() > COMMAND_LINE_MAX {
        return Err(RenderError::new(
            "installer.kernelArguments",
            format!("the command line has {} bytes and a kernel takes {COMMAND_LINE_MAX}", command_line.len()),
        ));
    }
    Ok(Answers { files, command_line })
}

/// Refuses a person's own kickstart or preseed that no host could be installed with: it is asked about before a host is
/// claimed for it. Facts of a host stand in for those of the host that will be chosen.
pub fn check_template(wanted: &Wanted) -> Result<(), RenderError> {
    let stand_in = Install {
        wanted: wanted.clone(),
        disk: "/dev/disk/by-path/pci-0000:00:04.0".into(),
        hostname: "host".into(),
        boot_mac: "52:54:00:00:00:01".into(),
        address: None,
        kernel_arguments: Vec::new(),
        user_data: String::new(),
        meta_data: String::new(),
        facts: template::FACTS.iter().map(|(name, _)| ((*name).to_owned(), "1".to_owned())).collect(),
        report: Report {
            url: "https://192.0.2.1/".into(),
            ca_pem: String::new(),
            token: String::new(),
            done: String::new(),
            failed: String::new(),
        },
    };
    render(&stand_in).map(drop)
}

fn check(install: &Install) -> Result<(), RenderError> {
    words::word("rootDevice", &install.disk)?;
    if !crate::names::is_dns_subdomain(&install.hostname) {
        return Err(RenderError::new("hostname", "is not a DNS name"));
    }
    if !words::is_mac(&install.boot_mac) {
        return Err(RenderError::new("bootMACAddress", "is not six lower-case hex pairs"));
    }
    for argument in &install.kernel_arguments {
        if argument.is_empty() || !argument.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RenderError::new("installer.kernelArguments", "an argument is one word of printable ASCII"));
        }
    }
    for (field, line) in [
        ("boot.url", &install.report.url),
        ("report.token", &install.report.token),
        ("report.done", &install.report.done),
        ("report.failed", &install.report.failed),
    ] {
        words::line(field, line)?;
    }
    install.address.as_ref().map_or(Ok(()), |address| words::address(address).map(drop))
}

/// The network of anaconda's initial ramdisk (dracut.cmdline(7)), which has to fetch the rest of anaconda.
fn dracut_network(install: &Install) -> Result<Vec<String>, RenderError> {
    let Some(address) = &install.address else { return Ok(vec!["ip=dhcp".to_owned()]) };
    const LINK: &str = "boot0";
    let (ip, prefix) = words::address(address)?;
    let bracketed = |ip: IpAddr| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let gateway = words::ip("ramdisk.network.gateway", address.gateway.as_deref())?.map(bracketed).unwrap_or_default();
    let mask = words::netmask(ip, prefix).map_or_else(|| prefix.to_string(), |mask| mask.to_string());
    let mut arguments = vec![format!("ifname={LINK}:{}", install.boot_mac)];
    let link = match address.vlan {
        Some(tag) => {
            arguments.push(format!("vlan={LINK}.{tag}:{LINK}"));
            format!("{LINK}.{tag}")
        }
        None => LINK.to_owned(),
    };
    arguments.push(format!("ip={}::{gateway}:{mask}:{}:{link}:none", bracketed(ip), install.hostname));
    for server in &address.dns {
        let server = words::ip("ramdisk.network.dns", Some(server))?;
        arguments.extend(server.map(|server| format!("nameserver={server}")));
    }
    Ok(arguments)
}
