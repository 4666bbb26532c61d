//! How firmware reads a virtual CD: it fetches the URL that its BMC was given, trusting only the authorities that it was
//! set up with, and looks for the host area in what comes. Errors never hold the URL, which is a secret.

use anyhow::Context;
use futures::StreamExt;
use rackwright_protocol::media::{AREA_SIZE, MAGIC, MediaConfig, find, read};
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence while media comes.
const SILENCE: Duration = Duration::from_secs(30);
/// The area begins at a multiple of this.
const BLOCK: usize = 512;

/// Fetches the media at `url` and reads its host area. `authorities`: PEM, or the path of a PEM file.
pub async fn fetch(url: &str, authorities: Option<&str>) -> anyhow::Result<MediaConfig> {
    let client = client(authorities).await?;
    let response = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    let response = response.error_for_status().map_err(reqwest::Error::without_url)?;
    let mut body = response.bytes_stream();
    let mut scanner = Scanner::default();
    while let Some(bytes) = body.next().await {
        scanner.push(&bytes.map_err(reqwest::Error::without_url)?);
        if scanner.is_complete() {
            break;
        }
    }
    Ok(read(&scanner.kept)?)
}

async fn client(authorities: Option<&str>) -> anyhow::Result<reqwest::Client> {
    let pem = match authorities {
        None => String::new(),
        Some(pem) if pem.trim_start().starts_with("-----BEGIN") => pem.into(),
        Some(path) => {
            tokio::fs::read_to_string(path).await.with_context(|| format!("reading the media authorities {path}"))?
        }
    };
    let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).context("the media authorities")?;
    let client = reqwest::Client::builder()
        .tls_certs_only(certificates)
        .no_proxy()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(reqwest::redirect::Policy::none());
    Ok(client.build()?)
}

/// Looks for the area as the media comes by, and keeps no more than it needs: media may be much larger than memory.
#[derive(Default)]
struct Scanner {
    kept: Vec<u8>,
    found: bool,
}

impl Scanner {
    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.found {
            return;
        }
        match find(&self.kept) {
            Some(at) => {
                self.kept.drain(..at);
                self.found = true;
            }
            None => {
                // Whole blocks that were looked at go; what begins in the last, short one may still become the magic.
                let looked_at = self.kept.len().saturating_sub(MAGIC.len() - 1).next_multiple_of(BLOCK);
                self.kept.drain(..looked_at.min(self.kept.len() / BLOCK * BLOCK));
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.found && self.kept.len() >= AREA_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rackwright_protocol::{Subject, media};

    fn config() -> MediaConfig {
        let text = String::from;
        let subject = Subject {
            namespace: text("metal"),
            host: text("rack-a-u01"),
            host_uid: text("uid"),
            operation_id: text("op"),
        };
        MediaConfig {
            boot_url: text("https://127.0.0.1:1"),
            ca: text("ca"),
            subject,
            token: text("token"),
            ..MediaConfig::default()
        }
    }

    proptest! {
        #[test]
        fn the_area_is_found_however_the_media_is_cut(blocks in 0..40_usize, cuts in 1..3000_usize) {
            let mut image = vec![7; blocks * BLOCK];
            image.extend(media::write(&config()).expect("fits"));
            image.extend(vec![7; 5000]);
            let mut scanner = Scanner::default();
            for piece in image.chunks(cuts) {
                scanner.push(piece);
                prop_assert!(scanner.found || scanner.kept.len() <= 2 * BLOCK);
                if scanner.is_complete() {
                    break;
                }
            }
            prop_assert_eq!(read(&scanner.kept), Ok(config()));
        }
    }

    #[tokio::test]
    async fn an_error_does_not_tell_the_url() {
        let why = fetch("http://127.0.0.1:9/media/secret.img", None).await.expect_err("nothing listens there");
        assert!(!format!("{why:#}").contains("secret"), "{why:#}");
    }
}
