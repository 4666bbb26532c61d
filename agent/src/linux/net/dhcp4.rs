//! DHCPv4 (RFC 2131): a lease for one interface, and keeping it.
//!
//! The interface has no address yet, so answers are asked for by broadcast and the socket is bound to the device. It is
//! open only while an answer is awaited.

use super::NetworkError;
use super::message4::{self, ACK, Answer, DISCOVER, NAK, OFFER, Query, REQUEST};
use socket2::{Domain, Protocol, Socket, Type};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Wait for the first answer; doubled up to [`PATIENCE_MAX`]. Shorter than RFC 2131's 4 s: a rack that boots at once is
/// what DHCP servers of racks are there for.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(8);
/// Times that an offer is asked for before another one is looked for.
const REQUESTS: u32 = 3;
/// Shortest time between two attempts to renew.
const RENEW_MIN: Duration = Duration::from_secs(30);

/// What a server granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// Destination (`None`: everything else) and router.
    pub routes: Vec<(Option<(Ipv4Addr, u8)>, Ipv4Addr)>,
    pub dns: Vec<Ipv4Addr>,
    pub server: Ipv4Addr,
    /// When to ask for more time: the server that gave it, and then any server.
    renew: Duration,
    rebind: Duration,
}

impl std::fmt::Display for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lease { address, prefix, server, dns, .. } = self;
        let router = self.routes.iter().find(|(to, _)| to.is_none()).map(|(_, by)| by.to_string());
        let router = router.as_deref().unwrap_or("none");
        write!(f, "{address}/{prefix} from DHCP server {server}, router {router}, name servers {dns:?}")
    }
}

/// Asks until somebody grants a lease. An error is the kernel's; that nobody answers is none.
pub async fn acquire(nic: &str, mac: &str) -> Result<Lease, NetworkError> {
    let client = Client::new(nic, mac)?;
    let mut patience = PATIENCE;
    loop {
        let socket = client.socket()?;
        let discover = client.query(DISCOVER, &[]);
        let Some(offer) = client.exchange(&socket, &discover, Ipv4Addr::BROADCAST, patience, OFFER).await? else {
            patience = (patience * 2).min(PATIENCE_MAX);
            continue;
        };
        for _ in 0..REQUESTS {
            let Some(server) = offer.addresses(message4::SERVER).first().copied() else { break };
            let options = [(message4::REQUESTED_ADDRESS, offer.address), (message4::SERVER, server)];
            let request = client.query(REQUEST, &options);
            let granted = client.exchange(&socket, &request, Ipv4Addr::BROADCAST, PATIENCE * 2, ACK).await?;
            if let Some(lease) = granted.as_ref().and_then(lease) {
                return Ok(lease);
            }
        }
    }
}

/// Asks for more time for as long as the ramdisk runs. An address that is not granted again is kept all the same: what
/// is written to a disk must not stop half-way for that.
pub async fn keep(nic: String, mac: String, mut lease: Lease) {
    let Ok(client) = Client::new(&nic, &mac) else { return };
    loop {
        sleep(lease.renew.max(RENEW_MIN)).await;
        let until = Instant::now() + (lease.rebind.saturating_sub(lease.renew)).max(RENEW_MIN);
        let by_server = client.renew(&lease, lease.server, until).await;
        let granted = match by_server {
            Some(granted) => Some(granted),
            None => client.renew(&lease, Ipv4Addr::BROADCAST, Instant::now() + RENEW_MIN).await,
        };
        match granted {
            Some(granted) if granted.address == lease.address => lease = granted,
            Some(other) => {
                tracing::warn!("{nic}: the lease was renewed with another address, {}; keeping ours", other.address)
            }
            None => tracing::warn!("{nic}: the lease of {} was not renewed; keeping the address", lease.address),
        }
    }
}

struct Client {
    nic: String,
    mac: [u8; 6],
    xid: u32,
}

impl Client {
    fn new(nic: &str, mac: &str) -> Result<Client, NetworkError> {
        let bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let mac: [u8; 6] =
            bytes.try_into().map_err(|_| NetworkError::Unfit(format!("{nic}: {mac} is no MAC address")))?;
        // Any number will do that another client is unlikely to use.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write(&mac);
        Ok(Client { nic: nic.into(), mac, xid: hasher.finish() as u32 })
    }

