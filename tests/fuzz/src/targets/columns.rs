//! JSON values as typed columns, held against what `serde_json` reads in them. An input is a JSON value on each line.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int8Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use lakefall_storage::parquet::{Inference, TypedColumns};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of a value that has typed columns.
const DEEPEST: usize = 64;
/// Beyond this, not every whole number is a 64-bit float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Every value is in the columns as `serde_json` reads it, or in none of them and counted; and what columns were inferred from is
/// in them.
pub fn json_columns(input: &[u8]) -> bool {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut inference = Inference::new(50);
    let observed: Vec<bool> = lines.iter().map(|line| inference.observe_json(line)).collect();
    let mut taken = false;
    if let Some(schema) = inference.schema() {
        let fits = check(&schema, &lines);
        for ((line, fits), observed) in lines.iter().zip(&fits).zip(&observed) {
            assert!(*fits || !observed, "{} was sampled and does not fit {schema}", String::from_utf8_lossy(line));
        }
        taken = true;
    }
    check(&fixed(), &lines);
    // Of times, nothing is known here but that they are read or not.
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let times = Schema::new(vec![Field::new("a", time, true), Field::new("b", DataType::Date32, true)]);
    let (column, _) = column(&times, &lines);
    assert_eq!(column.len(), lines.len());
    taken
}

fn fixed() -> Schema {
    let list = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
    let deep: Fields = [Field::new("a", DataType::Int8, true), Field::new("b", DataType::Utf8, true)].into_iter().collect();
    Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("c", DataType::Float64, true),
        Field::new("d", DataType::Boolean, true),
        Field::new("e", list, true),
        Field::new("f", DataType::Struct(deep), true),
        Field::new("n", DataType::UInt32, true),
    ])
}

fn column(schema: &Schema, lines: &[&[u8]]) -> (ArrayRef, u64) {
    let typed = TypedColumns::new(schema).expect("columns for JSON");
    typed.column(&BinaryArray::from_vec(lines.to_vec()), &BooleanArray::from(vec![true; lines.len()])).expect("a column")
}

/// Which lines are in the columns.
fn check(schema: &Schema, lines: &[&[u8]]) -> Vec<bool> {
    let (column, untyped) = column(schema, lines);
    assert_eq!(column.len(), lines.len());
    let root = DataType::Struct(schema.fields().clone());
    let fits: Vec<bool> = (0..lines.len()).map(|row| column.is_valid(row)).collect();
    for (row, line) in lines.iter().enumerate() {
        let shown = String::from_utf8_lossy(line);
        let Ok(tree) = serde_json::from_slice::<Tree>(line) else {
            // Numbers that no float holds, and halves of surrogate pairs, are kept where they stand in a text column.
            assert!(!fits[row] || serde_json::from_slice::<IgnoredAny>(line).is_ok(), "{shown} is not JSON");
            continue;
        };
        let expected = matches!(tree, Tree::Map(_)) && tree.depth() <= DEEPEST && tree.fits(&root);
        assert_eq!(fits[row], expected, "{shown} and {schema}");
        if expected {
            same(&column, row, &tree, line);
        }
    }
    assert_eq!(fits.iter().filter(|fits| !**fits).count() as u64, untyped, "what does not fit is counted");
    fits
}

/// A JSON value with all its members, also those of one name.
#[derive(Debug, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Large(u64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// As a whole number, if nothing is lost.
    fn whole(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT => Some(*number as i64),
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Large(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    fn fits(&self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (Self::Null, _) | (_, DataType::Utf8) => true,
            (Self::Bool(_), DataType::Boolean) => true,
            (_, DataType::Int64) => self.whole().is_some(),
            (_, DataType::Int8) => self.whole().is_some_and(|number| i8::try_from(number).is_ok()),
            (_, DataType::UInt32) => self.whole().is_some_and(|number| u32::try_from(number).is_ok()),
            (_, DataType::Float64) => self.float().is_some(),
            (Self::List(items), DataType::List(element)) => items.iter().all(|item| item.fits(element.data_type())),
            (Self::Map(members), DataType::Struct(fields)) => {
                let fits = |field: &Arc<Field>| {
                    members.iter().filter(|(name, _)| name == field.name()).all(|(_, value)| value.fits(field.data_type()))
                };
                fields.iter().all(fits)
            }
            _ => false,
        }
    }
}

/// A cell is what `tree` is.
fn same(array: &ArrayRef, row: usize, tree: &Tree, line: &[u8]) {
    let shown = || String::from_utf8_lossy(line).into_owned();
    if *tree == Tree::Null {
        assert!(array.is_null(row), "{}: null became something", shown());
        return;
    }
    assert!(array.is_valid(row), "{}: {tree:?} became null", shown());
    match (array.data_type(), tree) {
        (DataType::Boolean, Tree::Bool(expected)) => assert_eq!(array.as_boolean().value(row), *expected, "{}", shown()),
        (DataType::Int64, tree) => assert_eq!(Some(array.as_primitive::<Int64Type>().value(row)), tree.whole(), "{}", shown()),
        (DataType::Int8, tree) => assert_eq!(Some(array.as_primitive::<Int8Type>().value(row).into()), tree.whole(), "{}", shown()),
        (DataType::UInt32, tree) => assert_eq!(Some(array.as_primitive::<UInt32Type>().value(row).into()), tree.whole(), "{}", shown()),
        (DataType::Float64, tree) => {
            let bits = |number: f64| number.to_bits();
            assert_eq!(Some(bits(array.as_primitive::<Float64Type>().value(row))), tree.float().map(bits), "{}", shown());
        }
        (DataType::Utf8, Tree::Text(expected)) => assert_eq!(array.as_string::<i32>().value(row), expected, "{}", shown()),
        (DataType::Utf8, tree) => {
            let text = array.as_string::<i32>().value(row);
            let again: Tree = serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {text} is not JSON: {error}", shown()));
            assert_eq!(again, *tree, "{}", shown());
        }
        (DataType::List(_), Tree::List(items)) => {
            let of_row = array.as_list::<i32>().value(row);
            assert_eq!(of_row.len(), items.len(), "{}", shown());
            items.iter().enumerate().for_each(|(at, item)| same(&of_row, at, item, line));
        }
        (DataType::Struct(fields), Tree::Map(members)) => {
            for (field, of_field) in fields.iter().zip(array.as_struct().columns()) {
                // Of a name that stands there twice, the last counts.
                let last = members.iter().rev().find(|(name, _)| name == field.name()).map_or(&Tree::Null, |(_, value)| value);
                same(of_field, row, last, line);
            }
        }
        (data_type, tree) => panic!("{}: {tree:?} in a column of {data_type}", shown()),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(truth))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Int(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(i64::try_from(number).map_or(Tree::Large(number), Tree::Int))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Float(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Map(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
