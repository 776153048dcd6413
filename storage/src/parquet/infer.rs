//! Finds the typed columns of JSON values from a sample. The same values in any order give the same types, and what an
//! earlier file had only ever widens, so that the files of a topic can be read as one table.
//!
//! | seen | column |
//! |---|---|
//! | true, false | boolean |
//! | whole numbers | int64 |
//! | whole numbers beyond int64, or others too | float64 |
//! | strings, or things that do not agree | utf8: what is no string stands there as JSON |
//! | objects | struct |
//! | arrays | list of what their elements agree on |
//! | nothing but null, `{}`, `[]` | none |

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use lakefall_queue::{StoredRecord, ValueKind};
use serde::de::DeserializeSeed;

use super::shape::{Budget, Shape, Shaped};
use super::typed::is_fit;

/// Most columns, by default. Beyond, a table is hard to look at, and each costs its share of every row group.
pub const MOST_COLUMNS: usize = 256;

/// Gathers what JSON values look like.
#[derive(Clone, Debug)]
pub struct Inference {
    root: Shape,
    budget: Budget,
}

impl Inference {
    /// Nothing seen yet. At most `most_columns`, up to 500: later ones stay in the value only.
    pub fn new(most_columns: usize) -> Self {
        Self { root: Shape::Unknown, budget: Budget::new(most_columns.min(500)) }
    }

    /// Goes on from the typed columns of an earlier file: they stay, and keep their order. Columns of types that are not
    /// inferred become text.
    pub fn after(earlier: &Schema, most_columns: usize) -> Self {
        let mut this = Self::new(most_columns);
        this.root = Shape::Struct(earlier.fields().iter().map(|field| known(field, &mut this.budget)).collect());
        this
    }

    /// Looks at a value; false if it is not a JSON object, or one that is nested deeper than 64 levels.
    pub fn observe(&mut self, record: &StoredRecord) -> bool {
        let value = record.value.as_deref().filter(|_| record.kind == ValueKind::Json);
        value.is_some_and(|value| self.observe_json(value))
    }

    /// Looks at a JSON text; false as [`Self::observe`].
    pub fn observe_json(&mut self, json: &[u8]) -> bool {
        if !is_fit(json) {
            return false;
        }
        // A value is looked at as a whole before it counts: one that turns out to be broken leaves nothing behind.
        let mut budget = Budget::unlimited();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let seen = Shaped { budget: &mut budget, level: 0 }.deserialize(&mut reader);
        match seen {
            Ok(shape @ Shape::Struct(_)) if reader.end().is_ok() => {
                self.root.merge(shape, &mut self.budget);
                true
            }
            _ => false,
        }
    }

    /// The columns, all nullable; none if no object with a field was seen.
    pub fn schema(&self) -> Option<Schema> {
        match &self.root {
            Shape::Struct(fields) => Some(Schema::new(columns(fields))).filter(|schema| !schema.fields().is_empty()),
            _ => None,
        }
    }
}

/// The typed columns of a sample, continuing those of an earlier file. See [`Inference`].
pub fn infer_json<'a>(earlier: Option<&Schema>, sample: impl IntoIterator<Item = &'a StoredRecord>, most_columns: usize) -> Option<Schema> {
    let mut inference = earlier.map_or_else(|| Inference::new(most_columns), |schema| Inference::after(schema, most_columns));
    for record in sample {
        inference.observe(record);
    }
    inference.schema()
}

fn columns(fields: &[(Arc<str>, Shape)]) -> Fields {
    fields.iter().filter_map(|(name, shape)| column(name, shape)).collect()
}

fn column(name: &str, shape: &Shape) -> Option<FieldRef> {
    let data_type = match shape {
        Shape::Unknown => return None,
        Shape::Boolean => DataType::Boolean,
        Shape::Int => DataType::Int64,
        Shape::Float => DataType::Float64,
        Shape::Text => DataType::Utf8,
        Shape::List(element) => DataType::List(column("element", element)?),
        Shape::Struct(fields) => Some(columns(fields)).filter(|fields| !fields.is_empty()).map(DataType::Struct)?,
    };
    Some(Arc::new(Field::new(name, data_type, true)))
}

/// The shape of a column that is there already; it counts, but is never left out.
fn known(field: &FieldRef, budget: &mut Budget) -> (Arc<str>, Shape) {
    budget.spend();
    (field.name().as_str().into(), known_shape(field.data_type(), budget))
}

fn known_shape(data_type: &DataType, budget: &mut Budget) -> Shape {
    match data_type {
        DataType::Boolean => Shape::Boolean,
        DataType::Int64 => Shape::Int,
        DataType::Float64 => Shape::Float,
        DataType::List(element) => {
            budget.spend();
            budget.spend();
            Shape::List(Box::new(known_shape(element.data_type(), budget)))
        }
        DataType::Struct(fields) => Shape::Struct(fields.iter().map(|field| known(field, budget)).collect()),
        _ => Shape::Text,
    }
}
