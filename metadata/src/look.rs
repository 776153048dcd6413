//! How an append in doubt must not be settled (L4): by looking. Only for the simulation, which plants it to show that it is found.

use lakefall_queue::ledger::JournalEntry;

use crate::owner::{Owner, Pending, give_up};
use crate::store::StoreError;
use crate::supervisor::rebuild;

impl Owner {
    /// Takes an entry that is not in the journal for one that never will be: the state of before is loaded again, and the next
    /// group gets its sequence. See [`Bug::LookInsteadOfWrite`].
    ///
    /// [`Bug::LookInsteadOfWrite`]: lakefall_queue::planted::Bug::LookInsteadOfWrite
    pub(crate) async fn look(&mut self, entry: &JournalEntry, pending: Vec<Pending>) -> Result<(), StoreError> {
        let loaded = match self.store.load(&self.lease).await {
            Ok(loaded) => loaded,
            Err(error) => return Err(give_up(pending, error)),
        };
        let payload = entry.encode();
        if loaded.entries.iter().any(|found| *found == payload) {
            self.news.publish(self.lease.shard, entry.seq, self.ledger.take_notices());
            pending.into_iter().for_each(Pending::release);
            return Ok(());
        }
        self.ledger = rebuild(self.lease.shard, self.config.shards, loaded)?;
        give_up(pending, StoreError::NotApplied("the entry is not in the journal".to_owned()));
        Ok(())
    }
}
