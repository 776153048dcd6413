//! How an owner must not count on its store: by answering for an entry after the end of its lease because the store took it. Where
//! the store takes anybody's entries, it says nothing. Only for the simulation, which plants it to show that it is found.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::ledger::JournalEntry;

use crate::owner::{Owner, Pending, give_up};
use crate::store::StoreError;

/// How often the entry is written, at most: callers wait for some ten seconds.
const ATTEMPTS: usize = 4;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

impl Owner {
    /// Goes on writing an entry whose append was under way when the lease ended, beside whoever reigns by then, and answers its callers
    /// when the store has taken it. Right, if the store takes nothing of former owners. See [`Bug::FormerOwnerAppends`].
    ///
    /// [`Bug::FormerOwnerAppends`]: lakefall_queue::planted::Bug::FormerOwnerAppends
    pub(crate) fn insist(&self, entry: &JournalEntry, pending: Vec<Pending>) {
        let (store, lease, token, seq) = (Arc::clone(&self.store), self.lease, self.token, entry.seq);
        let payload = Bytes::from(entry.encode());
        tokio::spawn(async move {
            for _ in 0..ATTEMPTS {
                match store.append(&lease, seq, token, payload.clone()).await {
                    Ok(()) => {
                        pending.into_iter().for_each(Pending::release);
                        return;
                    }
                    Err(StoreError::Fenced) => break,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
            give_up(pending, StoreError::Unknown("the lease is over".to_owned()));
        });
    }
}
