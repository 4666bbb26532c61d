//! DHCPv4 messages on the wire (RFC 2131 section 2, RFC 2132): what a client says and understands. Anybody on the network
//! may send anything; what makes no sense is no message.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;

pub const SUBNET_MASK: u8 = 1;
pub const ROUTER: u8 = 3;
pub const NAME_SERVERS: u8 = 6;
pub const REQUESTED_ADDRESS: u8 = 50;
pub const LEASE_TIME: u8 = 51;
const KIND: u8 = 53;
pub const SERVER: u8 = 54;
const WANTED_OPTIONS: u8 = 55;
pub const RENEWAL_TIME: u8 = 58;
pub const REBINDING_TIME: u8 = 59;
const CLIENT: u8 = 61;
/// RFC 3442.
pub const CLASSLESS_ROUTES: u8 = 121;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where options begin: behind the fixed fields and the cookie.
const OPTIONS: usize = 240;
/// Some servers drop what is shorter than BOOTP's messages were.
const SHORTEST: usize = 300;
const BROADCAST: u16 = 0x8000;

/// What a client says.
pub struct Query<'a> {
    pub xid: u32,
    pub mac: [u8; 6],
    pub kind: u8,
    /// The address that the client has already.
    pub own: Option<Ipv4Addr>,
    pub options: &'a [(u8, Ipv4Addr)],
}

impl Query<'_> {
    pub fn encode(&self) -> Vec<u8> {
        // BOOTREQUEST over Ethernet, addresses of 6 bytes, no relay so far.
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.xid.to_be_bytes());
        // A client without an address cannot be sent anything but a broadcast.
        let flags = if self.own.is_some() { 0 } else { BROADCAST };
        bytes.extend([[0, 0], flags.to_be_bytes()].concat());
        bytes.extend(self.own.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(OPTIONS - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        let wanted = [SUBNET_MASK, CLASSLESS_ROUTES, ROUTER, NAME_SERVERS, LEASE_TIME, RENEWAL_TIME, REBINDING_TIME];
        let mut option = |code: u8, value: &[u8]| {
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        };
        option(KIND, &[self.kind]);
        option(CLIENT, &[&[1], self.mac.as_slice()].concat());
        option(WANTED_OPTIONS, &wanted);
        self.options.iter().for_each(|(code, address)| option(*code, &address.octets()));
        bytes.push(255);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: u8,
    /// The address that is meant for us.
    pub address: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Answer {
    /// An answer to the client with that number and address.
    pub fn decode(bytes: &[u8], xid: u32, mac: [u8; 6]) -> Option<Answer> {
        let ours = *bytes.first()? == 2
            && bytes.get(4..8)? == xid.to_be_bytes()
            && bytes.get(28..34)? == mac
            && bytes.get(OPTIONS - 4..OPTIONS)? == COOKIE;
        let address: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
        let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut rest = bytes.get(OPTIONS..)?;
        while let Some((code, behind)) = rest.split_first() {
            match code {
                0 => rest = behind,
                255 => break,
                code => {
                    let (length, behind) = behind.split_first()?;
                    let (value, behind) = behind.split_at_checked(usize::from(*length))?;
                    // What is too long for one comes in several (RFC 3396).
                    options.entry(*code).or_default().extend(value);
                    rest = behind;
                }
            }
        }
        let kind = *options.get(&KIND)?.first()?;
        ours.then_some(Answer { kind, address: address.into(), options })
    }

    /// The addresses in an option; none when there is no such option or its length is wrong.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.options.get(&code).filter(|value| value.len() % 4 == 0).map(Vec::as_slice);
        value.unwrap_or_default().chunks_exact(4).map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3])).collect()
    }

    /// The seconds in an option.
    pub fn seconds(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.options.get(&code)?.as_slice().try_into().ok()?))
    }

    /// Destination, prefix length and router of each classless route; `None` when there is no such option, or a bad one.
    pub fn routes(&self) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
        let mut rest = self.options.get(&CLASSLESS_ROUTES)?.as_slice();
        let mut routes = Vec::new();
        while let Some((prefix, behind)) = rest.split_first() {
            // Only the bytes that the prefix reaches into are there.
            let (network, behind) = behind.split_at_checked(usize::from(prefix.div_ceil(8)))?;
            let (router, behind) = behind.split_at_checked(4)?;
            let mut octets = [0; 4];
            octets.get_mut(..network.len())?.copy_from_slice(network);
            let router: [u8; 4] = router.try_into().ok()?;
            routes.push((octets.into(), *prefix, router.into()));
            rest = behind;
        }
        Some(routes)
    }
}

/// A server's message, for tests.
#[cfg(test)]
pub fn answer(xid: u32, mac: [u8; 6], kind: u8, address: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Query { xid, mac, kind, own: None, options: &[] }.encode();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&address.octets());
    bytes.truncate(OPTIONS + 3);
    for (code, value) in options {
        bytes.extend([&[*code, value.len() as u8], *value].concat());
    }
    bytes.push(255);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn a_query_is_laid_out_as_the_rfc_says() {
        let options = [(REQUESTED_ADDRESS, ADDRESS)];
        let bytes = Query { xid: 0x01020304, mac: MAC, kind: REQUEST, own: None, options: &options }.encode();
        assert_eq!(bytes.len(), SHORTEST);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0]);
        assert_eq!((&bytes[28..34], &bytes[236..240]), (&MAC[..], &COOKIE[..]));
        assert_eq!(bytes[240..243], [53, 1, 3]);
        assert!(bytes.windows(6).any(|window| window == [50, 4, 10, 0, 0, 7]));
        let renewal = Query { xid: 1, mac: MAC, kind: REQUEST, own: Some(ADDRESS), options: &[] }.encode();
        assert_eq!(renewal[10..16], [0, 0, 10, 0, 0, 7]);
    }

    #[test]
    fn answers_to_others_are_not_taken() {
        let bytes = answer(7, MAC, OFFER, ADDRESS, &[]);
        assert_eq!(Answer::decode(&bytes, 7, MAC).map(|answer| (answer.kind, answer.address)), Some((OFFER, ADDRESS)));
        assert_eq!(Answer::decode(&bytes, 8, MAC), None);
        assert_eq!(Answer::decode(&bytes, 7, [0; 6]), None);
        let query = Query { xid: 7, mac: MAC, kind: DISCOVER, own: None, options: &[] }.encode();
        assert_eq!(Answer::decode(&query, 7, MAC), None);
    }

    #[test]
    fn options_of_a_wrong_length_are_as_if_they_were_not_there() {
        let bytes =
            answer(7, MAC, ACK, ADDRESS, &[(ROUTER, &[1, 2, 3]), (LEASE_TIME, &[1]), (CLASSLESS_ROUTES, &[200, 1])]);
        let answer = Answer::decode(&bytes, 7, MAC).expect("an answer");
        assert_eq!((answer.addresses(ROUTER), answer.seconds(LEASE_TIME), answer.routes()), (vec![], None, None));
    }

    proptest! {
        #[test]
        fn noise_is_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..80), cut in 0usize..400) {
            let mut bytes = answer(7, MAC, ACK, ADDRESS, &[(CLASSLESS_ROUTES, &noise), (SUBNET_MASK, &noise)]);
            bytes.extend(&noise);
            bytes.truncate(cut);
            if let Some(answer) = Answer::decode(&bytes, 7, MAC) {
                let _ = (answer.routes(), answer.addresses(SUBNET_MASK), answer.seconds(SUBNET_MASK));
            }
        }
    }
}
