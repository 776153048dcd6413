//! What comes next in a queue, and what there is in it, told without leasing anything. Must never walk over what is not told:
//! millions of messages that are delayed, leased or finished are stepped over by block.

use std::collections::BTreeMap;

use super::super::{Answer, Ledger, PartitionKey};
use super::block::BLOCK;
use super::entry::Entry;
use super::partition::{GROUPS, QueuePartition, State, split};
use super::state::QueueState;
use super::steps::step;
use super::{FreeMessages, Peeked};
use crate::error::{Error, Result};
use crate::id::{Offset, QueueId};
use crate::queue::PRIORITIES;

/// Messages that one question about free ones looks at, at most.
const LOOKED_AT: u64 = 16 * BLOCK;

/// Entries that became due since messages were leased last: offsets and entries, by partition.
type Due = BTreeMap<PartitionKey, Vec<(u64, Entry)>>;

impl Ledger {
    /// The next messages as they would be leased, then those that nobody looked at yet. Of those that became due since the last
    /// receive not more than `most` are considered, so that one of them may stand where a more urgent one is to come.
    pub(in super::super) fn queue_peek(&self, id: QueueId, most: u32) -> Result<Answer> {
        let queue = self.queues.by_id.get(&id).ok_or_else(|| Error::QueueChanged(id.to_string()))?;
        let most = most as usize;
        let due = queue.due_since(self.asked_at().as_millis(), most);
        let mut all: Vec<Peeked> = Vec::new();
        let peeked =
            |key: &PartitionKey, offset: u64, attempt: u32| Peeked { topic: key.0, partition: key.1, offset: Offset(offset), attempt };
        for priority in (0..PRIORITIES).rev() {
            for (key, partition) in &queue.partitions {
                let left = most - all.len();
                let log_start = self.log_start_of(*key);
                let mut found = due.get(key).cloned().unwrap_or_default();
                found.retain(|(offset, entry)| entry.priority() == priority && *offset >= log_start);
                if queue.tally.has_ready(priority) {
                    let ready = partition.ready(priority, log_start.max(partition.floor), left, &queue.tally);
                    found.extend(ready.into_iter().filter_map(|offset| Some((offset, partition.entry(offset)?))));
                }
                found.sort_unstable_by_key(|(offset, _)| *offset);
                all.extend(found.into_iter().take(left).map(|(offset, entry)| peeked(key, offset, entry.attempt())));
            }
        }
        let seen = |partition: &QueuePartition| if partition.plain > 0 { (partition.head, partition.scanned) } else { (0, 0) };
        for (key, partition) in &queue.partitions {
            let ((from, to), left) = (seen(partition), most - all.len());
            all.extend(partition.untouched(from.max(self.log_start_of(*key)), to, left).into_iter().map(|offset| peeked(key, offset, 0)));
        }
        for (key, partition) in &queue.partitions {
            let (from, left) = (partition.scanned.max(self.log_start_of(*key)), most - all.len());
            all.extend(partition.untouched(from, self.end_of(*key), left).into_iter().map(|offset| peeked(key, offset, 0)));
        }
        Ok(Answer::QueuePeek(all))
    }

    /// Messages of one partition from `from` on that are not finished and that nobody has, whatever their order; at most `most`.
    /// It is told where to go on.
    pub(in super::super) fn queue_free(&self, id: QueueId, key: PartitionKey, from: Offset, most: u32) -> Result<Answer> {
        let queue = self.queues.by_id.get(&id).ok_or_else(|| Error::QueueChanged(id.to_string()))?;
        let Some(partition) = queue.partitions.get(&key) else {
            return Ok(Answer::QueueFree(FreeMessages { next: Offset(u64::MAX), ..FreeMessages::default() }));
        };
        let from = from.0.max(self.log_start_of(key)).max(partition.floor);
        let (offsets, next) = partition.free(from, self.end_of(key), self.asked_at().as_millis(), most as usize);
        Ok(Answer::QueueFree(FreeMessages {
            attempts: offsets
                .iter()
                .map(|offset| partition.entry(*offset).map_or(0, |entry| entry.attempt() - entry.undelivered()))
                .collect(),
            offsets: offsets.into_iter().map(Offset).collect(),
            next: Offset(next),
        }))
    }

