//! Decodes row groups. Keys and values are slices of the decompressed pages; damaged or malformed bytes give an error and
//! no record. Decompression is CPU work: not for an async thread.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, BinaryViewArray, BooleanArray, PrimitiveArray, RecordBatch, StringViewArray, StructArray};
use arrow_buffer::Buffer;
use bytes::{Buf, Bytes};
use lakefall_queue::{Header, Offset, PartitionIndex, StoredRecord, Timestamp, ValueKind, turn};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError as LibraryError;
use parquet::file::reader::{ChunkReader, Length};

use super::guard::guarded;
use super::schema::{COLUMNS, HEADER_LEAVES, LEAVES};
use super::{MAX_GROUP_BYTES, ParquetError, ParquetFile, RowGroup, corrupt, pages};
use crate::batch::{Names, properties};

/// Records that are decoded at once: few enough to stop soon after the last one wanted.
const STEP: usize = 1_024;

/// Which records of a row group to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// From which offset on.
    pub from: Offset,
    /// Most records.
    pub records: usize,
    /// No further record once keys, values and headers have this many bytes.
    pub bytes: usize,
}

impl Want {
    /// Everything from an offset on.
    pub fn from(from: Offset) -> Self {
        Self { from, records: usize::MAX, bytes: usize::MAX }
    }
}

impl ParquetFile {
    /// Appends to `out` the wanted records of a row group, whose [`RowGroup::bytes`] are `bytes`. On an error `out` is as it was.
    /// The checksum is verified first.
    pub fn decode(&self, row_group: usize, bytes: &Bytes, want: Want, out: &mut Vec<StoredRecord>) -> Result<(), ParquetError> {
        let Some(group) = self.row_groups().get(row_group) else {
            return Err(ParquetError::Corrupt(format!("it has no row group {row_group}")));
        };
        let length = group.bytes.end - group.bytes.start;
        if bytes.len() as u64 != length || crc32c::crc32c(bytes) != group.crc {
            return Err(ParquetError::BadRowGroupCrc { first: group.first });
        }
        self.check_pages(row_group, group, bytes)?;
        let before = out.len();
        let result = guarded(|| self.read_records(row_group, group, bytes, want, out));
        if result.is_err() {
            out.truncate(before);
        }
        result
    }

    fn check_pages(&self, row_group: usize, group: &RowGroup, bytes: &Bytes) -> Result<(), ParquetError> {
        let mut total = 0;
        for chunk in self.reader.metadata().row_group(row_group).columns().iter().take(LEAVES.len()) {
            // In bounds: `ParquetFile::open` found the chunks to fill the row group.
            let (start, length) = chunk.byte_range();
            let start = (start - group.bytes.start) as usize;
            total += pages::check(&bytes[start..start + length as usize], chunk.num_values() as usize)?;
        }
        if total > MAX_GROUP_BYTES {
            return Err(ParquetError::Corrupt("a row group is larger than the format allows".to_owned()));
        }
        Ok(())
    }

    fn read_records(
        &self,
        row_group: usize,
        group: &RowGroup,
        bytes: &Bytes,
        want: Want,
        out: &mut Vec<StoredRecord>,
    ) -> Result<(), ParquetError> {
        // Where offsets are missing nobody knows at which row one is: rows before the first one wanted are passed over.
        let (gaps, mut next) = (group.has_gaps(), group.first);
        let skipped = if gaps { 0 } else { want.from.0.saturating_sub(group.first.0).min(group.records()) as usize };
        let records = (group.records() as usize - skipped).min(if gaps { usize::MAX } else { want.records });
        out.reserve(records.min(STEP));
        next = next.plus(skipped as u64);
        let mut wanted = want.records;
        let (mut left, mut room) = (records, want.bytes);
        for batch in self.batches(row_group, group, bytes, skipped, records)? {
            let batch = batch.map_err(corrupt)?;
            let rows = Rows::new(&batch)?;
            let mut names = Names::default();
            for row in 0..batch.num_rows() {
                if room == 0 || left == 0 || wanted == 0 {
                    return Ok(());
                }
                let record = rows.record(row, &mut names)?;
                turn::step(record.payload_bytes());
                // With gaps, only where the first and the last one are is told beforehand.
                let exact = if !gaps || next == group.first { Some(next) } else { (left == 1).then_some(group.last) };
                let follows = exact.map_or(next <= record.offset && record.offset < group.last, |exact| record.offset == exact);
                if record.partition != self.partition() || !follows {
                    return Err(ParquetError::Corrupt("its records are not those that it counts".to_owned()));
                }
                next = record.offset.plus(1);
                left -= 1;
                if record.offset < want.from {
                    continue;
                }
                wanted -= 1;
                room = room.saturating_sub(record.payload_bytes());
                out.push(record);
            }
        }
        if left == 0 { Ok(()) } else { Err(ParquetError::Corrupt("a row group ends early".to_owned())) }
    }

