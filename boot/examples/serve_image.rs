//! For `cargo xtask bench serve`: the boot service's own routes over a folder with one image, and a crowd of hosts that
//! fetch it. The crowd is the same whoever serves: it reads as fast as it can and throws away what it reads.

#![allow(clippy::print_stdout, reason = "the one who measures reads it")]

use anyhow::{Context, Result, bail};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use clap::Parser;
use jiff::Timestamp;
use rackwright_api::host::OperationKind;
use rackwright_boot::{
    Bounds, ImageOptions, Images, Media, Patience, Patient, Plain, Service, Throttle, plain_router, router, set_up,
};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[allow(dead_code, missing_docs, reason = "made for tests")]
#[path = "../tests/support"]
mod support {
    pub const USER_DATA: &str = "";
    pub mod host;
    pub mod memory;
}

#[derive(Parser)]
enum Arguments {
    /// Writes an authority, a certificate and a key into FOLDER
    Certificate { folder: PathBuf },
    /// Serves the images in FOLDER/cache; says on which ports
    Serve { folder: PathBuf },
    /// Fetches PATH as many clients at once; says how many MiB a second came
    Load {
        folder: PathBuf,
        address: SocketAddr,
        path: String,
        #[arg(long)]
        tls: bool,
        #[arg(long, default_value_t = 100)]
        clients: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Arguments::parse() {
        Arguments::Certificate { folder } => certificate(&folder),
        Arguments::Serve { folder } => serve(&folder).await,
        Arguments::Load { folder, address, path, tls, clients } => load(&folder, address, path, tls, clients).await,
    }
}

fn certificate(folder: &Path) -> Result<()> {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()])?;
    std::fs::write(folder.join("tls.crt"), cert.pem())?;
    std::fs::write(folder.join("tls.key"), signing_key.serialize_pem())?;
    Ok(())
}

async fn serve(folder: &Path) -> Result<()> {
    let (crt, key) = (std::fs::read(folder.join("tls.crt"))?, std::fs::read(folder.join("tls.key"))?);
    let authorities = String::from_utf8(crt.clone())?;
    let options = ImageOptions { proxy: true, port: None, patience: Patience::default() };
    let images = Arc::new(Images::open(&folder.join("cache"), 1 << 40, &authorities, options)?);
    let store = support::memory::Memory::new(support::host::host(OperationKind::Deploy, Timestamp::now()));
    let bounds = Bounds { per_rack: 1000, total: 1000, ..Bounds::default() };
    let service = Service::new(store, &authorities, Media::Bare, Throttle::new(Duration::ZERO));
    let service = Arc::new(service.with_images(images).limited(bounds));
    let (plain, secure) = (listener()?, listener()?);
    println!("{} {}", plain.local_addr()?, secure.local_addr()?);
    let patient = Patient { time: Duration::from_secs(60) };
    // The same settings as the service has.
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_slice(&crt)?], PrivateKeyDer::from_pem_slice(&key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config))).acceptor(patient);
    let connected = plain_router(service.clone(), Plain::Images).into_make_service_with_connect_info::<SocketAddr>();
    let mut plain = axum_server::from_tcp(plain)?.acceptor(patient).http1_only();
    set_up(plain.http_builder());
    let plain = plain.serve(connected);
    let connected = router(service).into_make_service_with_connect_info::<SocketAddr>();
    let mut secure = axum_server::from_tcp(secure)?.acceptor(acceptor).http1_only();
    set_up(secure.http_builder());
    let secure = secure.serve(connected);
    tokio::try_join!(plain, secure)?;
    Ok(())
}

fn listener() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn load(folder: &Path, address: SocketAddr, path: String, tls: bool, clients: usize) -> Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("tls.crt"))?)?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let begun = Instant::now();
    let fetches = (0..clients).map(|_| {
        let (connector, path) = (connector.clone(), path.clone());
        tokio::spawn(async move {
            let stream = TcpStream::connect(address).await?;
            match tls {
                true => fetch(connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?, &path).await,
                false => fetch(stream, &path).await,
            }
        })
    });
    let mut bytes = 0;
    for fetched in futures::future::join_all(fetches).await {
        bytes += fetched??;
    }
    println!("{:.1}", bytes as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64());
    Ok(())
}

/// The length of the body.
async fn fetch(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Result<u64> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut buffer = vec![0; 128 * 1024];
    let mut filled = 0;
    let body = loop {
        filled += stream.read(&mut buffer[filled..]).await?;
        if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..body]).to_lowercase();
    if !head.starts_with("http/1.1 200") {
        bail!("{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let length: u64 = length.trim().parse()?;
    let mut read = (filled - body) as u64;
    while read < length {
        match stream.read(&mut buffer).await? {
            0 => bail!("cut short at {read} of {length}"),
            more => read += more as u64,
        }
    }
    Ok(read)
}
