//! Gathers records into the columns of a row group. Each key and value is copied once.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, ListArray, StructArray, TimestampMillisecondArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use lakefall_queue::{Header, PartitionIndex, StoredRecord, ValueKind};

use super::ROW_GROUP_BYTES;
use super::schema::{header_element, header_fields};
use crate::batch::properties;

/// What a header counts beside its name and value, so that many empty ones end a row group too.
pub(super) const HEADER_COST: usize = 16;

/// Room for the values of a row group beyond what those of the last one took, so that a few bytes more do not move them all.
const SLACK: usize = 64 << 10;

/// The columns of the open row group.
pub(super) struct Columns {
    partition: PartitionIndex,
    offsets: Int64Builder,
    timestamps: Vec<i64>,
    appended: Vec<i64>,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    header_names: StringBuilder,
    header_values: BinaryBuilder,
    /// Where each record's headers end; one more than there are records.
    header_ends: Vec<i32>,
    json: BooleanBuilder,
}

impl Columns {
    pub(super) fn new(partition: PartitionIndex) -> Self {
        Self {
            partition,
            offsets: Int64Builder::new(),
            timestamps: Vec::new(),
            appended: Vec::new(),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            header_names: StringBuilder::new(),
            header_values: BinaryBuilder::new(),
            header_ends: vec![0],
            json: BooleanBuilder::new(),
        }
    }

    /// Adds a record, whose offset must fit into an `i64`.
    pub(super) fn push(&mut self, record: &StoredRecord) {
        self.offsets.append_value(record.offset.0 as i64);
        self.timestamps.push(record.timestamp.as_millis());
        self.appended.push(record.appended_at.as_millis());
        self.keys.append_option(record.key.as_deref());
        self.values.append_option(record.value.as_deref());
        if let Some(properties) = &record.properties {
            properties::for_each(properties, |name, value| {
                self.header_names.append_value(name);
                self.header_values.append_value(value);
            });
        }
        for Header { name, value } in &record.headers {
            self.header_names.append_value(name);
            self.header_values.append_option(value.as_deref());
        }
        self.header_ends.push(self.headers() as i32);
        self.json.append_value(record.kind == ValueKind::Json);
    }

    pub(super) fn records(&self) -> usize {
        self.timestamps.len()
    }

    fn headers(&self) -> usize {
        self.header_names.offsets_slice().len() - 1
    }

    /// Bytes of keys, values and headers so far.
    pub(super) fn bytes(&self) -> usize {
        self.keys.values_slice().len()
            + self.values.values_slice().len()
            + self.header_names.values_slice().len()
            + self.header_values.values_slice().len()
            + self.headers() * HEADER_COST
    }

    /// The columns in the order of the schema; afterwards there are no records.
    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let records = self.records();
        // The next row group is likely to be like this one: what grows from nothing is moved again and again.
        let room = self.values.values_slice().len().min(ROW_GROUP_BYTES) + SLACK;
        let values = std::mem::replace(&mut self.values, BinaryBuilder::with_capacity(records, room)).finish();
        let header_ends = std::mem::replace(&mut self.header_ends, vec![0]);
        let headers: Vec<ArrayRef> = vec![Arc::new(self.header_names.finish()), Arc::new(self.header_values.finish())];
        let headers = StructArray::try_new(header_fields(false), headers, None)?;
        let ends = OffsetBuffer::new(ScalarBuffer::from(header_ends));
        let time = |millis: &mut Vec<i64>| TimestampMillisecondArray::from(std::mem::take(millis)).with_timezone("UTC");
        Ok(vec![
            Arc::new(Int32Array::from(vec![self.partition.0 as i32; records])),
            Arc::new(self.offsets.finish()),
            Arc::new(time(&mut self.timestamps)),
            Arc::new(time(&mut self.appended)),
            Arc::new(self.keys.finish()),
            Arc::new(values),
            Arc::new(ListArray::try_new(header_element(false), ends, Arc::new(headers), None)?),
            Arc::new(self.json.finish()),
        ])
    }
}
