//! Static addresses as systemd-networkd files (systemd.network(5), systemd.netdev(5)), and the service network's DNS
//! address.

use crate::RenderError;
use crate::cloud_config::OsFile;
use crate::input::{Interface, Network};
use crate::yaml::{Yaml, has_jinja};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kubeadm takes when nobody says otherwise.
const DEFAULT_SERVICE_CIDR: &str = "10.96.0.0/12";
/// The cluster's name server has this place in the service network (kubeadm, `GetDNSIP`).
const DNS_PLACE: u32 = 10;

/// Refuses interfaces that networkd would not take.
pub(crate) fn check(network: &Network) -> Result<(), RenderError> {
    let mut seen = Vec::new();
    for (index, interface) in network.interfaces.iter().enumerate() {
        let field = format!("network.interfaces[{index}]");
        check_interface(&field, interface)?;
        if seen.contains(&(&interface.name, interface.vlan)) {
            return Err(RenderError::new(field, format!("{} is there twice", device(interface))));
        }
        seen.push((&interface.name, interface.vlan));
    }
    for (index, server) in network.name_servers.iter().enumerate() {
        check_address(&format!("network.nameServers[{index}]"), server, false)?;
    }
    Ok(())
}

fn check_interface(field: &str, interface: &Interface) -> Result<(), RenderError> {
    let name = &interface.name;
    let named = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !named || device(interface).len() > 15 {
        return Err(RenderError::new(
            format!("{field}.name"),
            "is not a kernel name such as eth0 (with its VLAN tag at most 15 characters, no jinja)",
        ));
    }
    if interface.vlan.is_some_and(|tag| !(1..=4094).contains(&tag)) {
        return Err(RenderError::new(format!("{field}.vlan"), "is not from 1 to 4094"));
    }
    if interface.mtu.is_some_and(|mtu| !(1280..=9216).contains(&mtu)) {
        return Err(RenderError::new(format!("{field}.mtu"), "is not from 1280 to 9216"));
    }
    for (index, address) in interface.addresses.iter().enumerate() {
        check_address(&format!("{field}.addresses[{index}]"), address, true)?;
    }
    interface.gateway.as_ref().map_or(Ok(()), |gateway| check_address(&format!("{field}.gateway"), gateway, false))
}

/// An address, or text in which jinja expressions stand among the characters of one.
fn check_address(field: &str, text: &str, with_prefix: bool) -> Result<(), RenderError> {
    if has_jinja(text) {
        return check_template(field, text);
    }
    let good = if with_prefix { parse_cidr(text).is_some() } else { text.parse::<IpAddr>().is_ok() };
    let wanted = if with_prefix { "an address with its prefix length, such as 10.0.0.7/24" } else { "an IP address" };
    if good { Ok(()) } else { Err(RenderError::new(field, format!("is not {wanted}"))) }
}

/// Only whole expressions, `{{ … }}`: half of one, or a statement, would spoil the user-data as a whole.
fn check_template(field: &str, text: &str) -> Result<(), RenderError> {
    let refuse = |why: &str| Err(RenderError::new(field, why));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.chars().all(is_of_address) {
            return refuse("outside of {{ }} only the characters of an address are allowed");
        }
        let Some((expression, behind)) = after.split_once("}}") else {
            return refuse("a jinja expression is not closed by }}");
        };
        if expression.trim().is_empty() || !expression.chars().all(|c| matches!(c, ' '..='~') && c != '{' && c != '}') {
            return refuse("a jinja expression is one line of printable characters without braces");
        }
        rest = behind;
    }
    if rest.chars().all(is_of_address) {
        Ok(())
    } else {
        refuse("outside of {{ }} only the characters of an address are allowed; jinja statements are not")
    }
}

fn is_of_address(c: char) -> bool {
    c.is_ascii_hexdigit() || ".:/".contains(c)
}

/// The device that an interface's addresses belong to: `eth0`, or `eth0.100` for a VLAN on it.
fn device(interface: &Interface) -> String {
    match interface.vlan {
        Some(tag) => format!("{}.{tag}", interface.name),
        None => interface.name.clone(),
    }
}

