//! Typed columns: the fields of JSON values as columns of their own, beside the value itself. They are for queries and
//! for other readers of the file; a replay never reads them. A value that does not fit keeps its bytes and has no typed columns: it is
//! counted, and never an error.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use lakefall_queue::turn;

use super::ParquetError;
use super::json::JsonColumn;
use super::pages::MAX_SCHEMA_NODES;
use super::schema::LEAVES;

/// Deepest nesting of a value that gets typed columns, and of a schema. The decoders walk both by recursion.
const DEEPEST: usize = 64;

/// Which typed columns a file has, below a struct column named `data`.
///
/// What fits into a column: see [`super::json`].
#[derive(Clone, Debug)]
pub struct TypedColumns {
    fields: Fields,
    values: Option<Arc<dyn ValuesAsJson>>,
}

/// Reads values of an encoding that only a schema tells.
pub trait ValuesAsJson: Debug + Send + Sync {
    /// The value as a JSON text; `None` if it is none.
    fn json<'v>(&self, value: &'v [u8]) -> Option<Cow<'v, [u8]>>;
}

impl TypedColumns {
    /// Takes the fields of `schema`, all as nullable.
    ///
    /// Errors: [`ParquetError::Unwritable`] for a schema without fields, of more than 1,000 columns or 64 levels, or with types
    /// that neither JSON nor Parquet has.
    pub fn new(schema: &Schema) -> Result<Self, ParquetError> {
        let fields = nullable(schema.fields(), 0)?;
        let this = Self { fields, values: None };
        let nodes = nodes(&this.data_type());
        if schema.fields().is_empty() || nodes + LEAVES.len() + 4 > MAX_SCHEMA_NODES {
            return Err(ParquetError::Unwritable(format!("a schema of {} fields is too large or empty", nodes - 1)));
        }
        // Finds types that have no place for JSON now, not with the first record.
        JsonColumn::new(&this.fields).map_err(unwritable)?;
        Ok(this)
    }

    /// The same for values that are not JSON as they stand. All values are given to `values`, also those that are.
    pub fn read_by(self, values: Arc<dyn ValuesAsJson>) -> Self {
        Self { values: Some(values), ..self }
    }

    /// The columns, all nullable.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    fn data_type(&self) -> DataType {
        DataType::Struct(self.fields.clone())
    }

    /// The column `data` of some values, and how many values are not in it: those that are not JSON or do not fit.
    pub fn column(&self, values: &BinaryArray, json: &BooleanArray) -> Result<(ArrayRef, u64), ParquetError> {
        let mut column = JsonColumn::new(&self.fields).map_err(unwritable)?;
        let mut untyped = 0;
        for row in 0..values.len() {
            let value = (!values.is_null(row)).then(|| values.value(row));
            let text = match &self.values {
                Some(values) => value.and_then(|value| values.json(value)),
                None => value.filter(|_| json.value(row)).map(Cow::Borrowed),
            };
            turn::step(value.map_or(0, <[u8]>::len));
            match text.filter(|text| is_fit(text)) {
                Some(text) => untyped += u64::from(!column.push(&text)),
                None => {
                    untyped += u64::from(value.is_some());
                    column.push_null();
                }
            }
        }
        Ok((column.finish().map_err(unwritable)?, untyped))
    }
}

fn nullable(fields: &Fields, level: usize) -> Result<Fields, ParquetError> {
    if level > DEEPEST {
        return Err(ParquetError::Unwritable("a schema is nested too deep".to_owned()));
    }
    let each = fields.iter().map(|field| nullable_field(field, level));
    each.collect::<Result<Vec<_>, _>>().map(Fields::from)
}

fn nullable_field(field: &FieldRef, level: usize) -> Result<FieldRef, ParquetError> {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(nullable(fields, level + 1)?),
        DataType::List(element) => {
            let element = nullable(&Fields::from(vec![element.clone()]), level + 1)?;
            DataType::List(Arc::new(element[0].as_ref().clone().with_name("element")))
        }
        other => other.clone(),
    };
    Ok(Arc::new(Field::new(field.name(), data_type, true)))
}

/// How many nodes of a Parquet schema a type takes.
pub(super) fn nodes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => 1 + fields.iter().map(|field| nodes(field.data_type())).sum::<usize>(),
        DataType::List(element) => 2 + nodes(element.data_type()),
        // Maps have a node between, and keys.
        DataType::Map(entry, _) => 1 + nodes(entry.data_type()),
        _ => 1,
    }
}

/// Whether a JSON text is an object that the decoders may walk.
pub(super) fn is_fit(json: &[u8]) -> bool {
    // Nothing is deeper than it has brackets: counting them needs no state, and is enough for nearly all.
    is_object(json) && (brackets(json) <= DEEPEST || depth(json) <= DEEPEST)
}

/// How many brackets a text opens, those in strings too.
fn brackets(json: &[u8]) -> usize {
    json.iter().map(|byte| usize::from(matches!(byte, b'{' | b'['))).sum()
}

/// Whether a JSON text is an object.
fn is_object(json: &[u8]) -> bool {
    json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// How deep a JSON text is nested.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn unwritable(error: impl std::fmt::Display) -> ParquetError {
    ParquetError::Unwritable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_fits_by_its_depth_however_many_brackets_it_has() {
        let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(is_fit(nested(DEEPEST).as_bytes()) && !is_fit(nested(DEEPEST + 1).as_bytes()));
        let flat = format!(r#"{{"a":[{}]}}"#, vec!["[]"; 2 * DEEPEST].join(","));
        assert!(brackets(flat.as_bytes()) > DEEPEST && is_fit(flat.as_bytes()));
        assert!(!is_fit(b"[1]"));
    }

    #[test]
    fn depth_counts_what_is_open_outside_of_strings() {
        assert_eq!(depth(br#"{"a":[1,[2]],"b":{}}"#), 3);
        assert_eq!(depth(br#"{"a":"[[[[\"[["}"#), 1);
        assert_eq!(depth(b"1"), 0);
    }
}
