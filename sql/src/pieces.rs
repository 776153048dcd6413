//! Pieces of a topic: what is read as a whole, and becomes batches of a table's rows. Nothing outside of the snapshot's offsets
//! ever becomes a row.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray,
    StructArray, TimestampMillisecondArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bytes::Bytes;
use datafusion::arrow::compute::{cast, filter_record_batch};
use lakefall_queue::ledger::Extent;
use lakefall_queue::topic::Topic;
use lakefall_queue::{Error, Offset, PartitionIndex, Result, StoredRecord, Timestamp, ValueKind};
use lakefall_storage::parquet::{ColumnBatches, ColumnReader, ParquetError, ParquetFile, TypedColumns};
use tokio_util::task::AbortOnDropHandle;

use crate::columns::{Columns, Place, Virtual};
use crate::files::damaged;
use crate::headers;
use crate::shore::{Shore, joined};
use crate::source::Stored;
use crate::widen::{adapt, is_adaptable, without_views};

/// Values that are decoded together.
pub(crate) const VALUE_ROWS: usize = 4_096;

/// Something to read.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(crate) partition: PartitionIndex,
    /// Its offsets that are in the snapshot.
    pub(crate) from: Offset,
    pub(crate) until: Offset,
    pub(crate) kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    /// A row group of a Parquet file; which file, by its place in [`Reading::files`].
    Group { file: usize, group: usize },
    /// An extent of records.
    Records(Extent),
}

/// A Parquet file, and which of its columns are read.
pub(crate) struct FileReading {
    pub(crate) stored: Stored,
    pub(crate) file: Arc<ParquetFile>,
    reader: ColumnReader,
    /// Typed columns are decoded from the values: the file has none, or narrower ones that cannot become the table's.
    pub(crate) by_value: bool,
}

/// How pieces become rows of some columns.
pub(crate) struct Reading {
    pub(crate) topic: Arc<Topic>,
    pub(crate) shore: Shore,
    pub(crate) columns: Columns,
    pub(crate) files: Vec<FileReading>,
    typed: Option<TypedColumns>,
}

impl Reading {
    pub(crate) fn new(topic: Arc<Topic>, shore: Shore, columns: Columns) -> Result<Self> {
        let typed = columns.typed();
        let fields = typed.iter().map(|(name, data_type)| Field::new(*name, without_views(data_type), true));
        let typed = match typed.is_empty() {
            true => None,
            false => Some(TypedColumns::new(&Schema::new(fields.collect::<Vec<_>>())).map_err(|error| Error::Internal(error.to_string()))?),
        };
        Ok(Self { topic, shore, columns, files: Vec::new(), typed })
    }

    /// Takes a file in; `is_cut` if not all of its records are in the snapshot.
    pub(crate) fn add_file(&mut self, stored: &Stored, file: &Arc<ParquetFile>, is_cut: bool) -> Result<usize> {
        let typed = self.columns.typed();
        let has = file.data_schema();
        let fits = |(name, data_type): &(&str, &DataType)| {
            let found = has.as_ref().and_then(|schema| schema.field_with_name(name).ok());
            found.is_none_or(|found| is_adaptable(&crate::widen::as_views(found.data_type()), data_type))
        };
        let by_value = !typed.is_empty() && (has.is_none() || !typed.iter().all(fits));
        let own = self.columns.places.iter().filter_map(|place| match place {
            Place::Virtual(column) => Some(column.in_file()),
            Place::Typed(_) => None,
        });
        let mut record: Vec<&str> = own.collect();
        if by_value {
            record.extend(["value", "json"]);
        }
        if is_cut {
            record.push("offset");
        }
        let data: Vec<&str> = if by_value { Vec::new() } else { typed.iter().map(|(name, _)| *name).collect() };
        let reader = ColumnReader::new(Arc::clone(file), &record, &data).map_err(|error| damaged(stored.extent.object, &error))?;
        self.files.push(FileReading { stored: stored.clone(), file: Arc::clone(file), reader, by_value });
        Ok(self.files.len() - 1)
    }

    /// Rows that are decoded together.
    pub(crate) fn batch_rows(&self, file: usize, most: usize) -> usize {
        if self.files[file].by_value { most.min(crate::pieces::VALUE_ROWS) } else { most }
    }

