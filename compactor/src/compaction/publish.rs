//! The last steps of every job: store the object under a fresh key, read it back, compare, swap.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::ledger::{
    Answer, Command, CommitReply, CompactablePartition, Extent, NewExtent, ObjectLevel, Query, Refusal, Reply, RetiredExtent, SliceOutcome,
    Swap, SwapPart, object_key,
};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, PartitionIndex, SegmentId, ShardId, Timestamp};
use lakefall_service::failpoint;
use lakefall_storage::parquet::{ChainDigest, ParquetError, ParquetFile, Verification, Written, verify};
use lakefall_storage::store::StoreError;
use tokio::time::Instant;

use super::{CompactError, Compactor, defect, plan, unexpected};

/// How often an upload or a swap whose outcome is unknown is repeated, and the pauses between, doubling.
const REPEATS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a stored file that are read back at once.
const PIECE: u64 = 8 << 20;

/// A Parquet file that is to take the place of extents.
pub(super) struct Candidate<'a> {
    pub(super) topic: &'a Topic,
    pub(super) old: &'a [Extent],
    pub(super) written: Written,
    /// Nothing below is merged any more.
    pub(super) settled: Option<Offset>,
    /// When the first record behind the inputs was appended, if there is one.
    pub(super) rest_since: Option<Timestamp>,
}

impl Compactor {
    /// Puts a file in the place of its inputs, and notes the new generation.
    pub(super) async fn publish(
        &self,
        partition: &mut CompactablePartition,
        file: Candidate<'_>,
        begun: Instant,
    ) -> Result<Extent, CompactError> {
        let Candidate { topic, old, written, settled, rest_since } = file;
        self.refresh(partition, old).await?;
        // From here on no more than the commit window: the id is minted as late as may be.
        let object = SegmentId::mint(self.ambient.now(), self.ambient.entropy.draw());
        let size = written.bytes.len() as u64;
        let extent =
            extent_of(object, old, &written).ok_or_else(|| CompactError::Defect("a file takes the place of nothing".to_owned()))?;
        let key = object_key(&topic.namespace, &topic.name, &extent);
        let expected = (written.records, written.first, written.last, written.hash);
        self.put(&key, vec![written.bytes]).await?;
        failpoint::hit("c3");
        let file = self.read_back(topic, partition.partition, &extent, &key, expected.3).await?;
        let found = (file.records(), file.first(), file.last(), file.hash());
        if found != expected || file.topic() != topic.id || file.partition() != partition.partition {
            return Err(CompactError::damaged(&key, &"what was stored is not what was written"));
        }
        let new = NewExtent {
            position: extent.position,
            length: extent.length,
            first_timestamp: extent.first_timestamp,
            max_timestamp: extent.max_timestamp,
            appended_at: extent.appended_at,
        };
        let old_extents = old.iter().map(RetiredExtent::from).collect();
        let (topic_id, generation) = (partition.topic, partition.generation);
        let part = SwapPart { topic: topic_id, partition: partition.partition, generation, old: old_extents, new, settled, rest_since };
        let swap = Swap { object, size, level: ObjectLevel::Parquet, key: Some(key.as_str().into()), parts: vec![part] };
        let reply = self.swap(topic_id.shard(), swap).await?;
        taken(reply.slices.first())?;
        partition.generation += 1;
        self.progress.did(ObjectLevel::Parquet, plan::bytes(old), size, begun);
        tracing::debug!(topic = %topic.name, partition = partition.partition.0, key, extents = old.len(), "records became a Parquet file");
        Ok(extent)
    }

