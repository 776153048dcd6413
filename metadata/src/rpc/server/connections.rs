//! Accepts connections, so many at a time, and encrypts them where that is asked for.

use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use lakefall_service::net::{Listener, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::certificate::Certificate;

/// Connections at the same time, with those in their handshake; more wait in the kernel's queue.
const CONNECTIONS: usize = 4_096;
/// After a failed accept, as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection, counted while it is open.
pub(super) struct Connection<S> {
    stream: Encrypted<S>,
    _place: OwnedSemaphorePermit,
}

enum Encrypted<S> {
    No(S),
    Yes(Box<TlsStream<S>>),
}

/// Connections as they come. Never ends.
pub(super) fn accept<L: Listener>(listener: L, certificate: Option<Certificate>) -> impl Stream<Item = io::Result<Connection<L::Stream>>> {
    let encrypted = move |accepted: io::Result<(L::Stream, OwnedSemaphorePermit)>| {
        let certificate = certificate.clone();
        async move {
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return Some(Err(error)),
            };
            let stream = match certificate {
                None => Encrypted::No(stream),
                Some(certificate) => Encrypted::Yes(Box::new(certificate.accept(stream).await?)),
            };
            Some(Ok(Connection { stream, _place: place }))
        }
    };
    // With a lower bound on handshakes, so many callers that say nothing would shut out all others.
    accept_plain(listener).map(encrypted).buffer_unordered(CONNECTIONS).filter_map(ready)
}

fn accept_plain<L: Listener>(listener: L) -> impl Stream<Item = io::Result<(L::Stream, OwnedSemaphorePermit)>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    futures::stream::unfold((listener, places), |(listener, places)| async move {
        // Never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let accepted = match listener.accept().await {
            Ok(stream) => Ok((stream, place)),
            Err(error) => {
                tracing::warn!(%error, "a metadata connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                Err(error)
            }
        };
        Some((accepted, (listener, places)))
    })
}

impl<S: Wire> Connected for Connection<S> {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl<S: Wire> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Encrypted::No(stream) => Pin::new(stream).poll_read(context, buffer),
            Encrypted::Yes(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: Wire> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Encrypted::No(stream) => Pin::new(stream).poll_write(context, bytes),
            Encrypted::Yes(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Encrypted::No(stream) => Pin::new(stream).poll_flush(context),
            Encrypted::Yes(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Encrypted::No(stream) => Pin::new(stream).poll_shutdown(context),
            Encrypted::Yes(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Encrypted::No(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Encrypted::Yes(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Encrypted::No(stream) => stream.is_write_vectored(),
            Encrypted::Yes(stream) => stream.is_write_vectored(),
        }
    }
}
