//! The network of the ramdisk: one interface with an address, a route and name servers, by what the media says.
//!
//! Without words on the media every interface is asked: DHCPv4 by us, router advertisements by the kernel; whoever is
//! first wins, but the boot interface has a head start. With an address on the media nobody is asked. Sockets are open
//! for as long as an answer is awaited; nothing listens.

mod dhcp4;
mod dhcp6;
mod links;
mod message4;

use super::{Roots, inventory, names, text};
use dhcp4::Lease;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
pub use links::Links;
use rackwright_protocol::facts::{Nic, StaticNetwork};
use rackwright_protocol::media::MediaConfig;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the boot interface is asked alone.
const HEAD_START: Duration = Duration::from_secs(20);
/// How long a router advertisement's network waits for DHCPv4 to answer, too, when either would do.
const GRACE: Duration = Duration::from_secs(3);
/// How often a person at the console is told what is waited for.
const REMIND: Duration = Duration::from_secs(15);
/// How often /sys is looked at for a link.
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no network. One sentence for a person at the console.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The media and the machine do not go together.
    #[error("{0}")]
    Unfit(String),
    /// The kernel refused something.
    #[error("{0}")]
    Kernel(String),
    /// Nothing came of waiting.
    #[error("no network after {0:?}: {1}")]
    Late(Duration, String),
}

/// What reaches the boot service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    V4,
    V6,
    Either,
}

/// Brings the network up, within `limit`. Returns the interface that it is on.
pub async fn bring_up(
    roots: &Roots,
    links: &Links,
    media: &MediaConfig,
    limit: Duration,
) -> Result<String, NetworkError> {
    let started = Instant::now();
    let work = async {
        let nics = raise(roots, links).await?;
        match &media.network {
            Some(network) => fixed(roots, links, media, network, &nics).await,
            None => asked(roots, links, media, &nics).await,
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(REMIND) => {
                let state = state(roots);
                if started.elapsed() >= limit {
                    return Err(NetworkError::Late(limit, state));
                }
                tracing::warn!("still no network after {} s: {state}", started.elapsed().as_secs());
            }
        }
    }
}

/// What a person at the console needs to know about the interfaces.
fn state(roots: &Roots) -> String {
    let describe = |nic: &Nic| {
        let link = if has_carrier(roots, &nic.name) { "link, no address" } else { "no link" };
        format!("{} ({}): {link}", nic.name, nic.mac)
    };
    let nics: Vec<String> = inventory::nics(roots).iter().map(describe).collect();
    if nics.is_empty() { "there is no network interface, or no driver for it".into() } else { nics.join("; ") }
}

/// Switches all interfaces on, once there are any.
async fn raise(roots: &Roots, links: &Links) -> Result<Vec<Nic>, NetworkError> {
    let nics = loop {
        let nics = inventory::nics(roots);
        if !nics.is_empty() {
            break nics;
        }
        sleep(LOOK).await;
    };
    for nic in &nics {
        links.up(links.index(&nic.name)?).await?;
    }
    Ok(nics)
}

fn has_carrier(roots: &Roots, nic: &str) -> bool {
    text(roots.sys.join("class/net").join(nic).join("carrier")).as_deref() == Some("1")
}

async fn carrier(roots: &Roots, nic: &str) {
    while !has_carrier(roots, nic) {
        sleep(LOOK).await;
    }
}

fn boot_nic<'a>(media: &MediaConfig, nics: &'a [Nic]) -> Option<&'a Nic> {
    let wanted = media.boot_mac.as_deref()?;
    nics.iter().find(|nic| nic.mac.eq_ignore_ascii_case(wanted))
}

