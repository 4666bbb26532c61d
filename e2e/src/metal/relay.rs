//! A wire with faults: passes TCP on, as slowly as it is told, and cuts connections after as many bytes as it is told.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it reads at once, bytes.
const PIECE: usize = 64 << 10;

/// A running relay; it ends when this is dropped.
pub struct Relay {
    wire: Arc<Wire>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Wire {
    /// Bytes a second from the server; 0: as many as there are.
    rate: AtomicU64,
    /// Bytes from the server so far, all connections.
    passed: AtomicU64,
    /// Counts of `passed` at which the connection at hand is cut, rising.
    cuts: Mutex<Vec<u64>>,
    made: AtomicU64,
}

impl Relay {
    /// Listens on `at` and passes on to `to`.
    pub async fn start(at: SocketAddr, to: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind(at).await.with_context(|| format!("{at} cannot be listened on"))?;
        let wire = Arc::<Wire>::default();
        let shared = wire.clone();
        let server = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to, shared.clone()));
            }
        });
        Ok(Relay { wire, server })
    }

    /// So many bytes a second from now on; 0: no limit.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.wire.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Counts anew from 0 and cuts when the count reaches each of `bytes`, which rise.
    pub fn cut_at(&self, bytes: &[u64]) {
        self.wire.passed.store(0, Ordering::Relaxed);
        self.wire.made.store(0, Ordering::Relaxed);
        *self.wire.cuts.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
    }

    /// Bytes that came from the server since the last [`Relay::cut_at`].
    pub fn passed(&self) -> u64 {
        self.wire.passed.load(Ordering::Relaxed)
    }

    /// Cuts made since the last [`Relay::cut_at`].
    pub fn cuts(&self) -> u64 {
        self.wire.made.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(near: TcpStream, to: SocketAddr, wire: Arc<Wire>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let up = async {
        let _ = tokio::io::copy(&mut near_in, &mut far_out).await; // an end is an end
        let _ = far_out.shutdown().await;
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = far_in.read(&mut piece).await {
            if wire.cuts_now(length as u64) || near_out.write_all(&piece[..length]).await.is_err() {
                return true;
            }
            wire.hold_up(length as u64).await;
        }
        let _ = near_out.shutdown().await;
        false
    };
    tokio::pin!(up);
    tokio::select! {
        cut = down => if !cut { up.await },
        () = &mut up => {}
    }
}

impl Wire {
    /// Counts bytes; true when a cut is due.
    fn cuts_now(&self, length: u64) -> bool {
        let passed = self.passed.fetch_add(length, Ordering::Relaxed) + length;
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let due = cuts.first().is_some_and(|cut| passed >= *cut);
        if due {
            cuts.remove(0);
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        due
    }

    async fn hold_up(&self, length: u64) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(length as f64 / rate as f64)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_cut_where_it_is_told_and_the_next_goes_through() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = TcpListener::bind(any).await.expect("a port");
        let to = server.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let _ = stream.write_all(&vec![7; 1 << 20]).await;
            }
        });
        let free = TcpListener::bind(any).await.expect("a port").local_addr().expect("an address");
        let relay = Relay::start(free, to).await.expect("starts");
        relay.cut_at(&[500_000]);
        let fetch = async || {
            let mut got = Vec::new();
            let mut stream = TcpStream::connect(free).await.expect("connects");
            let _ = stream.read_to_end(&mut got).await;
            got.len()
        };
        assert!((300_000..=500_000).contains(&fetch().await), "cut");
        assert_eq!((fetch().await, relay.cuts()), (1 << 20, 1), "whole");
    }
}
