//! Protobuf: one self-contained `.proto` text, which may import Google's well-known types and nothing else. Values are messages
//! in the wire format.

mod columns;
mod compare;
mod wire;

use arrow_schema::Fields;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

pub(crate) use self::compare::unreadable;
use crate::{DEEPEST, Fault};

/// What the text is called where something is wrong with it.
const FILE: &str = "schema.proto";
/// Messages and numbers in a value that is made JSON: each takes far more room in memory than in the value.
const MOST_VALUES: usize = 200_000;

/// An understood message type.
#[derive(Debug)]
pub(crate) struct ProtobufSchema {
    message: MessageDescriptor,
}

impl ProtobufSchema {
    pub(crate) fn parse(text: &str, message: Option<&str>) -> Result<Self, Fault> {
        check_depth(text)?;
        let pool = compiled(text).map_err(|error| Fault::here(error.to_string()))?;
        let file = pool.get_file_by_name(FILE).ok_or_else(|| Fault::here("the schema is empty"))?;
        let message = match message {
            Some(name) => {
                let name = name.trim_start_matches('.');
                let full = if file.package_name().is_empty() { name.to_owned() } else { format!("{}.{name}", file.package_name()) };
                let found = pool.get_message_by_name(name).or_else(|| pool.get_message_by_name(&full));
                found
                    .filter(|m| m.parent_file() == file && !m.is_map_entry())
                    .ok_or_else(|| Fault::here(format!("there is no message {name}")))?
            }
            None => {
                let mut messages = file.messages();
                match (messages.next(), messages.next()) {
                    (Some(only), None) => only,
                    (None, _) => return Err(Fault::here("the schema has no message")),
                    (Some(_), Some(_)) => return Err(Fault::here("the schema has several messages: name one")),
                }
            }
        };
        Ok(Self { message })
    }

    pub(crate) fn check(&self, value: &[u8]) -> Result<(), Fault> {
        wire::check(&self.message, value).map(|_| ())
    }

    pub(crate) fn to_json(&self, value: &[u8]) -> Result<Vec<u8>, Fault> {
        if wire::check(&self.message, value)? > MOST_VALUES {
            return Err(Fault::here(format!("the message has more than {MOST_VALUES} values")));
        }
        let message = DynamicMessage::decode(self.message.clone(), value).map_err(|error| Fault::here(error.to_string()))?;
        let options = SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
        let mut json = serde_json::Serializer::new(Vec::with_capacity(value.len() * 2));
        message.serialize_with_options(&mut json, &options).map_err(|error| Fault::here(error.to_string()))?;
        Ok(json.into_inner())
    }

    pub(crate) fn columns(&self) -> Fields {
        columns::of(&self.message)
    }
}

/// The parser goes down by recursion.
fn check_depth(text: &str) -> Result<(), Fault> {
    let (mut depth, mut deepest) = (0_i32, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest as usize > DEEPEST { Err(Fault::here(format!("the schema is nested deeper than {DEEPEST} levels"))) } else { Ok(()) }
}

fn compiled(text: &str) -> Result<DescriptorPool, protox::Error> {
    let mut files = ChainFileResolver::new();
    files.add(OnlyThis(text.to_owned()));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.open_file(FILE)?;
    Ok(compiler.descriptor_pool())
}

struct OnlyThis(String);

impl FileResolver for OnlyThis {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE { File::from_source(name, &self.0) } else { Err(protox::Error::file_not_found(name)) }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost::Message as _;
    use prost_reflect::{SetFieldError, Value};

    use super::*;

    const ORDER: &str = r#"syntax = "proto3";
        package shop;
        import "google/protobuf/timestamp.proto";
        message Order {
            int64 id = 1;
            string note = 2;
            enum State { NEW = 0; PAID = 1; }
            State state = 3;
            repeated Line lines = 4;
            map<string, int32> labels = 5;
            google.protobuf.Timestamp at = 6;
            bytes token = 7;
            optional uint64 large = 8;
            repeated sint32 numbers = 9;
        }
        message Line { string sku = 1; double price = 2; }"#;

    fn order() -> ProtobufSchema {
        ProtobufSchema::parse(ORDER, Some("Order")).unwrap()
    }

    fn filled() -> Result<Vec<u8>, SetFieldError> {
        let pool = order().message.parent_pool().clone();
        let new = |name: &str| DynamicMessage::new(pool.get_message_by_name(name).unwrap());
        let mut line = new("shop.Line");
        line.try_set_field_by_name("sku", Value::String("x".into()))?;
        line.try_set_field_by_name("price", Value::F64(1.5))?;
        let mut at = new("google.protobuf.Timestamp");
        at.try_set_field_by_name("seconds", Value::I64(1_700_000_000))?;
        let mut message = new("shop.Order");
        message.try_set_field_by_name("id", Value::I64(-7))?;
        message.try_set_field_by_name("note", Value::String("ä".into()))?;
        message.try_set_field_by_name("state", Value::EnumNumber(1))?;
        message.try_set_field_by_name("lines", Value::List(vec![Value::Message(line)]))?;
        message.try_set_field_by_name("at", Value::Message(at))?;
        message.try_set_field_by_name("large", Value::U64(u64::MAX))?;
        message.try_set_field_by_name("numbers", Value::List(vec![Value::I32(-1), Value::I32(300)]))?;
        Ok(message.encode_to_vec())
    }

    #[test]
    fn a_message_is_checked_and_written_as_json_with_what_it_leaves_out() {
        let bytes = filled().unwrap();
        let schema = order();
        schema.check(&bytes).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&schema.to_json(&bytes).unwrap()).unwrap();
        let expected = serde_json::json!({
            "id": -7, "note": "ä", "state": "PAID", "lines": [{"sku": "x", "price": 1.5}], "labels": {}, "at": "2023-11-14T22:13:20Z",
            "token": "", "large": u64::MAX, "numbers": [-1, 300],
        });
        assert_eq!(json, expected);
        schema.check(b"").unwrap();
    }

    #[test]
    fn the_message_is_found_by_its_name_or_as_the_only_one() {
        for name in ["Order", "shop.Order", ".shop.Order", "Line"] {
            ProtobufSchema::parse(ORDER, Some(name)).unwrap();
        }
        let refused = |text: &str, name: Option<&str>| ProtobufSchema::parse(text, name).unwrap_err().to_string();
        assert!(refused(ORDER, None).contains("several"));
        assert!(refused(ORDER, Some("Nothing")).contains("no message Nothing"));
        assert!(refused(ORDER, Some("google.protobuf.Timestamp")).contains("no message"));
        assert!(refused("syntax = \"proto3\";", None).contains("no message"));
        ProtobufSchema::parse("syntax = \"proto2\"; message Only { required int32 a = 1; }", None).unwrap();
    }

    #[test]
    fn what_is_no_schema_and_what_is_elsewhere_are_refused() {
        for text in
            ["", "message", "syntax = \"proto3\"; message M { int32 a = 0; }", "syntax = \"proto3\"; import \"other.proto\"; message M {}"]
        {
            assert!(ProtobufSchema::parse(text, None).is_err(), "{text}");
        }
        let deep = format!("syntax = \"proto3\"; {}{}", "message M {".repeat(10_000), "}".repeat(10_000));
        assert!(ProtobufSchema::parse(&deep, None).unwrap_err().reason.contains("nested deeper"));
    }
}
