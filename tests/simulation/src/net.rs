//! Simulated connections behind the doors that production code has for them, and a fingerprint of all bytes that go over them.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use lakefall_service::net::{Accepted, Dial, Listener, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::time;

/// Of all bytes that were read so far, in order, with the time when.
static FINGERPRINT: AtomicU64 = AtomicU64::new(0);
/// How many bytes those were.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// A fingerprint of all traffic so far, and its bytes: equal in two runs of one seed, or something is left to chance.
pub fn traffic() -> (u64, u64) {
    (FINGERPRINT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed))
}

fn note(bytes: &[u8]) {
    let before = FINGERPRINT.load(Ordering::Relaxed) ^ time::elapsed().as_nanos() as u64;
    FINGERPRINT.store(xxh3_64_with_seed(bytes, before), Ordering::Relaxed);
    BYTES.fetch_add(bytes.len() as u64, Ordering::Relaxed);
}

/// A connection.
#[derive(Debug)]
pub struct Stream(TcpStream);

impl Stream {
    /// Opens one to a port of a host.
    pub async fn connect(host: &str, port: u16) -> io::Result<Self> {
        TcpStream::connect((host, port)).await.map(Self)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(context, buffer);
        if polled.is_ready() {
            note(&buffer.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Accepted for Stream {
    async fn peek(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.peek(bytes).await
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
}

/// Takes connections at a port of the host that it is made on.
pub struct Port(TcpListener);

impl Port {
    /// Opens the port.
    pub async fn open(port: u16) -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map(Self)
    }
}

impl Listener for Port {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<Stream> {
        let (stream, _) = self.0.accept().await?;
        Ok(Stream(stream))
    }
}

/// Opens connections from the host that it is used on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialer;

#[async_trait]
impl Dial for Dialer {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(Stream::connect(host, port).await?))
    }
}
