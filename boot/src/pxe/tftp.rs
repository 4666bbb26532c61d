//! A TFTP server that gives a handful of files and takes none (RFC 1350, with the options of RFC 2347 to 2349): what a
//! network card needs to fetch iPXE. Files are read once, at the start: no path of a stranger reaches the file system.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const READ: u16 = 1;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

const NOT_FOUND: u16 = 1;
const ILLEGAL: u16 = 4;

/// Block size without options, and the largest that fits an Ethernet frame.
const BLOCK: usize = 512;
const LARGEST_BLOCK: usize = 1428;
/// Largest file that is served, bytes.
const LARGEST: u64 = 16 << 20;
/// How many are served at once.
const TRANSFERS: usize = 64;
/// How often a packet is sent before the other side counts as gone.
const TRIES: usize = 5;

/// The files, by name.
pub type Files = HashMap<String, Arc<[u8]>>;

/// All plain files of `folder`.
pub fn load(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = std::fs::metadata(entry.path())?;
        if metadata.is_file() && metadata.len() <= LARGEST {
            files.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?.into());
        }
    }
    Ok(files)
}

/// A request to read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    name: String,
    block: Option<usize>,
    wants_size: bool,
}

impl Request {
    /// Reads a packet; an error is what the other side is told.
    fn parse(packet: &[u8]) -> Result<Request, (u16, &'static str)> {
        let illegal = |why| (ILLEGAL, why);
        let (opcode, rest) = packet.split_at_checked(2).ok_or(illegal("too short"))?;
        if u16::from_be_bytes([opcode[0], opcode[1]]) != READ {
            return Err(illegal("only reading is possible"));
        }
        let mut words = rest.strip_suffix(&[0]).ok_or(illegal("cut short"))?.split(|byte| *byte == 0);
        let mut word = || words.next().map(|word| String::from_utf8_lossy(word).into_owned());
        let (name, mode) = (word().ok_or(illegal("no name"))?, word().ok_or(illegal("no mode"))?);
        if !mode.eq_ignore_ascii_case("octet") {
            return Err(illegal("only mode octet is possible"));
        }
        let mut request = Request { name, block: None, wants_size: false };
        while let (Some(option), Some(value)) = (word(), word()) {
            match option.to_ascii_lowercase().as_str() {
                "blksize" => {
                    let size = value.parse().ok().filter(|size| (8..=65464).contains(size));
                    request.block = size.map(|size: usize| size.min(LARGEST_BLOCK));
                }
                "tsize" => request.wants_size = true,
                _ => {} // an option that is not answered is not agreed on
            }
        }
        Ok(request)
    }

    /// The answer to the options; `None` when there are none.
    fn agreed(&self, length: usize) -> Option<Vec<u8>> {
        let mut packet = OPTIONS.to_be_bytes().to_vec();
        if let Some(block) = self.block {
            packet.extend(format!("blksize\0{block}\0").into_bytes());
        }
        if self.wants_size {
            packet.extend(format!("tsize\0{length}\0").into_bytes());
        }
        (packet.len() > 2).then_some(packet)
    }
}

fn error(code: u16, why: &str) -> Vec<u8> {
    [&ERROR.to_be_bytes()[..], &code.to_be_bytes(), why.as_bytes(), &[0]].concat()
}

/// Serves `files` on `socket` for ever.
pub async fn serve(socket: UdpSocket, files: Files, patience: Duration) -> io::Result<()> {
    let (files, places) = (Arc::new(files), Arc::new(Semaphore::new(TRANSFERS)));
    let (mut transfers, mut packet) = (JoinSet::new(), [0; 1024]);
    loop {
        while transfers.try_join_next().is_some() {}
        let Ok((length, peer)) = socket.recv_from(&mut packet).await else { continue };
        let answer = match Request::parse(&packet[..length]) {
            Err((code, why)) => error(code, why),
            Ok(request) => match files.get(request.name.trim_start_matches('/')) {
                None => error(NOT_FOUND, "there is no such file"),
                Some(file) => {
                    // Without a place it is asked again: that is what UDP is like.
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        let (file, local) = (file.clone(), socket.local_addr()?);
                        transfers.spawn(async move {
                            if let Err(why) = send(&request, &file, local, peer, patience).await {
                                tracing::info!(%peer, file = request.name, %why, "TFTP transfer broke off");
                            }
                            drop(place);
                        });
                    }
                    continue;
                }
            },
        };
        let _ = socket.send_to(&answer, peer).await;
    }
}

