//! What a queue knows of 4,096 consecutive messages: which are finished, and of each other one that is not plain an entry
//! of 12 bytes. It must never cost more than a bit per finished message, nor know what lies outside of the block.

use super::entry::{Entry, Finished, GroupOf, PRIORITIES};
use super::firsts::Firsts;
use super::steps::step;
use super::tally::Tally;

/// Messages of a block.
pub(super) const BLOCK: u64 = 4_096;
/// In no foreseeable time.
pub(super) const NEVER: i64 = i64::MAX;

/// A block.
///
/// Canonical are the finished messages, the entries of the others, their groups, and when they were leased first. Entries of finished messages are dead:
/// they stay until an eighth is. The rest is counted from these: how many entries are ready and leased as of the tally's
/// time, without grouped ones, which [`super::groups`] looks after.
#[derive(Clone, Debug)]
pub(super) struct Block {
    finished: Finished,
    entries: Vec<Entry>,
    groups: Vec<GroupOf>,
    firsts: Firsts,
    done: u16,
    dead: u16,
    /// Of each priority.
    ready: [u16; PRIORITIES],
    leased: u16,
    /// No entry that is not ready becomes so earlier.
    pub(super) due_ms: i64,
    /// As the queue's index has it.
    pub(super) indexed_ms: i64,
    /// Priorities under which the index of ready blocks has it.
    pub(super) indexed_lanes: u16,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            finished: Finished::None,
            entries: Vec::new(),
            groups: Vec::new(),
            firsts: Firsts::default(),
            done: 0,
            dead: 0,
            ready: [0; PRIORITIES],
            leased: 0,
            due_ms: NEVER,
            indexed_ms: NEVER,
            indexed_lanes: 0,
        }
    }
}

impl Block {
    /// From a row; `None` if that is malformed. Its counts are due: see [`Block::recount`].
    pub(super) fn restore(all: bool, finished: &[u8], entries: &[u8], groups: &[u8], firsts: &[u8]) -> Option<Self> {
        let finished = if all { Finished::All } else { Finished::from_bytes(finished)? };
        let (entries, rest) = entries.as_chunks::<{ Entry::BYTES }>();
        let (groups, more) = groups.as_chunks::<{ GroupOf::BYTES }>();
        let firsts = Firsts::from_bytes(firsts)?;
        let mut block = Self { done: finished.count(0, BLOCK as u16), finished, firsts, ..Self::default() };
        block.entries = entries.iter().map(Entry::from_bytes).collect();
        block.groups = groups.iter().map(GroupOf::from_bytes).collect();
        let sorted = block.entries.is_sorted_by(|a, b| a.place() < b.place()) && block.groups.is_sorted_by(|a, b| a.place() < b.place());
        let known = block.entries.iter().all(|e| !block.is_finished(e.place()) && (!e.is_grouped() || block.group_of(e.place()).is_some()));
        (rest.is_empty() && more.is_empty() && sorted && known).then_some(block)
    }

    /// As a row: whether all are finished, else which; entries; groups; when they were leased first.
    pub(super) fn encode(&self) -> (bool, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) {
        let entries = self.live().flat_map(|entry| entry.to_bytes()).collect();
        let groups = self.groups.iter().filter(|g| !self.is_finished(g.place())).flat_map(|g| g.to_bytes()).collect();
        (matches!(self.finished, Finished::All), self.finished.to_bytes(), entries, groups, self.firsts.to_bytes())
    }

    /// Entries of messages that are not finished.
    pub(super) fn live(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied().filter(|entry| !self.is_finished(entry.place()))
    }

    pub(super) fn is_finished(&self, place: u16) -> bool {
        self.finished.get(place)
    }

    /// Nothing is known of its messages.
    pub(super) fn is_empty(&self) -> bool {
        self.done == 0 && self.entries.len() == usize::from(self.dead)
    }

    pub(super) fn has_ready(&self, priority: u8) -> bool {
        self.ready[usize::from(priority) % PRIORITIES] > 0
    }

    /// Priorities of ready entries.
    pub(super) fn lanes(&self) -> u16 {
        self.ready.iter().enumerate().fold(0, |lanes, (priority, ready)| lanes | u16::from(*ready > 0) << priority)
    }

