//! Reads records out of a batch. Keys and values are slices of one buffer; damaged or malformed batches give an
//! error and no record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::{Header, Offset, PartitionIndex, StoredRecord, Timestamp, ValueKind, turn};

use super::encode::JSON_ATTRIBUTE;
use super::varint::Cursor;
use super::{BatchError, BatchHeader, MAX_UNCOMPRESSED_BYTES, codec, properties};

/// The shortest record: length, attributes, two deltas, two lengths and a header count of one byte each.
const MIN_RECORD_BYTES: usize = 7;
/// Records for which there is room before they are read, about a megabyte: what a batch counts is not believed for more. Beyond it,
/// the room grows with the records that are there.
const RESERVED: usize = 8_192;
/// The shortest header: a name of no bytes and a null.
const MIN_HEADER_BYTES: usize = 2;

/// What the ledger knows of a batch and the batch itself does not.
#[derive(Clone, Copy, Debug)]
pub struct DecodeContext {
    /// Where the records are.
    pub partition: PartitionIndex,
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// When the extent's first batch was journaled.
    pub appended_at: Timestamp,
    /// The extent lies in a merged segment: each batch says how much later than the first it was journaled.
    pub merged: bool,
    /// Most bytes that the records may have after decompression.
    pub max_bytes: usize,
}

impl DecodeContext {
    /// Of a gateway's extent, with [`MAX_UNCOMPRESSED_BYTES`].
    pub fn new(partition: PartitionIndex, base_offset: Offset, appended_at: Timestamp) -> Self {
        Self { partition, base_offset, appended_at, merged: false, max_bytes: MAX_UNCOMPRESSED_BYTES }
    }
}

/// Appends the records of the batch at the start of `bytes` whose offset is `from` or more. On an error `out` is as
/// it was. The checksum is verified first. Decompression is CPU work: not for an async thread.
pub fn decode(bytes: &Bytes, mut context: DecodeContext, from: Offset, out: &mut Vec<StoredRecord>) -> Result<(), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    header.verify(bytes)?;
    if header.control {
        return Err(BatchError::Corrupt("it is a control batch"));
    }
    if context.merged {
        context.appended_at = context.appended_at.plus(Duration::from_millis(header.appended_delta_ms()?.into()));
    }
    let packed = bytes.slice(BatchHeader::LEN..header.total_len);
    turn::step(packed.len());
    let body = codec::decompress(header.compression, packed, context.max_bytes)?;
    turn::step(body.len());
    if header.records as usize > body.len() / MIN_RECORD_BYTES {
        return Err(BatchError::Corrupt("it counts more records than its bytes can hold"));
    }
    let before = out.len();
    let skipped = from.0.saturating_sub(context.base_offset.0).min(u64::from(header.records)) as usize;
    out.reserve((header.records as usize - skipped).min(RESERVED));
    let result = Records { body: &body, header, context, names: Names::default() }.read(from, out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

struct Records<'a> {
    body: &'a Bytes,
    header: BatchHeader,
    context: DecodeContext,
    names: Names,
}

impl Records<'_> {
    fn read(mut self, from: Offset, out: &mut Vec<StoredRecord>) -> Result<(), BatchError> {
        let mut at = 0;
        let mut previous = -1;
        for _ in 0..self.header.records {
            let mut cursor = Cursor::new(&self.body[at..]);
            let length = cursor.length()?.ok_or(BatchError::Corrupt("a record has no length"))?;
            let start = at + cursor.position();
            let end = start + length;
            turn::step(length);
            let mut cursor = Cursor::new(&self.body[start..end]);
            let attributes = cursor.byte()?;
            let timestamp_delta = cursor.long()?;
            let delta = cursor.long()?;
            if delta <= previous || delta > i64::from(self.header.last_offset_delta) {
                return Err(BatchError::Corrupt("its offsets do not ascend"));
            }
            previous = delta;
            let offset = self.context.base_offset.plus(delta as u64);
            if offset >= from {
                out.push(self.record(attributes, timestamp_delta, offset, cursor, start)?);
            }
            at = end;
        }
        if at == self.body.len() { Ok(()) } else { Err(BatchError::Corrupt("bytes follow its last record")) }
    }

    /// The part of a record after its offset. `cursor` walks the record, which begins at `start` of the body.
    fn record(
        &mut self,
        attributes: u8,
        timestamp_delta: i64,
        offset: Offset,
        mut cursor: Cursor<'_>,
        start: usize,
    ) -> Result<StoredRecord, BatchError> {
        let timestamp = if self.header.log_append_time {
            self.header.max_timestamp
        } else {
            Timestamp::from_millis(self.header.base_timestamp.as_millis().wrapping_add(timestamp_delta))
        };
        let key = self.blob(&mut cursor, start)?;
        let value = self.blob(&mut cursor, start)?;
        let count = usize::try_from(cursor.long()?)
            .ok()
            .filter(|count| *count <= cursor.remaining() / MIN_HEADER_BYTES)
            .ok_or(BatchError::Corrupt("a record counts more headers than its bytes can hold"))?;
        let mut headers = Vec::new();
        let mut found = None;
        for _ in 0..count {
            let length = cursor.length()?.ok_or(BatchError::Corrupt("a header has no name"))?;
            let range = cursor.take(length);
            let name = &self.body[start + range.start..start + range.end];
            let value = self.blob(&mut cursor, start)?;
            if !properties::absorb(&mut found, name, value.as_deref()) {
                headers.push(Header { name: self.names.get(name)?, value });
            }
        }
        if cursor.remaining() > 0 {
            return Err(BatchError::Corrupt("bytes follow a record's last header"));
        }
        Ok(StoredRecord {
            partition: self.context.partition,
            offset,
            timestamp,
            appended_at: self.context.appended_at,
            key,
            value,
            kind: if attributes & JSON_ATTRIBUTE != 0 { ValueKind::Json } else { ValueKind::Opaque },
            headers,
            properties: found,
        })
    }

    fn blob(&self, cursor: &mut Cursor<'_>, start: usize) -> Result<Option<Bytes>, BatchError> {
        let Some(length) = cursor.length()? else { return Ok(None) };
        let range = cursor.take(length);
        Ok(Some(self.body.slice(start + range.start..start + range.end)))
    }
}

/// Header names repeat from record to record: each is made once per batch.
#[derive(Default)]
pub(crate) struct Names(Vec<Arc<str>>);

impl Names {
    /// Bounds the search where every record has names of its own.
    const MOST: usize = 16;

    pub(crate) fn get(&mut self, name: &[u8]) -> Result<Arc<str>, BatchError> {
        if let Some(known) = self.0.iter().find(|known| known.as_bytes() == name) {
            return Ok(known.clone());
        }
        let text = std::str::from_utf8(name).map_err(|_| BatchError::Corrupt("a header's name is not UTF-8"))?;
        let made: Arc<str> = text.into();
        if self.0.len() < Self::MOST {
            self.0.push(made.clone());
        }
        Ok(made)
    }
}
