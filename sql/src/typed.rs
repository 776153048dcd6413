//! Which typed columns a topic has: those of its Parquet files, and those that its other JSON values show.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_schema::{FieldRef, Fields};
use futures::{StreamExt, TryStreamExt};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Error, PartitionIndex, Result};
use lakefall_storage::parquet::{ColumnReader, Inference, ParquetFile};
use tokio_util::task::AbortOnDropHandle;

use crate::files::{Known, damaged};
use crate::shore::{Shore, joined};
use crate::source::{Stored, TopicSnapshot};

/// Footers that are fetched at once.
const FILES_AT_ONCE: usize = 16;
/// Extents that are looked through at once: as many as there are threads, and one that waits for the store.
const EXTENTS_AT_ONCE: usize = 3;
/// Bytes, as they are stored, that are looked through in whole for one statement. Of extents beyond, the first values stand for
/// all: what does not fit is counted.
const LOOKED_THROUGH: u64 = 256 << 20;
/// Most columns that are inferred.
const COLUMNS: usize = 500;

/// An extent of a snapshot, with its file if it is one.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) partition: PartitionIndex,
    pub(crate) stored: Stored,
    pub(crate) file: Option<Arc<ParquetFile>>,
}

impl Part {
    fn has_columns(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.data_schema().is_some())
    }
}

/// Opens all files of a snapshot.
pub(crate) async fn open_files(shore: &Shore, known: &Known, snapshot: &TopicSnapshot) -> Result<Vec<Part>> {
    let all = snapshot.partitions.iter().flat_map(|partition| partition.extents.iter().map(|stored| (partition.partition, stored.clone())));
    let opened = all.map(|(partition, stored)| async move {
        let file = match stored.parquet {
            true => Some(known.open(shore, &snapshot.topic, partition, &stored).await?),
            false => None,
        };
        Ok(Part { partition, stored, file })
    });
    let opened: Vec<_> = opened.collect();
    futures::stream::iter(opened).buffered(FILES_AT_ONCE).try_collect().await
}

/// The typed columns of all parts as those of one table. Without `wanted`, values are not looked at to find some.
pub(crate) async fn columns(
    shore: &Shore,
    known: &Arc<Known>,
    snapshot: &TopicSnapshot,
    parts: &[Part],
    wanted: bool,
) -> Result<Vec<FieldRef>> {
    let mut fields = Vec::new();
    for schema in parts.iter().filter_map(|part| part.file.as_ref()?.data_schema()) {
        crate::widen::absorb(&mut fields, schema.fields());
    }
    if !wanted || !(snapshot.infer_json || fields.is_empty()) {
        return Ok(fields);
    }
    let mut left = LOOKED_THROUGH;
    let looked = parts.iter().filter(|part| !part.has_columns()).map(|part| {
        let bytes = u64::from(part.stored.extent.length);
        let whole = bytes <= left;
        left = left.saturating_sub(bytes);
        let look = shape(shore.clone(), Arc::clone(known), Arc::clone(&snapshot.topic), part.clone(), whole);
        // On threads of their own: this is work more than waiting.
        async move { joined(AbortOnDropHandle::new(tokio::spawn(look))).await }
    });
    let looked: Vec<_> = looked.collect();
    let mut shapes = futures::stream::iter(looked).buffered(EXTENTS_AT_ONCE);
    while let Some(shape) = shapes.try_next().await? {
        crate::widen::absorb(&mut fields, &shape);
    }
    Ok(fields)
}

/// The fields of a part's values.
async fn shape(shore: Shore, known: Arc<Known>, topic: Arc<Topic>, part: Part, whole: bool) -> Result<Fields> {
    if let Some(shape) = known.shape(&part.stored) {
        return Ok(shape);
    }
    let mut inference = Inference::new(COLUMNS);
    match &part.file {
        Some(file) => look_into_file(&shore, &topic, &part.stored, file, whole, &mut inference).await?,
        None => {
            let extent = part.stored.extent;
            let mut portions = shore.records(&topic, part.partition, extent, extent.base_offset);
            while let Some(portion) = portions.try_next().await? {
                for record in &portion {
                    inference.observe(record);
                }
                if !whole {
                    break;
                }
            }
        }
    }
    let fields = inference.schema().map_or_else(Fields::empty, |schema| schema.fields);
    if whole {
        known.keep_shape(&part.stored, fields.clone());
    }
    Ok(fields)
}

async fn look_into_file(
    shore: &Shore,
    topic: &Arc<Topic>,
    stored: &Stored,
    file: &Arc<ParquetFile>,
    whole: bool,
    inference: &mut Inference,
) -> Result<()> {
    let broken = |error| damaged(stored.extent.object, &error);
    let reader = ColumnReader::new(Arc::clone(file), &["value", "json"], &[]).map_err(broken)?;
    let groups = if whole { file.row_groups().len() } else { 1 };
    for group in 0..groups {
        let batches = crate::pieces::decoded(shore, topic, stored, &reader, group, crate::pieces::VALUE_ROWS).await?;
        for batch in batches {
            let batch = batch.map_err(broken)?;
            let columns = batch.column_by_name("value").and_then(|value| value.as_binary_view_opt());
            let columns = columns.zip(batch.column_by_name("json").and_then(|json| json.as_boolean_opt()));
            let Some((values, json)) = columns else { return Err(Error::Internal("values are no bytes".to_owned())) };
            for (value, json) in values.iter().zip(json) {
                if let (Some(value), Some(true)) = (value, json) {
                    inference.observe_json(value);
                }
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}
