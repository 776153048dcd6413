//! Schemas of the three languages. An input is an older schema, a newer one, and values, with lines of three dashes in between.

use arrow_array::{BinaryArray, BooleanArray};
use arrow_schema::Schema as Columns;
use lakefall_queue::schema::{Compatibility, SchemaType};
use lakefall_schema::{Schema, incompatible};
use lakefall_storage::parquet::TypedColumns;

/// JSON Schema.
pub fn json_schema(input: &[u8]) -> bool {
    run(SchemaType::Json, input)
}

/// Avro: the values in its binary encoding.
pub fn avro_schema(input: &[u8]) -> bool {
    run(SchemaType::Avro, input)
}

/// Protobuf: the values in its wire format.
pub fn protobuf_schema(input: &[u8]) -> bool {
    run(SchemaType::Protobuf, input)
}

/// No panic, bounded work; a schema is compatible with itself; full is backward and forward; what a schema takes has columns; and
/// where a newer schema is said to read what an older one wrote, it takes each value that the older one took.
fn run(kind: SchemaType, input: &[u8]) -> bool {
    let parts = parts(input);
    let parsed =
        |part: Option<&&[u8]>| part.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| Schema::parse(kind, text, None).ok());
    let Some(old) = parsed(parts.first()) else { return false };
    assert!(incompatible(Compatibility::Full, &old, &old).is_empty(), "a schema that is not compatible with itself");
    let values = parts.get(2..).unwrap_or_default();
    values.iter().for_each(|value| taken(&old, value));
    let Some(new) = parsed(parts.get(1)) else { return true };
    let faults = |mode| incompatible(mode, &new, &old).len();
    assert_eq!(faults(Compatibility::Full), faults(Compatibility::Backward) + faults(Compatibility::Forward));
    assert_eq!(faults(Compatibility::None), 0);
    // Avro's values are read with the schema that they were written with, and then resolved.
    if kind != SchemaType::Avro {
        for (mode, writer, reader) in [(Compatibility::Backward, &old, &new), (Compatibility::Forward, &new, &old)] {
            for value in values.iter().filter(|_| faults(mode) == 0) {
                if writer.check(value).is_ok()
                    && let Err(fault) = reader.check(value)
                {
                    panic!("said to be {mode:?}, but {:?} is refused: {fault}", String::from_utf8_lossy(value));
                }
            }
        }
    }
    true
}

/// The pieces between lines of three dashes.
fn parts(input: &[u8]) -> Vec<&[u8]> {
    const BETWEEN: &[u8] = b"\n---\n";
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    parts
}

/// A value that the schema takes is JSON, and has a place in its columns or is counted as one that has none.
fn taken(schema: &Schema, value: &[u8]) {
    let json = schema.to_json(value);
    if schema.kind() != SchemaType::Json && schema.check(value).is_err() {
        assert!(json.is_err(), "a value that is refused has a form in JSON");
    }
    let Ok(json) = json else { return };
    if schema.kind() != SchemaType::Json {
        serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("what is made JSON is JSON");
    }
    let columns = schema.columns();
    if columns.is_empty() {
        return;
    }
    let typed = TypedColumns::new(&Columns::new(columns)).expect("a schema's columns are columns");
    let (column, untyped) =
        typed.column(&BinaryArray::from_vec(vec![&*json]), &BooleanArray::from(vec![true])).expect("a column of one value");
    assert!(column.len() == 1 && untyped <= 1);
}