/// The address on the media.
async fn fixed(
    roots: &Roots,
    links: &Links,
    media: &MediaConfig,
    network: &StaticNetwork,
    nics: &[Nic],
) -> Result<String, NetworkError> {
    let plan = Fixed::read(network)?;
    let nic = match (boot_nic(media, nics), &media.boot_mac) {
        (Some(nic), _) => &nic.name,
        (None, Some(mac)) => {
            let there: Vec<_> = nics.iter().map(|nic| nic.mac.as_str()).collect();
            let message =
                format!("no interface has MAC address {mac}, which the address is for; there is {}", there.join(", "));
            return Err(NetworkError::Unfit(message));
        }
        (None, None) => first_with_link(roots, nics).await,
    };
    tracing::info!("{nic}: waiting for a link");
    carrier(roots, nic).await;
    let name = match network.vlan {
        Some(vlan) => links.vlan(nic, vlan).await?,
        None => nic.clone(),
    };
    let index = links.index(&name)?;
    // The address was given to this host: there is nobody to ask whether it is taken.
    let _ = std::fs::write(roots.proc.join("sys/net/ipv6/conf").join(&name).join("accept_dad"), "0");
    links.add_address(index, plan.address, plan.prefix).await?;
    if let Some(gateway) = plan.gateway {
        links.add_route(index, None, gateway, true).await?;
    }
    resolve_by(&plan.dns)?;
    tracing::info!("{name}: {}/{} as the media says", plan.address, plan.prefix);
    Ok(name)
}

async fn first_with_link<'a>(roots: &Roots, nics: &'a [Nic]) -> &'a String {
    loop {
        if let Some(nic) = nics.iter().find(|nic| has_carrier(roots, &nic.name)) {
            return &nic.name;
        }
        sleep(LOOK).await;
    }
}

/// A [`StaticNetwork`] that makes sense.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    address: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
    dns: Vec<IpAddr>,
}

impl Fixed {
    fn read(network: &StaticNetwork) -> Result<Fixed, NetworkError> {
        let unfit =
            |what: &str, text: &str| NetworkError::Unfit(format!("network on the media: {what} {text:?} is none"));
        let address = |what: &str, text: &str| text.parse::<IpAddr>().map_err(|_| unfit(what, text));
        let (own, prefix) = network.address.split_once('/').ok_or_else(|| unfit("address/prefix", &network.address))?;
        let own = address("address", own)?;
        let bits = if own.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= bits);
        let gateway = network.gateway.as_deref().map(|text| address("gateway", text)).transpose()?;
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != own.is_ipv4()) {
            return Err(NetworkError::Unfit("network on the media: address and gateway are of two families".into()));
        }
        Ok(Fixed {
            address: own,
            prefix: prefix.ok_or_else(|| unfit("address/prefix", &network.address))?,
            gateway,
            dns: network.dns.iter().map(|text| address("name server", text)).collect::<Result<_, _>>()?,
        })
    }
}

/// Addresses from the network.
async fn asked(roots: &Roots, links: &Links, media: &MediaConfig, nics: &[Nic]) -> Result<String, NetworkError> {
    let wanted = wanted(&media.boot_url);
    let boot = boot_nic(media, nics);
    if let (None, Some(mac)) = (boot, &media.boot_mac) {
        tracing::warn!("no interface has the boot MAC address {mac}; asking on all");
    }
    let mut tries: FuturesUnordered<_> = nics
        .iter()
        .map(|nic| async move {
            if boot.is_some_and(|boot| boot.name != nic.name) {
                sleep(HEAD_START).await;
            }
            tracing::info!("{} ({}): waiting for a link", nic.name, nic.mac);
            carrier(roots, &nic.name).await;
            tracing::info!("{} ({}): waiting for an address", nic.name, nic.mac);
            (nic, ask(links, nic, wanted).await)
        })
        .collect();
    let mut last = NetworkError::Kernel("no interface was asked".into());
    while let Some((nic, found)) = tries.next().await {
        match found {
            Ok(found) => {
                drop(tries);
                use_it(links, nic, found).await?;
                return Ok(nic.name.clone());
            }
            Err(why) => {
                tracing::warn!("{}: {why}", nic.name);
                last = why;
            }
        }
    }
    Err(last)
}

/// Which family reaches the boot service: an address says so, a name does not.
fn wanted(boot_url: &str) -> Wanted {
    let host = reqwest::Url::parse(boot_url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => Wanted::V4,
        Ok(IpAddr::V6(_)) => Wanted::V6,
        Err(_) => Wanted::Either,
    }
}

/// What an interface was given.
enum Found {
    Lease(Lease),
    /// An address that the kernel made from a router advertisement.
    Advertised(IpAddr),
}

