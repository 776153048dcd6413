//! Where records are, as far as this gateway was told lately: by answers to its questions and by notices. Readers of what
//! is remembered need nobody else. Must never answer from what is older than [`LEASE`], or was told to be stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::{Extent, Located, Notice};
use lakefall_queue::topic::PartitionStatus;
use lakefall_queue::{Offset, PartitionIndex, TopicId};

/// How long it is believed where a record is. Long enough to read on while a metadata replica dies and another takes over;
/// far below the collector's grace of 600 s, for which an object outlives the last mention of it; and it bounds for how long
/// a gateway that hears no notices serves what was trimmed.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// Partitions remembered, about 300 bytes each; those not read for longest go first.
const PARTITIONS: usize = 16_384;
/// Extents remembered, about 160 bytes each: with the partitions at most some 15 MiB.
const EXTENTS: usize = 65_536;
/// Extents of one partition, of which it keeps the half that was told last: one replay must not push out everybody's tail.
const EXTENTS_OF_ONE: usize = 2_048;
/// Topics whose change is remembered for the answers that were under way then; beyond it, all such answers are not believed.
const CHANGES: usize = 1_024;

type Key = (TopicId, PartitionIndex);

/// What is remembered.
pub(crate) struct Locations {
    ambient: Ambient,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    partitions: BTreeMap<Key, Known>,
    by_use: BTreeMap<u64, Key>,
    extents: usize,
    ticks: u64,
    changed: HashMap<TopicId, u64>,
    all_changed: u64,
}

/// A partition. Its bounds only rise: they are true as lower bounds for ever.
#[derive(Default)]
struct Known {
    bounds: Bounds,
    /// When the log start was told.
    told: Duration,
    /// By their first offset, each with when it was told; none overlaps another.
    extents: BTreeMap<Offset, (Extent, Duration)>,
    used: u64,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
}

impl Bounds {
    /// As both say, each of which may be older than the other.
    pub(crate) fn raised_to(self, other: Self) -> Self {
        Self { log_start: self.log_start.max(other.log_start), end: self.end.max(other.end) }
    }
}

impl From<&PartitionStatus> for Bounds {
    fn from(status: &PartitionStatus) -> Self {
        Self { log_start: status.log_start, end: status.end }
    }
}

/// When a question was asked. Its answer is believed from then on, and not at all where a change was told since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Duration,
    tick: u64,
}

impl Locations {
    pub(crate) fn new(ambient: Ambient) -> Arc<Self> {
        Arc::new(Self { ambient, memory: Mutex::default() })
    }

    /// Taken before a question is asked.
    pub(crate) fn asked(&self) -> Asked {
        let tick = self.lock().tick();
        Asked { at: self.now(), tick }
    }

    /// The extents from the one that holds `from` on, up to about `max_bytes` of them, and the partition's bounds as far as
    /// they are known. `None`: it must be asked for. Below the log start nothing is asked, since it never goes back.
    pub(crate) fn find(&self, topic: TopicId, partition: PartitionIndex, from: Offset, max_bytes: u64, most: usize) -> Option<Located> {
        let now = self.now();
        let mut memory = self.lock();
        let known = memory.used((topic, partition))?;
        let Bounds { log_start, end } = known.bounds;
        let mut located =
            Located { log_start, end, extents: Vec::new(), overlay: Vec::new(), first_recent: from, retired: log_start, deleted: false };
        if from < log_start {
            return Some(located);
        }
        let (mut next, mut bytes) = (from, 0);
        let begin = known.extents.range(..=from).next_back()?.0;
        for (extent, told) in known.extents.range(begin..).map(|(_, remembered)| remembered) {
            let follows = extent.base_offset <= next && extent.end() > next;
            let enough = !located.extents.is_empty() && bytes >= max_bytes;
            if !follows || enough || located.extents.len() >= most || *told + LEASE <= now {
                break;
            }
            (next, bytes) = (extent.end(), bytes + u64::from(extent.length));
            located.extents.push(*extent);
        }
        (!located.extents.is_empty()).then_some(located)
    }

    /// The bounds as they were last told, however long ago.
    pub(crate) fn bounds(&self, topic: TopicId, partition: PartitionIndex) -> Option<Bounds> {
        self.lock().partitions.get(&(topic, partition)).map(|known| known.bounds)
    }

    /// The bounds if the log start was told within the lease.
    pub(crate) fn recent_bounds(&self, topic: TopicId, partition: PartitionIndex) -> Option<Bounds> {
        let now = self.now();
        self.lock().partitions.get(&(topic, partition)).filter(|known| known.told + LEASE > now).map(|known| known.bounds)
    }

    /// Takes in an answer.
    pub(crate) fn learn(&self, topic: TopicId, partition: PartitionIndex, located: &Located, asked: Asked) {
        let bounds = Bounds { log_start: located.log_start, end: located.end };
        self.learn_all(topic, [(partition, bounds)], &located.extents, asked);
    }

