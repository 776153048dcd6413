//! The only doors to the network: what listens and what dials. TCP unless a role is given something else, as a simulation
//! does. Must never know what travels over a connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Bytes to and from somebody.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// A connection that somebody else opened.
pub trait Accepted: Wire {
    /// Waits for bytes and copies the first ones, which are read again afterwards; 0 at the end of the stream.
    fn peek(&mut self, bytes: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Writes what can be written at once.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// Takes connections at an address.
pub trait Listener: Send + Sync + 'static {
    /// What a connection is.
    type Stream: Accepted;

    /// The next connection. Cancel-safe: one that is not returned is not lost.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Opens connections.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens one to a port of a host, which may be a name.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Wire>>;
}

/// How connections are opened.
#[derive(Clone, Default)]
pub enum Dialing {
    /// By TCP.
    #[default]
    Tcp,
    /// By somebody else.
    Through(Arc<dyn Dial>),
}

impl fmt::Debug for Dialing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::Through(_) => "Through",
        })
    }
}

impl Accepted for TcpStream {
    async fn peek(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        TcpStream::peek(self, bytes).await
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // Answers are written whole: waiting to fill a packet only delays them. What is not set costs time and no more.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}
