//! Typed columns and their inference: everything that was sampled fits, in any order, and what does not fit costs nothing but
//! its columns.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema};
use bytes::Bytes;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, Timestamp, ValueKind};
use lakefall_storage::parquet::{ColumnReader, Inference, Options, ParquetError, ParquetFile, TypedColumns, Written, infer_json, verify};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::parquet_files::{read_all, write};
use crate::samples::BASE;

fn record(n: usize, value: impl Into<Bytes>) -> StoredRecord {
    StoredRecord {
        partition: PartitionIndex(3),
        offset: Offset(n as u64),
        timestamp: Timestamp::from_millis(BASE),
        appended_at: Timestamp::from_millis(BASE),
        key: None,
        value: Some(value.into()),
        kind: ValueKind::Json,
        headers: Vec::new(),
        properties: None,
    }
}

fn records(values: &[Value]) -> Vec<StoredRecord> {
    values.iter().enumerate().map(|(n, value)| record(n, value.to_string())).collect()
}

fn inferred(values: &[Value]) -> Option<Schema> {
    infer_json(None, &records(values), 500)
}

fn with_columns(schema: &Schema, records: &[StoredRecord]) -> Written {
    let written = write(records, Options { typed: Some(TypedColumns::new(schema).unwrap()), ..Options::default() });
    assert_eq!(read_all(&written.bytes).unwrap(), records, "typed columns change nothing");
    verify(&written.bytes, Some(written.hash)).unwrap();
    written
}

fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

fn structure(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields_of(fields))
}

fn fields_of(fields: &[(&str, DataType)]) -> Fields {
    fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect()
}

/// Two values of one field, and the column that both fit into.
#[test]
fn what_differs_is_widened() {
    let (int, float, text) = (DataType::Int64, DataType::Float64, DataType::Utf8);
    let cases = [
        (json!(1), json!(null), Some(int.clone())),
        (json!(1), json!(i64::MIN), Some(int.clone())),
        (json!(1), json!(u64::MAX), Some(float.clone())),
        (json!(1), json!(0.5), Some(float.clone())),
        (json!(0.5), json!("x"), Some(text.clone())),
        (json!(1), json!("x"), Some(text.clone())),
        (json!(true), json!(1), Some(text.clone())),
        (json!(true), json!(null), Some(DataType::Boolean)),
        (json!({"a": 1}), json!({"b": "x"}), Some(structure(&[("a", int.clone()), ("b", text.clone())]))),
        (json!({"a": 1}), json!({"a": 1.5}), Some(structure(&[("a", float.clone())]))),
        (json!({"a": 1}), json!([1]), Some(text.clone())),
        (json!({}), json!({"a": null}), None),
        (json!([]), json!([null]), None),
        (json!([]), json!([1, 2.5]), Some(list(float.clone()))),
        (json!([[1]]), json!([["x"], []]), Some(list(list(text.clone())))),
        (json!([{"a": 1}]), json!([{"b": [true]}]), Some(list(structure(&[("a", int.clone()), ("b", list(DataType::Boolean))])))),
        (json!(null), json!(null), None),
    ];
    for (one, other, expected) in cases {
        for order in [[&one, &other], [&other, &one]] {
            let values = order.map(|value| json!({"f": value, "g": 1}));
            let schema = inferred(&values).unwrap();
            let found = schema.field_with_name("f").ok().map(|field| field.data_type().clone());
            match (&found, &expected) {
                // Fields stand in the order in which they were seen.
                (Some(DataType::Struct(found)), Some(DataType::Struct(expected))) => assert_eq!(sorted(found), sorted(expected)),
                (Some(DataType::List(_)), Some(DataType::List(_))) if order[0] != &one => {}
                _ => assert_eq!(found, expected, "{values:?}"),
            }
            assert_eq!(with_columns(&schema, &records(&values)).untyped, 0, "{values:?}");
        }
    }
}

