//! Columns of an Arrow batch, whichever of the allowed types they have.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ByteArrayType, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, GenericByteArray, RecordBatch, StructArray};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use lakefall_queue::Header;

use super::record::header;
use crate::problem::{self, Problem, Result};

fn wrong(name: &str, found: &DataType, wanted: &str) -> Problem {
    Problem::invalid(name, format!("column {name} is {found}: it must be {wanted}"))
}

/// Bytes or text, each cell a slice of the column's buffer.
pub(super) struct Cells {
    bytes: Bytes,
    offsets: Vec<usize>,
    nulls: Option<arrow_buffer::NullBuffer>,
    json: bool,
}

/// A column's buffer as the owner of bytes.
struct Shared(arrow_buffer::Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Cells {
    /// Binary, text, or (as JSON objects) a struct.
    pub(super) fn of(name: &str, column: &ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Binary => Self::slices(column.as_binary::<i32>()),
            DataType::LargeBinary => Self::slices(column.as_binary::<i64>()),
            DataType::Utf8 => Self::slices(column.as_string::<i32>()),
            DataType::LargeUtf8 => Self::slices(column.as_string::<i64>()),
            DataType::Null => Self {
                bytes: Bytes::new(),
                offsets: vec![0; column.len() + 1],
                nulls: Some(arrow_buffer::NullBuffer::new_null(column.len())),
                json: false,
            },
            DataType::Struct(_) if name == "value" => Self::objects(column.as_struct())?,
            other => return Err(wrong(name, other, "binary or utf8")),
        })
    }

    fn slices<T: ByteArrayType>(column: &GenericByteArray<T>) -> Self {
        let offsets = column.value_offsets().iter().map(|at| arrow_buffer::ArrowNativeType::as_usize(*at)).collect();
        Self { bytes: Bytes::from_owner(Shared(column.values().clone())), offsets, nulls: column.nulls().cloned(), json: false }
    }

    fn objects(column: &StructArray) -> Result<Self> {
        let unreadable = |e: arrow_schema::ArrowError| {
            Problem::new(problem::MALFORMED_BODY, format!("the struct column cannot be written as JSON: {e}"))
        };
        // A null struct is a tombstone, whatever its children hold.
        let rows = RecordBatch::try_new(arrow_schema::Schema::new(column.fields().clone()).into(), column.columns().to_vec())
            .map_err(unreadable)?;
        let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
        writer.write(&rows).and_then(|()| writer.finish()).map_err(unreadable)?;
        let bytes = Bytes::from(writer.into_inner());
        let ends = memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1);
        let offsets = std::iter::once(0).chain(ends).collect();
        Ok(Self { bytes, offsets, nulls: column.nulls().cloned(), json: true })
    }

    /// Whether the cells are JSON texts.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// A cell.
    pub(super) fn get(&self, row: usize) -> Option<Bytes> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let end = self.offsets[row + 1] - usize::from(self.json);
        Some(self.bytes.slice(self.offsets[row]..end))
    }

    /// A cell as text; what is not UTF-8 is none.
    pub(super) fn text(&self, row: usize) -> Option<Arc<str>> {
        let cell = self.get(row)?;
        std::str::from_utf8(&cell).ok().map(Arc::from)
    }
}

/// Whole numbers, or times as milliseconds.
pub(super) struct Numbers(Vec<Option<i64>>);

impl Numbers {
    /// Any common width; times of any unit.
    pub(super) fn of(name: &str, column: &ArrayRef) -> Result<Self> {
        macro_rules! scaled {
            ($type:ty, $map:expr) => {
                column.as_primitive::<$type>().iter().map(|cell| cell.map($map)).collect()
            };
        }
        Ok(Self(match column.data_type() {
            DataType::Int32 => scaled!(Int32Type, i64::from),
            DataType::Int64 => scaled!(Int64Type, |n| n),
            DataType::UInt8 => scaled!(UInt8Type, i64::from),
            DataType::UInt32 => scaled!(UInt32Type, i64::from),
            DataType::UInt64 => scaled!(UInt64Type, |n| i64::try_from(n).unwrap_or(i64::MAX)),
            DataType::Timestamp(TimeUnit::Second, _) => scaled!(TimestampSecondType, |n: i64| n.saturating_mul(1_000)),
            DataType::Timestamp(TimeUnit::Millisecond, _) => scaled!(TimestampMillisecondType, |n| n),
            DataType::Timestamp(TimeUnit::Microsecond, _) => scaled!(TimestampMicrosecondType, |n: i64| n.div_euclid(1_000)),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => scaled!(TimestampNanosecondType, |n: i64| n.div_euclid(1_000_000)),
            DataType::Null => vec![None; column.len()],
            other => return Err(wrong(name, other, "a whole number or a timestamp")),
        }))
    }

    /// A cell.
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        self.0[row]
    }
}

/// Truth values; null is false.
pub(super) struct Bits(BooleanArray);

impl Bits {
    /// Boolean only.
    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        column.as_boolean_opt().cloned().map(Self).ok_or_else(|| wrong("json", column.data_type(), "boolean"))
    }

    /// A cell.
    pub(super) fn get(&self, row: usize) -> bool {
        self.0.is_valid(row) && self.0.value(row)
    }
}

/// Headers: a list of structs (or a map) of name and value.
pub(super) struct Headers {
    offsets: Vec<usize>,
    names: Cells,
    values: Cells,
}

impl Headers {
    /// `list<struct<name, value>>` or `map<name, value>`.
    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        let refused = || wrong("headers", column.data_type(), "list<struct<name: utf8, value: binary>> or a map");
        let (entries, offsets) = match column.data_type() {
            DataType::Map(_, _) => (column.as_map().entries().clone(), column.as_map().value_offsets().to_vec()),
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                (list.values().as_struct_opt().cloned().ok_or_else(refused)?, list.value_offsets().to_vec())
            }
            _ => return Err(refused()),
        };
        if entries.num_columns() != 2 {
            return Err(refused());
        }
        Ok(Self {
            offsets: offsets.into_iter().map(|at| at.max(0) as usize).collect(),
            names: Cells::of("headers/name", entries.column(0))?,
            values: Cells::of("headers/value", entries.column(1))?,
        })
    }

    /// A row's headers.
    pub(super) fn get(&self, row: usize) -> Result<Vec<Header>> {
        (self.offsets[row]..self.offsets[row + 1])
            .map(|at| {
                let name = self.names.text(at).ok_or_else(|| Problem::invalid("headers", "a header's name must be text"))?;
                Ok(header(&name, self.values.get(at)))
            })
            .collect()
    }
}