    fn log_start_of(&self, key: PartitionKey) -> u64 {
        self.partitions.get(&key).map_or(0, |partition| partition.log_start.0)
    }
}

impl QueueState {
    /// Up to `most` entries that became due since messages were leased last, those first that were due first.
    fn due_since(&self, now_ms: i64, most: usize) -> Due {
        let (mut due, mut left) = (Due::new(), most);
        for (_, key, number) in self.due.iter().take_while(|(at_ms, ..)| *at_ms <= now_ms) {
            if left == 0 {
                break;
            }
            let Some(partition) = self.partitions.get(key) else { continue };
            let found = partition.due_since(*number, &self.tally, now_ms, left);
            left -= found.len();
            due.entry(*key).or_default().extend(found);
        }
        due
    }
}

impl QueuePartition {
    fn entry(&self, offset: u64) -> Option<Entry> {
        match self.state(offset) {
            State::Entry(entry) => Some(entry),
            State::Finished | State::Plain => None,
        }
    }

    /// Entries of a block, or first ones of groups, that became due since the tally's time.
    fn due_since(&self, number: u64, tally: &super::tally::Tally, now_ms: i64, most: usize) -> Vec<(u64, Entry)> {
        let is_due = |entry: &Entry| {
            step();
            tally.as_of_ms < entry.at_ms() && entry.at_ms() <= now_ms
        };
        if number == GROUPS {
            let first = self.groups.due().filter_map(|offset| Some((offset, self.entry(offset)?)));
            let free = |offset: u64| self.group_of(offset).is_none_or(|group| !tally.is_locked_at(group, self.key, offset, now_ms));
            return first.take_while(|(_, entry)| is_due(entry)).filter(|(offset, _)| free(*offset)).take(most).collect();
        }
        let entries = self.blocks.get(&number).into_iter().flat_map(|block| block.live());
        let found = entries.filter(|entry| !entry.is_grouped() && is_due(entry));
        found.map(|entry| (number * BLOCK + u64::from(entry.place()), entry)).take(most).collect()
    }

    /// Up to `limit` messages of a range that are neither finished nor have an entry.
    fn untouched(&self, from: u64, to: u64, limit: usize) -> Vec<u64> {
        let (mut at, mut found) = (from, Vec::new());
        while at < to && found.len() < limit {
            step();
            let (number, place) = split(at);
            let end = to.min((number + 1) * BLOCK);
            match self.blocks.get(&number) {
                None => found.extend((at..end).take(limit - found.len())),
                Some(block) if block.known() == BLOCK => {}
                Some(block) => {
                    let (places, stopped) = block.plain_places(place, (end - number * BLOCK) as u16, limit - found.len());
                    (place..stopped).for_each(|_| step());
                    found.extend(places.into_iter().map(|place| number * BLOCK + u64::from(place)));
                }
            }
            at = end;
        }
        found
    }

    /// Up to `limit` messages of a range that are neither finished nor leased nor wait for their time, and where to go on.
    fn free(&self, from: u64, to: u64, now_ms: i64, limit: usize) -> (Vec<u64>, u64) {
        let (mut at, mut found, mut left) = (from, Vec::new(), LOOKED_AT);
        while at < to && found.len() < limit && left > 0 {
            let (number, place) = split(at);
            let end = to.min((number + 1) * BLOCK);
            match self.blocks.get(&number) {
                Some(block) if (at == from || place == 0) && block.finished_between(place, (end - number * BLOCK) as u16) == end - at => {
                    step();
                    (at, left) = (end, left - 1);
                }
                block => {
                    step();
                    let free = match block.and_then(|block| block.entry(place)) {
                        Some(entry) => entry.at_ms() <= now_ms,
                        None => !block.is_some_and(|block| block.is_finished(place)),
                    };
                    found.extend(free.then_some(at));
                    (at, left) = (at + 1, left - 1);
                }
            }
        }
        (found, at.max(from))
    }
}
