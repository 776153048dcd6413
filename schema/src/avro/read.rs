//! Walks over a value, and writes it as JSON on the way if that is asked for. Unions are their value, without its type's name;
//! bytes are base64. The walk is bounded by the value's length, whatever it says of itself.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::logical::{self, Logical};
use super::nodes::{Node, RecordField, Shape};
use crate::versions::varint;
use crate::{DEEPEST, Fault};

/// Types that are met for each byte, and in any case: values of no bytes could be met without end.
const STEPS: (usize, usize) = (16, 100_000);

/// Where JSON goes.
pub(super) trait Out {
    /// Whether anybody wants it.
    const WANTED: bool;
    fn put(&mut self, text: &str);
}

/// Nobody wants it.
pub(super) struct Nothing;

impl Out for Nothing {
    const WANTED: bool = false;
    fn put(&mut self, _: &str) {}
}

impl Out for Vec<u8> {
    const WANTED: bool = true;
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

pub(super) struct Walk<'a, O> {
    nodes: &'a [Node],
    rest: &'a [u8],
    steps: usize,
    out: O,
}

impl<'a, O: Out> Walk<'a, O> {
    pub(super) fn new(nodes: &'a [Node], value: &'a [u8], out: O) -> Self {
        Self { nodes, rest: value, steps: STEPS.0 * value.len() + STEPS.1, out }
    }

    /// A value to its last byte.
    pub(super) fn whole(mut self, root: usize) -> Result<O, Fault> {
        self.value(root, 0)?;
        match self.rest.len() {
            0 => Ok(self.out),
            more => Err(Fault::here(format!("{more} bytes follow the value"))),
        }
    }

    fn value(&mut self, node: usize, depth: usize) -> Result<(), Fault> {
        self.steps = self.steps.checked_sub(1).ok_or_else(|| Fault::here("the value is many times larger than its bytes"))?;
        if depth > DEEPEST {
            return Err(Fault::here(format!("the value is nested deeper than {DEEPEST} levels")));
        }
        let nodes = self.nodes;
        let Node { shape, logical } = &nodes[node];
        match shape {
            Shape::Null => self.out.put("null"),
            Shape::Boolean => match self.take(1)? {
                [0] => self.out.put("false"),
                [1] => self.out.put("true"),
                other => return Err(Fault::here(format!("a boolean is 0 or 1, not {other:?}"))),
            },
            Shape::Int => {
                let number = self.number()?;
                i32::try_from(number).map_err(|_| Fault::here(format!("{number} is no int")))?;
                self.count(number, *logical);
            }
            Shape::Long => {
                let number = self.number()?;
                self.count(number, *logical);
            }
            Shape::Float => {
                let number = f32::from_le_bytes(self.array()?);
                self.float(number.is_finite(), number);
            }
            Shape::Double => {
                let number = f64::from_le_bytes(self.array()?);
                self.float(number.is_finite(), number);
            }
            Shape::Bytes => {
                let bytes = self.sized()?;
                self.bytes(bytes, *logical);
            }
            Shape::String => {
                let text = self.text()?;
                self.string(text);
            }
            Shape::Fixed { size, .. } => {
                let bytes = self.take(*size)?;
                self.bytes(bytes, *logical);
            }
            Shape::Enum { symbols, .. } => {
                let index = self.number()?;
                let symbol = usize::try_from(index).ok().and_then(|at| symbols.get(at));
                let symbol = symbol.ok_or_else(|| Fault::here(format!("the enum has no symbol {index}")))?;
                self.string(symbol);
            }
            Shape::Union(branches) => {
                let index = self.number()?;
                let branch = usize::try_from(index).ok().and_then(|at| branches.get(at));
                let branch = branch.ok_or_else(|| Fault::here(format!("the union has no branch {index}")))?;
                self.value(*branch, depth + 1)?;
            }
            Shape::Array(item) => self.blocks(['[', ']'], |walk, at| walk.value(*item, depth + 1).map_err(|fault| fault.inside(at)))?,
            Shape::Map(item) => self.blocks(['{', '}'], |walk, _| {
                let name = walk.text()?;
                walk.string(name);
                walk.out.put(":");
                walk.value(*item, depth + 1).map_err(|fault| fault.inside(name))
            })?,
            Shape::Record { fields, .. } => self.record(fields, depth)?,
        }
        Ok(())
    }