/// The networkd files, in the order of their names.
pub(crate) fn files(network: &Network) -> Vec<OsFile> {
    let mut links: BTreeMap<&str, Vec<&Interface>> = BTreeMap::new();
    for interface in &network.interfaces {
        links.entry(&interface.name).or_default().push(interface);
    }
    let mut files = Vec::new();
    for (link, interfaces) in links {
        let (tagged, untagged): (Vec<&Interface>, Vec<&Interface>) =
            interfaces.into_iter().partition(|interface| interface.vlan.is_some());
        let vlans: Vec<String> = tagged.iter().map(|interface| device(interface)).collect();
        files.push(network_file(link, untagged.first().copied(), &vlans, &network.name_servers));
        for (interface, name) in tagged.into_iter().zip(&vlans) {
            let tag = interface.vlan.unwrap_or_default();
            let netdev = format!("[NetDev]\nName={name}\nKind=vlan\n\n[VLAN]\nId={tag}\n");
            files.push(networkd(&format!("{name}.netdev"), netdev));
            files.push(network_file(name, Some(interface), &[], &network.name_servers));
        }
    }
    files
}

fn network_file(device: &str, addressed: Option<&Interface>, vlans: &[String], name_servers: &[String]) -> OsFile {
    let mut text = format!("[Match]\nName={device}\n");
    if let Some(mtu) = addressed.and_then(|interface| interface.mtu) {
        text += &format!("\n[Link]\nMTUBytes={mtu}\n");
    }
    text += "\n[Network]\n";
    for vlan in vlans {
        text += &format!("VLAN={vlan}\n");
    }
    if let Some(interface) = addressed {
        for address in &interface.addresses {
            text += &format!("Address={address}\n");
        }
        if let Some(gateway) = &interface.gateway {
            text += &format!("Gateway={gateway}\n");
        }
        for server in name_servers {
            text += &format!("DNS={server}\n");
        }
    } else {
        text += "LinkLocalAddressing=no\n"; // it only carries VLANs
    }
    networkd(&format!("{device}.network"), text)
}

fn networkd(name: &str, text: String) -> OsFile {
    OsFile::new(format!("/etc/systemd/network/10-{name}"), "0644", Yaml::Jinja(text))
}

/// Address of the cluster's name server in its service network.
pub(crate) fn dns_address(service_cidr: Option<&str>) -> Result<IpAddr, RenderError> {
    let cidr = service_cidr.unwrap_or(DEFAULT_SERVICE_CIDR);
    let refuse = |why: &str| RenderError::new("clusterNetwork.services.cidrBlocks", format!("{cidr:?} {why}"));
    let (address, prefix) = parse_cidr(cidr).ok_or_else(|| refuse("is not a network such as 10.96.0.0/12"))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if bits - prefix < 4 {
        return Err(refuse("is too small to hold a name server at address 10"));
    }
    Ok(match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ipv4Addr::from((u32::from(address) & mask) + DNS_PLACE).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ipv6Addr::from((u128::from(address) & mask) + u128::from(DNS_PLACE)).into()
        }
    })
}

/// Address and prefix length.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u32 = prefix.parse().ok().filter(|_| digits)?;
    (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_server_is_address_ten_of_the_service_network() {
        for (cidr, expected) in [
            (None, "10.96.0.10"),
            (Some("10.128.0.0/12"), "10.128.0.10"),
            (Some("10.0.0.77/24"), "10.0.0.10"),
            (Some("fd00:1::/108"), "fd00:1::a"),
        ] {
            assert_eq!(dns_address(cidr).map(|address| address.to_string()), Ok(expected.to_owned()), "{cidr:?}");
        }
        for cidr in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/30", "x/8", "10.0.0.0/+8"] {
            assert!(dns_address(Some(cidr)).is_err(), "{cidr}");
        }
    }

    #[test]
    fn whole_expressions_pass_and_nothing_else_of_jinja() {
        for text in ["10.0.0.{{ ds.meta_data.unit }}/24", "{{ v1.local_hostname | default('1') }}/24", "fd00::{{x}}/64"]
        {
            assert_eq!(check_address("f", text, true), Ok(()), "{text}");
        }
        for text in [
            "10.0.0.{{ x /24",
            "10.0.0.{% if x %}1{% endif %}/24",
            "{{ x }}{# y #}",
            "{{ {1:2} }}",
            "{{ }}",
            "{{ x }}\nGateway=1",
            "{{ x }}; echo",
        ] {
            assert!(check_address("f", text, true).is_err(), "{text}");
        }
    }
}
