//! Stateless DHCPv6 (RFC 8415 section 6.1): name servers, where the address comes from router advertisements.

use super::NetworkError;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;
const CLIENT: u16 = 1;
const WANTED_OPTIONS: u16 = 6;
const ELAPSED_TIME: u16 = 8;
const NAME_SERVERS: u16 = 23;
/// Number of our one transaction: answers to others come to other addresses.
const XID: [u8; 3] = [0x52, 0x57, 0x01];
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks until somebody answers; the caller says how long.
pub async fn name_servers(index: u32, mac: &str) -> Result<Vec<Ipv6Addr>, NetworkError> {
    let failed = |what: &str, why: &dyn std::fmt::Display| NetworkError::Kernel(format!("DHCPv6 {what}: {why}"));
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, CLIENT_PORT)).await.map_err(|why| failed("socket", &why))?;
    let bytes = request(mac);
    loop {
        let to = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, index);
        socket.send_to(&bytes, to).await.map_err(|why| failed("request", &why))?;
        let mut buffer = [0; 1500];
        let Ok(Ok((length, _))) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await else { continue };
        if let Some(found) = answer(&buffer[..length]) {
            return Ok(found);
        }
    }
}

fn request(mac: &str) -> Vec<u8> {
    let mut bytes = [&[INFORMATION_REQUEST], XID.as_slice()].concat();
    let mut option = |code: u16, value: &[u8]| {
        bytes.extend([code.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
        bytes.extend(value);
    };
    // DUID-LL (RFC 8415 section 11.4) of an Ethernet address.
    let mac = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok());
    option(CLIENT, &[0, 3, 0, 1].into_iter().chain(mac).collect::<Vec<_>>());
    option(WANTED_OPTIONS, &NAME_SERVERS.to_be_bytes());
    option(ELAPSED_TIME, &[0, 0]);
    bytes
}

/// Name servers in a reply to us; `None` when it is none.
fn answer(bytes: &[u8]) -> Option<Vec<Ipv6Addr>> {
    let (head, mut rest) = bytes.split_at_checked(4)?;
    if head[0] != REPLY || head[1..] != XID {
        return None;
    }
    let mut servers = Vec::new();
    while !rest.is_empty() {
        let number = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (code, length) = (number(0)?, usize::from(number(2)?));
        let value = rest.get(4..4 + length)?;
        if code == NAME_SERVERS {
            servers.extend(value.chunks_exact(16).filter_map(|b| Some(Ipv6Addr::from(<[u8; 16]>::try_from(b).ok()?))));
        }
        rest = &rest[4 + length..];
    }
    Some(servers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn name_servers_are_taken_from_a_reply_to_us() {
        let server: Ipv6Addr = "fd00::53".parse().expect("an address");
        let mut reply = [&[REPLY], XID.as_slice(), &[0, 2, 0, 1, 9, 0, 23, 0, 16], &server.octets()].concat();
        assert_eq!(answer(&reply), Some(vec![server]));
        assert_eq!(answer(&reply[..reply.len() - 1]), None);
        reply[3] ^= 1;
        assert_eq!(answer(&reply), None);
        assert_eq!(answer(&request("52:54:00:00:00:01")), None);
    }

    proptest! {
        #[test]
        fn noise_is_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = answer(&[&[REPLY], XID.as_slice(), &noise].concat());
            let _ = answer(&noise);
        }
    }
}