    /// Begins to fetch what a row group's columns need.
    pub(crate) fn fetch(&self, file: usize, group: usize) -> AbortOnDropHandle<Result<Vec<Bytes>>> {
        let FileReading { stored, reader, .. } = &self.files[file];
        self.shore.read(&self.topic, stored, reader.ranges(group), false)
    }

    /// What a row group takes in memory while it is read.
    pub(crate) fn weight(&self, file: usize, group: usize) -> usize {
        let reader = &self.files[file].reader;
        let fetched: u64 = reader.ranges(group).iter().map(|range| range.end - range.start).sum();
        usize::try_from(fetched + reader.decoded_bytes(group)).unwrap_or(usize::MAX)
    }

    /// The row group's columns as the file has them.
    pub(crate) async fn decode(&self, file: usize, group: usize, bytes: Vec<Bytes>, batch_rows: usize) -> Result<ColumnBatches> {
        let FileReading { stored, reader, .. } = &self.files[file];
        match reader.decode(group, &bytes, batch_rows) {
            Ok(batches) => Ok(batches),
            Err(_) => decoded_anew(&self.shore, &self.topic, stored, reader, group, batch_rows).await,
        }
    }

    /// Rows of the table from columns of a file.
    pub(crate) fn rows(&self, piece: &Piece, file: usize, batch: Result<RecordBatch, ParquetError>) -> Result<RecordBatch> {
        let FileReading { stored, file, by_value, .. } = &self.files[file];
        let batch = batch.map_err(|error| damaged(stored.extent.object, &error))?;
        self.rows_of_file(piece, file, *by_value, batch).map_err(internal)
    }

    fn rows_of_file(&self, piece: &Piece, file: &ParquetFile, by_value: bool, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let is_whole = matches!(piece.kind, Kind::Group { group, .. } if piece.holds(file, group));
        let batch = if is_whole { batch } else { within(piece, &batch)? };
        let missing = || ArrowError::SchemaError("a column was not read".to_owned());
        let own = |name: &str| batch.column_by_name(name).ok_or_else(missing);
        let data = match by_value {
            true => Some(self.typed_values(&cast(own("value")?, &DataType::Binary)?, own("json")?)?),
            false => batch.column_by_name("data").map(|data| data.as_struct().clone()),
        };
        let column = |(place, field): (&Place, &Arc<Field>)| match place {
            Place::Virtual(Virtual::Key) => text(own("key")?.as_binary_view()),
            Place::Virtual(Virtual::Headers) => headers::of_file(own("headers")?.as_list()),
            Place::Virtual(column) => own(column.in_file()).cloned(),
            Place::Typed(name) => match data.as_ref().and_then(|data| data.column_by_name(name)) {
                Some(column) => adapt(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            },
        };
        let columns = self.columns.places.iter().zip(self.columns.schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
        self.batch(columns, batch.num_rows())
    }

    /// Rows of the table from records.
    pub(crate) fn rows_of_records(&self, piece: &Piece, mut records: &[StoredRecord]) -> Result<RecordBatch> {
        let before = records.partition_point(|record| record.offset < piece.from);
        records = &records[before..];
        records = &records[..records.partition_point(|record| record.offset < piece.until)];
        self.columns_of_records(records).and_then(|columns| self.batch(columns, records.len())).map_err(internal)
    }

    fn columns_of_records(&self, records: &[StoredRecord]) -> Result<Vec<ArrayRef>, ArrowError> {
        let data = match self.typed {
            Some(_) => {
                let values: BinaryArray = records.iter().map(|record| record.value.as_deref()).collect();
                let json: BooleanArray = records.iter().map(|record| Some(record.kind == ValueKind::Json)).collect();
                Some(self.typed_values(&(Arc::new(values) as ArrayRef), &(Arc::new(json) as ArrayRef))?)
            }
            None => None,
        };
        let times = |time: fn(&StoredRecord) -> Timestamp| {
            let millis = records.iter().map(|record| time(record).as_millis());
            Arc::new(TimestampMillisecondArray::from_iter_values(millis).with_timezone("UTC")) as ArrayRef
        };
        let column = |(place, field): (&Place, &Arc<Field>)| {
            Ok(match place {
                Place::Virtual(Virtual::Partition) => {
                    Arc::new(Int32Array::from_iter_values(records.iter().map(|record| record.partition.0 as i32))) as ArrayRef
                }
                Place::Virtual(Virtual::Offset) => {
                    Arc::new(Int64Array::from_iter_values(records.iter().map(|record| record.offset.0 as i64)))
                }
                Place::Virtual(Virtual::Timestamp) => times(|record| record.timestamp),
                Place::Virtual(Virtual::AppendedAt) => times(|record| record.appended_at),
                Place::Virtual(Virtual::Key) => {
                    let text =
                        |record: &StoredRecord| record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok().map(str::to_owned));
                    Arc::new(records.iter().map(text).collect::<StringViewArray>())
                }
                Place::Virtual(Virtual::Headers) => headers::of_records(records)?,
                Place::Virtual(Virtual::Raw) => Arc::new(records.iter().map(|record| record.value.as_deref()).collect::<BinaryViewArray>()),
                Place::Typed(name) => match data.as_ref().and_then(|data| data.column_by_name(name)) {
                    Some(column) => adapt(column, field.data_type())?,
                    None => new_null_array(field.data_type(), records.len()),
                },
            })
        };
        self.columns.places.iter().zip(self.columns.schema.fields()).map(column).collect()
    }

    fn typed_values(&self, values: &ArrayRef, json: &ArrayRef) -> Result<StructArray, ArrowError> {
        let Some(typed) = &self.typed else { return Err(ArrowError::SchemaError("nobody asked for typed columns".to_owned())) };
        let (data, untyped) =
            typed.column(values.as_binary(), json.as_boolean()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        self.shore.counters().untyped.fetch_add(untyped, Relaxed);
        Ok(data.as_struct().clone())
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.columns.schema), columns, &options)
    }
}

