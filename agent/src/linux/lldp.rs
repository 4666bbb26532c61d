//! Who is at the other end of each cable: LLDP (IEEE 802.1AB), heard and never sent.
//!
//! A switch speaks every 30 seconds by default, so the thread listens from the start, while other things are done.

use nix::sys::socket::{LinkAddr, recvfrom};
use rackwright_protocol::facts::Nic;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

/// EtherType of LLDP.
const ETHERTYPE: u16 = 0x88cc;
/// Longest text that is kept, bytes: names come from a network that anybody may speak on.
const TEXT: usize = 128;
/// Neighbours that are kept.
const NEIGHBOURS: usize = 64;

/// A switch and its port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name, or what identifies it.
    pub switch: Option<String>,
    /// Its port: what identifies it, or what it is described as.
    pub port: Option<String>,
}

/// What was heard so far, by the kernel's number of the interface.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(Arc<Mutex<BTreeMap<usize, Neighbour>>>);

impl Neighbours {
    /// The neighbour at an interface.
    pub fn at(&self, index: u32) -> Option<Neighbour> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(index as usize)).cloned()
    }

    /// Writes the neighbour into the facts of its interface.
    pub fn note(&self, index: u32, nic: &mut Nic) {
        if let Some(Neighbour { switch, port }) = self.at(index) {
            (nic.lldp_switch, nic.lldp_port) = (switch, port);
        }
    }
}

/// Listens in a thread of its own, on all interfaces, for as long as the ramdisk runs.
pub fn listen() -> Neighbours {
    let neighbours = Neighbours::default();
    let heard = neighbours.clone();
    let protocol = Protocol::from(i32::from(ETHERTYPE.to_be()));
    match Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)) {
        Ok(socket) => drop(std::thread::spawn(move || hear(&socket, &heard))),
        Err(why) => tracing::warn!("LLDP neighbours are not heard: {why}"),
    }
    neighbours
}

fn hear(socket: &Socket, heard: &Neighbours) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
        let (Some(from), Some(neighbour)) = (from, parse(&buffer[..length])) else { continue };
        let mut neighbours = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        if neighbours.len() < NEIGHBOURS || neighbours.contains_key(&from.ifindex()) {
            neighbours.insert(from.ifindex(), neighbour);
        }
    }
}

/// The sender of an LLDP data unit; `None` when it is malformed, says that it is leaving, or names neither switch nor
/// port.
pub fn parse(mut unit: &[u8]) -> Option<Neighbour> {
    let (mut chassis, mut name, mut port, mut description) = (None, None, None, None);
    let mut order = 0;
    loop {
        let head = u16::from_be_bytes(unit.get(..2)?.try_into().ok()?);
        let (kind, length) = (head >> 9, usize::from(head & 0x1ff));
        let value = unit.get(2..2 + length)?;
        unit = &unit[2 + length..];
        order += 1;
        // The first three are given (section 8.2): chassis, port, time to live.
        if order <= 3 && kind != order {
            return None;
        }
        match kind {
            0 => break,
            1 => chassis = Some(identity(value, 4, 5)?),
            2 => port = Some((*value.first()?, identity(value, 3, 4)?)),
            3 if value.get(..2)? == [0, 0] => return None,
            4 => description = text(value),
            5 => name = text(value),
            _ => {}
        }
    }
    // A port that goes by its MAC address or by a number of the switch's own is better described.
    let port = match port {
        Some((5 | 1, id)) => id.or(description),
        Some((_, id)) => description.or(id),
        None => None,
    };
    let neighbour = Neighbour { switch: name.or(chassis.flatten()), port };
    (order > 3 && neighbour != Neighbour::default()).then_some(neighbour)
}

