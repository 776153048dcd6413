//! The columns of Avro values, as they are written as JSON. Maps, and unions of several types, are text: their JSON. So are
//! decimals, which keep every digit there.

use arrow_schema::{DataType, Fields, TimeUnit};

use super::logical::Logical;
use super::nodes::{Node, Shape};
use crate::DEEPEST;
use crate::columns::{Budget, instant, list, nullable, structure};

pub(super) fn of(nodes: &[Node], root: usize) -> Fields {
    match (Walk { nodes, open: Vec::new(), budget: Budget::default() }).column(root) {
        DataType::Struct(fields) => fields,
        _ => Fields::empty(),
    }
}

struct Walk<'a> {
    nodes: &'a [Node],
    /// The types that are being looked into: one that is met again inside of itself is text.
    open: Vec<usize>,
    budget: Budget,
}

impl Walk<'_> {
    fn column(&mut self, node: usize) -> DataType {
        if self.open.len() > DEEPEST / 2 || self.open.contains(&node) {
            return DataType::Utf8;
        }
        self.open.push(node);
        let column = self.opened(node);
        self.open.pop();
        column
    }

    fn opened(&mut self, node: usize) -> DataType {
        let nodes = self.nodes;
        let Node { shape, logical } = &nodes[node];
        match (shape, logical) {
            (_, Logical::Date) => DataType::Date32,
            (_, Logical::Timestamp { local: false, .. }) => instant(),
            (_, Logical::Timestamp { local: true, .. }) => DataType::Timestamp(TimeUnit::Microsecond, None),
            (_, Logical::TimeMillis | Logical::TimeMicros | Logical::Uuid | Logical::Decimal { .. }) => DataType::Utf8,
            (Shape::Boolean, _) => DataType::Boolean,
            (Shape::Int, _) => DataType::Int32,
            (Shape::Long, _) => DataType::Int64,
            (Shape::Float, _) => DataType::Float32,
            (Shape::Double, _) => DataType::Float64,
            (Shape::Array(item), _) if self.budget.take() => list(self.column(*item)),
            (Shape::Union(branches), _) => {
                let mut others = branches.iter().filter(|branch| nodes[**branch].shape != Shape::Null);
                match (others.next(), others.next()) {
                    (Some(only), None) => self.column(*only),
                    _ => DataType::Utf8,
                }
            }
            (Shape::Record { fields, .. }, _) => {
                let fields = self.budget.of(fields.iter());
                structure(fields.into_iter().map(|field| nullable(&field.name, self.column(field.node))).collect())
            }
            (
                Shape::Null | Shape::Bytes | Shape::String | Shape::Fixed { .. } | Shape::Enum { .. } | Shape::Array(_) | Shape::Map(_),
                _,
            ) => DataType::Utf8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AvroSchema;
    use super::*;
    use crate::columns::MOST_COLUMNS;

    #[test]
    fn each_type_has_its_column() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","long"]},
            {"name":"c","type":{"type":"array","items":"float"}},{"name":"d","type":{"type":"int","logicalType":"date"}},
            {"name":"e","type":{"type":"map","values":"int"}},{"name":"f","type":["int","string"]},
            {"name":"g","type":{"type":"record","name":"G","fields":[{"name":"x","type":"double"}]}},
            {"name":"h","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}"#,
        )
        .unwrap();
        let types: Vec<DataType> = schema.columns().iter().map(|field| field.data_type().clone()).collect();
        let point = DataType::Struct(vec![nullable("x", DataType::Float64)].into());
        let expected = [
            DataType::Int32,
            DataType::Int64,
            list(DataType::Float32),
            DataType::Date32,
            DataType::Utf8,
            DataType::Utf8,
            point,
            DataType::Utf8,
        ];
        assert_eq!(types, expected);
    }

    #[test]
    fn a_schema_that_names_itself_has_columns_with_an_end() {
        let tree = AvroSchema::parse(
            r#"{"type":"record","name":"T","fields":[{"name":"l","type":["null","T"]},{"name":"r","type":["null","T"]}]}"#,
        )
        .unwrap();
        let types: Vec<DataType> = tree.columns().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Utf8]);
        let fields: Vec<String> = (0..1_000).map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#)).collect();
        let wide = format!(r#"{{"type":"record","name":"W","fields":[{}]}}"#, fields.join(","));
        assert_eq!(AvroSchema::parse(&wide).unwrap().columns().len(), MOST_COLUMNS);
    }
}