    /// Takes in bounds, and extents of the first of the partitions.
    pub(crate) fn learn_all(
        &self,
        topic: TopicId,
        bounds: impl IntoIterator<Item = (PartitionIndex, Bounds)>,
        extents: &[Extent],
        asked: Asked,
    ) {
        let mut memory = self.lock();
        if memory.all_changed > asked.tick || memory.changed.get(&topic).is_some_and(|changed| *changed > asked.tick) {
            return;
        }
        let mut extents = Some(extents);
        for (partition, bounds) in bounds {
            let before = memory.room_for((topic, partition));
            before.bounds = before.bounds.raised_to(bounds);
            before.told = before.told.max(asked.at);
            let count = before.extents.len();
            for extent in extents.take().unwrap_or_default() {
                before.put(*extent, asked.at);
            }
            let added = before.extents.len();
            memory.extents = memory.extents + added - count;
        }
        memory.shrink();
    }

    /// Takes in notices: what was appended to partitions that are read, and which topics changed.
    pub(crate) fn notice(&self, notices: &[Notice]) {
        let (now, date) = (self.now(), self.ambient.now());
        let mut memory = self.lock();
        for notice in notices {
            match notice {
                Notice::Appended { topic, partition, extent } => {
                    let Some(known) = memory.partitions.get_mut(&(*topic, *partition)) else { continue };
                    // A notice may have been long on its way. A date is all that says how long.
                    let age = date.as_millis().saturating_sub(extent.appended_at.as_millis()).max(0).unsigned_abs();
                    let told = now.saturating_sub(Duration::from_millis(age));
                    let count = known.extents.len();
                    known.bounds.end = known.bounds.end.max(extent.end());
                    known.put(*extent, told);
                    let added = known.extents.len();
                    memory.extents = memory.extents + added - count;
                }
                Notice::TopicChanged { topic, .. } => memory.change(*topic),
                Notice::QueueChanged { .. } | Notice::QueueReady { .. } | Notice::QueueOver { .. } => {}
            }
        }
        memory.shrink();
    }

    /// The topic changed: its records may lie elsewhere, or be gone.
    pub(crate) fn forget(&self, topic: TopicId) {
        self.lock().change(topic);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        let mut memory = self.lock();
        memory.all_changed = memory.tick();
        memory.changed.clear();
        memory.partitions.values_mut().for_each(Known::doubt);
        memory.extents = 0;
        memory.report();
    }

    /// What was said of a partition turned out to be stale.
    pub(crate) fn doubt(&self, topic: TopicId, partition: PartitionIndex) {
        let mut memory = self.lock();
        if let Some(known) = memory.partitions.get_mut(&(topic, partition)) {
            let count = known.extents.len();
            known.doubt();
            memory.extents -= count;
        }
    }

    fn now(&self) -> Duration {
        // From a lease on, so that nothing that was told at the start of the clock seems to be told before it.
        self.ambient.clock.elapsed() + LEASE
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What is told later counts: an extent may have been replaced by another that holds the same records.
    fn put(&mut self, extent: Extent, told: Duration) {
        if extent.end() <= self.bounds.log_start {
            return;
        }
        let before = self.extents.range(..extent.end()).rev();
        let overlapped = before.map(|(_, (other, told))| (*other, *told)).take_while(|(other, _)| other.end() > extent.base_offset);
        let overlapped: Vec<(Extent, Duration)> = overlapped.collect();
        if overlapped.iter().any(|(_, other_told)| *other_told > told) {
            return;
        }
        for (other, _) in overlapped {
            self.extents.remove(&other.base_offset);
        }
        self.extents.insert(extent.base_offset, (extent, told));
        if self.extents.len() > EXTENTS_OF_ONE {
            let mut times: Vec<(Duration, Offset)> = self.extents.values().map(|(extent, told)| (*told, extent.base_offset)).collect();
            times.sort_unstable();
            for (_, base) in &times[..EXTENTS_OF_ONE / 2] {
                self.extents.remove(base);
            }
        }
    }

    fn doubt(&mut self) {
        self.extents.clear();
        self.told = Duration::ZERO;
    }
}

impl Memory {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn used(&mut self, key: Key) -> Option<&mut Known> {
        let tick = self.tick();
        let known = self.partitions.get_mut(&key)?;
        self.by_use.remove(&known.used);
        self.by_use.insert(tick, key);
        known.used = tick;
        Some(known)
    }

    fn room_for(&mut self, key: Key) -> &mut Known {
        let tick = self.tick();
        let known = self.partitions.entry(key).or_default();
        self.by_use.remove(&known.used);
        self.by_use.insert(tick, key);
        known.used = tick;
        known
    }

    fn change(&mut self, topic: TopicId) {
        let tick = self.tick();
        if self.changed.len() >= CHANGES {
            self.changed.clear();
            self.all_changed = tick;
        }
        self.changed.insert(topic, tick);
        let mut gone = 0;
        for (_, known) in self.partitions.range_mut((topic, PartitionIndex(0))..=(topic, PartitionIndex(u32::MAX))) {
            gone += known.extents.len();
            known.doubt();
        }
        self.extents -= gone;
        self.report();
    }

    fn shrink(&mut self) {
        while self.extents > EXTENTS || self.partitions.len() > PARTITIONS {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            if let Some(known) = self.partitions.remove(&key) {
                self.extents -= known.extents.len();
            }
        }
        self.report();
    }

    fn report(&self) {
        metrics::gauge!(crate::metrics::LOCATIONS).set(self.extents as f64);
    }
}

#[cfg(test)]
#[path = "locations_tests.rs"]
mod tests;
