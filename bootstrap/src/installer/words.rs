//! What may stand where in an answer, so that no text leaves its place. Refuses; never repairs.

use super::Address;
use crate::RenderError;
use std::net::{IpAddr, Ipv4Addr};

/// `text`, when it is one word to a shell, to kickstart's parser (Python's shlex) and to debconf alike, quoted or not.
pub(super) fn word<'a>(field: &str, text: &'a str) -> Result<&'a str, RenderError> {
    let inert = |c: char| c.is_ascii_alphanumeric() || "-._~:/?[]@!*+,;=%^&()".contains(c);
    // A dash would make an option of it, and a per cent sign at the start of a line a section.
    let first = text.chars().next().is_some_and(|first| first.is_ascii_alphanumeric() || "/@[".contains(first));
    if first && text.chars().all(inert) {
        Ok(text)
    } else {
        Err(RenderError::new(
            field,
            "is not one word of letters, digits and -._~:/?[]@!*+,;=%^&() that begins with a letter, digit, / or @",
        ))
    }
}

/// The name of a package, or of a group of them.
pub(super) fn package<'a>(field: &str, text: &'a str) -> Result<&'a str, RenderError> {
    let inert = |c: char| c.is_ascii_alphanumeric() || "-._:+@^*/".contains(c);
    let first = text.chars().next().is_some_and(|first| first.is_ascii_alphanumeric() || "@-".contains(first));
    if first && text.chars().all(inert) {
        Ok(text)
    } else {
        Err(RenderError::new(field, "is not the name of a package or group"))
    }
}

/// One line of printable text.
pub(super) fn line(field: &str, text: &str) -> Result<(), RenderError> {
    if text.chars().any(breaks_lines) {
        Err(RenderError::new(field, "is not one line of printable text"))
    } else {
        Ok(())
    }
}

/// Whether some reader takes it for the end of a line (Python's `str.splitlines` knows eleven), or it does not print.
pub(super) fn breaks_lines(c: char) -> bool {
    c.is_control() || c == '\u{2028}' || c == '\u{2029}'
}

/// A value that a person's own template may put anywhere: it means nothing to a shell, a kickstart or a preseed.
pub(super) fn inert(field: &str, text: &str) -> Result<(), RenderError> {
    let allowed = |c: char| c.is_alphanumeric() || " -._~:/@+=,[]".contains(c);
    if text.chars().all(allowed) {
        Ok(())
    } else {
        Err(RenderError::new(field, "holds a character that a kickstart, a preseed or a shell could give a meaning to"))
    }
}

/// Six lower-case hex pairs.
pub(super) fn is_mac(text: &str) -> bool {
    let pairs: Vec<_> = text.split(':').collect();
    let hex = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    pairs.len() == 6 && pairs.iter().all(hex)
}

/// Address and prefix length, when everything else in `address` makes sense, too.
pub(super) fn address(address: &Address) -> Result<(IpAddr, u32), RenderError> {
    let wrong = "is not an address with its prefix length, such as 10.1.0.7/24";
    let parsed = crate::network::parse_cidr(&address.address);
    let (ip, prefix) = parsed.ok_or_else(|| RenderError::new("ramdisk.network.address", wrong))?;
    let gateway = self::ip("ramdisk.network.gateway", address.gateway.as_deref())?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != ip.is_ipv4()) {
        return Err(RenderError::new("ramdisk.network.gateway", "is not of the same family as the address"));
    }
    for server in &address.dns {
        self::ip("ramdisk.network.dns", Some(server))?;
    }
    if address.vlan.is_some_and(|tag| !(1..=4094).contains(&tag)) {
        return Err(RenderError::new("ramdisk.network.vlan", "is not from 1 to 4094"));
    }
    Ok((ip, prefix))
}

/// An IP address, when there is one.
pub(super) fn ip(field: &str, text: Option<&str>) -> Result<Option<IpAddr>, RenderError> {
    text.map(|text| text.parse().map_err(|_| RenderError::new(field, "is not an IP address"))).transpose()
}

/// The netmask of an IPv4 address; IPv6 has none.
pub(super) fn netmask(ip: IpAddr, prefix: u32) -> Option<Ipv4Addr> {
    ip.is_ipv4().then(|| Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix).unwrap_or(0)))
}

/// `text` as one word to a POSIX shell, whatever it holds.
pub(super) fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
