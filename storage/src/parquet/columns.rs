//! Reads single columns of row groups as Arrow arrays, for queries: what a query does not name is neither fetched nor
//! decoded. Every byte that is decoded was checked before, as for whole records.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError as LibraryError;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;

use super::guard::guarded;
use super::schema::{COLUMNS, DATA, LEAVES, fields};
use super::{MAX_GROUP_BYTES, ParquetError, ParquetFile, corrupt, pages};

/// Bytes between two columns of a row group that are fetched in vain rather than asked for apart.
const GAP: u64 = 32 << 10;

/// Some columns of a file.
#[derive(Clone, Debug)]
pub struct ColumnReader {
    file: Arc<ParquetFile>,
    reader: ArrowReaderMetadata,
    leaves: Vec<usize>,
    schema: SchemaRef,
}

/// A column's smallest or largest value in a row group. Texts and bytes may be cut, and are bounds all the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// A truth.
    Boolean(bool),
    /// A whole number; times in the unit of their column.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text or bytes.
    Bytes(Bytes),
}

/// What a file says of a column's values in a row group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// No value is smaller.
    pub min: Option<Bound>,
    /// No value is larger.
    pub max: Option<Bound>,
    /// How many rows have none.
    pub nulls: Option<u64>,
}

/// Bytes of a row group that have a checksum of their own.
struct Part {
    range: Range<u64>,
    crc: u32,
}

impl ColumnReader {
    /// Of the record's columns those named in `record`, of the typed ones those whose names begin `data`. A name that the file
    /// does not have selects nothing.
    ///
    /// Errors: [`ParquetError::Corrupt`] if the file's types make no sense.
    pub fn new(file: Arc<ParquetFile>, record: &[&str], data: &[&str]) -> Result<Self, ParquetError> {
        let metadata = file.reader.metadata().clone();
        let descriptor = metadata.file_metadata().schema_descr_ptr();
        let selected = |leaf: &usize| match descriptor.column(*leaf).path().parts() {
            [first, second, ..] if first == DATA => data.contains(&second.as_str()),
            [first, ..] => record.contains(&first.as_str()),
            [] => false,
        };
        let leaves: Vec<usize> = (0..descriptor.num_columns()).filter(selected).collect();
        let found = file.reader.schema().fields().get(COLUMNS);
        let columns = fields(true).into_iter().map(Arc::new).chain(found.map(as_view_field));
        let schema = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(schema.clone());
        let reader = ArrowReaderMetadata::try_new(metadata, options).map_err(corrupt)?;
        let kept = schema.fields().iter().filter_map(|field| match field.data_type() {
            DataType::Struct(typed) if field.name() == DATA => {
                let typed: Fields = typed.iter().filter(|field| data.contains(&field.name().as_str())).cloned().collect();
                (!typed.is_empty()).then(|| Arc::new(Field::new(DATA, DataType::Struct(typed), true)))
            }
            _ => record.contains(&field.name().as_str()).then(|| field.clone()),
        });
        let schema = Arc::new(Schema::new(kept.collect::<Vec<FieldRef>>()));
        Ok(Self { file, reader, leaves, schema })
    }

