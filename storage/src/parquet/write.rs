//! Writes a Parquet file. Memory is bounded by the file so far plus one row group. Compression is CPU work: not for an async
//! thread.

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, Timestamp, TopicId, turn};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::ColumnChunkMetaData;

use super::footer::Footer;
use super::gather::Columns;
use super::schema::{JSON, LEAVES, VALUE, properties, schema};
use super::{ChainDigest, ChainHash, ParquetError, ROW_GROUP_BYTES, ROW_GROUP_RECORDS};
use super::{TypedColumns, trailer};
use crate::batch::MAX_UNCOMPRESSED_BYTES;

/// Records that are encoded at once.
const SLICE: usize = 8_192;
/// Rows that the library encodes before others have their turn.
const AT_ONCE: usize = 512;

/// How a file is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// zstd's level, 1 to 22. Level 1 is the default: of pages of JSON, level 3 makes no less (a column of
    /// flights, written by pyarrow with this format's settings: 11.1 % of the lines at level 1, 11.4 % at level 3).
    pub zstd_level: i32,
    /// Fields of JSON values that get columns of their own beside the value.
    pub typed: Option<TypedColumns>,
    /// Offsets may be missing: where only the last record of each key is kept.
    pub gaps: bool,
    /// When the topic was created. Without it, a ledger that was lost cannot be told that the file is this topic's.
    pub topic_created: Option<Timestamp>,
    /// About how many bytes the file may become: room that is taken at once need not be moved. Costs address space only.
    pub room: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { zstd_level: 1, typed: None, gaps: false, topic_created: None, room: 0 }
    }
}

/// A finished file and what its extent needs to know.
#[derive(Clone, Debug)]
pub struct Written {
    /// The file.
    pub bytes: Bytes,
    /// How many records.
    pub records: u64,
    /// The first record's offset.
    pub first: Offset,
    /// The last record's offset.
    pub last: Offset,
    /// The smallest timestamp.
    pub first_timestamp: Timestamp,
    /// The largest timestamp.
    pub max_timestamp: Timestamp,
    /// When the first record was appended.
    pub first_appended_at: Timestamp,
    /// Of all records, in their order.
    pub hash: ChainDigest,
    /// Values that are not in the typed columns, as they are not JSON or do not fit; 0 without typed columns.
    pub untyped: u64,
}

/// What is known of the records pushed so far.
#[derive(Clone, Copy)]
struct Seen {
    first: Offset,
    last: Offset,
    records: u64,
    first_timestamp: Timestamp,
    max_timestamp: Timestamp,
    first_appended_at: Timestamp,
}

/// Takes the records of one partition in the order of their offsets, without gaps unless told otherwise.
pub struct ParquetWriter {
    topic: TopicId,
    topic_created: Option<Timestamp>,
    partition: PartitionIndex,
    schema: SchemaRef,
    typed: Option<TypedColumns>,
    gaps: bool,
    untyped: u64,
    payload_bytes: u64,
    inner: ArrowWriter<Vec<u8>>,
    columns: Columns,
    hash: ChainHash,
    seen: Option<Seen>,
    /// CRC32C of each row group that is written, and of its typed columns.
    checksums: Vec<(u32, Option<u32>)>,
    /// Of each column chunk that is written.
    column_checksums: Vec<u32>,
}

impl ParquetWriter {
    /// An empty file.
    ///
    /// Errors: [`ParquetError::Unwritable`] for a level that zstd does not have, or a partition beyond `i32`.
    pub fn new(topic: TopicId, partition: PartitionIndex, options: Options) -> Result<Self, ParquetError> {
        if i32::try_from(partition.0).is_err() {
            return Err(ParquetError::Unwritable(format!("partition {partition} is too large")));
        }
        let schema = schema(options.typed.as_ref().map(TypedColumns::fields));
        let properties = properties(options.zstd_level)?;
        // Arrow's own description of the schema would be a kilobyte in every file, and tells nobody anything new.
        let settings = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let inner = ArrowWriter::try_new_with_options(Vec::with_capacity(options.room), schema.clone(), settings).map_err(unwritable)?;
        Ok(Self {
            topic,
            topic_created: options.topic_created,
            partition,
            schema,
            typed: options.typed,
            gaps: options.gaps,
            untyped: 0,
            payload_bytes: 0,
            inner,
            columns: Columns::new(partition),
            hash: ChainHash::new(),
            seen: None,
            checksums: Vec::new(),
            column_checksums: Vec::new(),
        })
    }

