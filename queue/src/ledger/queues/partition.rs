//! How far a queue is in one partition, and what it knows of the messages there. It must never pick or settle by itself:
//! it does as it is told, and keeps its counts right.

use std::collections::{BTreeMap, BTreeSet};

use super::super::PartitionKey;
use super::block::{BLOCK, Block};
use super::entry::Entry;
use super::groups::Groups;
use super::steps::step;
use super::tally::{Lock, Tally};
use crate::time::Timestamp;

/// When what is in a queue is due: time, partition, block; [`GROUPS`] stands for all groups of the partition.
pub(super) type DueIndex = BTreeSet<(i64, PartitionKey, u64)>;

/// In a [`DueIndex`].
pub(super) const GROUPS: u64 = u64::MAX;

/// A queue's place in a partition.
///
/// Always `floor <= head <= scanned`. Messages below `floor` are finished, and the one at `floor` is not, unless it was not
/// looked at yet. Those below `head` are finished or have an entry; those from `scanned` on have none, but may be finished.
#[derive(Clone, Debug)]
pub(super) struct QueuePartition {
    pub(super) key: PartitionKey,
    pub(super) floor: u64,
    pub(super) head: u64,
    pub(super) scanned: u64,
    pub(super) blocks: BTreeMap<u64, Block>,
    /// Messages from `head` to before `scanned` that are neither finished nor have an entry.
    pub(super) plain: u64,
    /// Finished ones from `floor` on.
    pub(super) finished: u64,
    pub(super) groups: Groups,
    /// Blocks with entries that could be leased, by priority. Brought up to date by [`QueuePartition::index`].
    pub(super) ready_blocks: BTreeSet<(u8, u64)>,
    /// Blocks that changed since the last [`QueuePartition::flush`], and whether the bounds did.
    pub(super) touched: BTreeSet<u64>,
    pub(super) moved: bool,
}

/// What a queue knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Finished,
    /// Neither leased nor set apart, ever.
    Plain,
    /// Leased, given back, delayed, or with a priority or a group.
    Entry(Entry),
}

/// The block of an offset, and its place there.
pub(super) fn split(offset: u64) -> (u64, u16) {
    (offset / BLOCK, (offset % BLOCK) as u16)
}

impl QueuePartition {
    /// Begins at `start`.
    pub(super) fn new(key: PartitionKey, start: u64) -> Self {
        Self::restore(key, start, start, start)
    }

    /// From a row; blocks and counts are to follow.
    pub(super) fn restore(key: PartitionKey, floor: u64, head: u64, scanned: u64) -> Self {
        Self {
            key,
            floor,
            head,
            scanned,
            blocks: BTreeMap::new(),
            plain: 0,
            finished: 0,
            groups: Groups::new(),
            ready_blocks: BTreeSet::new(),
            touched: BTreeSet::new(),
            moved: true,
        }
    }

    /// What is known of a message.
    pub(super) fn state(&self, offset: u64) -> State {
        let (number, place) = split(offset);
        match self.blocks.get(&number) {
            _ if offset < self.floor => State::Finished,
            Some(block) if block.is_finished(place) => State::Finished,
            Some(block) => block.entry(place).map_or(State::Plain, State::Entry),
            None => State::Plain,
        }
    }

    /// Adds a classified message, the next one after all others.
    pub(super) fn set_apart(&mut self, offset: u64, at_ms: i64, priority: u8, group: Option<u64>, tally: &mut Tally) {
        let (number, place) = split(offset);
        let entry = Entry::set_apart(place, at_ms, priority, group.is_some());
        let block = self.blocks.entry(number).or_default();
        match group {
            None => block.add(&[entry], tally),
            Some(group) => {
                block.add_grouped(entry, group, tally);
                self.groups.add(group, offset, entry, tally);
                tally.at_home(group, self.key);
            }
        }
        self.touched.insert(number);
    }

    /// Finishes messages. Returns how many were not finished before. The floor is to be moved afterwards.
    pub(super) fn finish(&mut self, from: u64, to: u64, tally: &mut Tally) -> u64 {
        let mut at = from.max(self.floor);
        let mut fresh = 0;
        while at < to {
            let (number, place) = split(at);
            let end = to.min((number + 1) * BLOCK);
            let upto = place + (end - at) as u16;
            let block = self.blocks.entry(number).or_default();
            // Of those that may be plain: what was neither finished nor had an entry is so no more.
            let (low, high) = (self.head.max(at), self.scanned.min(end));
            if low < high {
                let (low_place, high_place) = (split(low).1, split(low).1 + (high - low) as u16);
                let apart = block.entries_between(low_place, high_place);
                self.plain -= high - low - block.finished_between(low_place, high_place) - apart;
            }
            let mut grouped = Vec::new();
            fresh += block.finish(place, upto, tally, |entry, group| grouped.push((entry, group)));
            self.touched.insert(number);
            for (entry, group) in grouped {
                self.leave_group(number * BLOCK + u64::from(entry.place()), entry, group, tally);
            }
            at = end;
        }
        self.finished += fresh;
        fresh
    }

