//! The metadata service over the network: what gateways and compactors ask of replicas, and how replicas wake each other.
//! The wire is `proto/metadata.proto`. It carries asks and answers and never judges them: that is the ledger's.

mod client;
mod codec;
mod outbox;
mod protocol;
mod security;
mod server;

pub use client::{Client, ClientConfig, ClientError, RpcPeers};
pub use protocol::{NEWEST_PROTOCOL, OLDEST_PROTOCOL};
pub use security::{ClientSecurity, ClientTls, ServerSecurity, ServerTls};
pub use server::{Host, ServeError, Serving, serve};

/// Puts certificates into use that were looked at. Cannot fail.
pub type Renewal = Box<dyn FnOnce() + Send>;

/// The generated messages and services of `proto/metadata.proto`.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod proto {
    tonic::include_proto!("lakefall.metadata.v1");
}

/// Largest message that either side takes, in bytes.
const MAX_MESSAGE: usize = 64 << 20;
/// Largest single ask that a client sends, in bytes: with its frame well below [`MAX_MESSAGE`].
const MAX_ASK: usize = 32 << 20;
/// A frame is closed when it holds so many bytes; one ask or answer may pass it.
const FRAME_BYTES: usize = 1 << 20;
/// Or so many asks or answers.
const FRAME_ITEMS: usize = 4_096;
/// Asks under way in a session at most, on either side; beyond it callers wait for room.
const SESSION_ASKS: usize = 16_384;
/// Bytes of asks under way in a session at most, on either side.
const SESSION_BYTES: usize = 64 << 20;
/// What HTTP/2 lets a peer send of a stream before it is read, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;
/// And of all streams of a connection together.
const CONNECTION_WINDOW: u32 = 8 << 20;