    /// Adds records. After an error the file is worth nothing.
    ///
    /// Errors: [`ParquetError::OutOfOrder`], [`ParquetError::Unwritable`].
    pub fn push(&mut self, records: &[StoredRecord]) -> Result<(), ParquetError> {
        records.iter().try_for_each(|record| self.push_one(record))
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.records)
    }

    /// Bytes of keys, values and headers so far.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes of the file so far, without the records of the open row group.
    pub fn written_bytes(&self) -> usize {
        self.inner.bytes_written()
    }

    /// Ends the file.
    ///
    /// Errors: [`ParquetError::Unwritable`] without records.
    pub fn finish(mut self) -> Result<Written, ParquetError> {
        self.end_row_group()?;
        let Some(seen) = self.seen else {
            return Err(ParquetError::Unwritable("there are none".to_owned()));
        };
        let hash = self.hash.digest();
        let records = self.records();
        let footer = Footer {
            topic: self.topic,
            topic_created: self.topic_created,
            partition: self.partition,
            first: seen.first,
            last: seen.last,
            records,
            hash,
            checksums: self.checksums.iter().map(|(record, _)| *record).collect(),
            data_checksums: self.checksums.iter().filter_map(|(_, data)| *data).collect(),
            column_checksums: self.column_checksums,
        };
        footer.pairs().into_iter().for_each(|pair| self.inner.append_key_value_metadata(pair));
        let rows_end = self.inner.bytes_written();
        let mut file = self.inner.into_inner().map_err(unwritable)?;
        trailer::insert(&mut file, rows_end)?;
        Ok(Written {
            bytes: Bytes::from(file),
            records,
            first: seen.first,
            last: seen.last,
            first_timestamp: seen.first_timestamp,
            max_timestamp: seen.max_timestamp,
            first_appended_at: seen.first_appended_at,
            hash,
            untyped: self.untyped,
        })
    }

    fn push_one(&mut self, record: &StoredRecord) -> Result<(), ParquetError> {
        self.check(record)?;
        turn::step(record.payload_bytes());
        self.hash.update(record);
        self.payload_bytes += record.payload_bytes() as u64;
        self.columns.push(record);
        if self.columns.bytes() >= ROW_GROUP_BYTES || self.columns.records() >= ROW_GROUP_RECORDS {
            self.end_row_group()?;
        }
        Ok(())
    }

    /// Takes the record into what was seen, if it may follow.
    fn check(&mut self, record: &StoredRecord) -> Result<(), ParquetError> {
        let too_large = record.payload_bytes() > MAX_UNCOMPRESSED_BYTES || i64::try_from(record.offset.0).is_err();
        if too_large {
            return Err(ParquetError::Unwritable(format!("the record at offset {} is too large", record.offset)));
        }
        match &mut self.seen {
            None if record.partition == self.partition => {
                self.seen = Some(Seen {
                    first: record.offset,
                    last: record.offset,
                    records: 1,
                    first_timestamp: record.timestamp,
                    max_timestamp: record.timestamp,
                    first_appended_at: record.appended_at,
                });
            }
            Some(seen) if record.partition == self.partition && follows(seen.last, record.offset, self.gaps) => {
                seen.last = record.offset;
                seen.records += 1;
                seen.first_timestamp = seen.first_timestamp.min(record.timestamp);
                seen.max_timestamp = seen.max_timestamp.max(record.timestamp);
            }
            seen => {
                let last = seen.map_or(record.offset, |seen| seen.last);
                return Err(ParquetError::OutOfOrder { last, found: record.offset });
            }
        }
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), ParquetError> {
        if self.columns.records() == 0 {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = self.columns.finish().map_err(unwritable)?;
        self.write(columns)?;
        self.inner.flush().map_err(unwritable)?;
        self.inner.sync().map_err(unwritable)?;
        self.add_checksum()
    }

    /// Slice by slice: what a library needs to take JSON apart is many times its size.
    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), ParquetError> {
        let rows = columns.first().map_or(0, |column| column.len());
        for start in (0..rows).step_by(SLICE) {
            let slice = |column: &ArrayRef| column.slice(start, SLICE.min(rows - start));
            let mut columns: Vec<ArrayRef> = columns.iter().map(slice).collect();
            if let (Some(typed), Some(value), Some(json)) = (&self.typed, columns.get(VALUE), columns.get(JSON)) {
                let (data, untyped) = typed.column(value.as_binary(), json.as_boolean())?;
                self.untyped += untyped;
                columns.push(data);
            }
            let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(unwritable)?;
            for start in (0..batch.num_rows()).step_by(AT_ONCE) {
                let part = batch.slice(start, AT_ONCE.min(batch.num_rows() - start));
                self.inner.write(&part).map_err(unwritable)?;
                turn::offer();
            }
        }
        Ok(())
    }

    /// Each column's, from which those of the row group follow without a second look at its bytes.
    fn add_checksum(&mut self) -> Result<(), ParquetError> {
        let checksum = |chunk: &ColumnChunkMetaData| {
            let (start, length) = chunk.byte_range();
            let bytes = self.inner.inner().get(usize::try_from(start).ok()?..usize::try_from(start + length).ok()?)?;
            Some((crc32c::crc32c(bytes), bytes.len()))
        };
        let columns = self.inner.flushed_row_groups().last().map(|group| group.columns()).unwrap_or_default();
        let each: Option<Vec<(u32, usize)>> = columns.iter().map(checksum).collect();
        let Some((record, data)) = each.as_deref().and_then(|each| each.split_at_checked(LEAVES.len())) else {
            return Err(ParquetError::Unwritable("the library did not write a row group where it says".to_owned()));
        };
        let joined = |each: &[(u32, usize)]| each.iter().fold(0, |crc, (next, len)| crc32c::crc32c_combine(crc, *next, *len));
        self.checksums.push((joined(record), (!data.is_empty()).then(|| joined(data))));
        self.column_checksums.extend(record.iter().chain(data).map(|(crc, _)| *crc));
        Ok(())
    }
}

fn follows(last: Offset, next: Offset, gaps: bool) -> bool {
    next == last.plus(1) || (gaps && next > last)
}

fn unwritable(error: impl std::fmt::Display) -> ParquetError {
    ParquetError::Unwritable(error.to_string())
}
