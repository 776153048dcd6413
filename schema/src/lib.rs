//! What records of a topic look like: JSON Schema, Avro and Protobuf. Parses a schema, holds values against it, compares two
//! versions, and tells the columns of a table of such values.
//!
//! Schemas and values come from strangers: whatever they are, the work is bounded and the stack too. Never resolves anything
//! outside of the schema's own text. What each language may say and what is made of it is told in `docs/schemas.md`.

mod avro;
mod columns;
mod fault;
mod json;
mod protobuf;
mod versions;

use std::borrow::Cow;

use arrow_schema::Fields;
use lakefall_queue::schema::{Compatibility, SchemaType};

pub use columns::{MOST_COLUMNS, union};
pub use fault::Fault;
pub use versions::{Versions, wire_id};

/// Longest text of a schema, in bytes.
pub const TEXT_MAX_BYTES: usize = 256 << 10;

/// Deepest nesting of a schema and of a value: both are walked by recursion.
const DEEPEST: usize = 64;

/// A schema that was understood.
#[derive(Debug)]
pub struct Schema {
    language: Language,
}

#[derive(Debug)]
enum Language {
    Json(json::JsonSchema),
    Avro(avro::AvroSchema),
    Protobuf(protobuf::ProtobufSchema),
}

impl Schema {
    /// Understands a schema's text. `message` names the message type of a Protobuf text that has several.
    ///
    /// Errors: where the text is no schema of its language, or says what is not taken.
    pub fn parse(kind: SchemaType, text: &str, message: Option<&str>) -> Result<Self, Fault> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(Fault::here(format!("the schema is {} bytes: at most {TEXT_MAX_BYTES} are taken", text.len())));
        }
        if message.is_some() && kind != SchemaType::Protobuf {
            return Err(Fault::here("only a Protobuf schema has a message type to be named"));
        }
        let language = match kind {
            SchemaType::Json => Language::Json(json::JsonSchema::parse(text)?),
            SchemaType::Avro => Language::Avro(avro::AvroSchema::parse(text)?),
            SchemaType::Protobuf => Language::Protobuf(protobuf::ProtobufSchema::parse(text, message)?),
        };
        Ok(Self { language })
    }

    /// Its language.
    pub fn kind(&self) -> SchemaType {
        match &self.language {
            Language::Json(_) => SchemaType::Json,
            Language::Avro(_) => SchemaType::Avro,
            Language::Protobuf(_) => SchemaType::Protobuf,
        }
    }

    /// Holds a value against the schema: a JSON text, Avro's binary encoding, or a Protobuf message.
    ///
    /// Errors: the first place that does not match.
    pub fn check(&self, value: &[u8]) -> Result<(), Fault> {
        match &self.language {
            Language::Json(schema) => schema.check(value),
            Language::Avro(schema) => schema.check(value),
            Language::Protobuf(schema) => schema.check(value),
        }
    }

    /// A value as JSON text, with a member for each of [`Schema::columns`]; JSON stays as it is, unchecked.
    ///
    /// Errors: where an Avro or Protobuf value does not match.
    pub fn to_json<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, Fault> {
        match &self.language {
            Language::Json(_) => Ok(Cow::Borrowed(value)),
            Language::Avro(schema) => schema.to_json(value).map(Cow::Owned),
            Language::Protobuf(schema) => schema.to_json(value).map(Cow::Owned),
        }
    }

    /// The columns of a table of such values, all nullable, at most [`MOST_COLUMNS`]. None where values are no objects.
    pub fn columns(&self) -> Fields {
        match &self.language {
            Language::Json(schema) => schema.columns(),
            Language::Avro(schema) => schema.columns(),
            Language::Protobuf(schema) => schema.columns(),
        }
    }
}

/// Why `new` may not follow `old` under `mode`; empty if it may.
pub fn incompatible(mode: Compatibility, new: &Schema, old: &Schema) -> Vec<Fault> {
    let mut faults = Vec::new();
    if matches!(mode, Compatibility::Backward | Compatibility::Full) {
        faults.extend(unreadable(old, new).into_iter().map(|fault| fault.because("the new schema cannot read what the old one wrote")));
    }
    if matches!(mode, Compatibility::Forward | Compatibility::Full) {
        faults.extend(unreadable(new, old).into_iter().map(|fault| fault.because("the old schema cannot read what the new one writes")));
    }
    faults
}

/// What of `writer`'s values `reader` does not take.
fn unreadable(writer: &Schema, reader: &Schema) -> Vec<Fault> {
    match (&writer.language, &reader.language) {
        (Language::Json(writer), Language::Json(reader)) => json::unreadable(writer, reader),
        (Language::Avro(writer), Language::Avro(reader)) => avro::unreadable(writer, reader),
        (Language::Protobuf(writer), Language::Protobuf(reader)) => protobuf::unreadable(writer, reader),
        _ => vec![Fault::here(format!("the language changes from {} to {}", writer.kind(), reader.kind()))],
    }
}
