//! The columns of a topic's table: those that every record has, and where each comes from.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

/// A column that every topic has. Their names begin with an underscore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Virtual {
    Partition,
    Offset,
    Timestamp,
    AppendedAt,
    Key,
    Headers,
    Raw,
}

pub(crate) const VIRTUAL: [(Virtual, &str); 7] = [
    (Virtual::Partition, "_partition"),
    (Virtual::Offset, "_offset"),
    (Virtual::Timestamp, "_timestamp"),
    (Virtual::AppendedAt, "_appended_at"),
    (Virtual::Key, "_key"),
    (Virtual::Headers, "_headers"),
    (Virtual::Raw, "_raw"),
];

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Every topic has it.
    Virtual(Virtual),
    /// A field of the value, by its name there.
    Typed(String),
}

impl Virtual {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Partition => DataType::Int32,
            Self::Offset => DataType::Int64,
            Self::Timestamp | Self::AppendedAt => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Self::Key => DataType::Utf8View,
            Self::Headers => headers_type(),
            Self::Raw => DataType::BinaryView,
        }
    }

    /// Its column in a Parquet file.
    pub(crate) fn in_file(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::AppendedAt => "appended_at",
            Self::Key => "key",
            Self::Headers => "headers",
            Self::Raw => "value",
        }
    }
}

/// What a header is: its name and its value as text.
pub(crate) fn header_fields() -> Fields {
    [Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into_iter().collect()
}

pub(crate) fn headers_type() -> DataType {
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(header_fields()), false)), false)
}

/// The columns of a table, beside where each comes from.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) schema: SchemaRef,
    pub(crate) places: Vec<Place>,
}

impl Columns {
    /// A topic's table. A field whose name a column has that every topic has gets one more underscore in front.
    pub(crate) fn new(typed: &[FieldRef]) -> Self {
        let own = VIRTUAL.iter().map(|(column, name)| {
            let nullable = matches!(column, Virtual::Key | Virtual::Raw);
            (Arc::new(Field::new(*name, column.data_type(), nullable)), Place::Virtual(*column))
        });
        let typed = typed.iter().map(|field| {
            let is_taken = VIRTUAL.iter().any(|(_, name)| name == field.name());
            let name = if is_taken { format!("_{}", field.name()) } else { field.name().clone() };
            (Arc::new(Field::new(name, field.data_type().clone(), true)), Place::Typed(field.name().clone()))
        });
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut places = Vec::new();
        for (field, place) in own.chain(typed) {
            if fields.iter().all(|known| known.name() != field.name()) {
                fields.push(field);
                places.push(place);
            }
        }
        Self { schema: Arc::new(Schema::new(fields)), places }
    }

    /// Some of them, in another order.
    pub(crate) fn project(&self, projection: Option<&Vec<usize>>) -> Self {
        let Some(projection) = projection else { return self.clone() };
        let field = |at: &usize| self.schema.fields().get(*at).cloned();
        let fields: Vec<FieldRef> = projection.iter().filter_map(field).collect();
        let places = projection.iter().filter_map(|at| self.places.get(*at).cloned()).collect();
        Self { schema: Arc::new(Schema::new(fields)), places }
    }

    /// The fields of the value that are among them, with their types.
    pub(crate) fn typed(&self) -> Vec<(&str, &DataType)> {
        let each = self.places.iter().zip(self.schema.fields());
        each.filter_map(|(place, field)| match place {
            Place::Typed(name) => Some((name.as_str(), field.data_type())),
            Place::Virtual(_) => None,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_named_like_a_column_of_every_topic_gets_another_name() {
        let field = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
        let columns = Columns::new(&[field("_offset"), field("n")]);
        assert_eq!(columns.schema.field(7).name(), "__offset");
        assert_eq!(columns.places[7], Place::Typed("_offset".to_owned()));
        let some = columns.project(Some(&vec![8, 1]));
        assert_eq!(some.schema.field(0).name(), "n");
        assert_eq!(some.typed(), [("n", &DataType::Int64)]);
    }
}
