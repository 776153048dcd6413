//! A Parquet file as its footer describes it. Everything in the footer is held against the format here, so that decoding
//! only needs to look at pages.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use lakefall_queue::{Offset, PartitionIndex, Timestamp, TopicId};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::footer::Footer;
use super::gather::HEADER_COST;
use super::guard::guarded;
use super::schema::{COLUMNS, DATA, HEADER_LEAVES, LEAVES, OFFSET_LEAF, TIMESTAMP_LEAF, fields};
use super::trailer::{self, Trailer};
use super::{ChainDigest, MAX_GROUP_BYTES, ParquetError, ROW_GROUP_RECORDS, corrupt, pages};

/// Bytes before the first row group: Parquet's mark.
const START: u64 = 4;

/// What a file's footer says, found consistent. Costs some kilobytes per row group: worth keeping between reads.
#[derive(Clone, Debug)]
pub struct ParquetFile {
    pub(super) footer: Footer,
    groups: Vec<RowGroup>,
    pub(super) reader: ArrowReaderMetadata,
    pub(super) trailer: Arc<Trailer>,
    len: u64,
}

/// Consecutive records of a file, which are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroup {
    /// Its first record's offset.
    pub first: Offset,
    /// Its last record's offset.
    pub last: Offset,
    /// The smallest timestamp.
    pub min_timestamp: Timestamp,
    /// The largest timestamp.
    pub max_timestamp: Timestamp,
    /// The bytes of the file that [`ParquetFile::decode`] needs: everything but typed columns.
    pub bytes: Range<u64>,
    /// The bytes of the typed columns, right behind; empty if there are none.
    pub data_bytes: Range<u64>,
    pub(super) records: u64,
    pub(super) crc: u32,
    pub(super) data_crc: Option<u32>,
}

impl RowGroup {
    /// How many records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether offsets are missing between the first and the last record.
    pub(super) fn has_gaps(&self) -> bool {
        self.last.0 - self.first.0 >= self.records
    }
}

impl ParquetFile {
    /// How many bytes from the end to fetch first: holds the footer of 256 MiB of values without typed columns.
    pub const TAIL_BYTES: u64 = 64 << 10;

    /// Reads the footer from the last bytes of an object that is `object_len` bytes long.
    ///
    /// Errors: [`ParquetError::NeedMore`] if the tail is too short to hold it.
    pub fn open(object_tail: &Bytes, object_len: u64) -> Result<Self, ParquetError> {
        let trailer = trailer::read(object_tail, object_len)?;
        pages::check_schema(&trailer.metadata)?;
        guarded(|| Self::read(trailer, object_len))
    }

    /// Whose records.
    pub fn topic(&self) -> TopicId {
        self.footer.topic
    }

    /// When their topic was created; `None` in files of programs that did not write it down.
    pub fn topic_created(&self) -> Option<Timestamp> {
        self.footer.topic_created
    }

    /// Of which partition.
    pub fn partition(&self) -> PartitionIndex {
        self.footer.partition
    }

    /// The first record's offset.
    pub fn first(&self) -> Offset {
        self.footer.first
    }

    /// The last record's offset.
    pub fn last(&self) -> Offset {
        self.footer.last
    }

    /// How many records.
    pub fn records(&self) -> u64 {
        self.footer.records
    }

    /// What the hash of all records should be; [`super::verify`] finds out whether it is.
    pub fn hash(&self) -> ChainDigest {
        self.footer.hash
    }

    /// About how much memory this takes.
    pub fn memory_bytes(&self) -> usize {
        let each = size_of::<RowGroup>() + 2 * size_of::<u32>();
        self.reader.metadata().memory_size() + self.trailer.metadata.len() + self.groups.len() * each + (8 << 10)
    }

    /// Bytes of the file.
    pub fn object_len(&self) -> u64 {
        self.len
    }

