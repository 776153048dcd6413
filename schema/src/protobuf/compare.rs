//! Whether a message type reads what another one wrote: by the numbers of fields, as the wire has nothing else.
//! <https://protobuf.dev/programming-guides/proto3/#updating>

use std::collections::BTreeSet;

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use super::ProtobufSchema;
use super::wire::wire_type;
use crate::Fault;

/// What of `writer`'s messages `reader` would lose or take for something else.
pub(crate) fn unreadable(writer: &ProtobufSchema, reader: &ProtobufSchema) -> Vec<Fault> {
    messages(&writer.message, &reader.message, &mut BTreeSet::new())
}

fn messages(writer: &MessageDescriptor, reader: &MessageDescriptor, met: &mut BTreeSet<(String, String)>) -> Vec<Fault> {
    if !met.insert((writer.full_name().to_owned(), reader.full_name().to_owned())) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for field in reader.fields() {
        match writer.get_field(field.number()) {
            Some(written) => faults.extend(fields(&written, &field, met).into_iter().map(|fault| fault.inside(field.name()))),
            None if field.is_required() => faults.push(Fault::here("the field is required and new").inside(field.name())),
            None => {}
        }
    }
    faults.extend(oneofs(writer, reader));
    faults
}

fn fields(writer: &FieldDescriptor, reader: &FieldDescriptor, met: &mut BTreeSet<(String, String)>) -> Vec<Fault> {
    let one = |reason: String| vec![Fault::here(reason)];
    if reader.is_required() && !writer.is_required() {
        return one("the field is required, and may be missing".to_owned());
    }
    let (written, read) = (writer.kind(), reader.kind());
    if class(&written) != class(&read) || wire_type(writer) != wire_type(reader) {
        return one(format!("field {} is of type {written:?}, which is not read as {read:?}", reader.number()));
    }
    // Strings, bytes and messages of a list are read as their last one; packed numbers are not read at all.
    let (many, single) = (writer.cardinality() == Cardinality::Repeated, reader.cardinality() != Cardinality::Repeated);
    if (many && single) || (!many && !single && writer.is_map() != reader.is_map()) {
        return one(format!("field {} may come many times, and is read once", reader.number()));
    }
    match (written, read) {
        (Kind::Message(writer), Kind::Message(reader)) => messages(&writer, &reader, met),
        _ => Vec::new(),
    }
}

/// Types that read each other. Numbers may be cut off where they are read as shorter ones, as Protobuf has it.
fn class(kind: &Kind) -> u8 {
    match kind {
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool | Kind::Enum(_) => 0,
        Kind::Sint32 | Kind::Sint64 => 1,
        Kind::String | Kind::Bytes => 2,
        Kind::Fixed32 | Kind::Sfixed32 => 3,
        Kind::Fixed64 | Kind::Sfixed64 => 4,
        Kind::Float => 5,
        Kind::Double => 6,
        Kind::Message(_) => 7,
    }
}

/// Fields that could be set together, and of which only one is kept now.
fn oneofs(writer: &MessageDescriptor, reader: &MessageDescriptor) -> Vec<Fault> {
    let mut faults = Vec::new();
    for oneof in reader.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let mut before = BTreeSet::new();
        for field in oneof.fields().filter_map(|field| writer.get_field(field.number())) {
            let of = field.containing_oneof().filter(|of| !of.is_synthetic());
            before.insert(of.map_or_else(|| format!("/{}", field.number()), |of| of.name().to_owned()));
        }
        if before.len() > 1 {
            faults.push(Fault::here("fields that could be set together are in one oneof").inside(oneof.name()));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(writer: &str, reader: &str) -> Vec<String> {
        let parse = |fields: &str| ProtobufSchema::parse(&format!("syntax = \"proto2\"; message M {{ {fields} }}"), None).unwrap();
        unreadable(&parse(writer), &parse(reader)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_may_be_added_renamed_and_removed() {
        let old = "optional int32 a = 1;";
        for new in
            ["optional int32 a = 1; optional string b = 2;", "optional int32 z = 1;", "", "optional int64 a = 1;", "repeated int32 a = 1;"]
        {
            assert!(faults(old, new).is_empty(), "{new}");
        }
        assert!(faults("optional string a = 1;", "optional bytes a = 1;").is_empty());
    }

    #[test]
    fn types_that_do_not_read_each_other_and_new_required_fields_are_told() {
        for (old, new) in [
            ("optional int32 a = 1;", "optional string a = 1;"),
            ("optional int32 a = 1;", "optional sint32 a = 1;"),
            ("optional int32 a = 1;", "required int32 a = 1;"),
            ("", "required int32 a = 1;"),
            ("repeated int32 a = 1;", "optional int32 a = 1;"),
            ("optional N a = 1; message N { optional int32 x = 1; }", "optional N a = 1; message N { optional float x = 1; }"),
        ] {
            assert!(faults(old, new)[0].starts_with("/a"), "{old} {new}");
        }
        let together = "optional int32 a = 1; optional int32 b = 2;";
        assert!(faults(together, "oneof o { int32 a = 1; int32 b = 2; }")[0].starts_with("/o"));
        assert!(faults("oneof o { int32 a = 1; }", "oneof o { int32 a = 1; int32 b = 2; }").is_empty());
        assert!(faults("optional M m = 1;", "optional M m = 1; optional int32 n = 2;").is_empty());
    }
}
