//! Messages ordered by key in one partition: of each group only the first that is not finished may be leased. Nothing here
//! is stored: it follows from the blocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::block::NEVER;
use super::entry::Entry;
use super::tally::Tally;

/// The groups of a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// Offsets of each group's messages that are not finished, in order.
    waiting: BTreeMap<u64, VecDeque<u64>>,
    /// First ones that could be leased: priority, offset.
    ready: BTreeSet<(u8, u64)>,
    /// First ones that are leased or delayed: when they are available again, offset.
    due: BTreeSet<(i64, u64)>,
    /// Messages in all groups.
    count: u64,
    /// As the queue's index has the first that is due.
    pub(super) indexed_ms: i64,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { indexed_ms: NEVER, ..Self::default() }
    }

    /// A message that comes after all others of its group.
    pub(super) fn add(&mut self, group: u64, offset: u64, entry: Entry, tally: &mut Tally) {
        let waiting = self.waiting.entry(group).or_default();
        waiting.push_back(offset);
        self.count += 1;
        if waiting.len() == 1 {
            self.place(offset, entry, tally);
        }
    }

    /// A message is finished. Returns the one whose turn came by that; it is to be given to [`Groups::place`].
    pub(super) fn remove(&mut self, group: u64, offset: u64, entry: Entry, tally: &mut Tally) -> Option<u64> {
        let waiting = self.waiting.get_mut(&group)?;
        let index = waiting.binary_search(&offset).ok()?;
        waiting.remove(index);
        let next = waiting.front().copied();
        self.count -= 1;
        if next.is_none() {
            self.waiting.remove(&group);
        }
        if index > 0 {
            return None;
        }
        self.unplace(offset, entry, tally);
        next
    }

    /// The first one of a group changed.
    pub(super) fn change(&mut self, offset: u64, old: Entry, new: Entry, tally: &mut Tally) {
        self.unplace(offset, old, tally);
        self.place(offset, new, tally);
    }

    /// Puts the first one of a group to where it belongs.
    pub(super) fn place(&mut self, offset: u64, entry: Entry, tally: &mut Tally) {
        if entry.at_ms() <= tally.as_of_ms {
            self.ready.insert((entry.priority(), offset));
            tally.add_ready(entry.priority(), 1);
        } else {
            self.due.insert((entry.at_ms(), offset));
            tally.leased += u64::from(entry.is_leased());
        }
    }

    fn unplace(&mut self, offset: u64, entry: Entry, tally: &mut Tally) {
        if self.ready.remove(&(entry.priority(), offset)) {
            tally.remove_ready(entry.priority(), 1);
        } else if self.due.remove(&(entry.at_ms(), offset)) {
            tally.leased -= u64::from(entry.is_leased());
        }
    }

    /// Takes the next one that is due as of the tally's time; it is to be given to [`Groups::place`] again.
    pub(super) fn pop_due(&mut self, tally: &mut Tally, entry: impl Fn(u64) -> Option<Entry>) -> Option<(u64, Entry)> {
        let (_, offset) = self.due.first().copied().filter(|(at_ms, _)| *at_ms <= tally.as_of_ms)?;
        self.due.pop_first();
        let entry = entry(offset)?;
        tally.leased -= u64::from(entry.is_leased());
        Some((offset, entry))
    }

    /// Those not ready, in the order in which they are due.
    pub(super) fn due(&self) -> impl Iterator<Item = u64> {
        self.due.iter().map(|(_, offset)| *offset)
    }

    /// When the first of those not ready is due.
    pub(super) fn due_ms(&self) -> i64 {
        self.due.first().map_or(NEVER, |(at_ms, _)| *at_ms)
    }

    /// Those that could be leased, of one priority, oldest first.
    pub(super) fn ready(&self, priority: u8) -> impl Iterator<Item = u64> {
        self.ready.range((priority, 0)..=(priority, u64::MAX)).map(|(_, offset)| *offset)
    }

    /// Messages that wait behind another one of their group.
    pub(super) fn blocked(&self) -> u64 {
        self.count - self.waiting.len() as u64
    }

    /// The first one of a group.
    pub(super) fn first(&self, group: u64) -> Option<u64> {
        self.waiting.get(&group)?.front().copied()
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        let queued: usize = self.waiting.values().map(|waiting| waiting.capacity() * size_of::<u64>()).sum();
        // Each is in the tally's index of homes, too.
        let maps = self.waiting.len() * (4 * size_of::<u64>() + size_of::<VecDeque<u64>>()) + (self.ready.len() + self.due.len()) * 16;
        (queued + maps) as u64
    }
}