    /// In the order of offsets; at least one. Between two of them offsets are missing only where the file lacks some.
    pub fn row_groups(&self) -> &[RowGroup] {
        &self.groups
    }

    /// Which row group holds the first record at or after `offset`, if there is any.
    pub fn row_group_from(&self, offset: Offset) -> Option<usize> {
        let index = self.groups.partition_point(|group| group.last < offset);
        (index < self.groups.len()).then_some(index)
    }

    /// Which row group holds `offset`.
    pub fn row_group_of(&self, offset: Offset) -> Option<usize> {
        let index = self.groups.partition_point(|group| group.last < offset);
        self.groups.get(index).filter(|group| group.first <= offset).map(|_| index)
    }

    /// The typed columns' schema, if the file has any.
    pub fn data_schema(&self) -> Option<SchemaRef> {
        let data = self.reader.schema().fields().get(COLUMNS)?;
        match data.data_type() {
            arrow_schema::DataType::Struct(fields) => Some(Arc::new(Schema::new(fields.clone()))),
            _ => None,
        }
    }

    fn read(trailer: Trailer, len: u64) -> Result<Self, ParquetError> {
        let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(&trailer.metadata).map_err(corrupt)?);
        let pairs = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
        let footer = Footer::read(pairs)?;
        check_leaves(&metadata)?;
        let reader = as_views(metadata.clone())?;
        let groups = row_groups(&metadata, &footer, trailer.position)?;
        Ok(Self { footer, groups, reader, trailer: Arc::new(trailer), len })
    }
}

fn malformed<T>(what: &str) -> Result<T, ParquetError> {
    Err(ParquetError::Corrupt(what.to_owned()))
}

/// The record's columns are there, in their order, and behind them only `data`.
fn check_leaves(metadata: &ParquetMetaData) -> Result<(), ParquetError> {
    let leaves = metadata.file_metadata().schema_descr().columns();
    let paths = leaves.iter().map(|leaf| leaf.path().string());
    if leaves.len() < LEAVES.len() || paths.zip(LEAVES).any(|(path, expected)| path != expected) {
        return malformed("its columns are not those of the format");
    }
    Ok(())
}

/// Lets the library decode keys and values as views. Their types, and those of the other columns, are checked.
fn as_views(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::try_new(metadata.clone(), options()).map_err(corrupt)?;
    let found = found.schema().fields();
    let data = found.get(COLUMNS);
    let same = found.iter().zip(fields(false)).all(|(found, expected)| **found == expected);
    if found.len() < COLUMNS || found.len() > COLUMNS + 1 || !same || data.is_some_and(|data| data.name() != DATA) {
        return malformed("its columns have other types than those of the format");
    }
    let fields = fields(true).into_iter().map(Arc::new).chain(data.cloned());
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(metadata, options().with_schema(schema)).map_err(corrupt)
}