/// An identity with its subtype in front (sections 8.5.2 and 8.5.3): an address, or text. Inner `None`: neither.
fn identity(value: &[u8], mac: u8, network: u8) -> Option<Option<String>> {
    let (subtype, id) = value.split_first()?;
    Some(match id {
        id if *subtype == mac && id.len() == 6 => {
            Some(id.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
        }
        // Address family 1 is IPv4.
        [1, a, b, c, d] if *subtype == network => Some(format!("{a}.{b}.{c}.{d}")),
        id if *subtype != mac && *subtype != network => text(id),
        _ => None,
    })
}

/// Printable text, not too much of it.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(TEXT)];
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
        let head = (kind << 9) | u16::try_from(value.len()).expect("short");
        [&head.to_be_bytes(), value].concat()
    }

    fn unit(parts: &[(u16, &[u8])]) -> Vec<u8> {
        parts.iter().flat_map(|(kind, value)| tlv(*kind, value)).collect()
    }

    const CHASSIS: (u16, &[u8]) = (1, b"\x04\x00\x1c\x73\x00\x00\x01");
    const PORT: (u16, &[u8]) = (2, b"\x05Ethernet12");
    const TTL: (u16, &[u8]) = (3, b"\x00\x78");
    const END: (u16, &[u8]) = (0, b"");

    fn heard(parts: &[(u16, &[u8])]) -> Option<(String, String)> {
        let neighbour = parse(&unit(parts))?;
        Some((neighbour.switch.unwrap_or_default(), neighbour.port.unwrap_or_default()))
    }

    #[test]
    fn a_switch_is_known_by_its_name_and_a_port_by_its_own() {
        let parts =
            [CHASSIS, PORT, TTL, (4, b"to rack a01".as_slice()), (5, b"leaf-1"), (127, b"\x00\x80\xc2\x01"), END];
        assert_eq!(heard(&parts), Some(("leaf-1".into(), "Ethernet12".into())));
    }

    #[test]
    fn what_has_no_name_is_known_by_its_address() {
        assert_eq!(heard(&[CHASSIS, PORT, TTL, END]), Some(("00:1c:73:00:00:01".into(), "Ethernet12".into())));
        let chassis = (1, b"\x05\x01\x0a\x00\x00\x02".as_slice());
        let port = (2, b"\x03\x00\x1c\x73\x00\x00\x0c".as_slice());
        assert_eq!(heard(&[chassis, port, TTL, END]), Some(("10.0.0.2".into(), "00:1c:73:00:00:0c".into())));
        let numbered = (2, b"\x07513".as_slice());
        let described = (4, b"xe-0/0/3".as_slice());
        assert_eq!(heard(&[chassis, numbered, TTL, described, END]), Some(("10.0.0.2".into(), "xe-0/0/3".into())));
    }

    #[test]
    fn malformed_units_and_farewells_are_not_heard() {
        for parts in [
            vec![],
            vec![END],
            vec![PORT, CHASSIS, TTL, END],
            vec![CHASSIS, PORT, END],
            vec![CHASSIS, PORT, TTL],
            vec![CHASSIS, PORT, (3, b"\x00\x00".as_slice()), END],
            vec![CHASSIS, PORT, (3, b"\x00".as_slice()), END],
            vec![(1, b"".as_slice()), PORT, TTL, END],
        ] {
            assert_eq!(heard(&parts), None, "{parts:?}");
        }
        let whole = unit(&[CHASSIS, PORT, TTL, END]);
        (0..whole.len()).for_each(|length| assert_eq!(parse(&whole[..length]), None, "{length}"));
    }

    #[test]
    fn a_name_cannot_flood_or_write_on_the_console() {
        let long = [b"\x1b[2J".as_slice(), &[b'x'; 400]].concat();
        let (switch, _) = heard(&[CHASSIS, PORT, TTL, (5, &long), END]).expect("heard");
        assert!(switch.len() <= TEXT && !switch.contains('\x1b'), "{switch}");
    }

    proptest! {
        #[test]
        fn noise_is_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&noise);
        }
    }
}
