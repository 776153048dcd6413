//! Schema resolution, as the Avro specification tells it: whether data of the writer's schema can be read with the reader's.

use std::collections::BTreeSet;

use super::AvroSchema;
use super::nodes::{Node, RecordField, Shape};
use crate::Fault;

/// Pairs looked at.
const STEPS: usize = 100_000;

/// What of `writer`'s values `reader` cannot read.
pub(crate) fn unreadable(writer: &AvroSchema, reader: &AvroSchema) -> Vec<Fault> {
    let mut compare = Compare { writer: &writer.nodes, reader: &reader.nodes, met: BTreeSet::new(), steps: 0 };
    compare.read(writer.root, reader.root)
}

struct Compare<'s> {
    writer: &'s [Node],
    reader: &'s [Node],
    /// Records that are being compared, or were: where they are met again, they are taken to match.
    met: BTreeSet<(usize, usize)>,
    steps: usize,
}

impl Compare<'_> {
    fn read(&mut self, w: usize, r: usize) -> Vec<Fault> {
        self.steps += 1;
        if self.steps > STEPS {
            return one("the schemas are too large to be compared");
        }
        let (writer, reader) = (&self.writer[w].shape, &self.reader[r].shape);
        match (writer, reader) {
            (Shape::Union(branches), _) => branches.iter().flat_map(|branch| self.read(*branch, r)).collect(),
            (_, Shape::Union(branches)) => {
                let found = branches.iter().any(|branch| self.tried(w, *branch));
                if found { Vec::new() } else { one(format!("no branch of the union takes {}", writer.name())) }
            }
            (Shape::Int, Shape::Long | Shape::Float | Shape::Double)
            | (Shape::Long, Shape::Float | Shape::Double)
            | (Shape::Float, Shape::Double)
            | (Shape::String, Shape::Bytes)
            | (Shape::Bytes, Shape::String) => Vec::new(),
            (Shape::Array(w), Shape::Array(r)) => self.read(*w, *r).into_iter().map(|fault| fault.inside("items")).collect(),
            (Shape::Map(w), Shape::Map(r)) => self.read(*w, *r).into_iter().map(|fault| fault.inside("values")).collect(),
            (Shape::Fixed { name: a, size: n }, Shape::Fixed { name: b, size: m }) => {
                let same = n == m && unqualified(a) == unqualified(b);
                if same { Vec::new() } else { one(format!("fixed {a} of {n} bytes is not fixed {b} of {m}")) }
            }
            (Shape::Enum { name: a, symbols, .. }, Shape::Enum { name: b, symbols: known, default }) => {
                let missing = symbols.iter().find(|symbol| !known.contains(symbol));
                match missing {
                    _ if unqualified(a) != unqualified(b) => one(format!("enum {a} is not enum {b}")),
                    Some(missing) if default.is_none() => one(format!("the symbol {missing} is not known, and there is no default")),
                    _ => Vec::new(),
                }
            }
            (Shape::Record { name: a, fields: written }, Shape::Record { name: b, fields: wanted }) => {
                if unqualified(a) != unqualified(b) {
                    return one(format!("record {a} is not record {b}"));
                }
                if self.met.insert((w, r)) { self.fields(written, wanted) } else { Vec::new() }
            }
            _ if std::mem::discriminant(writer) == std::mem::discriminant(reader) => Vec::new(),
            _ => one(format!("{} is not {}", writer.name(), reader.name())),
        }
    }

    /// One branch of many: what was taken to match on the way counts only if it does.
    fn tried(&mut self, w: usize, r: usize) -> bool {
        let before = self.met.clone();
        let matches = self.read(w, r).is_empty();
        if !matches {
            self.met = before;
        }
        matches
    }

    fn fields(&mut self, written: &[RecordField], wanted: &[RecordField]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for field in wanted {
            let source = written.iter().find(|w| w.name == field.name || field.aliases.contains(&w.name));
            let found = match source {
                Some(source) => self.read(source.node, field.node),
                None if field.has_default => Vec::new(),
                None => one("the field is new and has no default"),
            };
            faults.extend(found.into_iter().map(|fault| fault.inside(&field.name)));
        }
        faults
    }
}

fn one(reason: impl Into<String>) -> Vec<Fault> {
    vec![Fault::here(reason)]
}

/// Names are matched without their namespaces.
fn unqualified(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
    }

    fn faults(writer: &str, reader: &str) -> Vec<String> {
        let parse = |text: &str| AvroSchema::parse(text).unwrap();
        unreadable(&parse(writer), &parse(reader)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_field_needs_a_default_and_an_old_one_may_go() {
        let one = record(r#"{"name":"a","type":"int"}"#);
        let with = record(r#"{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null}"#);
        let without = record(r#"{"name":"a","type":"int"},{"name":"b","type":["null","string"]}"#);
        assert!(faults(&one, &with).is_empty() && faults(&with, &one).is_empty() && faults(&without, &one).is_empty());
        assert_eq!(faults(&one, &without), ["/b: the field is new and has no default"]);
        let renamed = record(r#"{"name":"z","aliases":["a"],"type":"int"}"#);
        assert!(faults(&one, &renamed).is_empty());
    }

    #[test]
    fn numbers_widen_and_do_not_narrow() {
        let of = |kind: &str| record(&format!(r#"{{"name":"a","type":{kind}}}"#));
        for (narrow, wide) in
            [(r#""int""#, r#""long""#), (r#""long""#, r#""double""#), (r#""float""#, r#""double""#), (r#""int""#, r#"["null","int"]"#)]
        {
            assert!(faults(&of(narrow), &of(wide)).is_empty());
            assert!(faults(&of(wide), &of(narrow))[0].starts_with("/a: "));
        }
        assert!(!faults(&of(r#""string""#), &of(r#""int""#)).is_empty());
    }

    #[test]
    fn symbols_may_be_added_for_readers_or_fall_back() {
        let of = |symbols: &str, more: &str| format!(r#"{{"type":"enum","name":"E","symbols":{symbols}{more}}}"#);
        assert!(faults(&of(r#"["A"]"#, ""), &of(r#"["A","B"]"#, "")).is_empty());
        assert!(faults(&of(r#"["A","B"]"#, ""), &of(r#"["A"]"#, ""))[0].contains('B'));
        assert!(faults(&of(r#"["A","B"]"#, ""), &of(r#"["A"]"#, r#","default":"A""#)).is_empty());
    }

    #[test]
    fn schemas_that_name_themselves_are_compared_to_their_end() {
        let tree = |kind: &str| {
            format!(r#"{{"type":"record","name":"T","fields":[{{"name":"v","type":"{kind}"}},{{"name":"n","type":["null","T"]}}]}}"#)
        };
        assert!(faults(&tree("int"), &tree("long")).is_empty());
        assert_eq!(faults(&tree("long"), &tree("int")).len(), 1);
    }
}