#[test]
fn values_that_do_not_fit_are_counted_and_spoil_no_others() {
    let schema = Schema::new(fields_of(&[
        ("whole", DataType::Int64),
        ("small", DataType::Int8),
        ("part", DataType::Float64),
        ("list", list(DataType::Boolean)),
        ("deep", structure(&[("whole", DataType::Int64)])),
    ]));
    let fit = [
        json!({"whole": 1, "part": 2, "list": [true, null], "deep": {"whole": 3, "more": []}}),
        json!({"whole": 3.0, "part": 1e300, "small": -128}),
        json!({"unknown": [1, "x"]}),
        json!({}),
        json!({"whole": null, "list": null, "deep": null}),
    ];
    let unfit = [
        json!({"whole": 1.5}),
        json!({"whole": "1"}),
        json!({"whole": 1e300}),
        json!({"whole": 9.1e15}),
        json!({"small": 128}),
        json!({"part": "1"}),
        json!({"list": [1]}),
        json!({"list": {}}),
        json!({"deep": {"whole": true}}),
        json!([]),
        json!(1),
        json!("{}"),
    ];
    for (n, value) in unfit.iter().enumerate() {
        let mut values: Vec<Value> = fit.iter().cycle().take(10_000).cloned().collect();
        values[n * 700] = value.clone();
        assert_eq!(with_columns(&schema, &records(&values)).untyped, 1, "{value}");
    }
    assert_eq!(with_columns(&schema, &records(&unfit)).untyped, unfit.len() as u64);
    let mut others = records(&fit);
    others[0].value = None;
    others[1].kind = ValueKind::Opaque;
    others[2].value = Some(Bytes::from("{".repeat(100_000)));
    others[3].value = Some(Bytes::from(format!("{{\"whole\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))));
    others[4].value = Some(Bytes::from_static(b"{} {}"));
    assert_eq!(with_columns(&schema, &others).untyped, 4, "a tombstone has no columns to miss");
}

#[test]
fn the_next_file_goes_on_from_the_columns_of_the_last() {
    // As text: the order of names is what matters.
    let first = [record(0, r#"{"z": 1, "a": {"x": [1]}, "n": null}"#)];
    let schema = infer_json(None, &first, 100).unwrap();
    let written = with_columns(&schema, &first);
    let file = ParquetFile::open(&written.bytes, written.bytes.len() as u64).unwrap();
    let read = file.data_schema().unwrap();
    assert_eq!(*read, schema);
    let next = infer_json(Some(&read), &[record(1, r#"{"b": 1, "a": {"w": 1, "x": [0.5]}, "n": true}"#)], 100).unwrap();
    let (int, float) = (DataType::Int64, DataType::Float64);
    let expected = [("z", int.clone()), ("a", structure(&[("x", list(float)), ("w", int.clone())])), ("b", int), ("n", DataType::Boolean)];
    assert_eq!(next, Schema::new(fields_of(&expected)));
}

#[test]
fn columns_are_limited_and_what_is_left_out_stays_in_the_value() {
    let wide: Value = (0..1_000).map(|n| (format!("f{n:03}"), json!({"list": [[n]]}))).collect::<serde_json::Map<_, _>>().into();
    for most in [1, 10, 500, usize::MAX] {
        let schema = infer_json(None, &records(std::slice::from_ref(&wide)), most).unwrap_or_else(Schema::empty);
        let fields = schema.fields().len();
        assert!(fields <= most.min(500), "{fields} of at most {most}");
        if fields > 0 {
            assert_eq!(with_columns(&schema, &records(&[wide.clone(), json!({})])).untyped, 0);
        }
    }
    let deep = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    let schema = infer_json(None, &[record(0, deep.clone())], 100).unwrap();
    assert_eq!(with_columns(&schema, &[record(0, deep)]).untyped, 0);
    let mut inference = Inference::new(100);
    let too_deep = "{\"a\":".repeat(65) + "1" + &"}".repeat(65);
    for refused in ["[1]", "1", "{", "{} {}", &too_deep] {
        assert!(!inference.observe(&record(0, refused.to_owned())), "{refused}");
    }
    assert_eq!(inference.schema(), None);
}

#[test]
fn names_that_differ_in_case_only_are_one_column() {
    let values = [json!({"a": 1, "A": "x", "": 2})];
    let schema = inferred(&values).unwrap();
    assert_eq!(schema.fields().len(), 1);
    assert_eq!(with_columns(&schema, &records(&values)).untyped, 0);
}

#[test]
fn a_schema_that_cannot_be_written_is_refused_at_once() {
    let wide: Vec<Field> = (0..1_100).map(|n| Field::new(format!("f{n}"), DataType::Int64, true)).collect();
    let mut deep = DataType::Int64;
    for _ in 0..70 {
        deep = structure(&[("a", deep)]);
    }
    let interval = DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano);
    for schema in [Schema::empty(), Schema::new(wide), Schema::new(fields_of(&[("a", deep)])), Schema::new(fields_of(&[("a", interval)]))] {
        assert!(matches!(TypedColumns::new(&schema), Err(ParquetError::Unwritable(_))), "{:.100}", format!("{schema:?}"));
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-e]", inner, 0..4).prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    proptest::collection::hash_map("[a-e]", any_value(), 0..4).prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())
}

fn sorted(fields: &Fields) -> Vec<(String, DataType)> {
    let mut fields: Vec<_> = fields.iter().map(|field| (field.name().clone(), in_order(field.data_type()))).collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

/// A type whose fields are in the order of their names.
fn in_order(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(sorted(fields).into_iter().map(|(name, of)| Field::new(name, of, true)).collect()),
        DataType::List(element) => list(in_order(element.data_type())),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_that_was_sampled_fits(values in proptest::collection::vec(any_object(), 1..12)) {
        if let Some(schema) = inferred(&values) {
            prop_assert_eq!(with_columns(&schema, &records(&values)).untyped, 0);
        }
    }

    #[test]
    fn the_order_of_a_sample_and_its_cuts_do_not_matter(values in proptest::collection::vec(any_object(), 1..12), cut in 0_usize..12) {
        let whole = inferred(&values);
        let mut reversed = values.clone();
        reversed.reverse();
        let names = |schema: &Option<Schema>| schema.as_ref().map(|schema| sorted(schema.fields()));
        prop_assert_eq!(names(&inferred(&reversed)), names(&whole));
        // The schema of an earlier file stands for its values, except that it does not remember empty lists and objects.
        let (early, late) = values.split_at(cut.min(values.len()));
        let earlier = inferred(early);
        let later = infer_json(earlier.as_ref(), &records(late), 500);
        if let Some(earlier) = &earlier {
            let later = later.clone().unwrap();
            prop_assert!(later.fields().iter().map(|f| f.name()).collect::<Vec<_>>().starts_with(&earlier.fields().iter().map(|f| f.name()).collect::<Vec<_>>()));
        }
        // Again changes nothing.
        prop_assert_eq!(infer_json(later.as_ref(), &records(late), 500), later);
    }

    #[test]
    fn any_value_beside_a_schema_of_others_changes_nothing_but_the_count(sample in any_object(), values in proptest::collection::vec(any_value(), 1..8)) {
        if let Some(schema) = inferred(&[sample]) {
            prop_assert!(with_columns(&schema, &records(&values)).untyped <= values.len() as u64);
        }
    }
}

#[test]
fn single_columns_are_fetched_and_verified_alone() {
    let values: Vec<Value> = (0..500).map(|n| json!({"n": n, "deep": {"s": format!("text {n}")}})).collect();
    let written = with_columns(&inferred(&values).unwrap(), &records(&values)).bytes;
    let frozen = crate::samples::file("frozen/parquet-v1.parquet");
    // The second was written before columns had checksums: it is read with all that its only one covers.
    for (object, data, has_checksums) in [(written, &["deep"][..], true), (frozen, &[], false)] {
        let file = Arc::new(ParquetFile::open(&object, object.len() as u64).unwrap());
        let reader = ColumnReader::new(Arc::clone(&file), &["offset"], data).unwrap();
        let ranges = reader.ranges(0);
        let bytes = |object: &Bytes| ranges.iter().map(|range| object.slice(range.start as usize..range.end as usize)).collect::<Vec<_>>();
        let fetched: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let batches: Vec<_> = reader.decode(0, &bytes(&object), 100).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), file.records());
        assert_eq!(batches[0].schema(), *reader.schema());
        assert_eq!(batches[0].num_columns(), 1 + data.len());
        let mut between = 0;
        for at in (0..fetched as usize).step_by(41) {
            let mut damaged = object.to_vec();
            let place = ranges.iter().flat_map(|range| range.start as usize..range.end as usize).nth(at).unwrap();
            damaged[place] ^= 4;
            let refused = reader.decode(0, &bytes(&damaged.into()), 100).err();
            match refused {
                // A column that was not asked for lies there: small ones are fetched with those around them.
                None => between += 1,
                Some(error) => assert!(matches!(error, ParquetError::BadRowGroupCrc { .. }), "byte {place}: {error:?}"),
            }
        }
        assert_eq!(between > 0, has_checksums, "{between}");
        assert!(reader.decode(0, &[], 100).is_err());
        assert!(reader.decode(9, &bytes(&object), 100).is_err());
    }
}