    /// The columns that are read, in the file's order, texts and bytes as views; typed ones are fields of a struct `data`.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The ranges of the file that [`Self::decode`] needs of a row group.
    pub fn ranges(&self, row_group: usize) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for Part { range, .. } in self.parts(row_group) {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end + GAP => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// Bytes that the columns take in memory once they are decompressed, about.
    pub fn decoded_bytes(&self, row_group: usize) -> u64 {
        let Some(group) = self.reader.metadata().row_groups().get(row_group) else { return 0 };
        self.leaves.iter().map(|leaf| u64::try_from(group.column(*leaf).uncompressed_size()).unwrap_or(0)).sum()
    }

    /// Decodes a row group, given the bytes of each of its [`Self::ranges`]. They are verified first.
    ///
    /// Errors: [`ParquetError::BadRowGroupCrc`], [`ParquetError::Corrupt`].
    pub fn decode(&self, row_group: usize, bytes: &[Bytes], batch_rows: usize) -> Result<ColumnBatches, ParquetError> {
        let Some(group) = self.file.row_groups().get(row_group) else {
            return Err(ParquetError::Corrupt(format!("it has no row group {row_group}")));
        };
        let damaged = || ParquetError::BadRowGroupCrc { first: group.first };
        let ranges = self.ranges(row_group);
        if ranges.len() != bytes.len() || ranges.iter().zip(bytes).any(|(range, bytes)| range.end - range.start != bytes.len() as u64) {
            return Err(damaged());
        }
        let windows =
            Windows { at: ranges.into_iter().map(|range| range.start).zip(bytes.iter().cloned()).collect(), len: self.file.object_len() };
        for Part { range, crc } in self.parts(row_group) {
            let part = windows.get(range.start, (range.end - range.start) as usize).ok_or_else(damaged)?;
            if crc32c::crc32c(&part) != crc {
                return Err(damaged());
            }
        }
        self.check_pages(row_group, &windows)?;
        let mask = ProjectionMask::leaves(self.reader.parquet_schema(), self.leaves.iter().copied());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(windows, self.reader.clone());
        let build = || builder.with_row_groups(vec![row_group]).with_projection(mask).with_batch_size(batch_rows).build().map_err(corrupt);
        Ok(ColumnBatches { inner: Some(guarded(build)?), left: group.records() })
    }

    fn parts(&self, row_group: usize) -> Vec<Part> {
        let Some(group) = self.file.row_groups().get(row_group) else { return Vec::new() };
        let all = self.reader.parquet_schema().num_columns();
        let checksums = self.file.footer.column_checksums.get(row_group * all..(row_group + 1) * all);
        let Some(checksums) = checksums else {
            // Without checksums of their own, columns are read with all that one checksum covers.
            let record = self.leaves.iter().any(|leaf| *leaf < LEAVES.len()).then(|| Part { range: group.bytes.clone(), crc: group.crc });
            let typed = self.leaves.iter().any(|leaf| *leaf >= LEAVES.len());
            let data = group.data_crc.filter(|_| typed).map(|crc| Part { range: group.data_bytes.clone(), crc });
            return record.into_iter().chain(data).collect();
        };
        let metadata = self.reader.metadata().row_group(row_group);
        let part = |leaf: &usize| {
            let (start, length) = metadata.column(*leaf).byte_range();
            Part { range: start..start + length, crc: checksums[*leaf] }
        };
        self.leaves.iter().map(part).collect()
    }

    fn check_pages(&self, row_group: usize, windows: &Windows) -> Result<(), ParquetError> {
        let mut total = 0;
        for leaf in &self.leaves {
            let chunk = self.reader.metadata().row_group(row_group).column(*leaf);
            let (start, length) = chunk.byte_range();
            let Some(bytes) = windows.get(start, length as usize) else {
                return Err(ParquetError::Corrupt("a column is not where its metadata says".to_owned()));
            };
            total += pages::check(&bytes, chunk.num_values() as usize)?;
        }
        // Typed columns repeat what the record's own hold, in larger types at worst.
        if total > 8 * MAX_GROUP_BYTES {
            return Err(ParquetError::Corrupt("a row group is larger than the format allows".to_owned()));
        }
        Ok(())
    }
}

impl ParquetFile {
    /// What the file says of a column in a row group. `path` is a column of the record, or `data` and a typed one.
    pub fn bounds(&self, row_group: usize, path: &[&str]) -> Bounds {
        let group = self.reader.metadata().row_groups().get(row_group);
        let statistics = group.and_then(|group| {
            let chunk =
                group.columns().iter().find(|chunk| chunk.column_path().parts().iter().map(String::as_str).eq(path.iter().copied()));
            chunk.and_then(|chunk| chunk.statistics())
        });
        let Some(statistics) = statistics else { return Bounds::default() };
        let (min, max) = match statistics {
            Statistics::Boolean(of) => (of.min_opt().copied().map(Bound::Boolean), of.max_opt().copied().map(Bound::Boolean)),
            Statistics::Int32(of) => (of.min_opt().map(|n| Bound::Integer((*n).into())), of.max_opt().map(|n| Bound::Integer((*n).into()))),
            Statistics::Int64(of) => (of.min_opt().copied().map(Bound::Integer), of.max_opt().copied().map(Bound::Integer)),
            Statistics::Float(of) => (of.min_opt().map(|n| Bound::Float((*n).into())), of.max_opt().map(|n| Bound::Float((*n).into()))),
            Statistics::Double(of) => (of.min_opt().copied().map(Bound::Float), of.max_opt().copied().map(Bound::Float)),
            Statistics::ByteArray(of) => {
                let bytes = |of: &parquet::data_type::ByteArray| Bound::Bytes(Bytes::copy_from_slice(of.data()));
                (of.min_opt().map(bytes), of.max_opt().map(bytes))
            }
            Statistics::Int96(_) | Statistics::FixedLenByteArray(_) => (None, None),
        };
        Bounds { min, max, nulls: statistics.null_count_opt() }
    }
}

/// The decoded columns of a row group, in portions.
pub struct ColumnBatches {
    /// None after an error.
    inner: Option<ParquetRecordBatchReader>,
    left: u64,
}

impl Iterator for ColumnBatches {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut inner = self.inner.take()?;
        let read = guarded(|| inner.next().transpose().map_err(corrupt));
        match read {
            Ok(Some(batch)) if batch.num_rows() as u64 <= self.left => {
                self.left -= batch.num_rows() as u64;
                self.inner = Some(inner);
                Some(Ok(batch))
            }
            Ok(None) if self.left == 0 => None,
            Ok(_) => Some(Err(ParquetError::Corrupt("a row group has other rows than it counts".to_owned()))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// `data` with texts and bytes as views.
fn as_view_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(as_view_type(field.data_type())))
}

fn as_view_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_view_field).collect()),
        DataType::List(element) => DataType::List(as_view_field(element)),
        other => other.clone(),
    }
}

/// The bytes of some ranges, where they are in the file.
struct Windows {
    at: Vec<(u64, Bytes)>,
    len: u64,
}

impl Windows {
    fn from(&self, start: u64) -> Option<Bytes> {
        let (at, bytes) = self.at.iter().rev().find(|(at, _)| *at <= start)?;
        let from = usize::try_from(start - at).ok().filter(|from| *from <= bytes.len())?;
        Some(bytes.slice(from..))
    }

    fn get(&self, start: u64, length: usize) -> Option<Bytes> {
        self.from(start).filter(|bytes| length <= bytes.len()).map(|bytes| bytes.slice(..length))
    }
}

impl Length for Windows {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Windows {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, LibraryError> {
        self.from(start).map(Buf::reader).ok_or_else(outside)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, LibraryError> {
        self.get(start, length).ok_or_else(outside)
    }
}

fn outside() -> LibraryError {
    LibraryError::EOF("bytes outside of the columns that were fetched".to_owned())
}