async fn send(
    request: &Request,
    file: &[u8],
    local: SocketAddr,
    peer: SocketAddr,
    patience: Duration,
) -> io::Result<()> {
    let socket = UdpSocket::bind((local.ip(), 0)).await?;
    socket.connect(peer).await?;
    if let Some(agreed) = request.agreed(file.len()) {
        exchange(&socket, &agreed, 0, patience).await?;
    }
    let size = request.block.unwrap_or(BLOCK);
    // The last block is shorter than the others, and empty when need be.
    for index in 0..=file.len() / size {
        let number = (index + 1) as u16; // wraps round, as clients expect of large files
        let block = &file[index * size..file.len().min((index + 1) * size)];
        let packet = [&DATA.to_be_bytes()[..], &number.to_be_bytes(), block].concat();
        exchange(&socket, &packet, number, patience).await?;
    }
    tracing::info!(%peer, file = request.name, "sent by TFTP");
    Ok(())
}

/// Sends `packet` until its acknowledgement comes. An acknowledgement of an earlier one is no reason to send again: both
/// sides would do so for ever.
async fn exchange(socket: &UdpSocket, packet: &[u8], number: u16, patience: Duration) -> io::Result<()> {
    let gone = || io::Error::new(io::ErrorKind::TimedOut, "the other side says nothing");
    for _ in 0..TRIES {
        socket.send(packet).await?;
        let acknowledged = async {
            let mut answer = [0; 1024];
            loop {
                let length = socket.recv(&mut answer).await?;
                match answer.get(..length.min(4)) {
                    Some([0, code, high, low])
                        if u16::from(*code) == ACK && u16::from_be_bytes([*high, *low]) == number =>
                    {
                        return Ok(());
                    }
                    Some([0, code, ..]) if u16::from(*code) == ERROR => {
                        return Err(io::Error::other("the other side gave up"));
                    }
                    _ => {}
                }
            }
        };
        if let Ok(answer) = tokio::time::timeout(patience, acknowledged).await {
            return answer;
        }
    }
    Err(gone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
        let mut packet = vec![0, 1];
        for word in [name, "octet"].into_iter().chain(options.iter().flat_map(|(name, value)| [*name, *value])) {
            packet.extend(word.as_bytes());
            packet.push(0);
        }
        packet
    }

    async fn server(file: Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let files = Files::from([("ipxe.efi".to_string(), file.into())]);
        tokio::spawn(serve(socket, files, Duration::from_millis(50)));
        address
    }

    /// A client that loses every third acknowledgement.
    async fn fetch(server: SocketAddr, request: &[u8], block: usize) -> Result<Vec<u8>, String> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.send_to(request, server).await.expect("sent");
        let (mut file, mut packet, mut lost, mut next) = (Vec::new(), [0; 2048], 0, 1_u16);
        loop {
            let received = tokio::time::timeout(Duration::from_secs(5), socket.recv_from(&mut packet)).await;
            let (length, from) = received.expect("answers").expect("readable");
            let packet = &packet[..length];
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            let (acknowledge, last) = match packet[1] {
                3 => {
                    let new = number == next;
                    if new {
                        file.extend_from_slice(&packet[4..]);
                        next = next.wrapping_add(1);
                    }
                    (number, new && packet.len() - 4 < block)
                }
                6 => (0, false),
                _ => return Err(String::from_utf8_lossy(&packet[4..length - 1]).into()),
            };
            lost += 1;
            if lost % 3 != 0 || last {
                let ack = [&ACK.to_be_bytes()[..], &acknowledge.to_be_bytes()].concat();
                socket.send_to(&ack, from).await.expect("sent");
            }
            if last {
                return Ok(file);
            }
        }
    }

    #[tokio::test]
    async fn a_file_comes_whole_with_and_without_options_though_packets_are_lost() {
        for (length, options, block) in [
            (10_000, vec![], 512),
            (512, vec![], 512),
            (0, vec![], 512),
            (20_000, vec![("blksize", "1428"), ("tsize", "0"), ("windowsize", "4")], 1428),
            (3000, vec![("blksize", "9000")], 1428),
        ] {
            let file: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let server = server(file.clone()).await;
            assert!(fetch(server, &request("/ipxe.efi", &options), block).await == Ok(file), "{length} {options:?}");
        }
    }

    #[tokio::test]
    async fn nothing_but_the_files_is_to_be_had() {
        let server = server(vec![1]).await;
        for name in ["other", "../ipxe.efi", "/etc/passwd", ""] {
            assert_eq!(fetch(server, &request(name, &[]), 512).await, Err("there is no such file".into()), "{name}");
        }
        let mut write = request("ipxe.efi", &[]);
        write[1] = 2;
        assert_eq!(fetch(server, &write, 512).await, Err("only reading is possible".into()));
    }

    proptest! {
        #[test]
        fn no_packet_is_a_panic(packet in proptest::collection::vec(any::<u8>(), 0..200), read in any::<bool>()) {
            let packet = if read { [&[0, 1], &packet[..]].concat() } else { packet };
            if let Ok(request) = Request::parse(&packet) {
                prop_assert!(request.block.is_none_or(|block| (8..=LARGEST_BLOCK).contains(&block)));
                prop_assert!(request.agreed(1).is_none_or(|packet| packet.len() < 64));
            }
        }
    }
}
