//! What all handles of a store in memory share: journals, tables, leases and replicas. Every method is one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::Checkpoint;
use lakefall_queue::ledger::journal::{self, Placed};
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::{ShardId, Timestamp};

use super::tables::Tables;
use crate::store::{Holding, Lease, Loaded, Replica, ReplicaId, Roll, StoreError, WriterToken};

#[derive(Default)]
pub(super) struct State {
    shards: Option<u32>,
    by_shard: BTreeMap<ShardId, Shard>,
    /// Until when each replica counts as alive.
    replicas: BTreeMap<ReplicaId, (Replica, Timestamp)>,
    /// Appends on their way, each with the number of requests that come before it.
    late: Vec<(u32, Lease, JournalSeq, WriterToken, Bytes)>,
}

#[derive(Default)]
struct Shard {
    epoch: u64,
    /// Who holds it, and until when if nobody renews it.
    lease: Option<(Replica, Timestamp)>,
    journal: BTreeMap<u64, (WriterToken, Bytes)>,
    tables: Tables,
}

impl State {
    /// Sets the number of shards on first use; returns the one that is set.
    pub(super) fn created_with(&mut self, shards: u32) -> u32 {
        *self.shards.get_or_insert(shards)
    }

    pub(super) fn journal_len(&self, shard: ShardId) -> usize {
        self.by_shard.get(&shard).map_or(0, |s| s.journal.len())
    }

    pub(super) fn tables(&self, shard: ShardId) -> Option<&Tables> {
        self.by_shard.get(&shard).map(|shard| &shard.tables)
    }

    /// Takes a shard whoever holds it.
    pub(super) fn seize(&mut self, shard: ShardId) -> Epoch {
        let shard = self.by_shard.entry(shard).or_default();
        shard.epoch += 1;
        shard.lease = None;
        Epoch(shard.epoch)
    }

    /// Takes a shard unless the lease of another has not ended.
    pub(super) fn take(&mut self, shard: ShardId, by: &Replica, now: Timestamp, until: Timestamp) -> Option<Epoch> {
        let shard = self.by_shard.entry(shard).or_default();
        if shard.lease.as_ref().is_some_and(|(owner, until)| owner.id != by.id && *until > now) {
            return None;
        }
        shard.epoch += 1;
        shard.lease = Some((by.clone(), until));
        Some(Epoch(shard.epoch))
    }

    pub(super) fn renew(&mut self, by: &Replica, leases: &[Lease], now: Timestamp, until: Timestamp) -> Roll {
        self.replicas.insert(by.id, (by.clone(), until));
        self.replicas.retain(|_, (_, alive)| *alive > now);
        let mut renewed = Vec::new();
        for lease in leases {
            let Some(shard) = self.by_shard.get_mut(&lease.shard) else { continue };
            // A lease that ended is lost, although nobody took the shard: what the roll calls free must not be held.
            if let Some((owner, ends)) = &mut shard.lease
                && shard.epoch == lease.epoch.0
                && owner.id == by.id
                && *ends > now
            {
                *ends = until;
                renewed.push(lease.shard);
            }
        }
        let holdings = (0..self.shards.unwrap_or_default()).map(ShardId).map(|shard| self.holding(shard, now)).collect();
        Roll { now, replicas: self.replicas.values().map(|(replica, _)| replica.clone()).collect(), holdings, renewed }
    }

    fn holding(&self, shard: ShardId, now: Timestamp) -> Holding {
        let lease = self.by_shard.get(&shard).and_then(|s| s.lease.as_ref()).filter(|(_, until)| *until > now);
        let left = |until: Timestamp| Duration::from_millis(u64::try_from(until.as_millis() - now.as_millis()).unwrap_or_default());
        Holding { shard, owner: lease.map(|(owner, _)| owner.clone()), remaining: lease.map_or(Duration::ZERO, |(_, until)| left(*until)) }
    }

    pub(super) fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        self.owned(lease)?.lease = None;
        Ok(())
    }

    pub(super) fn leave(&mut self, replica: ReplicaId) {
        self.replicas.remove(&replica);
    }

    pub(super) fn load(&mut self, lease: &Lease) -> Result<Loaded, StoreError> {
        let shard = self.owned(lease)?;
        let row = shard.tables.shard;
        let after = row.as_ref().map_or(0, |row| row.seq);
        let entries = shard.journal.range(after + 1..).map(|(_, (_, payload))| payload.clone()).collect();
        Ok(Loaded { shard: row, rows: shard.tables.rows(), entries })
    }

    /// What is done with an append. A reign that is over is an error; what stands in the place is told even then.
    pub(super) fn append(&mut self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<Placed, StoreError> {
        let shard = self.by_shard.entry(lease.shard).or_default();
        let standing = shard.journal.get(&seq.0).map(|(writer, _)| writer);
        let placed = match journal::place(standing, &token, lease.epoch, Epoch(shard.epoch)) {
            Placed::Over if planted::is(Bug::FormerOwnerAppends) => Placed::New,
            placed => placed,
        };
        match placed {
            Placed::Over => return Err(StoreError::Fenced),
            Placed::New => drop(shard.journal.insert(seq.0, (token, payload))),
            Placed::Before | Placed::Taken => {}
        }
        Ok(placed)
    }

    /// An append that is held up while so many other requests pass.
    pub(super) fn append_after(&mut self, requests: u32, lease: Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) {
        self.late.push((requests, lease, seq, token, payload));
    }

    /// A request comes: appends that were held up long enough come before it.
    pub(super) fn come_due(&mut self) {
        let (due, late): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(|(requests, ..)| *requests == 0);
        self.late = late.into_iter().map(|(requests, lease, seq, token, payload)| (requests - 1, lease, seq, token, payload)).collect();
        for (_, lease, seq, token, payload) in due {
            // Nobody waits for what becomes of it.
            let _ = self.append(&lease, seq, token, payload);
        }
    }

    pub(super) fn checkpoint(&mut self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let shard = self.owned(lease)?;
        if shard.tables.shard.is_some_and(|stands| stands.seq > checkpoint.shard.seq) {
            return Err(StoreError::Fenced);
        }
        shard.tables.apply(checkpoint);
        shard.journal = shard.journal.split_off(&(checkpoint.shard.seq + 1));
        Ok(())
    }

    fn owned(&mut self, lease: &Lease) -> Result<&mut Shard, StoreError> {
        let shard = self.by_shard.entry(lease.shard).or_default();
        if shard.epoch == lease.epoch.0 { Ok(shard) } else { Err(StoreError::Fenced) }
    }
}
