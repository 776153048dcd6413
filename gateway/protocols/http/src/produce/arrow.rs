//! `application/vnd.apache.arrow.stream`: rows of an Arrow IPC stream as records.
//!
//! Must never copy the values of a binary or text column: they are slices of the body.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamDecoder;
use bytes::Bytes;
use lakefall_queue::{Header, PartitionIndex, Record, Timestamp, ValueKind};

use super::arrow_columns::{Bits, Cells, Headers, Numbers};
use super::record::{PropertiesIn, Shape, bare};
use super::value::check_json;
use crate::problem::{self, Problem, Result};

const COLUMNS: &[&str] = &[
    "value",
    "key",
    "json",
    "headers",
    "timestamp",
    "partition",
    "dedup_id",
    "ordering_key",
    "priority",
    "deliver_at",
    "expires_at",
    "correlation_id",
    "reply_to",
    "traceparent",
    "tracestate",
    "delay",
    "ttl",
];

/// All rows, in order.
pub(super) fn parse(body: &Bytes, shape: &Shape) -> Result<Vec<Record>> {
    let malformed = |text: String| Problem::new(problem::MALFORMED_BODY, format!("the Arrow stream cannot be read: {text}"));
    let mut decoder = StreamDecoder::new();
    let mut rest = arrow_buffer::Buffer::from(body.clone());
    let mut records = Vec::new();
    while !rest.is_empty() {
        // The decoder checks what it reads, but a panic of a foreign format reader must not be a defect of ours.
        let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decoder.decode(&mut rest)));
        match decoded {
            Ok(Ok(Some(batch))) => add_rows(&batch, &mut records, shape)?,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(malformed(error.to_string())),
            Err(_) => return Err(malformed("it is damaged".to_owned())),
        }
    }
    decoder.finish().map_err(|e| malformed(e.to_string()))?;
    Ok(records)
}

struct Columns {
    value: Cells,
    key: Option<Cells>,
    json: Option<Bits>,
    headers: Option<Headers>,
    timestamp: Option<Numbers>,
    partition: Option<Numbers>,
    priority: Option<Numbers>,
    deliver_at: Option<Numbers>,
    expires_at: Option<Numbers>,
    texts: [Option<Cells>; 8],
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        if let Some(field) = schema.fields().iter().find(|f| !COLUMNS.contains(&f.name().as_str())) {
            let reason = format!("there is no column {:?}; there are: {}", field.name(), COLUMNS.join(", "));
            return Err(Problem::new(problem::UNKNOWN_FIELD, reason.clone()).at(field.name().as_str(), reason));
        }
        let cells = |name: &str| batch.column_by_name(name).map(|c| Cells::of(name, c)).transpose();
        let numbers = |name: &str| batch.column_by_name(name).map(|c| Numbers::of(name, c)).transpose();
        let value = cells("value")?.ok_or_else(|| Problem::invalid("value", "there must be a column value"))?;
        Ok(Self {
            value,
            key: cells("key")?,
            json: batch.column_by_name("json").map(Bits::of).transpose()?,
            headers: batch.column_by_name("headers").map(Headers::of).transpose()?,
            timestamp: numbers("timestamp")?,
            partition: numbers("partition")?,
            priority: numbers("priority")?,
            deliver_at: numbers("deliver_at")?,
            expires_at: numbers("expires_at")?,
            texts: [
                cells("dedup_id")?,
                cells("ordering_key")?,
                cells("correlation_id")?,
                cells("reply_to")?,
                cells("traceparent")?,
                cells("tracestate")?,
                cells("delay")?,
                cells("ttl")?,
            ],
        })
    }
}

fn add_rows(batch: &RecordBatch, records: &mut Vec<Record>, shape: &Shape) -> Result<()> {
    let columns = Columns::of(batch)?;
    records.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        let at = records.len();
        let record = row_record(&columns, row, shape)
            .map_err(|p| p.inside(&format!("/{at}")).because(&format!("row {at}")).with("record", at + 1))?;
        records.push(record);
    }
    Ok(())
}

fn row_record(columns: &Columns, row: usize, shape: &Shape) -> Result<Record> {
    let mut record = bare(columns.value.get(row), ValueKind::Opaque);
    let is_json = columns.value.is_json() || columns.json.as_ref().is_some_and(|bits| bits.get(row));
    if is_json && let Some(value) = &record.value {
        let text = std::str::from_utf8(value).map_err(|_| Problem::invalid("value", "json is true, but the value is not UTF-8"))?;
        let raw: &serde_json::value::RawValue = serde_json::from_str(text).map_err(|e| problem::from_json(&e))?;
        check_json(raw.get())?;
        record.kind = ValueKind::Json;
    }
    record.key = columns.key.as_ref().and_then(|c| c.get(row));
    record.headers = columns.headers.as_ref().map_or(Ok(Vec::<Header>::new()), |h| h.get(row))?;
    record.timestamp = columns.timestamp.as_ref().map_or(Ok(None), |c| instant("timestamp", c.get(row)))?;
    record.partition = match columns.partition.as_ref().and_then(|c| c.get(row)) {
        None => None,
        Some(number) => {
            Some(PartitionIndex(u32::try_from(number).map_err(|_| Problem::invalid("partition", "a partition is a whole number from 0"))?))
        }
    };
    let text = |at: usize| columns.texts[at].as_ref().and_then(|c| c.text(row));
    let properties = PropertiesIn {
        dedup_id: text(0),
        ordering_key: text(1),
        correlation_id: text(2),
        reply_to: text(3),
        traceparent: text(4),
        tracestate: text(5),
        delay: text(6).map(|span| span.to_string()),
        ttl: text(7).map(|span| span.to_string()),
        priority: columns.priority.as_ref().and_then(|c| c.get(row)).map(|number| u8::try_from(number).unwrap_or(u8::MAX)),
        deliver_at: columns.deliver_at.as_ref().map_or(Ok(None), |c| instant("deliver_at", c.get(row)))?,
        expires_at: columns.expires_at.as_ref().map_or(Ok(None), |c| instant("expires_at", c.get(row)))?,
    };
    record.properties = properties.check(shape.now, record.timestamp)?;
    shape.finish(record)
}

fn instant(name: &str, millis: Option<i64>) -> Result<Option<Timestamp>> {
    match millis {
        None => Ok(None),
        Some(millis) if (0..=253_402_300_799_999).contains(&millis) => Ok(Some(Timestamp::from_millis(millis))),
        Some(_) => Err(Problem::invalid(name, format!("{name} is outside 1970 to 9999"))),
    }
}
