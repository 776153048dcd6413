//! The versions of a subject, as values come in: encoded with the latest one, or naming theirs.
//!
//! Confluent's wire format is understood: a byte 0, the schema's id (4 bytes, big-endian), for Protobuf the place of the message
//! type, then the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use lakefall_queue::schema::SchemaType;

use crate::{Fault, Schema};

/// Bytes of the mark and the id.
const PREFIX: usize = 5;
/// Deepest place of a message type within others.
const PLACES: u64 = 32;

/// The id that a value may name; many an Avro value only looks as if it did.
pub fn wire_id(value: &[u8]) -> Option<u32> {
    match value.first_chunk::<PREFIX>()? {
        [0, id @ ..] => Some(u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// Understood versions of one subject.
#[derive(Clone, Debug)]
pub struct Versions {
    latest: Arc<Schema>,
    by_id: BTreeMap<u32, Arc<Schema>>,
}

impl Versions {
    /// The latest version, and those that values may name by their ids.
    pub fn new(latest: Arc<Schema>, by_id: BTreeMap<u32, Arc<Schema>>) -> Self {
        Self { latest, by_id }
    }

    /// The latest.
    pub fn latest(&self) -> &Arc<Schema> {
        &self.latest
    }

    /// Holds a value against the version that it names, else against the latest.
    pub fn check(&self, value: &[u8]) -> Result<(), Fault> {
        let (schema, payload) = self.resolve(value)?;
        schema.check(payload)
    }

    /// See [`Schema::to_json`].
    pub fn to_json<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, Fault> {
        let (schema, payload) = self.resolve(value)?;
        schema.to_json(payload)
    }

    fn resolve<'v>(&self, value: &'v [u8]) -> Result<(&Schema, &'v [u8]), Fault> {
        let Some(id) = wire_id(value) else { return Ok((&self.latest, value)) };
        let payload = value.get(PREFIX..).unwrap_or_default();
        match (self.by_id.get(&id), self.latest.kind()) {
            (Some(schema), _) if schema.kind() == SchemaType::Protobuf => Ok((schema, after_places(payload)?)),
            (Some(schema), _) => Ok((schema, payload)),
            // The first field may well be a zero.
            (None, SchemaType::Avro) => Ok((&self.latest, value)),
            (None, SchemaType::Json | SchemaType::Protobuf) => {
                Err(Fault::here(format!("it names the schema id {id}, which is no version of this subject")))
            }
        }
    }
}

/// Passes over the place of the message type: a count, then as many indexes, all zigzag varints; a single 0 is the first one's.
fn after_places(mut bytes: &[u8]) -> Result<&[u8], Fault> {
    let cut = || Fault::here("it ends within the place of its message type");
    let count = varint(&mut bytes).map(|n| n >> 1).ok_or_else(cut)?;
    if count > PLACES {
        return Err(Fault::here(format!("the place of its message type has {count} numbers")));
    }
    for _ in 0..count {
        varint(&mut bytes).ok_or_else(cut)?;
    }
    Ok(bytes)
}

/// A base-128 varint of up to 64 bits, as Avro and Protobuf have it; `None` if it is cut off or longer.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(kind: SchemaType, text: &str) -> Arc<Schema> {
        Arc::new(Schema::parse(kind, text, None).unwrap())
    }

    #[test]
    fn a_value_that_names_its_version_is_held_against_that_one() {
        let old = schema(SchemaType::Avro, r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#);
        let new = schema(
            SchemaType::Avro,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":0}]}"#,
        );
        let versions = Versions::new(Arc::clone(&new), BTreeMap::from([(7, old), (9, new)]));
        versions.check(&[0, 0, 0, 0, 7, 2]).unwrap();
        versions.check(&[0, 0, 0, 0, 9, 2, 4]).unwrap();
        versions.check(&[0, 4]).unwrap();
        assert!(versions.check(&[0, 0, 0, 0, 7, 2, 4]).is_err(), "the old version has one field");
        assert_eq!(&*versions.to_json(&[0, 0, 0, 0, 7, 2]).unwrap(), br#"{"a":1}"#);
    }

    #[test]
    fn the_place_of_a_protobuf_message_is_passed_over() {
        let only = schema(SchemaType::Protobuf, "syntax = \"proto3\"; message M { int32 a = 1; }");
        let versions = Versions::new(Arc::clone(&only), BTreeMap::from([(3, only)]));
        versions.check(&[0, 0, 0, 0, 3, 0, 8, 1]).unwrap();
        versions.check(&[0, 0, 0, 0, 3, 2, 0, 8, 1]).unwrap();
        versions.check(&[8, 1]).unwrap();
        assert!(versions.check(&[0, 0, 0, 0, 4, 0, 8, 1]).unwrap_err().reason.contains("id 4"));
        assert!(versions.check(&[0, 0, 0, 0, 3]).is_err() && versions.check(&[0, 0, 0, 0, 3, 0xff, 0xff, 3]).is_err());
    }

    #[test]
    fn varints_end_and_do_not_overflow() {
        let read = |bytes: &[u8]| varint(&mut &*bytes);
        assert_eq!(read(&[0xac, 2]), Some(300));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Some(u64::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
        assert_eq!((read(&[0x80]), read(&[0x80; 11])), (None, None));
    }
}
