//! Columns that grow by a value at a time and can be cut back.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray, TimestampMicrosecondArray, new_empty_array,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields, TimeUnit};

/// A column so far: its values, and which of them are there.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) present: Vec<bool>,
    pub(super) values: Values,
    data_type: DataType,
}

#[derive(Debug)]
pub(super) enum Values {
    Boolean(Vec<bool>),
    /// Whole numbers of any width, within bounds.
    Whole {
        values: Vec<i64>,
        least: i64,
        most: i64,
    },
    Float(Vec<f64>),
    Text {
        bytes: String,
        ends: Vec<usize>,
    },
    /// Microseconds since 1970.
    Time(Vec<i64>),
    /// Days since 1970.
    Date(Vec<i32>),
    List {
        ends: Vec<usize>,
        element: Box<Column>,
    },
    Struct {
        names: Vec<Arc<str>>,
        columns: Vec<Column>,
    },
}

impl Column {
    pub(super) fn new(data_type: &DataType) -> Result<Self, ArrowError> {
        let whole = |least: i64, most: i64| Values::Whole { values: Vec::new(), least, most };
        let values = match data_type {
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => whole(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => whole(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => whole(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => whole(i64::MIN, i64::MAX),
            DataType::UInt8 => whole(0, u8::MAX.into()),
            DataType::UInt16 => whole(0, u16::MAX.into()),
            DataType::UInt32 => whole(0, u32::MAX.into()),
            DataType::UInt64 => whole(0, i64::MAX),
            DataType::Float32 | DataType::Float64 => Values::Float(Vec::new()),
            DataType::Utf8 => Values::Text { bytes: String::new(), ends: Vec::new() },
            DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) => Values::Time(Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::List(element) => Values::List { ends: Vec::new(), element: Box::new(Self::new(element.data_type())?) },
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| Self::new(field.data_type())).collect::<Result<_, _>>()?;
                Values::Struct { names: fields.iter().map(|field| field.name().as_str().into()).collect(), columns }
            }
            other => return Err(ArrowError::NotYetImplemented(format!("values of JSON have no place in a column of {other}"))),
        };
        Ok(Self { present: Vec::new(), values, data_type: data_type.clone() })
    }

    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    pub(super) fn push_null(&mut self) {
        self.present.push(false);
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Whole { values, .. } | Values::Time(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Date(values) => values.push(0),
            Values::Text { bytes, ends } => ends.push(bytes.len()),
            Values::List { ends, element } => ends.push(element.len()),
            Values::Struct { columns, .. } => columns.iter_mut().for_each(Column::push_null),
        }
    }

    /// Cuts it back to its first values.
    pub(super) fn truncate(&mut self, len: usize) {
        self.present.truncate(len);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::Whole { values, .. } | Values::Time(values) => values.truncate(len),
            Values::Float(values) => values.truncate(len),
            Values::Date(values) => values.truncate(len),
            Values::Text { bytes, ends } => {
                ends.truncate(len);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::List { ends, element } => {
                ends.truncate(len);
                element.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Struct { columns, .. } => columns.iter_mut().for_each(|column| column.truncate(len)),
        }
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let nulls = Some(NullBuffer::from(self.present)).filter(|nulls| nulls.null_count() > 0);
        Ok(match (self.values, self.data_type) {
            (Values::Boolean(values), _) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            (Values::Whole { values, .. }, data_type) => whole(values, nulls, &data_type),
            (Values::Float(values), DataType::Float32) => {
                let narrow: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
                Arc::new(PrimitiveArray::<Float32Type>::new(narrow.into(), nulls))
            }
            (Values::Float(values), _) => Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls)),
            (Values::Date(values), _) => Arc::new(PrimitiveArray::<Date32Type>::new(values.into(), nulls)),
            (Values::Time(values), data_type) => {
                let array = TimestampMicrosecondArray::new(values.into(), nulls);
                arrow_cast::cast(&array.with_timezone_opt(zone(&data_type)), &data_type)?
            }
            (Values::Text { bytes, ends }, _) => {
                let text = StringArray::try_new(offsets(&ends)?, bytes.into_bytes().into(), nulls)?;
                Arc::new(text)
            }
            (Values::List { ends, element }, DataType::List(field)) => {
                Arc::new(ListArray::try_new(field, offsets(&ends)?, element.finish()?, nulls)?)
            }
            (Values::Struct { columns, .. }, DataType::Struct(fields)) => structure(fields, columns, nulls)?,
            // The pair was made together.
            (_, data_type) => new_empty_array(&data_type),
        })
    }
}

fn structure(fields: Fields, columns: Vec<Column>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let arrays = columns.into_iter().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
    let fields: Fields = fields.iter().map(FieldRef::clone).collect();
    Ok(Arc::new(StructArray::try_new(fields, arrays, nulls)?))
}

/// In bounds: they were checked value by value.
fn whole(values: Vec<i64>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    macro_rules! narrow {
        ($type:ty, $native:ty) => {{
            let values: Vec<$native> = values.into_iter().map(|value| value as $native).collect();
            Arc::new(PrimitiveArray::<$type>::new(values.into(), nulls))
        }};
    }
    match data_type {
        DataType::Int8 => narrow!(Int8Type, i8),
        DataType::Int16 => narrow!(Int16Type, i16),
        DataType::Int32 => narrow!(Int32Type, i32),
        DataType::UInt8 => narrow!(UInt8Type, u8),
        DataType::UInt16 => narrow!(UInt16Type, u16),
        DataType::UInt32 => narrow!(UInt32Type, u32),
        DataType::UInt64 => narrow!(UInt64Type, u64),
        _ => Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls)),
    }
}

fn zone(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

fn offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, ArrowError> {
    let too_long = || ArrowError::OffsetOverflowError(ends.last().copied().unwrap_or_default());
    let offsets = std::iter::once(0).chain(ends.iter().copied()).map(|end| i32::from_usize(end).ok_or_else(too_long));
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets.collect::<Result<Vec<i32>, _>>()?)))
}
