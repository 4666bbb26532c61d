//! Links, addresses and routes, by rtnetlink.

use super::NetworkError;
use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVlan, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::time::sleep;

/// How often the kernel is asked whether an advertisement has come.
const LOOK: Duration = Duration::from_millis(100);

/// A connection to the kernel's routing.
#[derive(Clone)]
pub struct Links(Handle);

fn refused(what: impl std::fmt::Display) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    move |why| NetworkError::Kernel(format!("{what}: {why}"))
}

impl Links {
    /// Opens the connection; needs a tokio runtime.
    pub fn open() -> Result<Links, NetworkError> {
        let opened = rtnetlink::new_connection().map_err(|why| NetworkError::Kernel(format!("rtnetlink: {why}")));
        let (connection, handle, _) = opened?;
        tokio::spawn(connection);
        Ok(Links(handle))
    }

    /// The kernel's number of an interface.
    pub fn index(&self, name: &str) -> Result<u32, NetworkError> {
        let found = nix::net::if_::if_nametoindex(name);
        found.map_err(|why| NetworkError::Kernel(format!("{name}: {why}")))
    }

    /// Switches a link on. It takes all multicast, LLDP among it.
    pub async fn up(&self, index: u32) -> Result<(), NetworkError> {
        let link = LinkUnspec::new_with_index(index).up().allmulticast(true).build();
        self.0.link().set(link).execute().await.map_err(refused("link up"))
    }

    /// Makes a VLAN on `parent` and switches it on; returns its name. One that exists is taken as it is.
    pub async fn vlan(&self, parent: &str, id: u16) -> Result<String, NetworkError> {
        // The kernel takes 15 bytes.
        let name = format!("vlan{id}");
        if self.index(&name).is_err() {
            let link = LinkVlan::new(&name, self.index(parent)?, id).up().build();
            self.0.link().add(link).execute().await.map_err(refused(format!("VLAN {id} on {parent}")))?;
        }
        Ok(name)
    }

    /// Adds an address; once more does no harm.
    pub async fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), NetworkError> {
        let request = self.0.address().add(index, address, prefix).replace();
        request.execute().await.map_err(refused(format!("address {address}/{prefix}")))
    }

    /// Adds a route by a router; without a destination the one for everything else. `onlink`: the router is on the link
    /// even when no address says so.
    pub async fn add_route(
        &self,
        index: u32,
        to: Option<(Ipv4Addr, u8)>,
        by: IpAddr,
        onlink: bool,
    ) -> Result<(), NetworkError> {
        let message = match by {
            // A network on the link itself (RFC 3442).
            IpAddr::V4(by) if by.is_unspecified() => v4(index, to).build(),
            IpAddr::V4(by) if onlink => v4(index, to).gateway(by).onlink().build(),
            IpAddr::V4(by) => v4(index, to).gateway(by).build(),
            IpAddr::V6(by) => RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).gateway(by).build(),
        };
        self.0.route().add(message).replace().execute().await.map_err(refused(format!("route by {by}")))
    }

    /// Waits for an address that the kernel made from a router advertisement, and a router to go with it.
    pub async fn advertised(&self, index: u32) -> Result<IpAddr, NetworkError> {
        loop {
            let global = self.list().await?.into_iter().find_map(|message| {
                (message.header.index == index && is_global(&message)).then(|| address(&message)).flatten()
            });
            if let Some(address) = global.filter(IpAddr::is_ipv6)
                && self.has_router(index).await?
            {
                return Ok(address);
            }
            sleep(LOOK).await;
        }
    }

    async fn has_router(&self, index: u32) -> Result<bool, NetworkError> {
        let request = self.0.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build());
        let routes: Vec<RouteMessage> = request.execute().try_collect().await.map_err(refused("routes"))?;
        Ok(routes.iter().any(|route| {
            let is = |wanted: &dyn Fn(&RouteAttribute) -> bool| route.attributes.iter().any(wanted);
            route.header.destination_prefix_length == 0
                && is(&|attribute| matches!(attribute, RouteAttribute::Oif(oif) if *oif == index))
                && is(&|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
        }))
    }

    /// Addresses of each interface that reach further than the link, by its number.
    pub async fn addresses(&self) -> Result<BTreeMap<u32, Vec<String>>, NetworkError> {
        let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for message in self.list().await?.iter().filter(|message| is_global(message)) {
            if let Some(address) = address(message) {
                found.entry(message.header.index).or_default().push(address.to_string());
            }
        }
        Ok(found)
    }

    async fn list(&self) -> Result<Vec<AddressMessage>, NetworkError> {
        self.0.address().get().execute().try_collect().await.map_err(refused("addresses"))
    }
}

fn v4(index: u32, to: Option<(Ipv4Addr, u8)>) -> RouteMessageBuilder<Ipv4Addr> {
    let builder = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index);
    match to {
        Some((network, prefix)) => builder.destination_prefix(network, prefix),
        None => builder,
    }
}

/// Neither of the link alone, nor still being checked for a duplicate.
fn is_global(message: &AddressMessage) -> bool {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    message.header.scope == AddressScope::Universe && !flags.is_some_and(|flags| flags.intersects(unusable))
}

fn address(message: &AddressMessage) -> Option<IpAddr> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // Of a point-to-point link ADDRESS is the other end's; LOCAL is our own wherever there is one.
    of(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }).or_else(|| {
        of(|attribute| if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None })
    })
}