    /// A socket on the client's port that hears and reaches this interface only.
    fn socket(&self) -> Result<UdpSocket, NetworkError> {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_broadcast(true)?;
            socket.bind_device(Some(self.nic.as_bytes()))?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT)).into())?;
            UdpSocket::from_std(socket.into())
        };
        open().map_err(|why: std::io::Error| NetworkError::Kernel(format!("{}: DHCP socket: {why}", self.nic)))
    }

    fn query(&self, kind: u8, options: &[(u8, Ipv4Addr)]) -> Vec<u8> {
        Query { xid: self.xid, mac: self.mac, kind, own: None, options }.encode()
    }

    /// Sends `query` and returns the first answer of the `wanted` kind; `None` after a refusal or `patience`.
    async fn exchange(
        &self,
        socket: &UdpSocket,
        query: &[u8],
        to: Ipv4Addr,
        patience: Duration,
        wanted: u8,
    ) -> Result<Option<Answer>, NetworkError> {
        if let Err(why) = socket.send_to(query, SocketAddrV4::new(to, SERVER_PORT)).await {
            // A link that has just gone down again: the next try may find it up.
            tracing::debug!("{}: DHCP: {why}", self.nic);
            sleep(patience).await;
            return Ok(None);
        }
        let answer = async {
            let mut buffer = [0; 1500];
            loop {
                let Ok((length, _)) = socket.recv_from(&mut buffer).await else { return None };
                match Answer::decode(&buffer[..length], self.xid, self.mac) {
                    Some(answer) if answer.kind == wanted => return Some(answer),
                    Some(answer) if answer.kind == NAK => return None,
                    _ => {}
                }
            }
        };
        Ok(timeout(patience, answer).await.unwrap_or(None))
    }

    async fn renew(&self, lease: &Lease, to: Ipv4Addr, until: Instant) -> Option<Lease> {
        let own = Some(lease.address);
        let request = Query { xid: self.xid, mac: self.mac, kind: REQUEST, own, options: &[] }.encode();
        while Instant::now() < until {
            let granted = {
                let socket = self.socket().ok()?;
                self.exchange(&socket, &request, to, PATIENCE_MAX, ACK).await.ok()?
            };
            if let Some(lease) = granted.as_ref().and_then(self::lease) {
                return Some(lease);
            }
            sleep(RENEW_MIN.min(until.saturating_duration_since(Instant::now()))).await;
        }
        None
    }
}

/// What an acknowledgement grants; `None` when it names no address or server, or a mask with gaps.
fn lease(answer: &Answer) -> Option<Lease> {
    let address = answer.address;
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
        return None;
    }
    let seconds = |code: u8| answer.seconds(code).map(|time| Duration::from_secs(u64::from(time)));
    let prefix = match answer.addresses(message4::SUBNET_MASK).first() {
        Some(mask) => prefix(*mask)?,
        None => 24,
    };
    // RFC 3442: with classless routes the router option counts for nothing.
    let routes = match answer.routes() {
        Some(routes) => routes.into_iter().map(|(to, length, by)| ((length > 0).then_some((to, length)), by)).collect(),
        None => answer.addresses(message4::ROUTER).into_iter().take(1).map(|router| (None, router)).collect(),
    };
    let whole = seconds(message4::LEASE_TIME).unwrap_or(Duration::from_secs(3600));
    Some(Lease {
        address,
        prefix,
        routes,
        dns: answer.addresses(message4::NAME_SERVERS),
        server: answer.addresses(message4::SERVER).first().copied()?,
        renew: seconds(message4::RENEWAL_TIME).unwrap_or(whole / 2),
        rebind: seconds(message4::REBINDING_TIME).unwrap_or(whole * 7 / 8),
    })
}

/// Length of a mask's ones; `None` when they have gaps.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let (bits, ones) = (mask.to_bits(), mask.to_bits().leading_ones());
    (bits.count_ones() == ones).then(|| u8::try_from(ones).unwrap_or(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    fn granted(address: Ipv4Addr, options: &[(u8, &[u8])]) -> Option<Lease> {
        let bytes = message4::answer(7, MAC, ACK, address, options);
        lease(&Answer::decode(&bytes, 7, MAC).expect("an answer"))
    }

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const FROM: (u8, &[u8]) = (message4::SERVER, &[10, 0, 0, 1]);

    #[test]
    fn a_lease_holds_what_the_server_said() {
        let options: [(u8, &[u8]); 5] = [
            FROM,
            (message4::SUBNET_MASK, &[255, 255, 252, 0]),
            (message4::ROUTER, &[10, 0, 0, 1, 10, 0, 0, 2]),
            (message4::NAME_SERVERS, &[10, 0, 0, 1]),
            (message4::LEASE_TIME, &[0, 0, 0, 120]),
        ];
        let found = granted(OURS, &options).expect("a lease");
        assert_eq!((found.prefix, found.routes.clone(), found.dns.clone()), (22, vec![(None, SERVER)], vec![SERVER]));
        assert_eq!((found.renew.as_secs(), found.rebind.as_secs()), (60, 105));
        assert_eq!(
            found.to_string(),
            "10.0.0.7/22 from DHCP server 10.0.0.1, router 10.0.0.1, name servers [10.0.0.1]"
        );
    }

    #[test]
    fn classless_routes_count_for_more_than_the_router() {
        let routes = [0, 10, 0, 0, 9, 16, 10, 9, 10, 0, 0, 1];
        let found = granted(OURS, &[FROM, (message4::ROUTER, &[10, 0, 0, 1]), (message4::CLASSLESS_ROUTES, &routes)]);
        let to = Some((Ipv4Addr::new(10, 9, 0, 0), 16));
        assert_eq!(found.map(|lease| lease.routes), Some(vec![(None, Ipv4Addr::new(10, 0, 0, 9)), (to, SERVER)]));
    }

    #[test]
    fn an_answer_without_server_address_or_sense_is_no_lease() {
        assert_eq!(granted(OURS, &[]), None);
        assert_eq!(granted(OURS, &[FROM, (message4::SUBNET_MASK, &[255, 0, 255, 0])]), None);
        assert_eq!(granted(Ipv4Addr::UNSPECIFIED, &[FROM]), None);
    }

    #[test]
    fn only_an_ethernet_address_can_ask() {
        assert!(Client::new("eth0", "52:54:00:00:00:01").is_ok());
        assert!(Client::new("ib0", "00:00").is_err());
    }
}
