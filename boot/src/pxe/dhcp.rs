//! proxyDHCP (PXE specification 2.1, section 2.2; DHCP is RFC 2131 and 2132): tells a network card that asks which file
//! to boot from where. Pure: bytes in, bytes out. Never offers an address; that is another server's.

use std::net::{Ipv4Addr, SocketAddrV4};

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the options begin.
const OPTIONS: usize = 240;
/// Longest packet that is looked at, bytes.
pub const LONGEST: usize = 1500;

mod option {
    pub const VENDOR: u8 = 43;
    pub const MESSAGE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const VENDOR_CLASS: u8 = 60;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const ARCHITECTURE: u8 = 93;
    pub const MACHINE: u8 = 97;
    pub const PAD: u8 = 0;
    pub const END: u8 = 255;
}

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// What a network card that boots says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its MAC address, lower case.
    pub mac: String,
    /// Kind of machine (RFC 4578 section 2.1).
    pub architecture: u16,
    /// True for iPXE, which speaks HTTP.
    pub is_ipxe: bool,
    is_discover: bool,
    /// What goes back as it came.
    header: [u8; 44],
    machine: Option<Vec<u8>>,
    relay: Ipv4Addr,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Our own address.
    pub server: Ipv4Addr,
    /// File on our TFTP server, or a URL.
    pub file: String,
}

impl Question {
    /// Reads a packet; `None` for whatever is not a PXE client's DISCOVER or REQUEST on Ethernet.
    pub fn parse(packet: &[u8]) -> Option<Question> {
        let header: [u8; 44] = packet.get(..44)?.try_into().ok()?;
        let ethernet = header[..3] == [BOOT_REQUEST, 1, 6];
        if !ethernet || packet.len() > LONGEST || packet.get(236..OPTIONS)? != COOKIE {
            return None;
        }
        let options = packet.get(OPTIONS..)?;
        let message = find(options, option::MESSAGE)?;
        let is_discover = match message {
            [DISCOVER] => true,
            [REQUEST] => false,
            _ => return None,
        };
        find(options, option::VENDOR_CLASS).filter(|class| class.starts_with(b"PXEClient"))?;
        let architecture: [u8; 2] = find(options, option::ARCHITECTURE)?.get(..2)?.try_into().ok()?;
        let user_class = find(options, option::USER_CLASS).unwrap_or_default();
        let mac: Vec<String> = header[28..34].iter().map(|byte| format!("{byte:02x}")).collect();
        let address: [u8; 4] = header[24..28].try_into().ok()?;
        Some(Question {
            mac: mac.join(":"),
            architecture: u16::from_be_bytes(architecture),
            is_ipxe: user_class.windows(4).any(|word| word == b"iPXE"),
            is_discover,
            header,
            machine: find(options, option::MACHINE).map(<[u8]>::to_vec),
            relay: Ipv4Addr::from(address),
        })
    }

    /// The first program of a machine of this kind, before it can speak HTTP.
    pub fn first_program(&self) -> Option<&'static str> {
        match self.architecture {
            0 => Some("undionly.kpxe"),
            7 | 9 => Some("ipxe.efi"),
            11 => Some("ipxe-arm64.efi"),
            _ => None,
        }
    }

    /// The answer.
    pub fn answer(&self, boot: &Boot) -> Vec<u8> {
        let mut packet = vec![0; OPTIONS];
        packet[..44].copy_from_slice(&self.header);
        packet[0] = BOOT_REPLY;
        packet[3] = 0; // hops
        packet[16..20].fill(0); // yiaddr: an address is another server's to give
        packet[20..24].copy_from_slice(&boot.server.octets());
        let file = boot.file.as_bytes();
        if file.len() < 128 {
            packet[108..108 + file.len()].copy_from_slice(file);
        }
        packet[236..OPTIONS].copy_from_slice(&COOKIE);
        let mut put = |code: u8, value: &[u8]| {
            if let Ok(length) = u8::try_from(value.len()) {
                packet.extend([code, length]);
                packet.extend(value);
            }
        };
        put(option::MESSAGE, &[if self.is_discover { OFFER } else { ACK }]);
        put(option::SERVER, &boot.server.octets());
        put(option::VENDOR_CLASS, b"PXEClient");
        // PXE_DISCOVERY_CONTROL: no looking around for boot servers, the file named here it is.
        put(option::VENDOR, &[6, 1, 8, option::END]);
        put(option::TFTP_SERVER, boot.server.to_string().as_bytes());
        put(option::BOOT_FILE, file);
        if let Some(machine) = &self.machine {
            put(option::MACHINE, machine);
        }
        packet.push(option::END);
        packet
    }

    /// Where the answer to a packet that came from `from` goes (RFC 2131 section 4.1).
    pub fn answer_to(&self, from: SocketAddrV4) -> SocketAddrV4 {
        if !self.relay.is_unspecified() {
            SocketAddrV4::new(self.relay, 67)
        } else if from.ip().is_unspecified() {
            SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)
        } else {
            from
        }
    }
}