impl Piece {
    /// Whether the whole row group is in the snapshot.
    pub(crate) fn holds(&self, file: &ParquetFile, group: usize) -> bool {
        file.row_groups().get(group).is_some_and(|group| self.from <= group.first && group.last < self.until)
    }
}

/// The rows whose offsets are in the snapshot.
fn within(piece: &Piece, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let offsets = batch.column_by_name("offset").and_then(|offsets| offsets.as_primitive_opt::<Int64Type>());
    let offsets = offsets.ok_or_else(|| ArrowError::SchemaError("offsets were not read".to_owned()))?;
    let inside = |offset: i64| u64::try_from(offset).is_ok_and(|offset| piece.from.0 <= offset && offset < piece.until.0);
    let inside: BooleanArray = offsets.values().iter().map(|offset| Some(inside(*offset))).collect();
    filter_record_batch(batch, &inside)
}

/// Bytes as text; null where they are none.
fn text(bytes: &BinaryViewArray) -> Result<ArrayRef, ArrowError> {
    if let Ok(texts) = bytes.clone().to_string_view() {
        return Ok(Arc::new(texts));
    }
    let each = bytes.iter().map(|bytes| bytes.and_then(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned)));
    Ok(Arc::new(each.collect::<StringViewArray>()))
}

/// Fetches and decodes columns of a row group. Damaged bytes are fetched once more.
pub(crate) async fn decoded(
    shore: &Shore,
    topic: &Arc<Topic>,
    stored: &Stored,
    reader: &ColumnReader,
    group: usize,
    batch_rows: usize,
) -> Result<ColumnBatches> {
    let bytes = joined(shore.read(topic, stored, reader.ranges(group), false)).await?;
    match reader.decode(group, &bytes, batch_rows) {
        Ok(batches) => Ok(batches),
        Err(_) => decoded_anew(shore, topic, stored, reader, group, batch_rows).await,
    }
}

async fn decoded_anew(
    shore: &Shore,
    topic: &Arc<Topic>,
    stored: &Stored,
    reader: &ColumnReader,
    group: usize,
    batch_rows: usize,
) -> Result<ColumnBatches> {
    let bytes = joined(shore.read(topic, stored, reader.ranges(group), true)).await?;
    reader.decode(group, &bytes, batch_rows).map_err(|error| damaged(stored.extent.object, &error))
}

fn internal(error: ArrowError) -> Error {
    Error::Internal(error.to_string())
}
