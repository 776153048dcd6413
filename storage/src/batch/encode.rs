//! Makes a batch out of records. Each record is copied once, into the buffer that is compressed.

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lakefall_queue::{Header, Record, Timestamp, ValueKind};

use super::header::{ATTRIBUTES_AT, BatchHeader, CRC_AT, LENGTH_END};
use super::{BatchError, Codec, MAX_UNCOMPRESSED_BYTES, codec, properties, varint};

/// Bit 0 of a record's attributes: the value is JSON. Kafka defines none of these bits and its clients ignore them.
pub(super) const JSON_ATTRIBUTE: u8 = 1;

/// A finished batch and what its index entry needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBatch {
    /// The batch, base offset 0.
    pub bytes: Bytes,
    /// How many records.
    pub records: u32,
    /// The first record's timestamp: the one that timestamps are stored relative to.
    pub first_timestamp: Timestamp,
    /// The largest timestamp.
    pub max_timestamp: Timestamp,
}

/// Gathers records into one batch. Start another when [`Self::uncompressed_len`] nears
/// [`MAX_UNCOMPRESSED_BYTES`]; a mebibyte compresses well and is decoded in a millisecond.
#[derive(Debug)]
pub struct BatchEncoder {
    compression: Compression,
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    records: u32,
    first: Timestamp,
    max: Timestamp,
}

impl BatchEncoder {
    /// An empty batch.
    pub fn new(compression: Compression) -> Self {
        Self::with_capacity(compression, 0)
    }

    /// An empty batch with room for `bytes` of records, which spares growing.
    pub fn with_capacity(compression: Compression, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(BatchHeader::LEN + bytes);
        buffer.resize(BatchHeader::LEN, 0);
        let zero = Timestamp::from_millis(0);
        Self { compression, buffer, records: 0, first: zero, max: zero }
    }

    /// Adds a record, which stands at `timestamp` whatever it says itself.
    pub fn push(&mut self, record: &Record, timestamp: Timestamp) {
        if self.records == 0 {
            (self.first, self.max) = (timestamp, timestamp);
        }
        self.max = self.max.max(timestamp);
        // Wrapping here and when reading: any two timestamps have a difference that leads back.
        let timestamp_delta = timestamp.as_millis().wrapping_sub(self.first.as_millis());
        let offset_delta = i64::from(self.records);
        let properties = PropertyHeaders::of(record);
        let header_count = (record.headers.len() + properties.count) as i64;
        let body = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + blob_len(record.key.as_deref())
            + blob_len(record.value.as_deref())
            + varint::len(header_count)
            + properties.bytes.len()
            + record.headers.iter().map(header_len).sum::<usize>();
        let out = &mut self.buffer;
        out.reserve(body + varint::len(body as i64));
        varint::put(out, body as i64);
        out.push(if record.kind == ValueKind::Json { JSON_ATTRIBUTE } else { 0 });
        varint::put(out, timestamp_delta);
        varint::put(out, offset_delta);
        put_blob(out, record.key.as_deref());
        put_blob(out, record.value.as_deref());
        varint::put(out, header_count);
        out.extend_from_slice(&properties.bytes);
        for Header { name, value } in &record.headers {
            put_blob(out, Some(name.as_bytes()));
            put_blob(out, value.as_deref());
        }
        self.records += 1;
    }

    /// Bytes of the records so far, before compression.
    pub fn uncompressed_len(&self) -> usize {
        self.buffer.len() - BatchHeader::LEN
    }

    /// Records so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Compresses (unless that gains nothing) and seals. CPU work of about a millisecond per mebibyte: not for an
    /// async thread.
    ///
    /// Errors: [`BatchError::TooLarge`] beyond [`MAX_UNCOMPRESSED_BYTES`], [`BatchError::Corrupt`] without records.
    pub fn finish(self) -> Result<EncodedBatch, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Corrupt("it has no records"));
        }
        if self.uncompressed_len() > MAX_UNCOMPRESSED_BYTES {
            return Err(BatchError::TooLarge { limit: MAX_UNCOMPRESSED_BYTES });
        }
        let compressed = codec::compress(self.compression, &self.buffer[BatchHeader::LEN..], BatchHeader::LEN);
        let (mut batch, codec) = match compressed {
            Some(batch) => (batch, Codec::from(self.compression)),
            None => (self.buffer, Codec::None),
        };
        seal(&mut batch, codec, self.records, self.first, self.max);
        Ok(EncodedBatch { bytes: Bytes::from(batch), records: self.records, first_timestamp: self.first, max_timestamp: self.max })
    }
}

/// Writes the header in front of the records.
fn seal(batch: &mut [u8], codec: Codec, records: u32, first: Timestamp, max: Timestamp) {
    let length = (batch.len() - LENGTH_END) as i32;
    let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0_u64.to_be_bytes());
    put(8, &length.to_be_bytes());
    put(12, &(-1_i32).to_be_bytes());
    put(16, &[2]);
    put(ATTRIBUTES_AT, &codec.attributes().to_be_bytes());
    put(23, &(records - 1).to_be_bytes());
    put(27, &first.as_millis().to_be_bytes());
    put(35, &max.as_millis().to_be_bytes());
    // No idempotent producer: id, epoch and sequence are -1.
    put(43, &[0xff; 14]);
    put(57, &records.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        None => varint::put(out, -1),
        Some(blob) => {
            varint::put(out, blob.len() as i64);
            out.extend_from_slice(blob);
        }
    }
}

fn blob_len(blob: Option<&[u8]>) -> usize {
    blob.map_or(1, |blob| varint::len(blob.len() as i64) + blob.len())
}

fn header_len(header: &Header) -> usize {
    blob_len(Some(header.name.as_bytes())) + blob_len(header.value.as_deref())
}

/// A record's properties, encoded as headers. Allocates only for the few records that have any.
#[derive(Default)]
struct PropertyHeaders {
    bytes: Vec<u8>,
    count: usize,
}

impl PropertyHeaders {
    fn of(record: &Record) -> Self {
        let mut headers = Self::default();
        if let Some(properties) = &record.properties {
            properties::for_each(properties, |name, value| {
                put_blob(&mut headers.bytes, Some(name.as_bytes()));
                put_blob(&mut headers.bytes, Some(value.as_bytes()));
                headers.count += 1;
            });
        }
        headers
    }
}
