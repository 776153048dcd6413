//! From JSON texts to columns of given types, strictly: nothing is rounded, cut or read as another type than it has. Each text
//! is parsed once, straight into the columns.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, NullBufferBuilder, StringBuilder};
use arrow_array::types::{
    Date32Type, Date64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, ListArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_cast::parse::Parser;
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields, TimeUnit};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Beyond this, not every whole number is a 64-bit float: what was rounded cannot be told from what was not.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A column under construction.
pub(super) struct Column {
    cells: Cells,
    data_type: DataType,
}

enum Cells {
    Boolean(BooleanBuilder),
    /// Whole numbers within bounds.
    Whole(Int64Builder, i64, i64),
    Float(Float64Builder),
    Text(StringBuilder),
    /// Times and dates: strings are parsed, numbers are in the type's unit.
    Time(Int64Builder),
    /// Made from texts of strings and numbers.
    Parsed(StringBuilder),
    List(List),
    Struct(Struct),
}

struct List {
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
    field: FieldRef,
    items: Box<Column>,
}

struct Struct {
    rows: usize,
    nulls: NullBufferBuilder,
    fields: Fields,
    columns: Vec<Column>,
}

impl Column {
    /// An empty column.
    ///
    /// Errors: types that JSON has nothing for.
    pub(super) fn new(data_type: &DataType) -> Result<Self, ArrowError> {
        let whole = |low, high| Cells::Whole(Int64Builder::new(), low, high);
        let cells = match data_type {
            DataType::Boolean => Cells::Boolean(BooleanBuilder::new()),
            DataType::Int8 => whole(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => whole(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => whole(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => whole(i64::MIN, i64::MAX),
            DataType::UInt8 => whole(0, u8::MAX.into()),
            DataType::UInt16 => whole(0, u16::MAX.into()),
            DataType::UInt32 => whole(0, u32::MAX.into()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Cells::Float(Float64Builder::new()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Cells::Text(StringBuilder::new()),
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => {
                Cells::Time(Int64Builder::new())
            }
            DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal256(..) => Cells::Parsed(StringBuilder::new()),
            DataType::List(field) => Cells::List(List {
                ends: vec![0],
                nulls: NullBufferBuilder::new(0),
                items: Box::new(Self::new(field.data_type())?),
                field: Arc::clone(field),
            }),
            DataType::Struct(fields) => {
                let columns: Result<Vec<Self>, ArrowError> = fields.iter().map(|field| Self::new(field.data_type())).collect();
                Cells::Struct(Struct { rows: 0, nulls: NullBufferBuilder::new(0), fields: fields.clone(), columns: columns? })
            }
            other => return Err(ArrowError::NotYetImplemented(format!("columns of {other} from JSON"))),
        };
        Ok(Self { cells, data_type: data_type.clone() })
    }

    /// Adds the value of a JSON text. After an error the column is worth nothing.
    pub(super) fn push(&mut self, json: &[u8]) -> Result<(), ArrowError> {
        let misread = |error: serde_json::Error| ArrowError::JsonError(error.to_string());
        let mut reader = serde_json::Deserializer::from_slice(json);
        Cell(self).deserialize(&mut reader).map_err(misread)?;
        reader.end().map_err(misread)
    }

    /// The column.
    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match self.cells {
            Cells::Boolean(mut values) => Arc::new(values.finish()),
            Cells::Whole(mut values, ..) | Cells::Time(mut values) => Arc::new(values.finish()),
            Cells::Float(mut values) => Arc::new(values.finish()),
            Cells::Text(mut values) | Cells::Parsed(mut values) => Arc::new(values.finish()),
            Cells::List(mut list) => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(list.ends));
                Arc::new(ListArray::try_new(list.field, ends, list.items.finish()?, list.nulls.finish())?)
            }
            Cells::Struct(mut of) => {
                let columns: Result<Vec<ArrayRef>, ArrowError> = of.columns.into_iter().map(Self::finish).collect();
                Arc::new(StructArray::try_new_with_length(of.fields, columns?, of.nulls.finish(), of.rows)?)
            }
        };
        if *array.data_type() == self.data_type {
            return Ok(array);
        }
        // Whole numbers to times go by way of their own width.
        let narrow = match self.data_type {
            DataType::Date32 | DataType::Time32(_) if *array.data_type() == DataType::Int64 => cast(&array, &DataType::Int32)?,
            _ => array,
        };
        cast(&narrow, &self.data_type)
    }

    fn push_null(&mut self) {
        match &mut self.cells {
            Cells::Boolean(values) => values.append_null(),
            Cells::Whole(values, ..) | Cells::Time(values) => values.append_null(),
            Cells::Float(values) => values.append_null(),
            Cells::Text(values) | Cells::Parsed(values) => values.append_null(),
            Cells::List(list) => {
                list.ends.extend(list.ends.last().copied());
                list.nulls.append_null();
            }
            Cells::Struct(of) => {
                of.columns.iter_mut().for_each(Self::push_null);
                of.nulls.append_null();
                of.rows += 1;
            }
        }
    }

    fn len(&self) -> usize {
        use arrow_array::builder::ArrayBuilder;
        match &self.cells {
            Cells::Boolean(values) => values.len(),
            Cells::Whole(values, ..) | Cells::Time(values) => values.len(),
            Cells::Float(values) => values.len(),
            Cells::Text(values) | Cells::Parsed(values) => values.len(),
            Cells::List(list) => list.ends.len() - 1,
            Cells::Struct(of) => of.rows,
        }
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if !can_cast_types(array.data_type(), to) {
        return Err(ArrowError::CastError(format!("no columns of {to} from JSON")));
    }
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// A time as a number in the unit of its type.
fn parse_time(text: &str, data_type: &DataType) -> Option<i64> {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => TimestampSecondType::parse(text),
        DataType::Timestamp(TimeUnit::Millisecond, _) => TimestampMillisecondType::parse(text),
        DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType::parse(text),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => TimestampNanosecondType::parse(text),
        DataType::Date32 => Date32Type::parse(text).map(i64::from),
        DataType::Date64 => Date64Type::parse(text),
        DataType::Time32(TimeUnit::Second) => Time32SecondType::parse(text).map(i64::from),
        DataType::Time32(_) => Time32MillisecondType::parse(text).map(i64::from),
        DataType::Time64(TimeUnit::Microsecond) => Time64MicrosecondType::parse(text),
        DataType::Time64(_) => Time64NanosecondType::parse(text),
        _ => None,
    }
}

/// The next value of a column.
struct Cell<'a>(&'a mut Column);

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {}", self.0.data_type)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match &mut self.0.cells {
            Cells::Boolean(values) => values.append_value(value),
            Cells::Text(values) => values.append_value(if value { "true" } else { "false" }),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match &mut self.0.cells {
            Cells::Whole(values, low, high) if (*low..=*high).contains(&value) => values.append_value(value),
            Cells::Time(values) => values.append_value(value),
            Cells::Float(values) => values.append_value(value as f64),
            Cells::Text(values) | Cells::Parsed(values) => values.append_value(value.to_string()),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if let Ok(value) = i64::try_from(value) {
            return self.visit_i64(value);
        }
        match &mut self.0.cells {
            Cells::Float(values) => values.append_value(value as f64),
            Cells::Text(values) | Cells::Parsed(values) => values.append_value(value.to_string()),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match &mut self.0.cells {
            Cells::Float(values) => values.append_value(value),
            Cells::Text(values) => {
                let text = serde_json::Number::from_f64(value).ok_or_else(unfit)?;
                values.append_value(text.to_string());
            }
            // As it stands there, a decimal may have more digits: only what is exact is taken.
            Cells::Parsed(values) if value.fract() == 0.0 && value.abs() <= EXACT => values.append_value((value as i64).to_string()),
            Cells::Parsed(values) => values.append_value(value.to_string()),
            Cells::Whole(..) | Cells::Time(_) if value.fract() == 0.0 && value.abs() <= EXACT => return self.visit_i64(value as i64),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match &mut self.0.cells {
            Cells::Text(values) | Cells::Parsed(values) => values.append_value(value),
            Cells::Time(values) => values.append_value(parse_time(value, &self.0.data_type).ok_or_else(unfit)?),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        match &mut self.0.cells {
            Cells::List(list) => {
                while items.next_element_seed(Cell(&mut list.items))?.is_some() {}
                list.ends.push(i32::try_from(list.items.len()).map_err(|_| unfit())?);
                list.nulls.append_non_null();
                Ok(())
            }
            Cells::Text(values) => {
                let mut json = Vec::new();
                while let Some(item) = items.next_element::<serde_json::Value>()? {
                    json.push(item);
                }
                values.append_value(serde_json::Value::Array(json).to_string());
                Ok(())
            }
            _ => Err(unfit()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        match &mut self.0.cells {
            Cells::Struct(of) => of.push(entries),
            Cells::Text(values) => {
                let mut json = serde_json::Map::new();
                while let Some((name, value)) = entries.next_entry::<String, serde_json::Value>()? {
                    json.insert(name, value);
                }
                values.append_value(serde_json::Value::Object(json).to_string());
                Ok(())
            }
            _ => Err(unfit()),
        }
    }
}

impl Struct {
    fn push<'de, A: MapAccess<'de>>(&mut self, mut entries: A) -> Result<(), A::Error> {
        // Names mostly come in the order of the fields.
        let mut next = 0;
        while let Some(found) = entries.next_key_seed(Name { fields: &self.fields, next })? {
            let Some(index) = found else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let column = &mut self.columns[index];
            if column.len() != self.rows {
                return Err(A::Error::custom("a name occurs twice"));
            }
            entries.next_value_seed(Cell(column))?;
            next = index + 1;
        }
        self.rows += 1;
        self.nulls.append_non_null();
        for column in &mut self.columns {
            if column.len() < self.rows {
                column.push_null();
            }
        }
        Ok(())
    }
}

/// Which field a name is of.
struct Name<'a> {
    fields: &'a Fields,
    /// Where it is looked for first.
    next: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let (before, after) = self.fields.split_at(self.next.min(self.fields.len()));
        let ahead = after.iter().position(|field| field.name() == name).map(|at| before.len() + at);
        Ok(ahead.or_else(|| before.iter().position(|field| field.name() == name)))
    }
}

fn unfit<E: Error>() -> E {
    E::custom("another value than the column's type has")
}
