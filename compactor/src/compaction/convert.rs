//! From inputs to Parquet files: decoded, filtered and written on threads of low priority while the next bytes come.

use std::sync::Arc;

use lakefall_queue::StoredRecord;
use lakefall_queue::ledger::{CompactablePartition, Extent};
use lakefall_queue::topic::Topic;
use lakefall_storage::parquet::{
    ChainHash, ColumnSchema, Inference, MOST_COLUMNS, Options, ParquetError, ParquetWriter, TypedColumns, Written,
};

use super::chunks::{Chunk, Chunks};
use super::clean::Latest;
use super::{CompactError, Compactor, Unreadable, defect};
use crate::metrics as names;

/// A file ends with the extent that brings it to so many bytes of keys, values and headers…
const PAYLOAD: u64 = 512 << 20;
/// …or to so many bytes itself: what is written is in memory.
const FILE: usize = 64 << 20;

/// What files are made of.
pub(super) struct Recipe {
    pub(super) topic: Arc<Topic>,
    pub(super) typed: Option<TypedColumns>,
    /// Takes out what is not the last record of its key.
    pub(super) latest: Option<Arc<Latest>>,
    /// Files of more bytes than by default.
    pub(super) large: bool,
    /// Offsets are missing in the inputs, or will be.
    pub(super) gaps: bool,
}

/// A finished file.
pub(super) struct Made {
    pub(super) written: Written,
    /// How many of the inputs are in it.
    pub(super) inputs: usize,
}

/// What goes over to a thread and comes back.
struct Desk {
    writer: ParquetWriter,
    latest: Option<Arc<Latest>>,
    hash: ChainHash,
    cleaned: u64,
}

/// Inputs on their way into files.
pub(super) struct Conversion<'a> {
    compactor: &'a Compactor,
    recipe: &'a Recipe,
    partition: &'a CompactablePartition,
    chunks: Chunks<'a>,
    next: Option<Chunk>,
}

impl<'a> Conversion<'a> {
    pub(super) async fn begin(
        compactor: &'a Compactor,
        recipe: &'a Recipe,
        partition: &'a CompactablePartition,
        inputs: &[Extent],
    ) -> Result<Self, CompactError> {
        let mut chunks = Chunks::new(compactor, &recipe.topic, partition.partition, inputs);
        let next = chunks.next().await?;
        Ok(Self { compactor, recipe, partition, chunks, next })
    }

    /// The next file; `None` when the inputs are used up, or what is left of them has no record that stays: then that comes with
    /// the count of those inputs.
    pub(super) async fn file(&mut self) -> Result<Result<Made, usize>, CompactError> {
        let most = if self.recipe.large { 2 * FILE } else { FILE };
        let Recipe { topic, typed, gaps, .. } = self.recipe;
        let options = Options {
            typed: typed.clone(),
            gaps: *gaps,
            topic_created: Some(topic.created_at),
            room: most + most / 4,
            ..Options::default()
        };
        let writer = ParquetWriter::new(topic.id, self.partition.partition, options).map_err(defect)?;
        let mut desk = Desk { writer, latest: self.recipe.latest.clone(), hash: ChainHash::new(), cleaned: 0 };
        let mut inputs = 0;
        while let Some(chunk) = self.next.take() {
            let (ends, key) = (chunk.ends(), chunk.key.clone());
            let (done, fetched) = tokio::join!(self.compactor.threads.run(move || desk.take(&chunk)), self.chunks.next());
            desk = done.map_err(defect)?.map_err(|error| CompactError::damaged(&key, &error))?;
            self.next = fetched?;
            inputs += usize::from(ends);
            if ends && (desk.writer.payload_bytes() >= PAYLOAD && !self.recipe.large || desk.writer.written_bytes() >= most) {
                break;
            }
        }
        metrics::counter!(names::CLEANED_RECORDS).increment(desk.cleaned);
        if desk.writer.records() == 0 {
            return Ok(Err(inputs));
        }
        let written = self.compactor.threads.run(move || desk.writer.finish()).await.map_err(defect)?.map_err(defect)?;
        metrics::counter!(names::UNTYPED).increment(written.untyped);
        Ok(Ok(Made { written, inputs }))
    }

    /// Whether inputs are left.
    pub(super) fn is_done(&self) -> bool {
        self.next.is_none()
    }
}

impl Desk {
    fn take(mut self, chunk: &Chunk) -> Result<Self, Unreadable> {
        let Self { writer, latest, hash, cleaned } = &mut self;
        chunk.feed(hash, |mut records: Vec<StoredRecord>| {
            if let Some(latest) = latest {
                let before = records.len();
                records.retain(|record| latest.keeps(record));
                *cleaned += (before - records.len()) as u64;
            }
            writer.push(&records).map_err(Unreadable::from)
        })?;
        Ok(self)
    }
}

impl Compactor {
    /// The typed columns for files of `inputs`, of which the partition's Parquet files that come before end with `before`.
    pub(super) async fn typed(
        &self,
        topic: &Topic,
        partition: &CompactablePartition,
        inputs: &[Extent],
        before: Option<Extent>,
    ) -> Result<Option<TypedColumns>, CompactError> {
        if topic.config.schema.is_some() {
            return Ok(self.columns.columns(topic).await?);
        }
        if !topic.config.parquet.infer_json {
            return Ok(None);
        }
        let mut earlier = self.known_columns.of(topic.id);
        if earlier.is_none()
            && let Some(before) = before
        {
            earlier = self.footer(topic, partition.partition, &before).await?.data_schema();
        }
        let begin = earlier.map_or_else(|| Inference::new(MOST_COLUMNS), |earlier| Inference::after(&earlier, MOST_COLUMNS));
        let Some(found) = self.infer(topic, partition, inputs, begin).await? else { return Ok(None) };
        let typed = TypedColumns::new(&found);
        self.known_columns.learn(topic.id, found);
        match typed {
            Ok(typed) => Ok(Some(typed)),
            Err(ParquetError::Unwritable(reason)) => {
                tracing::warn!(topic = %topic.name, reason, "the fields of values do not become columns");
                Ok(None)
            }
            Err(error) => Err(defect(error)),
        }
    }

    /// Reads the inputs a first time, for what their values have in common.
    async fn infer(
        &self,
        topic: &Topic,
        partition: &CompactablePartition,
        inputs: &[Extent],
        mut inference: Inference,
    ) -> Result<Option<ColumnSchema>, CompactError> {
        let mut chunks = Chunks::new(self, topic, partition.partition, inputs);
        let (mut next, mut hash) = (chunks.next().await?, ChainHash::new());
        while let Some(chunk) = next.take() {
            let key = chunk.key.clone();
            let look = move || {
                let observe = |records: Vec<StoredRecord>| {
                    for record in &records {
                        inference.observe(record);
                    }
                    Ok::<(), Unreadable>(())
                };
                chunk.feed(&mut hash, observe).map(|()| (inference, hash))
            };
            let (done, fetched) = tokio::join!(self.threads.run(look), chunks.next());
            (inference, hash) = done.map_err(defect)?.map_err(|error| CompactError::damaged(&key, &error))?;
            next = fetched?;
        }
        Ok(inference.schema())
    }
}
