//! Walks over a message in the wire format, without building it: <https://protobuf.dev/programming-guides/encoding/>. Fields that
//! the type does not have are passed over, as Protobuf means it.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use crate::versions::varint;
use crate::{DEEPEST, Fault};

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const SIZED: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED32: u64 = 5;

/// Largest number of a field.
const FIELD_MAX: u64 = (1 << 29) - 1;

/// Holds a message against its type. Returns how many values it has.
pub(super) fn check(message: &MessageDescriptor, bytes: &[u8]) -> Result<usize, Fault> {
    let mut walk = Walk { rest: bytes, values: 0 };
    walk.message(message, None, 0)?;
    Ok(walk.values)
}

struct Walk<'a> {
    rest: &'a [u8],
    values: usize,
}

impl Walk<'_> {
    /// To the end, or to the end of the group.
    fn message(&mut self, message: &MessageDescriptor, group: Option<u64>, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST {
            return Err(Fault::here(format!("the message is nested deeper than {DEEPEST} levels")));
        }
        let mut missing: Vec<u32> = message.fields().filter(FieldDescriptor::is_required).map(|field| field.number()).collect();
        while !self.rest.is_empty() {
            let (number, kind) = self.tag()?;
            if kind == GROUP_END && Some(number) == group {
                return all_there(message, &missing);
            }
            self.values += 1;
            match u32::try_from(number).ok().and_then(|number| message.get_field(number)) {
                Some(field) => {
                    missing.retain(|needed| *needed != field.number());
                    self.field(&field, kind, depth).map_err(|fault| fault.inside(field.name()))?;
                }
                None => self.skip(number, kind, depth)?,
            }
        }
        if group.is_some() {
            return Err(Fault::here("a group does not end"));
        }
        all_there(message, &missing)
    }

    fn tag(&mut self) -> Result<(u64, u64), Fault> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > FIELD_MAX {
            return Err(Fault::here(format!("there is no field {number}: this is no Protobuf message")));
        }
        Ok((number, tag & 7))
    }

    fn field(&mut self, field: &FieldDescriptor, kind: u64, depth: usize) -> Result<(), Fault> {
        let expected = wire_type(field);
        if kind == SIZED && expected != SIZED && field.cardinality() == Cardinality::Repeated && expected != GROUP {
            return self.packed(expected);
        }
        if kind != expected {
            return Err(Fault::here(format!("it is encoded as wire type {kind}, and its type as {expected}")));
        }
        match field.kind() {
            Kind::Message(inner) if kind == GROUP => self.message(&inner, Some(u64::from(field.number())), depth + 1),
            Kind::Message(inner) => {
                let bytes = self.sized()?;
                let mut walk = Walk { rest: bytes, values: 0 };
                walk.message(&inner, None, depth + 1)?;
                self.values += walk.values;
                Ok(())
            }
            Kind::String => {
                let text = std::str::from_utf8(self.sized()?);
                text.map(|_| ()).map_err(|_| Fault::here("a string is not UTF-8"))
            }
            _ => self.passed(kind),
        }
    }

    fn packed(&mut self, expected: u64) -> Result<(), Fault> {
        let mut inner = Walk { rest: self.sized()?, values: 0 };
        while !inner.rest.is_empty() {
            inner.passed(expected)?;
            self.values += 1;
        }
        Ok(())
    }

    fn skip(&mut self, number: u64, kind: u64, depth: usize) -> Result<(), Fault> {
        if kind != GROUP {
            return self.passed(kind);
        }
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            if open.len() + depth > DEEPEST {
                return Err(Fault::here(format!("the message is nested deeper than {DEEPEST} levels")));
            }
            match self.tag()? {
                (number, GROUP) => open.push(number),
                (number, GROUP_END) if number == innermost => drop(open.pop()),
                (_, kind) => self.passed(kind)?,
            }
        }
        Ok(())
    }

    /// Passes over a plain value.
    fn passed(&mut self, kind: u64) -> Result<(), Fault> {
        match kind {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.take(8).map(|_| ()),
            SIZED => self.sized().map(|_| ()),
            FIXED32 => self.take(4).map(|_| ()),
            other => Err(Fault::here(format!("wire type {other} has no place here: this is no Protobuf message"))),
        }
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        varint(&mut self.rest).ok_or_else(|| Fault::here("a number is cut off or too long"))
    }
}

