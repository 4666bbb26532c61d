//! What listens on the network, as the kernel tells it: nothing, in the ramdisk.

use std::path::Path;

/// `TCP_LISTEN` of the kernel, as /proc/net/tcp writes it.
const LISTEN: &str = "0A";
/// `TCP_CLOSE`: what a socket without a peer has in /proc/net/udp and raw.
const UNCONNECTED: &str = "07";
/// Ports of our own DHCP clients, open while an answer is awaited.
const CLIENTS: [u32; 2] = [68, 546];

/// Sockets that take what anybody sends, below `proc`: `tcp 00000000:0016`, as the kernel writes addresses.
pub fn listening(proc: &Path) -> Vec<String> {
    let tables = [
        ("tcp", LISTEN),
        ("tcp6", LISTEN),
        ("udp", UNCONNECTED),
        ("udp6", UNCONNECTED),
        ("udplite", UNCONNECTED),
        ("udplite6", UNCONNECTED),
        ("raw", UNCONNECTED),
        ("raw6", UNCONNECTED),
    ];
    let mut open = Vec::new();
    for (table, state) in tables {
        let text = std::fs::read_to_string(proc.join("net").join(table)).unwrap_or_default();
        open.extend(parse(&text, state).into_iter().map(|address| format!("{table} {address}")));
    }
    open
}

/// Local addresses of the sockets in `state`, without those that only the machine itself reaches.
pub fn parse(table: &str, state: &str) -> Vec<String> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = lines.filter_map(|words| {
        let (local, found) = (*words.get(1)?, *words.get(3)?);
        let (address, port) = local.rsplit_once(':')?;
        let port = u32::from_str_radix(port, 16).ok()?;
        let client = state == UNCONNECTED && CLIENTS.contains(&port);
        (found == state && !client && !is_loopback(address)).then(|| local.to_owned())
    });
    open.collect()
}

/// 127.0.0.0/8 or ::1, in the machine's byte order.
fn is_loopback(address: &str) -> bool {
    let v4 = address.len() == 8 && address.ends_with("7F");
    v4 || address == "00000000000000000000000001000000"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 0500140A:A1B2 0100140A:20FB 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
";
    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
  10: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  11: 00000000:006F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  12: 0500140A:9C40 0100140A:0035 01 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
";

    #[test]
    fn what_takes_connections_from_anybody_is_named() {
        assert_eq!(parse(TCP, LISTEN), ["00000000:0016"]);
        assert_eq!(parse(UDP, UNCONNECTED), ["00000000:006F"]);
    }

    #[test]
    fn the_tables_are_read_where_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("net")).expect("a folder");
        std::fs::write(folder.path().join("net/tcp"), TCP).expect("a file");
        std::fs::write(folder.path().join("net/udp6"), "garbage\n\n x y\n").expect("a file");
        assert_eq!(listening(folder.path()), ["tcp 00000000:0016"]);
        assert!(listening(&folder.path().join("nowhere")).is_empty());
    }
}