/// Row groups fill the file from its mark on, and their records are those of the footer.
fn row_groups(metadata: &ParquetMetaData, footer: &Footer, rows_end: u64) -> Result<Vec<RowGroup>, ParquetError> {
    let found = metadata.row_groups();
    if found.is_empty() || found.len() != footer.checksums.len() {
        return malformed("its row groups and their checksums differ in number");
    }
    let mut groups: Vec<RowGroup> = Vec::with_capacity(found.len());
    let has_data = metadata.file_metadata().schema_descr().num_columns() > LEAVES.len();
    if footer.data_checksums.len() != if has_data { found.len() } else { 0 } {
        return malformed("its typed columns and their checksums differ in number");
    }
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    if !footer.column_checksums.is_empty() && footer.column_checksums.len() != found.len() * leaves {
        return malformed("its columns and their checksums differ in number");
    }
    let (mut next, mut at, mut counted) = (footer.first, START, 0);
    for (group, crc) in found.iter().zip(&footer.checksums) {
        let records = u64::try_from(group.num_rows()).ok().filter(|rows| (1..=ROW_GROUP_RECORDS as u64).contains(rows));
        let Some(records) = records else { return malformed("a row group has no possible count of records") };
        let end = chunks_end(&group.columns()[..LEAVES.len()], at, rows_end)?;
        let data_end = chunks_end(&group.columns()[LEAVES.len()..], end, rows_end)?;
        check_values(group, records)?;
        let (min_timestamp, max_timestamp) = times(group)?;
        let (first, last) = if footer.has_gaps() { offsets(group, next, records)? } else { (next, next.plus(records - 1)) };
        let data_crc = footer.data_checksums.get(groups.len()).copied();
        let (bytes, data_bytes) = (at..end, end..data_end);
        groups.push(RowGroup { first, last, records, min_timestamp, max_timestamp, bytes, data_bytes, crc: *crc, data_crc });
        (next, at, counted) = (last.plus(1), data_end, counted + records);
        if last > footer.last {
            break;
        }
    }
    let ends = groups.first().is_some_and(|group| group.first == footer.first) && next == footer.last.plus(1);
    if ends && counted == footer.records { Ok(groups) } else { malformed("its row groups do not have the records that it counts") }
}

/// Where offsets are missing, a row group's are what its statistics say, and follow those before.
fn offsets(group: &RowGroupMetaData, next: Offset, records: u64) -> Result<(Offset, Offset), ParquetError> {
    let (first, last) = bounds(group, OFFSET_LEAF)?;
    match (u64::try_from(first), u64::try_from(last)) {
        (Ok(first), Ok(last)) if first >= next.0 && last >= first && last - first >= records - 1 && last < i64::MAX as u64 => {
            Ok((Offset(first), Offset(last)))
        }
        _ => malformed("a row group has no possible offsets"),
    }
}

/// Where chunks end that follow each other from `start` on.
fn chunks_end(chunks: &[ColumnChunkMetaData], start: u64, bound: u64) -> Result<u64, ParquetError> {
    let end = chunks.iter().try_fold(start, |at, chunk| {
        let position = u64::try_from(chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset())).ok()?;
        let length = u64::try_from(chunk.compressed_size()).ok().filter(|length| *length > 0)?;
        let end = at.checked_add(length).filter(|end| *end <= bound)?;
        let data = u64::try_from(chunk.data_page_offset()).ok()?;
        (position == at && (at..end).contains(&data)).then_some(end)
    });
    end.map_or_else(|| malformed("its columns leave gaps or overlap"), Ok)
}

/// Each column has a value per record, except those of headers, which are bounded as they are when written.
fn check_values(group: &RowGroupMetaData, records: u64) -> Result<(), ParquetError> {
    for (leaf, chunk) in group.columns().iter().take(LEAVES.len()).enumerate() {
        let values = u64::try_from(chunk.num_values()).unwrap_or(u64::MAX);
        let most = if HEADER_LEAVES.contains(&leaf) { records + (MAX_GROUP_BYTES / HEADER_COST) as u64 } else { records };
        if values < records || values > most {
            return malformed("a column does not have as many values as there are records");
        }
    }
    Ok(())
}

fn times(group: &RowGroupMetaData) -> Result<(Timestamp, Timestamp), ParquetError> {
    bounds(group, TIMESTAMP_LEAF).map(|(min, max)| (Timestamp::from_millis(min), Timestamp::from_millis(max)))
}

/// The smallest and the largest number of a column.
fn bounds(group: &RowGroupMetaData, leaf: usize) -> Result<(i64, i64), ParquetError> {
    match group.column(leaf).statistics() {
        Some(Statistics::Int64(numbers)) => match (numbers.min_opt(), numbers.max_opt()) {
            (Some(min), Some(max)) => Ok((*min, *max)),
            _ => malformed("a row group does not say its offsets or timestamps"),
        },
        _ => malformed("a row group does not say its offsets or timestamps"),
    }
}
