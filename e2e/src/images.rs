//! A web server with one small disk image, always the same bytes.

use crate::network::{Network, Port};
use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Size of the image, bytes: enough for a progress report, little enough for a hundred hosts at once.
const SIZE: usize = 4 << 20;

/// The running server; it ends when this is dropped.
pub struct Images {
    /// Where the image is.
    pub url: String,
    /// `sha256:…` of what is served.
    pub digest: String,
    server: JoinHandle<()>,
}

impl Images {
    /// Starts it.
    pub async fn start(network: &Network) -> Result<Images> {
        let image = image();
        let digest = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let address = network.at(Port::Images);
        let listener = TcpListener::bind(address).await.with_context(|| format!("{address} cannot be listened on"))?;
        let image = axum::body::Bytes::from(image);
        let router = Router::new().route("/node.raw", get(move || async move { image }));
        let server = tokio::spawn(async move {
            if let Err(why) = axum::serve(listener, router).await {
                tracing::error!(%why, "the image server ended");
            }
        });
        Ok(Images { url: format!("http://{address}/node.raw"), digest: format!("sha256:{digest}"), server })
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Behind a boot sector's signature, bytes that no disk holds by chance and no packer makes small (xorshift64, fixed seed).
fn image() -> Vec<u8> {
    let mut state = 0x5261_636b_7772_6967_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let mut image: Vec<u8> = words.take(SIZE / 8).flat_map(u64::to_le_bytes).collect();
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}