/// The value of the first option with this code.
fn find(mut options: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        match options {
            [option::PAD, rest @ ..] => options = rest,
            [option::END, ..] | [] | [_] => return None,
            [found, length, rest @ ..] => {
                let value = rest.get(..usize::from(*length))?;
                if *found == code {
                    return Some(value);
                }
                options = &rest[value.len()..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A DISCOVER as network cards send it.
    pub fn discover(mac: [u8; 6], architecture: u8, user_class: Option<&[u8]>) -> Vec<u8> {
        let mut packet = vec![0; OPTIONS];
        packet[..3].copy_from_slice(&[BOOT_REQUEST, 1, 6]);
        packet[4..8].copy_from_slice(&[1, 2, 3, 4]);
        packet[28..34].copy_from_slice(&mac);
        packet[236..240].copy_from_slice(&COOKIE);
        packet.extend([option::MESSAGE, 1, DISCOVER, option::PAD]);
        packet.extend([option::VENDOR_CLASS, 32]);
        packet.extend(b"PXEClient:Arch:00007:UNDI:003016");
        packet.extend([option::ARCHITECTURE, 2, 0, architecture]);
        if let Some(class) = user_class {
            packet.extend([option::USER_CLASS, class.len() as u8]);
            packet.extend(class);
        }
        packet.push(option::END);
        packet
    }

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    #[test]
    fn a_network_card_is_told_its_program_and_never_an_address() {
        let question = Question::parse(&discover(MAC, 7, None)).expect("a question");
        assert_eq!((question.mac.as_str(), question.is_ipxe), ("52:54:00:00:00:01", false));
        assert_eq!(question.first_program(), Some("ipxe.efi"));
        let boot = Boot { server: Ipv4Addr::new(10, 1, 0, 5), file: "ipxe.efi".into() };
        let answer = question.answer(&boot);
        assert_eq!(
            (answer[0], &answer[4..8], &answer[16..24]),
            (BOOT_REPLY, &[1, 2, 3, 4][..], &[0, 0, 0, 0, 10, 1, 0, 5][..])
        );
        assert_eq!(&answer[108..117], b"ipxe.efi\0");
        let options = &answer[OPTIONS..];
        assert_eq!(find(options, option::MESSAGE), Some(&[OFFER][..]));
        assert_eq!(find(options, option::VENDOR_CLASS), Some(&b"PXEClient"[..]));
        assert_eq!(find(options, option::BOOT_FILE), Some(&b"ipxe.efi"[..]));
        for gift in [1, 3, 6, 50, 51] {
            assert_eq!(find(options, gift), None, "option {gift} is another server's to give");
        }
    }

    #[test]
    fn ipxe_is_known_by_its_user_class_and_odd_machines_get_nothing() {
        let question = |architecture, class| Question::parse(&discover(MAC, architecture, class)).expect("a question");
        assert!(question(0, Some(b"iPXE")).is_ipxe);
        assert_eq!(question(0, None).first_program(), Some("undionly.kpxe"));
        assert_eq!(question(6, None).first_program(), None);
    }

    #[test]
    fn an_answer_goes_where_its_question_came_from() {
        let mut packet = discover(MAC, 7, None);
        let from = |text: &str| text.parse::<SocketAddrV4>().expect("an address");
        let to = |packet: &[u8], sender: &str| Question::parse(packet).expect("a question").answer_to(from(sender));
        assert_eq!(to(&packet, "0.0.0.0:68"), from("255.255.255.255:68"));
        assert_eq!(to(&packet, "10.1.0.7:4011"), from("10.1.0.7:4011"));
        packet[24..28].copy_from_slice(&[10, 2, 0, 1]);
        assert_eq!(to(&packet, "10.2.0.1:67"), from("10.2.0.1:67"));
    }

    #[test]
    fn what_is_no_pxe_clients_question_is_not_answered() {
        let whole = discover(MAC, 7, None);
        for (at, byte) in [(0, 2), (1, 6), (2, 8), (236, 0), (242, 8), (246, b'X')] {
            let mut packet = whole.clone();
            packet[at] = byte;
            assert_eq!(Question::parse(&packet), None, "byte {at}");
        }
        for length in 0..whole.len() - 1 {
            let _ = Question::parse(&whole[..length]);
        }
        assert_eq!(Question::parse(&whole[..250]), None);
    }

    proptest! {
        #[test]
        fn no_packet_is_a_panic_and_no_answer_gives_an_address(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            hits in proptest::collection::vec((0_usize..400, any::<u8>()), 0..8),
            file in "[a-z/:.]{0,300}",
        ) {
            let mut packet = discover(MAC, 7, None);
            packet.pop();
            packet.extend(noise);
            for (at, byte) in hits {
                let at = at % packet.len();
                packet[at] = byte;
            }
            if let Some(question) = Question::parse(&packet) {
                let answer = question.answer(&Boot { server: Ipv4Addr::LOCALHOST, file });
                prop_assert_eq!(&answer[16..20], &[0, 0, 0, 0][..]);
                prop_assert!(answer.len() < LONGEST);
            }
        }
    }
}
