//! Raw sockets: for requests that no HTTP library would send, and for clients that behave badly.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// How a connection went.
#[derive(Debug)]
pub struct Heard {
    /// Everything that came.
    pub bytes: Vec<u8>,
    /// Whether the server closed (or reset) the connection in time.
    pub closed: bool,
    /// How long that took.
    pub after: Duration,
}

impl Heard {
    /// The status of the first answer; `None` where none came.
    pub fn status(&self) -> Option<u16> {
        let text = std::str::from_utf8(self.bytes.get(..12)?).ok()?;
        text.strip_prefix("HTTP/1.1 ")?.parse().ok()
    }

    /// The first answer's body as JSON, null where it is none.
    pub fn problem(&self) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::Deserializer::from_str(body).into_iter::<Value>().next().and_then(Result::ok).unwrap_or_default()
    }

    /// How many answers came.
    pub fn answers(&self) -> usize {
        String::from_utf8_lossy(&self.bytes).matches("HTTP/1.1 ").count()
    }
}

/// Sends `bytes` as they stand and listens until the server closes, at most for `patience`.
pub async fn say(address: &str, bytes: &[u8], patience: Duration) -> Heard {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    listen(&mut stream, patience).await
}

/// Listens until the server closes, at most for `patience`.
pub async fn listen(stream: &mut TcpStream, patience: Duration) -> Heard {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let closed = timeout(patience, async {
        let mut piece = vec![0; 64 << 10];
        // A reset is a close too.
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..read]);
        }
    })
    .await
    .is_ok();
    Heard { bytes, closed, after: began.elapsed() }
}

/// Reads until `needle` came; returns everything read. Fails after `patience`.
pub async fn until(stream: &mut TcpStream, needle: &str, patience: Duration) -> String {
    let mut seen = Vec::new();
    let mut piece = vec![0; 4 << 10];
    let found = timeout(patience, async {
        while !seen.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => seen.extend_from_slice(&piece[..read]),
                closed => panic!("closed ({closed:?}) before {needle:?} came: {}", String::from_utf8_lossy(&seen)),
            }
        }
    })
    .await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(found.is_ok(), "no {needle:?} within {patience:?}: {seen}");
    seen
}
