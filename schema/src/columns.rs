//! Columns in general: how many there may be, and what two versions of a schema have together.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

/// Most columns of a schema, structs and lists included. What comes later stays in the value only.
pub const MOST_COLUMNS: usize = 400;

/// How many columns may still be made.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_COLUMNS)
    }
}

impl Budget {
    /// As many of the fields as there is room for. They have theirs before anything inside of them, so that a deep one does not
    /// take it from its neighbours.
    pub(crate) fn of<T>(&mut self, fields: impl Iterator<Item = T>) -> Vec<T> {
        fields.take_while(|_| self.take()).collect()
    }

    /// Room for one more.
    pub(crate) fn take(&mut self) -> bool {
        let room = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        room
    }
}

pub(crate) fn nullable(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

/// A list of elements of a type; the name of its element is the one that Parquet asks for.
pub(crate) fn list(element: DataType) -> DataType {
    DataType::List(nullable("element", element))
}

/// An instant. Iceberg has microseconds.
pub(crate) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A struct, or text where it would have no fields: Parquet has no empty ones.
pub(crate) fn structure(fields: Vec<FieldRef>) -> DataType {
    if fields.is_empty() { DataType::Utf8 } else { DataType::Struct(fields.into()) }
}

/// The columns that both have, in the order of `earlier`, then what only `later` has: types that do not agree are widened, as
/// far as to text. At most [`MOST_COLUMNS`].
pub fn union(earlier: &Fields, later: &Fields) -> Fields {
    capped(&both(earlier, later), &mut Budget::default())
}

fn both(earlier: &Fields, later: &Fields) -> Fields {
    let mut of_later: BTreeMap<&str, &FieldRef> = later.iter().map(|field| (field.name().as_str(), field)).collect();
    let mut fields: Vec<FieldRef> = Vec::with_capacity(earlier.len());
    for field in earlier {
        let widened = match of_later.remove(field.name().as_str()) {
            Some(other) => wider(field.data_type(), other.data_type()),
            None => field.data_type().clone(),
        };
        fields.push(nullable(field.name(), widened));
    }
    fields.extend(later.iter().filter(|field| of_later.contains_key(field.name().as_str())).cloned());
    fields.into()
}

/// Without the fields that there is no room for.
fn capped(fields: &Fields, budget: &mut Budget) -> Fields {
    let kept = budget.of(fields.iter());
    kept.into_iter().map(|field| nullable(field.name(), capped_type(field.data_type(), budget))).collect()
}

fn capped_type(data_type: &DataType, budget: &mut Budget) -> DataType {
    match data_type {
        DataType::Struct(fields) => structure(capped(fields, budget).to_vec()),
        DataType::List(element) if budget.take() => list(capped_type(element.data_type(), budget)),
        DataType::List(_) => DataType::Utf8,
        plain => plain.clone(),
    }
}

/// The narrowest type that holds the values of both.
pub(crate) fn wider(one: &DataType, other: &DataType) -> DataType {
    use DataType::{Float32, Float64, Int32, Int64, List, Struct, Timestamp, Utf8};
    match (one, other) {
        _ if one == other => one.clone(),
        (Int32, Int64) | (Int64, Int32) => Int64,
        (Int32 | Int64 | Float32 | Float64, Int32 | Int64 | Float32 | Float64) => Float64,
        (Struct(one), Struct(other)) => Struct(both(one, other)),
        (List(one), List(other)) => list(wider(one.data_type(), other.data_type())),
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => instant(),
        _ => Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(of: &[(&str, DataType)]) -> Fields {
        of.iter().map(|(name, data_type)| nullable(name, data_type.clone())).collect()
    }

    #[test]
    fn versions_have_the_columns_of_both_in_the_order_in_which_they_came() {
        let earlier = fields(&[("id", DataType::Int32), ("at", DataType::Utf8), ("price", DataType::Int64)]);
        let later = fields(&[("new", DataType::Boolean), ("price", DataType::Float64), ("id", DataType::Int64)]);
        let both = fields(&[("id", DataType::Int64), ("at", DataType::Utf8), ("price", DataType::Float64), ("new", DataType::Boolean)]);
        assert_eq!(union(&earlier, &later), both);
    }

    #[test]
    fn what_does_not_agree_becomes_text_and_structs_grow() {
        let inner = |of: &[(&str, DataType)]| DataType::Struct(fields(of));
        let one = inner(&[("a", DataType::Int64)]);
        let other = inner(&[("a", DataType::Boolean), ("b", DataType::Utf8)]);
        assert_eq!(wider(&one, &other), inner(&[("a", DataType::Utf8), ("b", DataType::Utf8)]));
        assert_eq!(wider(&list(DataType::Int32), &list(DataType::Int64)), list(DataType::Int64));
        assert_eq!(wider(&one, &DataType::Int64), DataType::Utf8);
    }
}
