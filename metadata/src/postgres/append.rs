//! Appends, and what is done about one whose answer does not come: it is written again beside the first attempt, on another
//! connection, rather than waited for until the server is given up. The answer of a committed append may be lost on a connection
//! that stays open, and everybody who writes to the shard waits for it.
//!
//! L4 allows it: the unique key makes the second attempt wait for the first, and the writer's token tells whose entry stands. Once
//! a second attempt was sent, nothing but success is ever told for certain: the other one may have been applied.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::id::JournalSeq;
use tokio::time::{sleep, timeout};

use super::PostgresStore;
use super::attempts::{Attempts, within};
use super::error::Failure;
use super::journal::{self, Appended};
use crate::metrics as names;
use crate::store::{Lease, StoreError, WriterToken};

/// Between two attempts beside the first: from the first pause to the longest, doubling. One that waits in vain for the first attempt's
/// lock costs a connection.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// What is appended.
pub(super) struct Entry<'a> {
    pub(super) lease: &'a Lease,
    pub(super) seq: JournalSeq,
    pub(super) token: WriterToken,
    pub(super) payload: &'a Bytes,
}

/// Which connection an attempt takes.
#[derive(Clone, Copy)]
enum On<'a> {
    /// One that is open, if there is one.
    Any,
    /// A fresh one: those that are open may be as silent as the first. Says so when the entry is about to be sent on it.
    Fresh(&'a AtomicBool),
}

impl PostgresStore {
    /// Appends; after [`super::PostgresConfig::second_append_after`] without an answer, by two attempts at once.
    pub(super) async fn append_for_certain(&self, entry: &Entry<'_>) -> Result<(), StoreError> {
        // Boxed: they are large, and live through the whole of a wait.
        let mut first = Box::pin(self.attempt(entry, On::Any));
        if let Ok(done) = timeout(self.second_append_after, &mut first).await {
            return done;
        }
        ::metrics::counter!(names::APPENDS_REPEATED).increment(1);
        tracing::warn!(shard = entry.lease.shard.0, seq = entry.seq.0, "a journal append is not answered: writing it again beside that");
        let sent = AtomicBool::new(false);
        let done = tokio::select! {
            done = first => done,
            done = Box::pin(self.beside(entry, &sent)) => done,
        };
        if sent.into_inner() { done.map_err(doubtful) } else { done }
    }

    /// Writes the entry again until it stands, or never can. Ends with the first attempt at the latest.
    async fn beside(&self, entry: &Entry<'_>, sent: &AtomicBool) -> Result<(), StoreError> {
        let mut pause = PAUSE.0;
        loop {
            match self.attempt(entry, On::Fresh(sent)).await {
                Ok(()) => return Ok(()),
                Err(fenced @ StoreError::Fenced) => return Err(fenced),
                Err(error) => tracing::debug!(shard = entry.lease.shard.0, seq = entry.seq.0, %error, "the second attempt failed, too"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt(&self, entry: &Entry<'_>, on: On<'_>) -> Result<(), StoreError> {
        let mut attempts = match on {
            On::Any => Attempts::append(self.limit),
            On::Fresh(_) => Attempts::once(self.limit),
        };
        let appended = loop {
            let mut connection = match on {
                On::Any => self.journal.get().await?,
                On::Fresh(sent) => {
                    let fresh = self.journal.fresh().await?;
                    sent.store(true, Ordering::Relaxed);
                    fresh
                }
            };
            let Entry { lease, seq, token, payload } = entry;
            match within(self.limit, journal::append(&mut connection, lease, *seq, *token, payload)).await {
                Ok(appended) => {
                    connection.back();
                    break appended;
                }
                Err(failure) => attempts.again(connection, failure).await.map_err(Failure::of_write)?,
            }
        };
        match appended {
            Appended::Written => Ok(()),
            Appended::Standing(Some(writer)) if writer == entry.token => Ok(()),
            Appended::Standing(_) => Err(StoreError::Fenced),
        }
    }
}

/// What an error means where another attempt may have been applied.
fn doubtful(error: StoreError) -> StoreError {
    match error {
        unknown @ StoreError::Unknown(_) => unknown,
        other => StoreError::Unknown(other.to_string()),
    }
}