    /// Whether so many entries without a group are leased, as of the tally's time.
    pub(super) fn has_leased(&self, count: u64) -> bool {
        u64::from(self.leased) == count
    }

    /// How many messages are finished or have an entry.
    pub(super) fn known(&self) -> u64 {
        u64::from(self.done) + (self.entries.len() - usize::from(self.dead)) as u64
    }

    /// How many are finished from `from` to before `to`.
    pub(super) fn finished_between(&self, from: u16, to: u16) -> u64 {
        if from == 0 && u64::from(to) == BLOCK { u64::from(self.done) } else { u64::from(self.finished.count(from, to)) }
    }

    /// The first place from `from` on that is not finished; 4,096 if there is none.
    pub(super) fn first_unfinished(&self, from: u16) -> u16 {
        self.finished.first_unset(from)
    }

    /// The entry of a message that is not finished.
    pub(super) fn entry(&self, place: u16) -> Option<Entry> {
        self.index_of(place).map(|index| self.entries[index])
    }

    fn index_of(&self, place: u16) -> Option<usize> {
        let index = self.entries.binary_search_by_key(&place, |entry| entry.place()).ok()?;
        (!self.is_finished(place)).then_some(index)
    }

    /// When the message of a place was leased first, to the second; nothing where that is not known.
    pub(super) fn first_leased_ms(&self, place: u16) -> Option<i64> {
        self.firsts.get(place)
    }

    /// It is now.
    pub(super) fn leased_first(&mut self, place: u16, now_ms: i64) {
        self.firsts.set(place, now_ms);
    }

    /// The group of an entry that has one.
    pub(super) fn group_of(&self, place: u16) -> Option<u64> {
        self.groups.binary_search_by_key(&place, |group| group.place()).ok().map(|index| self.groups[index].hash())
    }

    /// Adds entries in order, each of a place that has none.
    pub(super) fn add(&mut self, fresh: &[Entry], tally: &mut Tally) {
        let Some(first) = fresh.first() else { return };
        let in_order = self.entries.last().is_none_or(|last| last.place() < first.place());
        if self.entries.capacity() - self.entries.len() < fresh.len() {
            // An eighth at most stands empty: what is in flight is to cost 16 bytes at most.
            self.entries.reserve_exact(fresh.len().max(self.entries.len() / 8).min(BLOCK as usize));
        }
        for entry in fresh {
            self.entries.push(*entry);
            self.enter(*entry, tally);
        }
        if !in_order {
            self.entries.sort_by_key(|entry| entry.place());
        }
    }

    /// Adds an entry of a group, after all others.
    pub(super) fn add_grouped(&mut self, entry: Entry, group: u64, tally: &mut Tally) {
        self.add(&[entry], tally);
        if self.groups.len() == self.groups.capacity() {
            self.groups.reserve_exact((self.groups.len() / 8).max(4));
        }
        self.groups.push(GroupOf::new(entry.place(), group));
    }

    /// Replaces the entry of a message that is not finished. Returns the old one and the new one.
    pub(super) fn replace(&mut self, place: u16, change: impl FnOnce(Entry) -> Entry, tally: &mut Tally) -> Option<(Entry, Entry)> {
        let index = self.index_of(place)?;
        let old = self.entries[index];
        let new = change(old);
        self.leave(old, tally);
        self.entries[index] = new;
        self.enter(new, tally);
        Some((old, new))
    }

    /// Finishes messages. Returns how many were not finished before; grouped ones among them are told.
    pub(super) fn finish(&mut self, from: u16, to: u16, tally: &mut Tally, mut grouped: impl FnMut(Entry, u64)) -> u64 {
        let mut index = self.entries.partition_point(|entry| entry.place() < from);
        while let Some(entry) = self.entries.get(index).copied().filter(|entry| entry.place() < to) {
            if !self.is_finished(entry.place()) {
                self.leave(entry, tally);
                self.dead += 1;
                if let Some(group) = self.group_of(entry.place()).filter(|_| entry.is_grouped()) {
                    grouped(entry, group);
                }
            }
            index += 1;
        }
        let fresh = self.finished.set(from, to);
        self.done += fresh;
        self.tidy();
        u64::from(fresh)
    }