async fn ask(links: &Links, nic: &Nic, wanted: Wanted) -> Result<Found, NetworkError> {
    let index = links.index(&nic.name)?;
    let lease = async { dhcp4::acquire(&nic.name, &nic.mac).await.map(Found::Lease) };
    let advertised = async { links.advertised(index).await.map(Found::Advertised) };
    match wanted {
        Wanted::V4 => lease.await,
        Wanted::V6 => advertised.await,
        Wanted::Either => {
            tokio::pin!(lease);
            tokio::select! {
                found = &mut lease => found,
                found = advertised => timeout(GRACE, lease).await.unwrap_or(found),
            }
        }
    }
}

async fn use_it(links: &Links, nic: &Nic, found: Found) -> Result<(), NetworkError> {
    let index = links.index(&nic.name)?;
    match found {
        Found::Lease(lease) => {
            links.add_address(index, lease.address.into(), lease.prefix).await?;
            for (to, by) in &lease.routes {
                // A router outside the subnet is what some clouds hand out with a /32.
                if let Err(why) = links.add_route(index, *to, (*by).into(), true).await {
                    tracing::warn!("{}: a route of the lease: {why}", nic.name);
                }
            }
            tracing::info!("{}: {lease}", nic.name);
            resolve_by(&lease.dns.iter().map(|server| IpAddr::V4(*server)).collect::<Vec<_>>())?;
            tokio::spawn(dhcp4::keep(nic.name.clone(), nic.mac.clone(), lease));
        }
        Found::Advertised(address) => {
            let dns = timeout(GRACE, dhcp6::name_servers(index, &nic.mac)).await.unwrap_or_else(|_| Ok(Vec::new()))?;
            tracing::info!("{}: {address} by router advertisement, name servers {dns:?}", nic.name);
            resolve_by(&dns.into_iter().map(IpAddr::V6).collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

/// Tells the C library's resolver, which reads the file anew when it changes.
fn resolve_by(servers: &[IpAddr]) -> Result<(), NetworkError> {
    let lines: String = servers.iter().take(3).map(|server| format!("nameserver {server}\n")).collect();
    let written = std::fs::create_dir_all("/etc").and_then(|()| std::fs::write("/etc/resolv.conf", lines));
    written.map_err(|why| NetworkError::Kernel(format!("/etc/resolv.conf: {why}")))
}

/// Lets the kernel take addresses from router advertisements on interfaces that do not exist yet.
pub fn accept_advertisements(roots: &Roots) {
    let conf = roots.proc.join("sys/net/ipv6/conf");
    for name in names(&conf) {
        let _ = std::fs::write(conf.join(name).join("accept_ra"), "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str, gateway: Option<&str>, dns: &[&str]) -> StaticNetwork {
        StaticNetwork {
            address: address.into(),
            gateway: gateway.map(Into::into),
            dns: dns.iter().map(|server| (*server).into()).collect(),
            vlan: None,
        }
    }

    #[test]
    fn an_address_on_the_media_makes_sense_or_is_refused() {
        let fixed = Fixed::read(&network("10.1.0.7/24", Some("10.1.0.1"), &["10.1.0.2", "fd00::2"])).expect("fine");
        assert_eq!((fixed.address.to_string().as_str(), fixed.prefix, fixed.dns.len()), ("10.1.0.7", 24, 2));
        assert_eq!(Fixed::read(&network("fd00::7/64", Some("fe80::1"), &[])).expect("fine").prefix, 64);
        for bad in [
            network("10.1.0.7", None, &[]),
            network("10.1.0.7/33", None, &[]),
            network("10.1.0/24", None, &[]),
            network("10.1.0.7/24", Some("router"), &[]),
            network("10.1.0.7/24", Some("fd00::1"), &[]),
            network("10.1.0.7/24", None, &["dns.example"]),
        ] {
            assert!(matches!(Fixed::read(&bad), Err(NetworkError::Unfit(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_boot_services_address_says_which_family_is_needed() {
        assert_eq!(wanted("https://10.0.0.1:8443"), Wanted::V4);
        assert_eq!(wanted("https://[fd00::1]:8443/base"), Wanted::V6);
        assert_eq!(wanted("https://boot.example:8443"), Wanted::Either);
    }
}