    fn record(&mut self, fields: &[RecordField], depth: usize) -> Result<(), Fault> {
        self.out.put("{");
        for (at, field) in fields.iter().enumerate() {
            self.out.put(if at > 0 { "," } else { "" });
            self.string(&field.name);
            self.out.put(":");
            self.value(field.node, depth + 1).map_err(|fault| fault.inside(&field.name))?;
        }
        self.out.put("}");
        Ok(())
    }

    /// Items in blocks, each with its count before it; a negative one is followed by the block's bytes.
    fn blocks(&mut self, [open, close]: [char; 2], mut item: impl FnMut(&mut Self, u64) -> Result<(), Fault>) -> Result<(), Fault> {
        self.out.put(open.encode_utf8(&mut [0; 4]));
        let mut at = 0;
        loop {
            let count = self.number()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                self.number()?;
            }
            for _ in 0..count.unsigned_abs() {
                self.out.put(if at > 0 { "," } else { "" });
                item(self, at)?;
                at += 1;
            }
        }
        self.out.put(close.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn count(&mut self, number: i64, logical: Logical) {
        if !O::WANTED {
            return;
        }
        let text = match logical {
            Logical::Date => logical::date(number),
            Logical::TimeMillis => logical::time(number, 1_000),
            Logical::TimeMicros => logical::time(number, 1_000_000),
            Logical::Timestamp { per_second, local } => logical::timestamp(number, per_second, local),
            Logical::None | Logical::Decimal { .. } | Logical::Uuid => return self.out.put(&number.to_string()),
        };
        // What no calendar has.
        match text {
            Some(text) => self.string(&text),
            None => self.out.put("null"),
        }
    }

    fn float(&mut self, finite: bool, number: impl std::fmt::Display) {
        if O::WANTED {
            // JSON has no others.
            if finite { self.out.put(&number.to_string()) } else { self.out.put("null") }
        }
    }

    fn bytes(&mut self, bytes: &[u8], logical: Logical) {
        if !O::WANTED {
            return;
        }
        match logical {
            Logical::Decimal { precision, scale } => match logical::decimal(bytes, precision, scale) {
                Some(number) => self.string(&number),
                None => self.out.put("null"),
            },
            Logical::Uuid => {
                let hex = bytes.iter().enumerate().fold(String::with_capacity(36), |mut hex, (at, byte)| {
                    // Writing into a string cannot fail.
                    let _ = write!(hex, "{}{byte:02x}", if [4, 6, 8, 10].contains(&at) { "-" } else { "" });
                    hex
                });
                self.string(&hex);
            }
            _ => self.string(&STANDARD.encode(bytes)),
        }
    }

    fn string(&mut self, text: &str) {
        if O::WANTED {
            self.out.put(&serde_json::Value::from(text).to_string());
        }
    }

    fn number(&mut self) -> Result<i64, Fault> {
        let zigzag = varint(&mut self.rest).ok_or_else(|| Fault::here("a number is cut off or too long"))?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let size = self.number()?;
        self.take(usize::try_from(size).map_err(|_| Fault::here(format!("{size} is no length")))?)
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.sized()?).map_err(|_| Fault::here("a string is not UTF-8"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::here("the value ends here"))
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or_else(|| Fault::here(format!("{size} bytes are needed and {} are left", self.rest.len())))?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value;

    use super::super::AvroSchema;

    const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":"long"},
        {"name":"note","type":["null","string"]},
        {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID"]}},
        {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
            {"name":"sku","type":"string"},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}}},
        {"name":"labels","type":{"type":"map","values":"int"}},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"token","type":{"type":"fixed","name":"Token","size":2}},
        {"name":"before","type":["null","Order"]}]}"#;

    fn order(before: Value) -> Value {
        let line = |sku: &str, cents: i64| {
            let price = Value::Decimal(apache_avro::Decimal::from(cents.to_be_bytes().to_vec()));
            Value::Record(vec![("sku".into(), sku.into()), ("price".into(), price)])
        };
        Value::Record(vec![
            ("id".into(), Value::Long(-7)),
            ("note".into(), Value::Union(1, Box::new(Value::String("a \"b\"\u{1}".into())))),
            ("state".into(), Value::Enum(1, "PAID".into())),
            ("lines".into(), Value::Array(vec![line("x", 1_234), line("y", -5)])),
            ("labels".into(), Value::Map([("k".to_owned(), Value::Int(3))].into())),
            ("at".into(), Value::TimestampMillis(1_700_000_000_123)),
            ("token".into(), Value::Fixed(2, vec![1, 2])),
            ("before".into(), before),
        ])
    }

    fn none() -> Value {
        Value::Union(0, Box::new(Value::Null))
    }

    #[test]
    fn what_another_library_encodes_is_read_and_written_as_json() {
        let theirs = apache_avro::Schema::parse_str(ORDER).unwrap();
        let encoded = apache_avro::to_avro_datum(&theirs, order(none())).unwrap();
        let ours = AvroSchema::parse(ORDER).unwrap();
        ours.check(&encoded).unwrap();
        let json = String::from_utf8(ours.to_json(&encoded).unwrap()).unwrap();
        let expected = r#"{"id":-7,"note":"a \"b\"\u0001","state":"PAID","lines":[{"sku":"x","price":"12.34"},{"sku":"y","price":"-0.05"}],"labels":{"k":3},"at":"2023-11-14T22:13:20.123000Z","token":"AQI=","before":null}"#;
        assert_eq!(json, expected);
        for end in 0..encoded.len() {
            assert!(ours.check(&encoded[..end]).is_err(), "cut after {end} bytes");
        }
        let longer = [&encoded[..], &[0]].concat();
        assert!(ours.check(&longer).unwrap_err().reason.contains("1 bytes follow"));
    }

    #[test]
    fn a_bad_place_is_pointed_at() {
        let schema =
            AvroSchema::parse(r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":["null","boolean"]}}]}"#)
                .unwrap();
        let fault = schema.check(&[4, 0, 2, 9, 0]).unwrap_err();
        assert_eq!((fault.pointer.as_str(), fault.reason.contains("boolean")), ("/a/1", true));
        assert!(schema.check(&[2, 6, 0]).unwrap_err().reason.contains("no branch 3"));
    }

    #[test]
    fn a_value_nested_without_end_and_one_that_counts_up_nothing_are_refused() {
        let list = AvroSchema::parse(r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#).unwrap();
        assert!(list.check(&vec![2; 1 << 20]).unwrap_err().reason.contains("nested deeper"));
        let nulls = AvroSchema::parse(r#"{"type":"array","items":"null"}"#).unwrap();
        let mut many = vec![0xfe; 8];
        many.extend([0x7f, 0]);
        assert!(nulls.check(&many).unwrap_err().reason.contains("many times larger"));
        let bytes = AvroSchema::parse(r#""bytes""#).unwrap();
        assert!(bytes.check(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).unwrap_err().reason.contains("needed"));
    }

    #[test]
    fn negative_block_counts_are_read() {
        let longs = AvroSchema::parse(r#"{"type":"array","items":"long"}"#).unwrap();
        assert_eq!(longs.to_json(&[3, 4, 2, 4, 0]).unwrap(), b"[1,2]");
    }
}
