//! The columns of Protobuf messages, as they are written as JSON. Maps, and Google's types that hold anything, are text: their
//! JSON.

use arrow_schema::{DataType, Fields};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::DEEPEST;
use crate::columns::{Budget, instant, list, nullable, structure};

pub(super) fn of(message: &MessageDescriptor) -> Fields {
    match columns(message, &mut Vec::new(), &mut Budget::default()) {
        DataType::Struct(fields) => fields,
        _ => Fields::empty(),
    }
}

/// `open` are the types that are being looked into: one that is met again inside of itself is text.
fn columns(message: &MessageDescriptor, open: &mut Vec<MessageDescriptor>, budget: &mut Budget) -> DataType {
    if open.len() > DEEPEST / 2 || open.contains(message) {
        return DataType::Utf8;
    }
    open.push(message.clone());
    let fields = budget.of(message.fields());
    let column = structure(fields.into_iter().map(|field| nullable(field.name(), column(&field, open, budget))).collect());
    open.pop();
    column
}

fn column(field: &FieldDescriptor, open: &mut Vec<MessageDescriptor>, budget: &mut Budget) -> DataType {
    if field.is_map() {
        return DataType::Utf8;
    }
    if field.is_list() {
        return if budget.take() { list(single(field, open, budget)) } else { DataType::Utf8 };
    }
    single(field, open, budget)
}

fn single(field: &FieldDescriptor, open: &mut Vec<MessageDescriptor>, budget: &mut Budget) -> DataType {
    match field.kind() {
        Kind::Bool => DataType::Boolean,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => DataType::Int32,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => DataType::Int64,
        // No whole number of a table holds all of them.
        Kind::Uint64 | Kind::Fixed64 => DataType::Utf8,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::String | Kind::Bytes | Kind::Enum(_) => DataType::Utf8,
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => instant(),
            "google.protobuf.BoolValue" => DataType::Boolean,
            "google.protobuf.Int32Value" => DataType::Int32,
            "google.protobuf.Int64Value" | "google.protobuf.UInt32Value" => DataType::Int64,
            "google.protobuf.FloatValue" => DataType::Float32,
            "google.protobuf.DoubleValue" => DataType::Float64,
            // Durations, field masks, and whatever holds anything.
            name if name.starts_with("google.protobuf.") => DataType::Utf8,
            _ => columns(&message, open, budget),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProtobufSchema;
    use super::*;

    #[test]
    fn each_type_has_its_column_and_recursion_has_an_end() {
        let schema = ProtobufSchema::parse(
            r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/struct.proto";
            message M { int32 a = 1; uint32 b = 2; uint64 c = 3; repeated double d = 4; map<string, int32> e = 5; N f = 6;
                google.protobuf.Timestamp g = 7; google.protobuf.Struct h = 8; }
            message N { bool x = 1; }"#,
            Some("M"),
        )
        .unwrap();
        let types: Vec<DataType> = schema.columns().iter().map(|field| field.data_type().clone()).collect();
        let expected = [
            DataType::Int32,
            DataType::Int64,
            DataType::Utf8,
            list(DataType::Float64),
            DataType::Utf8,
            DataType::Struct(vec![nullable("x", DataType::Boolean)].into()),
            instant(),
            DataType::Utf8,
        ];
        assert_eq!(types, expected);
        let tree = ProtobufSchema::parse("syntax = \"proto3\"; message T { T left = 1; T right = 2; int32 v = 3; }", None).unwrap();
        let types: Vec<DataType> = tree.columns().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Utf8, DataType::Int32]);
    }
}
