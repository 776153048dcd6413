//! Which record of each key is the last one. Takes bounded memory: where there are more keys, the newest files wait for the next
//! time, and keys of one file for which there was no room keep all their records until they are written again. Only what is
//! known to be superseded goes, and the mark of a deletion only together with all that it deleted.

use std::collections::HashMap;
use std::sync::Arc;

use lakefall_queue::ledger::{CompactablePartition, Extent};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, StoredRecord, Timestamp};
use lakefall_storage::parquet::{ChainHash, key_hash};

use super::chunks::Chunks;
use super::{CompactError, Compactor, Unreadable};

/// Most keys, at some 40 bytes each.
const MOST_KEYS: usize = 1_800_000;

/// The last records of keys.
pub(super) struct Latest {
    /// By the hash of the key, of 128 bits.
    offsets: HashMap<u128, Offset>,
    /// Marks of deletion that were appended before may go.
    horizon: Timestamp,
    /// Stays in any case, so that there is one.
    last: Offset,
}

impl Latest {
    /// Whether a record stays: the last one of its key, unless that marks a deletion long ago; and every one without a key.
    pub(super) fn keeps(&self, record: &StoredRecord) -> bool {
        let Some(last) = record.key.as_deref().and_then(|key| self.offsets.get(&key_hash(key))) else { return true };
        if record.offset == self.last || *last < record.offset {
            return true;
        }
        *last == record.offset && !self.is_over(record)
    }

    /// Marks a deletion of long ago.
    fn is_over(&self, record: &StoredRecord) -> bool {
        record.value.is_none() && record.appended_at < self.horizon
    }

    /// Takes in a record of a file that was cleaned, whose keys occur in it once: only marks that may go matter.
    fn note_clean(&mut self, record: &StoredRecord) {
        if self.is_over(record) && self.offsets.len() < MOST_KEYS / 2 {
            self.note(record);
        }
    }

    fn note(&mut self, record: &StoredRecord) {
        let Some(hash) = record.key.as_deref().map(key_hash) else { return };
        if self.offsets.len() < MOST_KEYS || self.offsets.contains_key(&hash) {
            self.offsets.insert(hash, record.offset);
        }
    }
}

impl Compactor {
    /// Reads the keys of Parquet files, of which those before `dirty` were cleaned together. Answers with how many of the
    /// files are to be cleaned now.
    pub(super) async fn latest(
        &self,
        topic: &Topic,
        partition: &CompactablePartition,
        files: &[Extent],
        dirty: usize,
        now: Timestamp,
    ) -> Result<(Arc<Latest>, usize), CompactError> {
        let horizon = now.minus(self.config.delete_retention);
        let mut latest = Latest { offsets: HashMap::new(), horizon, last: Offset(0) };
        let mut chunks = Chunks::new(self, topic, partition.partition, files);
        let (mut next, mut hash, mut read) = (chunks.next().await?, ChainHash::new(), 0);
        while let Some(chunk) = next.take() {
            if latest.offsets.len() >= MOST_KEYS && read > dirty {
                break;
            }
            let (key, ends, clean) = (chunk.key.clone(), chunk.ends(), read < dirty);
            let look = move || {
                let note = |records: Vec<StoredRecord>| {
                    records.iter().for_each(|record| if clean { latest.note_clean(record) } else { latest.note(record) });
                    Ok::<(), Unreadable>(())
                };
                chunk.feed(&mut hash, note).map(|()| (latest, hash))
            };
            let (done, fetched) = tokio::join!(self.threads.run(look), chunks.next());
            let done = done.map_err(|error| CompactError::Defect(error.to_string()))?;
            (latest, hash) = done.map_err(|error| CompactError::damaged(&key, &error))?;
            next = fetched?;
            read += usize::from(ends);
        }
        latest.last = files[..read].last().map_or(Offset(0), |file| Offset(file.end().0.saturating_sub(1)));
        Ok((Arc::new(latest), read))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lakefall_queue::{PartitionIndex, ValueKind};

    use super::*;

    fn record(offset: u64, key: &str, value: Option<&str>) -> StoredRecord {
        StoredRecord {
            partition: PartitionIndex(0),
            offset: Offset(offset),
            timestamp: Timestamp::from_millis(0),
            appended_at: Timestamp::from_millis(offset as i64),
            key: (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            kind: ValueKind::Opaque,
            headers: Vec::new(),
            properties: None,
        }
    }

    #[test]
    fn the_last_record_of_a_key_stays_and_a_deletion_until_its_time_is_over() {
        let mut latest = Latest { offsets: HashMap::new(), horizon: Timestamp::from_millis(6), last: Offset(9) };
        // Cleaned before: a deletion that is over, one that is not known to be.
        let clean = [record(0, "a", Some("1")), record(1, "z", None), record(2, "y", Some("1"))];
        let dirty = [
            record(3, "a", Some("2")),
            record(4, "b", Some("1")),
            record(5, "b", None),
            record(6, "", Some("no key")),
            record(7, "c", None),
            record(8, "a", Some("3")),
            record(9, "d", None),
        ];
        clean.iter().for_each(|record| latest.note_clean(record));
        dirty.iter().for_each(|record| latest.note(record));
        let kept: Vec<u64> = clean.iter().chain(&dirty).filter(|record| latest.keeps(record)).map(|record| record.offset.0).collect();
        assert_eq!(kept, [2, 6, 7, 8, 9]);
    }

    #[test]
    fn the_very_last_record_stays_whatever_it_is() {
        let mut latest = Latest { offsets: HashMap::new(), horizon: Timestamp::from_millis(100), last: Offset(1) };
        let all = [record(0, "a", None), record(1, "b", None)];
        all.iter().for_each(|record| latest.note(record));
        assert!(!latest.keeps(&all[0]) && latest.keeps(&all[1]));
    }
}
