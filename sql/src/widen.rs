//! Columns of many files as those of one table: what differs is widened, and arrays of narrower types are brought to the
//! wider. The rules are those by which the files' own columns were inferred.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, GenericListArray, StructArray, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields};
use datafusion::arrow::compute::{can_cast_types, cast};

/// Most nodes of a table's typed columns. Later ones stay in the value only.
pub(crate) const MOST_NODES: usize = 900;

/// Takes the fields of `others` in. Known ones keep their place.
pub(crate) fn absorb(known: &mut Vec<FieldRef>, others: &Fields) {
    for other in others {
        match known.iter().position(|field| field.name() == other.name()) {
            Some(at) => {
                let data_type = widened(known[at].data_type(), other.data_type());
                known[at] = Arc::new(Field::new(other.name(), data_type, true));
            }
            None if nodes_of(known) + nodes(other.data_type()) <= MOST_NODES => {
                known.push(Arc::new(Field::new(other.name(), as_views(other.data_type()), true)));
            }
            None => {}
        }
    }
}

/// The type that takes both in. Types that are not inferred from JSON come from a schema somebody registered, and stay.
fn widened(known: &DataType, other: &DataType) -> DataType {
    let other = &as_views(other);
    match (known, other) {
        (known, other) if known == other => known.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        (DataType::Struct(fields), DataType::Struct(others)) => {
            let mut fields = fields.to_vec();
            absorb(&mut fields, others);
            DataType::Struct(fields.into())
        }
        (DataType::List(element), DataType::List(other)) => {
            DataType::List(Arc::new(Field::new("element", widened(element.data_type(), other.data_type()), true)))
        }
        (known, other) if is_inferred(known) && is_inferred(other) => DataType::Utf8View,
        (known, other) if is_inferred(known) && can_cast_types(known, other) => other.clone(),
        (known, _) => known.clone(),
    }
}

fn is_inferred(data_type: &DataType) -> bool {
    use DataType::{Boolean, Float64, Int64, List, Struct, Utf8View};
    matches!(data_type, Boolean | Int64 | Float64 | Utf8View | List(_) | Struct(_))
}

/// Texts and bytes as views, of which queries copy least.
pub(crate) fn as_views(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| Arc::new(Field::new(field.name(), as_views(field.data_type()), true));
    match data_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(element) => DataType::List(field(element)),
        other => other.clone(),
    }
}

/// The reverse: what JSON is decoded into.
pub(crate) fn without_views(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| Arc::new(Field::new(field.name(), without_views(field.data_type()), true));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(element) => DataType::List(field(element)),
        other => other.clone(),
    }
}

fn nodes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => 1 + nodes_of(fields),
        DataType::List(element) => 2 + nodes(element.data_type()),
        _ => 1,
    }
}

fn nodes_of(fields: &[FieldRef]) -> usize {
    fields.iter().map(|field| nodes(field.data_type())).sum()
}

/// Whether [`adapt`] brings values of `from` to what the same JSON would have been as `to`.
pub(crate) fn is_adaptable(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (from, to) if from == to => true,
        (DataType::Struct(fields), DataType::Struct(wanted)) => fields.iter().all(|field| {
            let wanted = wanted.iter().find(|wanted| wanted.name() == field.name());
            wanted.is_none_or(|wanted| is_adaptable(field.data_type(), wanted.data_type()))
        }),
        (DataType::List(element), DataType::List(wanted)) => is_adaptable(element.data_type(), wanted.data_type()),
        // As text, numbers and objects are JSON as it was sent; that is only in the value.
        (DataType::Boolean, DataType::Utf8View) => true,
        (_, DataType::Utf8View) => matches!(from, DataType::Utf8),
        (DataType::Struct(_) | DataType::List(_), _) | (_, DataType::Struct(_) | DataType::List(_)) => false,
        (from, to) => can_cast_types(from, to),
    }
}

/// Brings an array to a wider type: fields that it does not have are null.
pub(crate) fn adapt(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (DataType::Struct(_), DataType::Struct(wanted)) => {
            let found = array.as_struct();
            let column = |field: &FieldRef| match found.column_by_name(field.name()) {
                Some(column) => adapt(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), found.len())),
            };
            let columns = wanted.iter().map(column).collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(wanted.clone(), columns, found.nulls().cloned(), found.len())?))
        }
        (DataType::List(_), DataType::List(wanted)) => {
            let found = array.as_list::<i32>();
            let values = adapt(found.values(), wanted.data_type())?;
            Ok(Arc::new(GenericListArray::<i32>::try_new(wanted.clone(), found.offsets().clone(), values, found.nulls().cloned())?))
        }
        _ => cast(array, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, DataType)]) -> Fields {
        fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect()
    }

    #[test]
    fn columns_of_files_become_those_of_a_table_that_takes_all_in() {
        let mut known = Vec::new();
        absorb(&mut known, &fields(&[("a", DataType::Int64), ("b", DataType::Struct(fields(&[("x", DataType::Utf8)])))]));
        absorb(&mut known, &fields(&[("c", DataType::Boolean), ("a", DataType::Float64)]));
        absorb(&mut known, &fields(&[("b", DataType::Struct(fields(&[("y", DataType::Int64)]))), ("c", DataType::Int64)]));
        let b = DataType::Struct(fields(&[("x", DataType::Utf8View), ("y", DataType::Int64)]));
        assert_eq!(Fields::from(known), fields(&[("a", DataType::Float64), ("b", b), ("c", DataType::Utf8View)]));
    }

    #[test]
    fn a_type_that_was_registered_is_not_widened_by_what_looks_like_another() {
        let mut known = Vec::new();
        absorb(&mut known, &fields(&[("n", DataType::Int32), ("d", DataType::Date32)]));
        absorb(&mut known, &fields(&[("n", DataType::Int64), ("d", DataType::Utf8)]));
        assert_eq!(Fields::from(known), fields(&[("n", DataType::Int32), ("d", DataType::Date32)]));
    }

    #[test]
    fn an_array_gets_the_fields_that_it_lacks() {
        let inner: ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![Some(1), None]));
        let array: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), inner)]));
        let wanted = DataType::Struct(fields(&[("y", DataType::Utf8View), ("x", DataType::Float64)]));
        assert!(is_adaptable(array.data_type(), &wanted));
        let adapted = adapt(&array, &wanted).unwrap();
        assert_eq!(adapted.data_type(), &wanted);
        assert_eq!(adapted.as_struct().column(0).null_count(), 2);
        assert!(!is_adaptable(array.data_type(), &DataType::Utf8View));
        assert!(!is_adaptable(&DataType::Int64, &DataType::Utf8View), "1.0 and 1 are different texts");
    }
}
