//! An HTTP server for one image whose connections break as a test wants.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What one connection does. After the last one in the script, [`Serve::All`].
#[derive(Clone, Copy, Debug)]
pub enum Serve {
    /// All that is asked for.
    All,
    /// So many bytes of what is asked for, then the connection breaks.
    Break(usize),
    /// From the start, whatever range is asked for.
    FromStart,
    /// This status and no body.
    Status(u16),
    /// So many bytes, then silence.
    Stall(usize),
    /// Another file of that many bytes, from its start.
    Replaced(usize),
}

/// An image server.
pub struct Images {
    /// URL of the image.
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Images {
    pub async fn serve(image: Vec<u8>, script: &[Serve]) -> Images {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/disk.raw", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (requests.clone(), script.to_vec());
        tokio::spawn(async move {
            let mut script = script.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                let serve = script.next().unwrap_or(Serve::All);
                tokio::spawn(answer(stream, image.clone(), serve, seen.clone()));
            }
        });
        Images { url, requests }
    }

    /// Per request: the range that was asked for, or nothing.
    pub fn ranges(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

async fn answer(mut stream: TcpStream, image: Vec<u8>, serve: Serve, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let range = request.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap_or_default().to_string();
    seen.lock().expect("not poisoned").push(range.clone());
    let mut start = range.trim_end_matches('-').parse().unwrap_or(0);
    let (image, etag) = match serve {
        Serve::Replaced(length) => (vec![9; length], 2),
        _ => (image, 1),
    };
    if matches!(serve, Serve::FromStart | Serve::Replaced(_)) {
        start = 0;
    }
    let body = &image[start..];
    let status = match serve {
        Serve::Status(status) => format!("{status} No"),
        _ if start > 0 => format!("206 Partial\r\ncontent-range: bytes {start}-{}/{}", image.len() - 1, image.len()),
        _ => "200 OK".into(),
    };
    let length = if matches!(serve, Serve::Status(_)) { 0 } else { body.len() };
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"{etag}\"\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = match serve {
        Serve::All | Serve::FromStart | Serve::Replaced(_) => stream.write_all(body).await,
        Serve::Break(bytes) | Serve::Stall(bytes) => stream.write_all(&body[..bytes.min(body.len())]).await,
        Serve::Status(_) => Ok(()),
    };
    let _ = stream.flush().await;
    if matches!(serve, Serve::Stall(_)) {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}
