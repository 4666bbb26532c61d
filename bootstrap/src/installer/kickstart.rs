//! A kickstart: anaconda's answers (pykickstart is its parser).

use super::{Install, Kickstart, scripts, template, words};
use crate::RenderError;

/// What the node needs beside what a person asked for.
const PACKAGES: [&str; 2] = ["cloud-init", "curl"];

/// The kickstart of `install`: a person's own or a generated one, and then what ends the installation.
pub(super) fn render(install: &Install, wanted: &Kickstart) -> Result<String, RenderError> {
    let mut text = match wanted {
        Kickstart::Own(own) => {
            let mut text = template::render("kickstart", own, install)?;
            check_sections(&text)?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text
        }
        _ => generated(install)? + &source(wanted)?,
    };
    // The last of these commands counts: whatever a person's own kickstart says, the manager waits for the power to go.
    text += "poweroff\n";
    if let Kickstart::Packages { names, .. } = wanted {
        text += &packages(names)?;
    }
    // In the new system: the data. Outside of it: the network is up, and curl is there.
    text += &section("%post --erroronfail", &scripts::seed(install));
    text += &section("%post --nochroot --erroronfail", &scripts::done(&install.report));
    text += &section("%onerror", &scripts::failed(&install.report));
    Ok(text)
}

fn section(header: &str, body: &str) -> String {
    format!("\n{header}\n{body}%end\n")
}

/// Everything but what is installed.
fn generated(install: &Install) -> Result<String, RenderError> {
    let disk = &install.disk;
    Ok(format!(
        "# Written by Rackwright, anew for each installation.\n\
         cmdline\n\
         lang en_US.UTF-8\n\
         keyboard --xlayouts=us\n\
         timezone Etc/UTC --utc\n\
         rootpw --lock\n\
         firstboot --disable\n\
         {}\
         ignoredisk --only-use=\"{disk}\"\n\
         zerombr\n\
         clearpart --all --initlabel --disklabel=gpt --drives=\"{disk}\"\n\
         bootloader --boot-drive=\"{disk}\"\n\
         reqpart --add-boot\n\
         part / --fstype=xfs --size=4096 --grow --ondisk=\"{disk}\"\n",
        network(install)?
    ))
}

fn network(install: &Install) -> Result<String, RenderError> {
    let (mac, hostname) = (&install.boot_mac, &install.hostname);
    let Some(address) = &install.address else {
        return Ok(format!("network --bootproto=dhcp --device={mac} --hostname={hostname} --activate\n"));
    };
    let (ip, prefix) = words::address(address)?;
    let gateway = words::ip("ramdisk.network.gateway", address.gateway.as_deref())?;
    let (options, gateway_option) = match words::netmask(ip, prefix) {
        Some(mask) => (format!("--bootproto=static --ip={ip} --netmask={mask}"), "--gateway"),
        None => (format!("--noipv4 --ipv6={ip}/{prefix}"), "--ipv6gateway"),
    };
    let gateway = gateway.map(|gateway| format!(" {gateway_option}={gateway}")).unwrap_or_default();
    let servers = match address.dns.as_slice() {
        [] => " --nodns".to_owned(),
        servers => format!(" --nameserver={}", servers.join(",")),
    };
    let vlan = address.vlan.map(|tag| format!(" --vlanid={tag}")).unwrap_or_default();
    Ok(format!("network {options}{gateway}{servers}{vlan} --device={mac} --hostname={hostname} --activate\n"))
}

/// The command that says what is installed.
fn source(wanted: &Kickstart) -> Result<String, RenderError> {
    let option = |name: &str, field: &str, value: &str| -> Result<String, RenderError> {
        Ok(format!(" --{name}=\"{}\"", words::word(field, value)?))
    };
    Ok(match wanted {
        Kickstart::Own(_) => String::new(),
        Kickstart::OstreeSetup { osname, url, reference, gpg } => format!(
            "ostreesetup{}{}{}{}\n",
            option("osname", "kickstart.ostree.setup.osname", osname)?,
            option("url", "kickstart.ostree.setup.url", url)?,
            option("ref", "kickstart.ostree.setup.ref", reference)?,
            if *gpg { "" } else { " --nogpg" }
        ),
        Kickstart::OstreeContainer { url, transport, stateroot, remote, signature_verification } => {
            let mut command = "ostreecontainer".to_owned();
            for (name, value) in [("stateroot", stateroot), ("remote", remote), ("transport", transport)] {
                if let Some(value) = value {
                    command += &option(name, &format!("kickstart.ostree.container.{name}"), value)?;
                }
            }
            command += &option("url", "kickstart.ostree.container.url", url)?;
            command + if *signature_verification { "\n" } else { " --no-signature-verification\n" }
        }
        Kickstart::Packages { url, .. } => format!("url{}\n", option("url", "kickstart.packages.url", url)?),
    })
}

fn packages(names: &[String]) -> Result<String, RenderError> {
    let mut body = "@^minimal-environment\n".to_owned();
    if names.iter().any(|name| name.starts_with("@^")) {
        body.clear(); // an environment of the person's own
    }
    for name in PACKAGES.iter().copied().chain(names.iter().map(String::as_str)) {
        body += words::package("kickstart.packages.names", name)?;
        body.push('\n');
    }
    Ok(section("%packages", &body))
}

/// Refuses a kickstart whose last section is not closed: what is appended would become a part of it.
fn check_sections(text: &str) -> Result<(), RenderError> {
    let mut open: Option<(usize, &str)> = None;
    for (index, line) in text.lines().enumerate() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.starts_with('%') || matches!(first, "%include" | "%ksappend") {
            continue;
        }
        match (open, first) {
            (Some(_), "%end") => open = None,
            (Some(_), _) => {} // a line of that section, or an error that anaconda names better
            (None, "%end") => {
                return Err(RenderError::new("kickstart", format!("line {}: %end closes no section", index + 1)));
            }
            (None, section) => open = Some((index + 1, section)),
        }
    }
    match open {
        Some((line, section)) => {
            Err(RenderError::new("kickstart", format!("line {line}: the section {section} does not end with %end")))
        }
        None => Ok(()),
    }
}
