//! Accepts connections, so many at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use lakefall_service::net::{Listener, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4_096;
/// After a failed accept, as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection, counted while it is open.
pub(super) struct Connection<S> {
    stream: S,
    _place: OwnedSemaphorePermit,
}

/// Connections as they come. Never ends.
pub(super) fn accept<L: Listener>(listener: L) -> impl Stream<Item = io::Result<Connection<L::Stream>>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    futures::stream::unfold((listener, places), |(listener, places)| async move {
        // Never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let accepted = match listener.accept().await {
            Ok(stream) => Ok(Connection { stream, _place: place }),
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Wire> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
