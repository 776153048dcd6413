//! What is kept of Parquet files between reads: their footers, and the records that were decoded last, so that small pages
//! do not decode the same columns again and again. Both are bounded in bytes; what was not used for longest goes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_queue::{Offset, SegmentId, StoredRecord};
use lakefall_storage::parquet::ParquetFile;

use super::room::weight;

/// Footers, at some kilobytes for each row group: those of about a thousand files.
const FOOTER_BYTES: usize = 16 << 20;
/// Decoded records of all replays together. Each has one stretch before it, of some mebibytes.
const RECORD_BYTES: usize = 48 << 20;

/// Records of a file that follow each other.
pub(super) struct Stretch {
    /// Nothing is missing from here on.
    pub(super) from: Offset,
    /// Up to here.
    pub(super) next: Offset,
    /// In the order of their offsets; at least one.
    pub(super) records: Vec<StoredRecord>,
}

impl Stretch {
    /// Its records from an offset on.
    pub(super) fn after(&self, from: Offset) -> &[StoredRecord] {
        &self.records[self.records.partition_point(|record| record.offset < from)..]
    }
}

/// All that is kept.
#[derive(Default)]
pub(super) struct Kept {
    footers: Mutex<Lru<Arc<ParquetFile>>>,
    records: Mutex<Lru<Arc<Stretch>>>,
}

/// Objects, and places in them.
type Key = (SegmentId, Offset);

struct Lru<V> {
    entries: BTreeMap<Key, (V, usize, u64)>,
    by_use: BTreeMap<u64, Key>,
    bytes: usize,
    ticks: u64,
}

impl<V> Default for Lru<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), by_use: BTreeMap::new(), bytes: 0, ticks: 0 }
    }
}

impl<V: Clone> Lru<V> {
    /// The entry at or before a place in an object.
    fn find(&mut self, key: Key) -> Option<V> {
        let (found, (value, _, used)) = self.entries.range_mut((key.0, Offset(0))..=key).next_back()?;
        self.ticks += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.ticks, *found);
        *used = self.ticks;
        Some(value.clone())
    }

    fn put(&mut self, key: Key, value: V, bytes: usize, bound: usize) {
        self.drop_one(key);
        self.ticks += 1;
        self.bytes += bytes;
        self.by_use.insert(self.ticks, key);
        self.entries.insert(key, (value, bytes, self.ticks));
        while self.bytes > bound {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            self.drop_one(*oldest);
        }
    }

    fn drop_one(&mut self, key: Key) {
        if let Some((_, bytes, used)) = self.entries.remove(&key) {
            self.bytes -= bytes;
            self.by_use.remove(&used);
        }
    }

    fn drop_object(&mut self, object: SegmentId) {
        let keys: Vec<Key> = self.entries.range((object, Offset(0))..=(object, Offset(u64::MAX))).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.drop_one(key));
    }
}

impl Kept {
    pub(super) fn footer(&self, object: SegmentId) -> Option<Arc<ParquetFile>> {
        lock(&self.footers).find((object, Offset(0)))
    }

    pub(super) fn keep_footer(&self, object: SegmentId, file: Arc<ParquetFile>) {
        let bytes = file.memory_bytes();
        lock(&self.footers).put((object, Offset(0)), file, bytes, FOOTER_BYTES);
    }

    /// The stretch that covers `from`; or whether one ends there, as in a replay that goes on.
    pub(super) fn stretch(&self, object: SegmentId, from: Offset) -> Result<Arc<Stretch>, bool> {
        match lock(&self.records).find((object, from)) {
            Some(stretch) if from < stretch.next => Ok(stretch),
            Some(stretch) => Err(stretch.next == from),
            None => Err(false),
        }
    }

    pub(super) fn keep_stretch(&self, object: SegmentId, stretch: Arc<Stretch>) {
        let bytes = stretch.records.iter().map(weight).sum();
        lock(&self.records).put((object, stretch.from), stretch, bytes, RECORD_BYTES);
    }

    /// What is kept of an object may be wrong.
    pub(super) fn forget(&self, object: SegmentId) {
        lock(&self.footers).drop_object(object);
        lock(&self.records).drop_object(object);
    }
}

fn lock<V>(lru: &Mutex<Lru<V>>) -> MutexGuard<'_, Lru<V>> {
    lru.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: u128) -> SegmentId {
        SegmentId::mint(lakefall_queue::Timestamp::from_millis(1), n << 64)
    }

    #[test]
    fn the_bytes_kept_are_bounded_and_what_was_used_stays() {
        let mut lru = Lru::default();
        for n in 0..10 {
            lru.put((object(n), Offset(0)), n, 10, 50);
            assert_eq!(lru.find((object(0), Offset(5))), Some(0), "after {n}");
        }
        assert_eq!((lru.bytes, lru.entries.len(), lru.by_use.len()), (50, 5, 5));
        assert_eq!(lru.find((object(5), Offset(0))), None);
        lru.drop_object(object(0));
        assert_eq!((lru.find((object(0), Offset(9))), lru.bytes), (None, 40));
    }
}
