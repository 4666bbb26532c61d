//! The loopback network of one bed: 127.N.0.0/16, with N found free and held while the bed lives.
//!
//! Every part of a bed listens on an address of its network, so ports need not be looked for and two beds never meet.
//! On Linux all of 127.0.0.0/8 answers without set-up.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// A bed holds its network by listening here.
const LOCK: (u8, u8, u16) = (255, 254, 1027);

/// The network of one bed.
#[derive(Debug)]
pub struct Network {
    octet: u8,
    _held: TcpListener,
}

impl Network {
    /// Takes a network that no other bed on this machine has.
    pub fn take() -> Result<Network> {
        let first = rand::random_range(0..253u16);
        (0..253)
            .map(|step| ((first + step) % 253 + 2) as u8) // 2..=254: 127.0 and 127.1 belong to other programs
            .find_map(|octet| {
                let held = TcpListener::bind((Ipv4Addr::new(127, octet, LOCK.0, LOCK.1), LOCK.2)).ok()?;
                Some(Network { octet, _held: held })
            })
            .context(
                "no free loopback network: 253 beds are running, or 127.0.0.0/8 is not on this machine (Linux only)",
            )
    }

    /// Second octet of every address of this bed; the simulator calls it the datacenter.
    pub fn octet(&self) -> u8 {
        self.octet
    }

    /// Where the management plane and our own services listen.
    pub fn management(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, 255, 1)
    }

    /// Where the control plane of the `number`th workload cluster answers.
    pub fn cluster_endpoint(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, 254, number)
    }

    /// A port of this bed alone, for a program that listens on every address of the machine.
    pub fn everywhere(&self, what: Everywhere) -> u16 {
        // Below the range that the kernel gives to outgoing connections.
        20_000 + u16::from(self.octet) * 8 + what as u16
    }

    /// A port of the management address.
    pub fn at(&self, port: Port) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.management(), port as u16))
    }
}

/// What listens where on the management address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its program")]
pub enum Port {
    EtcdClient = 2379,
    EtcdPeer = 2380,
    ApiServer = 6443,
    Images = 8080,
    Boot = 8443,
    CoreHealth = 9540,
    KubeadmBootstrapHealth = 9541,
    KubeadmControlPlaneHealth = 9542,
    CoreDiagnostics = 9640,
    KubeadmBootstrapDiagnostics = 9641,
    KubeadmControlPlaneDiagnostics = 9642,
    Autoscaler = 8086,
    InfrastructureHealth = 9740,
    BootstrapHealth = 9741,
    AutoscalerHealth = 9742,
    InfrastructureMetrics = 9840,
    BootstrapMetrics = 9841,
    AutoscalerMetrics = 9842,
}

/// Programs that cannot be told to listen on one address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its program")]
pub enum Everywhere {
    CoreWebhook,
    KubeadmBootstrapWebhook,
    KubeadmControlPlaneWebhook,
    Bmcs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_beds_never_have_the_same_network() {
        let taken: Vec<_> = (0..20).map(|_| Network::take().expect("free")).collect();
        let mut octets: Vec<_> = taken.iter().map(Network::octet).collect();
        octets.sort();
        octets.dedup();
        assert_eq!(octets.len(), 20);
    }
}