    /// Lets go of dead entries when an eighth of them is: a message in flight is to cost 16 bytes at most, whoever else is
    /// finished. Each is moved eight times for that, on the average.
    fn tidy(&mut self) {
        if u64::from(self.done) == BLOCK {
            self.finished = Finished::All;
        }
        if usize::from(self.dead) == self.entries.len() {
            (self.entries, self.groups, self.firsts) = (Vec::new(), Vec::new(), Firsts::default());
            (self.dead, self.due_ms) = (0, NEVER);
        } else if usize::from(self.dead) * 8 >= self.entries.len() {
            let finished = &self.finished;
            self.entries.retain(|entry| !finished.get(entry.place()));
            self.groups.retain(|group| !finished.get(group.place()));
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 8);
            self.groups.shrink_to_fit();
            self.dead = 0;
        }
    }

    fn enter(&mut self, entry: Entry, tally: &mut Tally) {
        tally.live += 1;
        if entry.is_grouped() {
            return;
        }
        if entry.at_ms() <= tally.as_of_ms {
            self.ready[usize::from(entry.priority()) % PRIORITIES] += 1;
            tally.add_ready(entry.priority(), 1);
            return;
        }
        if entry.is_leased() {
            self.leased += 1;
            tally.leased += 1;
        }
        self.due_ms = self.due_ms.min(entry.at_ms());
    }

    fn leave(&mut self, entry: Entry, tally: &mut Tally) {
        tally.live -= 1;
        if entry.is_grouped() {
        } else if entry.at_ms() <= tally.as_of_ms {
            self.ready[usize::from(entry.priority()) % PRIORITIES] -= 1;
            tally.remove_ready(entry.priority(), 1);
        } else if entry.is_leased() {
            self.leased -= 1;
            tally.leased -= 1;
        }
    }

    /// Counts anew, as time went on; the tally had counted it before.
    pub(super) fn recount(&mut self, tally: &mut Tally) {
        let live = self.entries.len() - usize::from(self.dead);
        for (priority, ready) in (0..).zip(self.ready) {
            tally.remove_ready(priority, u64::from(ready));
        }
        tally.leased -= u64::from(self.leased);
        tally.live -= live as u64;
        self.count(tally);
    }

    /// Counts what the tally has not counted yet.
    pub(super) fn count(&mut self, tally: &mut Tally) {
        (self.ready, self.leased, self.due_ms) = ([0; PRIORITIES], 0, NEVER);
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            if !self.is_finished(entry.place()) {
                self.enter(entry, tally);
            }
        }
    }

    /// Places of ready entries without a group that have this priority, oldest first.
    pub(super) fn ready_places(&self, priority: u8, as_of_ms: i64) -> impl Iterator<Item = u16> {
        let wanted = move |entry: &Entry| {
            step();
            entry.at_ms() <= as_of_ms && entry.priority() == priority && !entry.is_grouped()
        };
        self.live().filter(wanted).map(|entry| entry.place())
    }

    /// Places from `from` to before `to` that are neither finished nor have an entry, at most `limit`. Tells also where it stopped.
    pub(super) fn plain_places(&self, from: u16, to: u16, limit: usize) -> (Vec<u16>, u16) {
        let mut index = self.entries.partition_point(|entry| entry.place() < from);
        let mut places = Vec::with_capacity(limit.min(usize::from(to - from)));
        let mut place = from;
        while place < to && places.len() < limit {
            let apart = self.entries.get(index).is_some_and(|entry| entry.place() == place);
            index += usize::from(apart);
            if !apart && !self.is_finished(place) {
                places.push(place);
            }
            place += 1;
        }
        (places, place)
    }

    /// Entries from `from` to before `to` of messages that are not finished.
    pub(super) fn entries_between(&self, from: u16, to: u16) -> u64 {
        self.live().filter(|entry| (from..to).contains(&entry.place())).count() as u64
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        let heap = self.entries.capacity() * Entry::BYTES
            + self.groups.capacity() * GroupOf::BYTES
            + self.firsts.heap_bytes()
            + self.finished.heap_bytes();
        (size_of::<Self>() + size_of::<u64>() + heap) as u64
    }
}
