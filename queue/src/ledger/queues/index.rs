//! When what a queue knows of a partition is due, and which of it is ready: indexes over blocks and groups, brought up to
//! date after each command. Nothing here is stored: it follows from the blocks.

use std::collections::BTreeSet;

use super::super::RowKey;
use super::block::{BLOCK, Block, NEVER};
use super::entry::Entry;
use super::groups::Groups;
use super::partition::{DueIndex, GROUPS, QueuePartition, State, split};
use super::tally::{Lock, Tally};
use crate::id::QueueId;

impl QueuePartition {
    /// Counts everything, after the blocks were restored.
    pub(super) fn count(&mut self, tally: &mut Tally) {
        self.recount();
        self.groups = Groups::new();
        self.ready_blocks.clear();
        for (number, block) in &mut self.blocks {
            block.count(tally);
            (block.indexed_ms, block.indexed_lanes) = (NEVER, 0);
            self.touched.insert(*number);
            for entry in block.live().filter(|entry| entry.is_grouped()) {
                let (offset, Some(group)) = (number * BLOCK + u64::from(entry.place()), block.group_of(entry.place())) else { continue };
                self.groups.add(group, offset, entry, tally);
                tally.at_home(group, self.key);
                if entry.is_leased() {
                    tally.lock(group, Lock { partition: self.key, offset, until_ms: entry.at_ms() });
                }
            }
        }
    }

    /// What is due as of the tally's time becomes ready. `number` is as in a [`DueIndex`], from which it was just taken.
    pub(super) fn promote(&mut self, number: u64, due: &mut DueIndex, tally: &mut Tally) {
        if number != GROUPS {
            if let Some(block) = self.blocks.get_mut(&number) {
                block.recount(tally);
                block.indexed_ms = NEVER;
            }
            return self.index(number, due);
        }
        self.groups.indexed_ms = NEVER;
        let blocks = &self.blocks;
        let entry = |offset: u64| {
            let (number, place) = split(offset);
            blocks.get(&number)?.entry(place)
        };
        while let Some((offset, entry)) = self.groups.pop_due(tally, entry) {
            self.groups.place(offset, entry, tally);
        }
        self.index_groups(due);
    }

    /// Puts a block to where the indexes have it.
    pub(super) fn index(&mut self, number: u64, due: &mut DueIndex) {
        let Some(block) = self.blocks.get_mut(&number) else { return };
        let lanes = block.lanes();
        for priority in priorities(lanes & !block.indexed_lanes) {
            self.ready_blocks.insert((priority, number));
        }
        for priority in priorities(block.indexed_lanes & !lanes) {
            self.ready_blocks.remove(&(priority, number));
        }
        block.indexed_lanes = lanes;
        if block.indexed_ms != block.due_ms {
            due.remove(&(block.indexed_ms, self.key, number));
            if block.due_ms != NEVER {
                due.insert((block.due_ms, self.key, number));
            }
            block.indexed_ms = block.due_ms;
        }
    }

    fn index_groups(&mut self, due: &mut DueIndex) {
        let due_ms = self.groups.due_ms();
        if self.groups.indexed_ms != due_ms {
            due.remove(&(self.groups.indexed_ms, self.key, GROUPS));
            if due_ms != NEVER {
                due.insert((due_ms, self.key, GROUPS));
            }
            self.groups.indexed_ms = due_ms;
        }
    }

    /// After changes: brings the indexes up to date, drops blocks that tell nothing, and marks rows.
    pub(super) fn flush(&mut self, queue: QueueId, due: &mut DueIndex, dirty: &mut BTreeSet<RowKey>) {
        let (topic, partition) = self.key;
        for number in std::mem::take(&mut self.touched) {
            dirty.insert(RowKey::QueueBlock(queue, topic, partition, number));
            self.index(number, due);
            let below = (number + 1) * BLOCK <= self.floor;
            if let Some(block) = self.blocks.get(&number).filter(|block| below || block.is_empty()) {
                due.remove(&(block.indexed_ms, self.key, number));
                for priority in priorities(block.indexed_lanes) {
                    self.ready_blocks.remove(&(priority, number));
                }
                self.blocks.remove(&number);
            }
        }
        self.index_groups(due);
        if std::mem::take(&mut self.moved) {
            dirty.insert(RowKey::QueuePartition(queue, topic, partition));
        }
    }

    /// How many entries that were not ready as of `as_of_ms` are by `now_ms`, and how many of these were leased. `number` is
    /// as in a [`DueIndex`].
    pub(super) fn due_by(&self, number: u64, as_of_ms: i64, now_ms: i64) -> (u64, u64) {
        let is_due = |entry: &Entry| as_of_ms < entry.at_ms() && entry.at_ms() <= now_ms;
        let sum = |(due, leased): (u64, u64), entry: Entry| (due + 1, leased + u64::from(entry.is_leased()));
        if number == GROUPS {
            let due = self.groups.due().filter_map(|offset| match self.state(offset) {
                State::Entry(entry) => Some(entry),
                State::Finished | State::Plain => None,
            });
            return due.take_while(is_due).fold((0, 0), sum);
        }
        let entries = self.blocks.get(&number).into_iter().flat_map(Block::live);
        entries.filter(|entry| !entry.is_grouped() && is_due(entry)).fold((0, 0), sum)
    }

    /// Looks closer when something of a block, or of all groups, seems due; its entry was just taken from the index. Tells whether something is, at `now_ms`.
    pub(super) fn is_due(&mut self, number: u64, now_ms: i64, due: &mut DueIndex, tally: &mut Tally) -> bool {
        if number == GROUPS {
            self.groups.indexed_ms = NEVER;
            self.index_groups(due);
            return self.groups.due_ms() <= now_ms;
        }
        let Some(block) = self.blocks.get_mut(&number) else { return false };
        block.recount(tally);
        block.indexed_ms = NEVER;
        let is_due = block.due_ms <= now_ms;
        self.index(number, due);
        is_due
    }
}

fn priorities(lanes: u16) -> impl Iterator<Item = u8> {
    (0..16).filter(move |priority| lanes >> priority & 1 == 1)
}
