//! Records as an Arrow IPC stream: one copy of each value, into its column.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt8Array, UInt32Array, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::{Bytes, BytesMut};
use lakefall_queue::{Properties, StoredRecord, Timestamp, ValueKind};

use crate::problem::{self, Problem, Result};

/// Writes one stream.
pub(super) struct Encoder {
    schema: SchemaRef,
    /// Taken by the last batch.
    stream: Option<StreamEncoder>,
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn schema() -> Schema {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let headers = DataType::List(Arc::new(Field::new("item", DataType::Struct(header_fields()), true)));
    let mut fields = vec![
        Field::new("partition", DataType::UInt32, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("timestamp", time(), false),
        Field::new("appended_at", time(), false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("json", DataType::Boolean, false),
        Field::new("headers", headers, true),
        Field::new("priority", DataType::UInt8, true),
        Field::new("deliver_at", time(), true),
        Field::new("expires_at", time(), true),
    ];
    fields.extend(TEXTS.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)));
    Schema::new(fields)
}

type Text = fn(&Properties) -> Option<&str>;

const TEXTS: &[(&str, Text)] = &[
    ("dedup_id", |p| p.dedup_id.as_deref()),
    ("ordering_key", |p| p.ordering_key.as_deref()),
    ("correlation_id", |p| p.correlation_id.as_deref()),
    ("reply_to", |p| p.reply_to.as_deref()),
    ("traceparent", |p| p.traceparent.as_deref()),
    ("tracestate", |p| p.tracestate.as_deref()),
];

impl Encoder {
    /// A stream of the schema above.
    pub(super) fn new() -> Result<Self> {
        let schema = Arc::new(schema());
        let stream = StreamEncoder::try_new(&schema).map_err(|e| {
            tracing::error!(error = %e, "the Arrow schema is refused by its own writer");
            Problem::new(problem::INTERNAL, "the Arrow stream cannot be opened")
        })?;
        Ok(Self { schema, stream: Some(stream) })
    }

    /// The bytes of one batch, and of the stream's end after the last, in pieces: large columns leave as they are, small
    /// ones are gathered.
    pub(super) fn encode(&mut self, records: &[StoredRecord], last: bool) -> Result<Vec<Bytes>, ArrowError> {
        let mut buffers = Vec::new();
        if let (Some(stream), false) = (&mut self.stream, records.is_empty()) {
            buffers = stream.encode(&batch(&self.schema, records)?)?;
        }
        if last && let Some(stream) = self.stream.take() {
            buffers.extend(stream.finish()?);
        }
        let mut pieces = Vec::new();
        let mut small = BytesMut::new();
        for buffer in buffers {
            if buffer.len() < LARGE {
                small.extend_from_slice(buffer.as_slice());
            } else {
                pieces.extend((!small.is_empty()).then(|| small.split().freeze()));
                pieces.push(Bytes::from_owner(Column(buffer)));
            }
        }
        pieces.extend((!small.is_empty()).then(|| small.freeze()));
        Ok(pieces)
    }
}

/// Buffers of this many bytes are not worth a copy.
const LARGE: usize = 32 << 10;

/// An Arrow buffer as the owner of bytes.
struct Column(Buffer);

impl AsRef<[u8]> for Column {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn batch(schema: &SchemaRef, records: &[StoredRecord]) -> Result<RecordBatch, ArrowError> {
    let any_properties = records.iter().any(|r| r.properties.is_some());
    let instants = |of: fn(&Properties) -> Option<Timestamp>| -> ArrayRef {
        let cells = records.iter().map(|r| r.properties.as_deref().and_then(of).map(Timestamp::as_millis));
        Arc::new(TimestampMillisecondArray::from_iter(cells).with_timezone("UTC"))
    };
    let times = |of: fn(&StoredRecord) -> Timestamp| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(records.iter().map(|r| of(r).as_millis())).with_timezone("UTC"))
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(records.iter().map(|r| r.partition.0))),
        Arc::new(UInt64Array::from_iter_values(records.iter().map(|r| r.offset.0))),
        times(|r| r.timestamp),
        times(|r| r.appended_at),
        binary(records, |r| r.key.as_ref()),
        binary(records, |r| r.value.as_ref()),
        Arc::new(BooleanArray::from_iter(records.iter().map(|r| Some(r.kind == ValueKind::Json)))),
        headers(records),
        Arc::new(UInt8Array::from_iter(records.iter().map(|r| r.properties.as_deref().and_then(|p| p.priority)))),
        instants(|p| p.deliver_at),
        instants(|p| p.expires_at),
    ];
    for (_, text) in TEXTS {
        columns.push(if any_properties {
            Arc::new(StringArray::from_iter(records.iter().map(|r| r.properties.as_deref().and_then(text))))
        } else {
            Arc::new(StringArray::new_null(records.len()))
        });
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}

fn binary(records: &[StoredRecord], of: fn(&StoredRecord) -> Option<&Bytes>) -> ArrayRef {
    let bytes = records.iter().filter_map(|r| of(r).map(Bytes::len)).sum();
    let mut cells = BinaryBuilder::with_capacity(records.len(), bytes);
    for record in records {
        cells.append_option(of(record));
    }
    Arc::new(cells.finish())
}

fn headers(records: &[StoredRecord]) -> ArrayRef {
    let entry = StructBuilder::new(header_fields(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
    let mut rows = ListBuilder::with_capacity(entry, records.len());
    for record in records {
        let entries = rows.values();
        for header in &record.headers {
            if let Some(names) = entries.field_builder::<StringBuilder>(0) {
                names.append_value(&header.name);
            }
            if let Some(values) = entries.field_builder::<BinaryBuilder>(1) {
                values.append_option(header.value.as_ref());
            }
            entries.append(true);
        }
        rows.append(true);
    }
    Arc::new(rows.finish())
}
