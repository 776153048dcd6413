//! Whose a segment is: what its upload and its commits cost is shared among the topics in it, by their bytes there. Must never
//! count a record that was not stored by this segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakefall_metadata::Account;
use lakefall_queue::ledger::SliceOutcome;
use lakefall_queue::usage::{Figure, ONE, Tally, UsageCounts};
use lakefall_queue::{Record, ShardId, TopicId};

use super::Submission;
use super::build::Built;
use super::commit::Replies;

/// The topics of one segment.
pub(super) struct Bill {
    accounts: BTreeMap<TopicId, Arc<Account>>,
    /// Of each topic: before the segment is built as they were sent, then as they lie in it.
    bytes: BTreeMap<TopicId, u64>,
    /// Of each shard's commit, in order: whose a slice is, and its bytes.
    slices: BTreeMap<ShardId, Vec<(TopicId, u64)>>,
    tally: Arc<Tally>,
}

impl Bill {
    pub(super) fn of(submissions: &[Submission]) -> Self {
        let mut bill = Self { accounts: BTreeMap::new(), bytes: BTreeMap::new(), slices: BTreeMap::new(), tally: Arc::default() };
        for part in submissions.iter().flat_map(|submission| &submission.parts) {
            bill.accounts.entry(part.topic).or_insert_with(|| Arc::clone(&part.account));
            let bytes: usize = part.records.iter().map(Record::payload_bytes).sum();
            *bill.bytes.entry(part.topic).or_default() += bytes as u64;
        }
        bill
    }

    /// What the upload is counted in.
    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// The segment is built.
    pub(super) fn built(&mut self, built: &Built) {
        self.bytes.clear();
        for (shard, commit) in &built.commits {
            let slices = self.slices.entry(*shard).or_default();
            for extent in &commit.extents {
                for slice in &extent.slices {
                    slices.push((extent.topic, u64::from(slice.length)));
                    *self.bytes.entry(extent.topic).or_default() += u64::from(slice.length);
                }
            }
        }
    }

    /// The upload is over, whatever became of it: its requests were sent.
    pub(super) fn uploaded(&self) {
        self.charge(&self.tally.take(), &self.bytes);
    }

    /// The commits are over.
    pub(super) fn committed(&self, replies: &Replies) {
        for (shard, slices) in &self.slices {
            let Some(Ok(reply)) = replies.get(shard) else { continue };
            let mut bytes: BTreeMap<TopicId, u64> = BTreeMap::new();
            for ((topic, length), outcome) in slices.iter().zip(&reply.slices) {
                *bytes.entry(*topic).or_default() += length;
                if let (SliceOutcome::Stored(_), Some(account)) = (outcome, self.accounts.get(topic)) {
                    account.add(Figure::StoredBytes, *length);
                }
            }
            let mut commit = UsageCounts::default();
            commit.add(Figure::Commits, ONE);
            self.charge(&commit, &bytes);
        }
    }

    fn charge(&self, whole: &UsageCounts, bytes: &BTreeMap<TopicId, u64>) {
        if whole.is_empty() {
            return;
        }
        let weights: Vec<u64> = bytes.values().copied().collect();
        for (topic, part) in bytes.keys().zip(whole.shared(&weights)) {
            if let Some(account) = self.accounts.get(topic) {
                account.merge(&part);
            }
        }
    }
}
