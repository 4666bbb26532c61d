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
use socket2::{Domain, Socket, Type};
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
    // Questions are sent to everybody. Answers to everybody must leave by the network of our address, and Linux looks for
    // that by the sender's address: without one it takes the default route, or gives up where there is none.
    let (all, own) = (bind(Ipv4Addr::UNSPECIFIED, 67)?, bind(options.address, 67)?);
    let (pxe, tftp) = (bind(Ipv4Addr::UNSPECIFIED, 4011)?, bind(Ipv4Addr::UNSPECIFIED, 69)?);
    own.set_broadcast(true)?;
    tracing::info!(address = %options.address, "proxyDHCP and TFTP");
    tokio::try_join!(
        answer_all(&all, &own, options, &service),
        answer_all(&own, &own, options, &service),
        answer_all(&pxe, &pxe, options, &service),
        tftp::serve(tftp, files, PATIENCE)
    )?;
    Ok(())
}

/// A socket that shares its port with one for another address of this machine.
fn bind(address: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((address, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Answers each of the `questions` over the socket for `answers`.
async fn answer_all<S: Store>(
    questions: &UdpSocket,
    answers: &UdpSocket,
    options: PxeOptions,
    service: &Service<S>,
) -> io::Result<()> {
    let mut packet = [0; LONGEST + 1];
    loop {
        // An error is one packet's: for example, that an earlier answer did not reach anybody.
        let Ok((length, SocketAddr::V4(from))) = questions.recv_from(&mut packet).await else { continue };
        if let Some((to, answer)) = answer(&packet[..length], from, options, service)
            && let Err(why) = answers.send_to(&answer, to).await
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