    fn leave_group(&mut self, offset: u64, entry: Entry, group: u64, tally: &mut Tally) {
        tally.unlock(group, self.key, offset);
        let next = self.groups.remove(group, offset, entry, tally);
        if self.groups.first(group).is_none() {
            tally.left_home(group, self.key);
        }
        if let Some(next) = next
            && let State::Entry(entry) = self.state(next)
        {
            self.groups.place(next, entry, tally);
        }
    }

    /// Replaces a message's entry. Returns the new one.
    pub(super) fn replace(&mut self, offset: u64, change: impl FnOnce(Entry) -> Entry, tally: &mut Tally) -> Option<Entry> {
        let (number, place) = split(offset);
        let block = self.blocks.get_mut(&number)?;
        let (old, new) = block.replace(place, change, tally)?;
        if let Some(group) = block.group_of(place).filter(|_| old.is_grouped()) {
            self.groups.change(offset, old, new, tally);
            if new.is_leased() {
                tally.lock(group, Lock { partition: self.key, offset, until_ms: new.at_ms() });
            } else {
                tally.unlock(group, self.key, offset);
            }
        }
        // At once, so that what one receiver drained is not looked through for the next one.
        if block.indexed_lanes >> old.priority() & 1 == 1 && !block.has_ready(old.priority()) {
            block.indexed_lanes &= !(1 << old.priority());
            self.ready_blocks.remove(&(old.priority(), number));
        }
        self.touched.insert(number);
        Some(new)
    }

    /// Leases plain messages for the first time, oldest first, at most `limit`. Returns their offsets.
    pub(super) fn lease_plain(&mut self, limit: u64, until_ms: i64, now_ms: i64, tally: &mut Tally) -> Vec<u64> {
        let mut leased = Vec::new();
        while (leased.len() as u64) < limit && self.plain > 0 && self.head < self.scanned {
            let (number, place) = split(self.head);
            let end = (self.scanned - number * BLOCK).min(BLOCK) as u16;
            let block = self.blocks.entry(number).or_default();
            let (places, stopped) = block.plain_places(place, end, (limit - leased.len() as u64) as usize);
            let fresh: Vec<Entry> = places.iter().map(|at| Entry::set_apart(*at, 0, 0, false).with(1, until_ms, true)).collect();
            block.add(&fresh, tally);
            places.iter().for_each(|place| block.leased_first(*place, now_ms));
            leased.extend(places.iter().map(|at| number * BLOCK + u64::from(*at)));
            self.plain -= places.len() as u64;
            self.head = number * BLOCK + u64::from(stopped);
            self.moved = true;
            self.touched.insert(number);
        }
        leased
    }

    /// Leases a message that has an entry, until then. Returns its new entry.
    pub(super) fn lease_again(&mut self, offset: u64, until_ms: i64, now_ms: i64, tally: &mut Tally) -> Option<Entry> {
        let leased = self.replace(offset, |entry| entry.with(entry.attempt() + 1, until_ms, true), tally)?;
        let (number, place) = split(offset);
        if leased.attempt() == 1
            && let Some(block) = self.blocks.get_mut(&number)
        {
            block.leased_first(place, now_ms);
        }
        Some(leased)
    }

    /// When a message was leased first, to the second; nothing where that is not known.
    pub(super) fn first_leased(&self, offset: u64) -> Option<Timestamp> {
        let (number, place) = split(offset);
        self.blocks.get(&number)?.first_leased_ms(place).map(Timestamp::from_millis)
    }

    /// Offsets of messages that could be leased again or were set apart, of one priority, from `from` on, oldest first, at most
    /// `limit`.
    pub(super) fn ready(&self, priority: u8, from: u64, limit: usize, tally: &Tally) -> Vec<u64> {
        let mut found = Vec::new();
        for (_, number) in self.ready_blocks.range((priority, split(from).0)..=(priority, u64::MAX)) {
            if found.len() >= limit {
                break;
            }
            step();
            let Some(block) = self.blocks.get(number).filter(|block| block.has_ready(priority)) else { continue };
            let offsets = block.ready_places(priority, tally.as_of_ms).map(|place| number * BLOCK + u64::from(place));
            found.extend(offsets.filter(|offset| *offset >= from).take(limit - found.len()));
        }
        let free = |offset: &u64| *offset >= from && !self.is_locked(*offset, tally);
        let mut first = self.groups.ready(priority).filter(free).take(limit).peekable();
        if first.peek().is_some() {
            found.extend(first);
            found.sort_unstable();
            found.truncate(limit);
        }
        found
    }

    fn is_locked(&self, offset: u64, tally: &Tally) -> bool {
        self.group_of(offset).is_some_and(|group| tally.is_locked(group, self.key, offset))
    }