impl<'a> Walk<'a> {
    fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let size = self.varint()?;
        self.take(usize::try_from(size).unwrap_or(usize::MAX))
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let cut = || Fault::here(format!("{size} bytes are needed and {} are left", self.rest.len()));
        let (taken, rest) = self.rest.split_at_checked(size).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn all_there(message: &MessageDescriptor, missing: &[u32]) -> Result<(), Fault> {
    match missing.first().and_then(|number| message.get_field(*number)) {
        Some(field) => Err(Fault::here(format!("the required field {} is missing", field.name()))),
        None => Ok(()),
    }
}

pub(super) fn wire_type(field: &FieldDescriptor) -> u64 {
    match field.kind() {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => FIXED32,
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Sint64 | Kind::Bool | Kind::Enum(_) => VARINT,
        Kind::Message(_) if field.is_group() => GROUP,
        Kind::String | Kind::Bytes | Kind::Message(_) => SIZED,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProtobufSchema;

    fn schema(text: &str) -> ProtobufSchema {
        ProtobufSchema::parse(text, Some("M")).unwrap()
    }

    #[test]
    fn a_bad_place_is_pointed_at() {
        let of = schema("syntax = \"proto3\"; message M { N n = 1; repeated int32 many = 2; } message N { string s = 1; }");
        let fault = of.check(&[10, 3, 10, 1, 0xff]).unwrap_err();
        assert_eq!((fault.pointer.as_str(), fault.reason.as_str()), ("/n/s", "a string is not UTF-8"));
        assert_eq!(of.check(&[8, 1]).unwrap_err().pointer, "/n");
        of.check(&[18, 2, 1, 2, 16, 3]).unwrap();
        assert!(of.check(&[18, 2, 1, 0x80]).is_err() && of.check(&[10, 200]).is_err() && of.check(b"{\"n\":1}").is_err());
        of.check(&[0x98, 6, 1]).unwrap();
    }

    #[test]
    fn required_fields_and_groups_of_proto2_are_seen() {
        let of = schema("syntax = \"proto2\"; message M { required int32 a = 1; optional group G = 2 { required int32 b = 3; } }");
        of.check(&[8, 1, 0x13, 24, 1, 0x14]).unwrap();
        assert!(of.check(b"").unwrap_err().reason.contains("required field a"));
        assert!(of.check(&[8, 1, 0x13, 0x14]).unwrap_err().reason.contains("required field b"));
        assert!(of.check(&[8, 1, 0x13, 24, 1]).is_err());
        of.check(&[8, 1, 0x2b, 0x33, 0x34, 0x2c]).unwrap();
        assert!(of.check(&[8, 1, 0x2b, 0x34]).is_err());
    }

    #[test]
    fn messages_nested_without_end_are_refused() {
        let of = schema("syntax = \"proto2\"; message M { optional group G = 1 { optional M m = 2; } optional M m = 3; }");
        let groups = vec![0x4b; 100_000];
        assert!(of.check(&groups).unwrap_err().reason.contains("nested deeper"));
        let mut inner = Vec::new();
        for _ in 0..100 {
            let mut outer = vec![26];
            let mut size = inner.len();
            while size >= 0x80 {
                outer.push(size as u8 | 0x80);
                size >>= 7;
            }
            outer.push(size as u8);
            outer.extend(&inner);
            inner = outer;
        }
        assert!(of.check(&inner).unwrap_err().reason.contains("nested deeper"));
    }
}