    fn batches(
        &self,
        row_group: usize,
        group: &RowGroup,
        bytes: &Bytes,
        skipped: usize,
        records: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let window = Window { start: group.bytes.start, bytes: bytes.clone(), file_len: self.object_len() };
        let leaves = ProjectionMask::leaves(self.reader.parquet_schema(), 0..LEAVES.len());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, self.reader.clone())
            .with_row_groups(vec![row_group])
            .with_projection(leaves)
            .with_batch_size(records.clamp(1, STEP))
            .with_offset(skipped)
            .with_limit(records);
        builder.build().map_err(corrupt)
    }
}

/// The columns of some records, as what they are.
struct Rows<'a> {
    partition: &'a PrimitiveArray<Int32Type>,
    offset: &'a PrimitiveArray<Int64Type>,
    timestamp: &'a PrimitiveArray<TimestampMillisecondType>,
    appended_at: &'a PrimitiveArray<TimestampMillisecondType>,
    key: Blobs<'a>,
    value: Blobs<'a>,
    header_ends: &'a [i32],
    header_names: &'a StringViewArray,
    header_values: Blobs<'a>,
    json: &'a BooleanArray,
}

impl<'a> Rows<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self, ParquetError> {
        Self::cast(batch).ok_or_else(|| ParquetError::Corrupt("its columns have other types than those of the format".to_owned()))
    }

    fn cast(batch: &'a RecordBatch) -> Option<Self> {
        let [partition, offset, timestamp, appended_at, key, value, headers, json] = batch.columns().get(..COLUMNS)? else { return None };
        let headers = headers.as_list_opt::<i32>()?;
        let each: &StructArray = headers.values().as_struct_opt()?;
        Some(Self {
            partition: partition.as_primitive_opt()?,
            offset: offset.as_primitive_opt()?,
            timestamp: timestamp.as_primitive_opt()?,
            appended_at: appended_at.as_primitive_opt()?,
            key: Blobs::new(key.as_binary_view_opt()?),
            value: Blobs::new(value.as_binary_view_opt()?),
            header_ends: headers.value_offsets(),
            header_names: each.columns().first()?.as_string_view_opt()?,
            header_values: Blobs::new(each.columns().get(HEADER_LEAVES.len() - 1)?.as_binary_view_opt()?),
            json: json.as_boolean_opt()?,
        })
    }

    fn record(&self, row: usize, names: &mut Names) -> Result<StoredRecord, ParquetError> {
        let mut headers = Vec::new();
        let mut found = None;
        for header in self.header_ends[row] as usize..self.header_ends[row + 1] as usize {
            let name = self.header_names.value(header).as_bytes();
            let value = self.header_values.get(header);
            if !properties::absorb(&mut found, name, value.as_deref()) {
                headers.push(Header { name: names.get(name).map_err(corrupt)?, value });
            }
        }
        Ok(StoredRecord {
            partition: PartitionIndex(self.partition.value(row) as u32),
            offset: Offset(self.offset.value(row) as u64),
            timestamp: Timestamp::from_millis(self.timestamp.value(row)),
            appended_at: Timestamp::from_millis(self.appended_at.value(row)),
            key: self.key.get(row),
            value: self.value.get(row),
            kind: if self.json.value(row) { ValueKind::Json } else { ValueKind::Opaque },
            headers,
            properties: found,
        })
    }
}

/// A column of bytes, from which slices are taken without copying.
struct Blobs<'a> {
    array: &'a BinaryViewArray,
    /// The views, in which short values stand themselves, then the buffers that they point into.
    views: Bytes,
    buffers: Vec<Bytes>,
}

/// Longest value that stands in its view, behind its length.
const INLINE: usize = 12;
const VIEW_BYTES: usize = 16;

impl<'a> Blobs<'a> {
    fn new(array: &'a BinaryViewArray) -> Self {
        let buffers = array.data_buffers().iter().map(|buffer| bytes_of(buffer.clone())).collect();
        Self { array, views: bytes_of(array.views().inner().clone()), buffers }
    }

    fn get(&self, row: usize) -> Option<Bytes> {
        if self.array.is_null(row) {
            return None;
        }
        let view = *self.array.views().get(row)?;
        let length = view as u32 as usize;
        if length <= INLINE {
            let start = row * VIEW_BYTES + 4;
            return Some(self.views.slice(start..start + length));
        }
        let buffer = self.buffers.get((view >> 64) as u32 as usize)?;
        let start = (view >> 96) as u32 as usize;
        Some(buffer.slice(start..start + length))
    }
}

/// A row group's bytes, where they are in the file.
struct Window {
    start: u64,
    bytes: Bytes,
    file_len: u64,
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.file_len
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, LibraryError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, LibraryError> {
        let bytes = self.from(start)?;
        if length <= bytes.len() { Ok(bytes.slice(..length)) } else { Err(outside()) }
    }
}

impl Window {
    fn from(&self, start: u64) -> Result<Bytes, LibraryError> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.filter(|at| *at <= self.bytes.len()).map(|at| self.bytes.slice(at..)).ok_or_else(outside)
    }
}

fn outside() -> LibraryError {
    LibraryError::EOF("bytes outside of the row group".to_owned())
}

/// A buffer as bytes, without copying it.
fn bytes_of(buffer: Buffer) -> Bytes {
    struct Shared(Buffer);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Shared(buffer))
}
