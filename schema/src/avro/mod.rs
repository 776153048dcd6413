//! Avro 1.12: values are single data in the binary encoding, as Confluent's clients write them behind their prefix. The text is
//! checked by the `apache-avro` crate, and then kept as nodes that name each other by number: values are walked over those here
//! and not by the crate, as it follows a recursive schema as deep as a value says, and builds whatever a value counts up.

mod columns;
mod compare;
mod logical;
mod nodes;
mod read;

use arrow_schema::Fields;

pub(crate) use self::compare::unreadable;
use self::nodes::Node;
use self::read::{Nothing, Walk};
use crate::Fault;

/// An understood Avro schema. The root is the last node.
#[derive(Debug)]
pub(crate) struct AvroSchema {
    nodes: Vec<Node>,
    root: usize,
}

impl AvroSchema {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| Fault::here(format!("the schema is not JSON: {e}")))?;
        apache_avro::Schema::parse(&json).map_err(|error| Fault::here(error.to_string()))?;
        let (nodes, root) = nodes::build(&json)?;
        Ok(Self { nodes, root })
    }

    pub(crate) fn check(&self, value: &[u8]) -> Result<(), Fault> {
        Walk::new(&self.nodes, value, Nothing).whole(self.root).map(|_| ())
    }

    pub(crate) fn to_json(&self, value: &[u8]) -> Result<Vec<u8>, Fault> {
        Walk::new(&self.nodes, value, Vec::with_capacity(value.len() * 2)).whole(self.root)
    }

    pub(crate) fn columns(&self) -> Fields {
        columns::of(&self.nodes, self.root)
    }
}