    /// Reads a stored file as a whole, piece by piece: its footer, if everything is as that says and the records are the expected.
    async fn read_back(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        key: &str,
        expected: ChainDigest,
    ) -> Result<ParquetFile, CompactError> {
        let damaged = |error: &ParquetError| CompactError::damaged(key, error);
        if extent.object_size <= PIECE {
            let stored = self.fetch(key, 0..extent.object_size).await?;
            let report = self.threads.run(move || verify(&stored, Some(expected))).await;
            return report.map_err(defect)?.map(|report| report.file).map_err(|error| damaged(&error));
        }
        let mut reading = Verification::new(self.footer(topic, partition, extent).await?);
        let mut next = match reading.piece(0, PIECE) {
            Some((range, count)) => Some((self.fetch(key, range).await?, count)),
            None => None,
        };
        while let Some((bytes, count)) = next.take() {
            let after = reading.piece(count, PIECE);
            let fetch = async {
                match after {
                    Some((range, count)) => self.fetch(key, range).await.map(|bytes| Some((bytes, count))),
                    None => Ok(None),
                }
            };
            let check = self.threads.run(move || reading.take(&bytes, count).map(|()| reading));
            let (checked, fetched) = tokio::join!(check, fetch);
            reading = checked.map_err(defect)?.map_err(|error| damaged(&error))?;
            next = fetched?;
        }
        let index = self.fetch(key, reading.index()).await?;
        let report = self.threads.run(move || reading.finish(&index, Some(expected))).await;
        report.map_err(defect)?.map(|report| report.file).map_err(|error| damaged(&error))
    }

    /// The inputs must still be what the partition holds; otherwise the upload is spared.
    async fn refresh(&self, partition: &mut CompactablePartition, old: &[Extent]) -> Result<(), CompactError> {
        if let Some(now) = self.standing(partition).await? {
            partition.generation = now.generation;
        }
        let Some(first) = old.first() else { return Ok(()) };
        let query = Query::Locate {
            topic: partition.topic,
            partition: partition.partition,
            from: first.base_offset,
            max_bytes: u64::MAX,
            max_extents: old.len(),
        };
        match self.metadata.query(partition.topic.shard(), query).await? {
            Answer::Located(located) if located.deleted => Err(CompactError::Gone),
            Answer::Located(located) if located.extents == old => Ok(()),
            Answer::Located(_) => Err(CompactError::Changed),
            other => Err(unexpected(&other)),
        }
    }

    /// Stores an object. What leaves open whether it is stored is repeated: the key is its own.
    pub(super) async fn put(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), CompactError> {
        self.pace.take(chunks.iter().map(|chunk| chunk.len() as u64).sum()).await;
        let mut pause = PAUSE;
        for _ in 0..REPEATS {
            failpoint::hit("c2");
            match self.store.put_new(key, chunks.clone()).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Throttled { .. } | StoreError::Unavailable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(self.store.put_new(key, chunks).await?)
    }

    /// Asks for a swap until there is an answer: a repeated one gets the first.
    pub(super) async fn swap(&self, shard: ShardId, swap: Swap) -> Result<Arc<CommitReply>, CompactError> {
        let command = Command::Swap(Box::new(swap));
        let mut pause = PAUSE;
        for _ in 0..REPEATS {
            failpoint::hit("c4");
            let answered = self.metadata.execute(shard, command.clone()).await;
            failpoint::hit("c5");
            match answered {
                Err(lakefall_queue::error::Error::Unknown { .. } | lakefall_queue::error::Error::Unavailable { .. }) => {}
                answered => return committed(answered?),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        committed(self.metadata.execute(shard, command).await?)
    }
}

fn committed(reply: Reply) -> Result<Arc<CommitReply>, CompactError> {
    match reply {
        Reply::Committed(reply) => Ok(reply),
        other => Err(unexpected(&other)),
    }
}

/// Whether a part of a swap was taken.
pub(super) fn taken(outcome: Option<&SliceOutcome>) -> Result<(), CompactError> {
    match outcome {
        Some(SliceOutcome::Stored(_)) => Ok(()),
        Some(SliceOutcome::Refused(Refusal::TopicGone)) => Err(CompactError::Gone),
        Some(SliceOutcome::Refused(Refusal::ExtentsChanged | Refusal::SegmentRefused)) => Err(CompactError::Changed),
        other => Err(unexpected(&other)),
    }
}

/// The extent of a file that takes the place of `old`.
fn extent_of(object: SegmentId, old: &[Extent], written: &Written) -> Option<Extent> {
    let (first, last) = (old.first()?, old.last()?);
    let size = written.bytes.len() as u64;
    Some(Extent {
        base_offset: first.base_offset,
        records: u32::try_from(last.end().0 - first.base_offset.0).ok()?,
        length: u32::try_from(size).ok()?,
        object,
        level: ObjectLevel::Parquet,
        object_size: size,
        position: 0,
        first_timestamp: written.first_timestamp,
        max_timestamp: written.max_timestamp,
        appended_at: written.first_appended_at,
    })
}