    /// The group of a message that has one and is not finished.
    pub(super) fn group_of(&self, offset: u64) -> Option<u64> {
        let (number, place) = split(offset);
        self.blocks.get(&number).filter(|block| block.entry(place).is_some())?.group_of(place)
    }

    /// Moves the floor past what is finished.
    pub(super) fn advance(&mut self) {
        let before = self.floor;
        loop {
            let (number, place) = split(self.floor);
            let Some(block) = self.blocks.get(&number) else { break };
            let next = block.first_unfinished(place);
            if next == place {
                break;
            }
            self.floor += u64::from(next - place);
            self.finished -= u64::from(next - place);
            if u64::from(next) < BLOCK {
                break;
            }
            self.touched.insert(number);
        }
        self.moved |= self.floor != before;
        self.head = self.head.max(self.floor);
        self.scanned = self.scanned.max(self.floor);
    }

    /// What is below `log_start` is gone, hence finished. Tells whether that changed anything.
    pub(super) fn raise(&mut self, log_start: u64, tally: &mut Tally) -> bool {
        if log_start <= self.floor {
            return false;
        }
        // Block by block where there are any: there may be no end of untouched ones.
        let blocks: Vec<u64> = self.blocks.range(..=split(log_start).0).map(|(number, _)| *number).collect();
        for number in blocks {
            self.finish(number * BLOCK, log_start.min((number + 1) * BLOCK), tally);
        }
        self.floor = log_start;
        self.move_to(self.head.max(log_start), self.scanned.max(log_start));
        self.recount();
        self.advance();
        true
    }

    /// Moves the other bounds.
    pub(super) fn move_to(&mut self, head: u64, scanned: u64) {
        (self.head, self.scanned, self.moved) = (head, scanned, true);
    }

    /// Messages up to `scanned` are classified: those that were not set apart or finished are plain.
    pub(super) fn scan_to(&mut self, scanned: u64) {
        let before = self.scanned;
        self.move_to(self.head, scanned.max(before));
        self.plain += self.untouched_between(before, self.scanned);
    }

    /// Counts plain and finished messages anew.
    pub(super) fn recount(&mut self) {
        let (low, place) = split(self.floor);
        let from = |number: u64| if number == low { place } else { 0 };
        self.finished = self.blocks.range(low..).map(|(n, block)| block.finished_between(from(*n), BLOCK as u16)).sum();
        self.plain = self.untouched_between(self.head, self.scanned);
    }

    /// Messages in a range that are neither finished nor have an entry.
    pub(super) fn untouched_between(&self, from: u64, to: u64) -> u64 {
        let mut plain = to - from;
        for (number, block) in self.blocks.range(split(from).0..=split(to).0) {
            let within = |offset: u64| (offset.clamp(number * BLOCK, (number + 1) * BLOCK) - number * BLOCK) as u16;
            if within(from) < within(to) {
                plain -= block.finished_between(within(from), within(to)) + block.entries_between(within(from), within(to));
            }
        }
        plain
    }

    /// The end of the range from `from` on, up to `to`, whose messages are neither finished nor have an entry.
    pub(super) fn untouched_until(&self, from: u64, to: u64) -> u64 {
        let mut at = from;
        while at < to {
            let (number, place) = split(at);
            match self.blocks.range(number..).next() {
                None => return to,
                Some((next, _)) if *next > number => at = to.min(next * BLOCK),
                Some((_, block)) if block.is_finished(place) || block.entry(place).is_some() => break,
                Some(_) => {
                    step();
                    at += 1;
                }
            }
        }
        at
    }

    /// Where the messages of `at`'s block end, if those from the floor to before `end` are all finished or leased by now, without a
    /// look at each. Messages with a group are looked at.
    pub(super) fn held_until(&mut self, at: u64, end: u64, now_ms: i64, tally: &mut Tally) -> Option<u64> {
        let (number, _) = split(at);
        let (low, high) = ((number * BLOCK).max(self.floor), ((number + 1) * BLOCK).min(end));
        let block = self.blocks.get_mut(&number)?;
        let finished = block.finished_between(split(low).1, (high - number * BLOCK) as u16);
        if !block.has_leased(high - low - finished) {
            return None;
        }
        if block.due_ms <= now_ms {
            block.recount(tally);
            self.touched.insert(number);
        }
        (block.due_ms > now_ms).then_some(high)
    }

    /// Messages not finished, of which the partition holds those before `end`.
    pub(super) fn depth(&self, end: u64) -> u64 {
        end.saturating_sub(self.floor).saturating_sub(self.finished)
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        let blocks: u64 = self.blocks.values().map(Block::bytes).sum();
        size_of::<Self>() as u64 + blocks + self.groups.bytes() + (self.ready_blocks.len() * size_of::<(u8, u64)>()) as u64
    }
}
