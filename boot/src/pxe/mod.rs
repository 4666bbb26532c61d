//! PXE: for networks whose DHCP server is somebody else's. Answers the network cards of hosts that are to boot by way of
//! it just now, and no others. Off unless asked for.
//!
//! What it is worth: whoever shows the MAC address of such a host in that time is given the host's media, and it goes
//! over the network in the clear. Virtual media and HTTP boot by way of a BMC have neither weakness.

mod dhcp;
mod tftp;

use crate::service::Service;
use crate::store::Store;
use dhcp::{Boot, LONGEST, Question};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// How long a TFTP client has for one packet.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the PXE part of the service is set up.
#[derive(Clone, Copy, Debug)]
pub struct PxeOptions {
    /// Our address, as hosts reach it.
    pub address: Ipv4Addr,
    /// Port of the listener without TLS.
    pub http_port: u16,
}

/// Answers DHCP, PXE and TFTP on their ports until one of them fails.
pub async fn serve<S: Store>(options: PxeOptions, folder: &Path, service: Arc<Service<S>>) -> io::Result<()> {
    let files = tftp::load(folder)?;
    for name in ["ipxe.efi", "undionly.kpxe"] {
        if !files.contains_key(name) {
            tracing::warn!(folder = %folder.display(), name, "machines that need this file cannot boot by way of PXE");
        }
    }
    let bind = async |port: u16| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    let (dhcp, pxe, tftp) = (bind(67).await?, bind(4011).await?, bind(69).await?);
    dhcp.set_broadcast(true)?;
    tracing::info!(address = %options.address, "proxyDHCP and TFTP");
    tokio::try_join!(
        answer_all(dhcp, options, service.clone()),
        answer_all(pxe, options, service),
        tftp::serve(tftp, files, PATIENCE)
    )?;
    Ok(())
}

async fn answer_all<S: Store>(socket: UdpSocket, options: PxeOptions, service: Arc<Service<S>>) -> io::Result<()> {
    let mut packet = [0; LONGEST + 1];
    loop {
        // An error is one packet's: for example, that an earlier answer did not reach anybody.
        let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut packet).await else { continue };
        if let Some((to, answer)) = answer(&packet[..length], from, options, &service)
            && let Err(why) = socket.send_to(&answer, to).await
        {
            tracing::info!(%to, %why, "a DHCP answer cannot be sent");
        }
    }
}

/// What is answered to `packet`, and where to; nothing to strangers.
fn answer<S: Store>(
    packet: &[u8],
    from: SocketAddrV4,
    options: PxeOptions,
    service: &Service<S>,
) -> Option<(SocketAddrV4, Vec<u8>)> {
    let question = Question::parse(packet)?;
    service.host_that_boots(&question.mac)?;
    let file = match question.is_ipxe {
        true => format!("http://{}:{}/pxe/{}.ipxe", options.address, options.http_port, question.mac),
        false => question.first_program()?.to_string(),
    };
    tracing::info!(mac = question.mac, file, "a network card is told what to boot");
    Some((question.answer_to(from), question.answer(&Boot { server: options.address, file })))
}
