//! What rows a topic has: those of files, of extents and of the tail, each once, with the columns that their values have.

use lakefall_queue::Error;
use lakefall_queue::sql::{Parameter, Parameters};
use lakefall_sql::{Sql, SqlConfig};
use serde_json::{Value, json as value};

use crate::heap::{BASE, Heap, answer, json, statement};

fn flight(n: u64) -> Value {
    value!({"carrier": (["AA", "UA", "DL"])[n as usize % 3], "delay": n as i64 - 10, "plane": {"tail": format!("N{n}"), "seats": [n, 2]}})
}

/// Ten flights in a typed file, ten in an untyped one, ten in an extent, and five in another partition.
fn flights() -> std::sync::Arc<Heap> {
    let heap = Heap::new();
    heap.create("flights", 2);
    let records = |partition, range: std::ops::Range<u64>| range.map(|n| json(partition, n, &flight(n))).collect::<Vec<_>>();
    heap.append_file("flights", &records(0, 0..10), true);
    heap.append_file("flights", &records(0, 10..20), false);
    heap.append("flights", records(0, 20..30));
    heap.append("flights", records(1, 0..5));
    heap
}

#[tokio::test]
async fn history_and_tail_are_one_table() {
    let heap = flights();
    let rows = heap
        .rows("SELECT carrier, count(*), avg(delay), min(_offset), max(_partition) FROM flights GROUP BY carrier ORDER BY carrier")
        .await;
    let average = |carrier: u64| {
        let delays = (0..30).chain(0..5).filter(|n| n % 3 == carrier).map(|n| n as f64 - 10.0).collect::<Vec<_>>();
        delays.iter().sum::<f64>() / delays.len() as f64
    };
    assert_eq!(rows, value!([["AA", 12, average(0), 0, 1], ["DL", 11, average(2), 2, 1], ["UA", 12, average(1), 1, 1]]));
}

#[tokio::test]
async fn records_have_the_columns_that_every_topic_has() {
    let heap = flights();
    for offset in [3, 13, 23] {
        let text = format!(
            "SELECT _partition, _offset, _timestamp, _appended_at, _key, _headers['kind'], _raw FROM flights \
             WHERE _partition = 0 AND _offset = {offset}"
        );
        let rows = heap.rows(&text).await;
        let time = |millis: i64| lakefall_queue::Timestamp::from_millis(millis).to_string();
        let expected = value!([[
            0,
            offset,
            time(BASE + offset * 1_000),
            time(BASE + offset * 1_000 + 5),
            format!("key {}", offset % 3),
            format!("h{offset}"),
            flight(offset as u64).to_string()
        ]]);
        assert_eq!(rows, expected, "at {offset}");
    }
}

#[tokio::test]
async fn fields_of_fields_and_items_of_lists_are_reached() {
    let heap = flights();
    let text = "SELECT plane['tail'], plane['seats'][1] FROM flights WHERE _offset % 10 = 7 ORDER BY _offset";
    assert_eq!(heap.rows(text).await, value!([["N7", 7], ["N17", 17], ["N27", 27]]));
}

#[tokio::test]
async fn nothing_below_the_log_start_is_a_row() {
    let heap = flights();
    heap.trim("flights", 4);
    let (rows, _) = heap.answer("SELECT count(*) FROM flights").await.unwrap();
    assert_eq!(rows, value!([[27]]), "26 of the first partition, one of the second");
    let rows = heap.rows("SELECT _offset, carrier FROM flights WHERE _offset < 6 ORDER BY _partition, _offset").await;
    assert_eq!(rows, value!([[4, "UA"], [5, "DL"], [4, "UA"]]));
    let text = "SELECT _offset FROM flights WHERE _partition = 0 ORDER BY _offset LIMIT 2";
    assert_eq!(heap.rows(text).await, value!([[4], [5]]));
}

#[tokio::test]
async fn types_that_differ_between_parts_are_widened_and_nothing_is_lost() {
    let heap = Heap::new();
    heap.create("t", 1);
    let records = |at: u64, values: &[Value]| values.iter().zip(at..).map(|(value, n)| json(0, n, value)).collect::<Vec<_>>();
    heap.append_file("t", &records(0, &[value!({"n": 1, "x": 1, "s": {"a": 1}}), value!({"n": 2})]), true);
    heap.append("t", records(2, &[value!({"n": 2.5, "x": "text", "s": {"b": "z"}, "new": true}), value!([1]), value!({"n": null})]));
    let rows = heap.rows("SELECT n, x, s, \"new\" FROM t ORDER BY _offset").await;
    let expected = value!([
        [1.0, "1", {"a": 1, "b": null}, null],
        [2.0, null, null, null],
        [2.5, "text", {"a": null, "b": "z"}, true],
        [null, null, null, null],
        [null, null, null, null]
    ]);
    assert_eq!(rows, expected);
    let (_, statistics) = heap.answer("SELECT n FROM t").await.unwrap();
    assert_eq!(statistics.untyped, 1, "an array has no fields");
}

#[tokio::test]
async fn records_that_are_no_json_have_no_columns_of_their_own() {
    let heap = Heap::new();
    heap.create("raw", 1);
    let mut records: Vec<_> = (0..3).map(|n| json(0, n, &value!({}))).collect();
    for record in &mut records {
        record.kind = lakefall_queue::ValueKind::Opaque;
    }
    records[0].value = Some(bytes::Bytes::from_static(b"text"));
    records[1].value = Some(bytes::Bytes::from_static(&[0xff, 0x00]));
    records[2].value = None;
    records[2].key = Some(bytes::Bytes::from_static(&[0xff]));
    heap.append_file("raw", &records, false);
    let rows = heap.rows("SELECT * FROM raw ORDER BY _offset").await;
    assert_eq!(rows[0].as_array().unwrap().len(), 7);
    assert_eq!((&rows[0][6], &rows[1][6], &rows[2][6]), (&value!("text"), &value!("/wA="), &value!(null)));
    assert_eq!(rows[2][4], value!(null), "a key that is no text");
    assert_eq!(heap.rows("SELECT count(*) FROM raw WHERE _key IS NULL").await, value!([[1]]));
    assert_eq!(heap.rows("SELECT count(_raw) FROM raw WHERE CAST(_raw AS BYTEA) IS NOT NULL").await, value!([[2]]));
}

#[tokio::test]
async fn an_empty_topic_is_an_empty_table() {
    let heap = Heap::new();
    heap.create("empty", 3);
    assert_eq!(heap.rows("SELECT count(*), max(_offset) FROM empty").await, value!([[0, null]]));
    assert_eq!(heap.rows("SELECT * FROM empty").await, value!([]));
}

#[tokio::test]
async fn topics_are_joined_and_named_by_quotes() {
    let heap = flights();
    heap.create("air-lines.2024", 1);
    let lines = [value!({"code": "AA", "name": "American"}), value!({"code": "UA", "name": "United"})];
    heap.append("air-lines.2024", lines.iter().zip(0..).map(|(line, n)| json(0, n, line)).collect());
    let text = "SELECT l.name, count(*) FROM flights f JOIN \"air-lines.2024\" l ON f.carrier = l.code GROUP BY l.name ORDER BY 1";
    assert_eq!(heap.rows(text).await, value!([["American", 12], ["United", 12]]));
}

#[tokio::test]
async fn placeholders_have_values_by_number_or_by_name() {
    let heap = flights();
    let sql = Sql::new(SqlConfig::default());
    let listed = Parameters::Listed(vec![Parameter::Text("AA".to_owned()), Parameter::Integer(20)]);
    let text = "SELECT count(*) FROM flights WHERE carrier = $1 AND _offset < $2";
    let asked = lakefall_queue::sql::Statement { parameters: listed, ..statement(text) };
    assert_eq!(answer(&sql, &heap, asked).await.unwrap().0, value!([[9]]));
    let since = Parameter::Text(lakefall_queue::Timestamp::from_millis(BASE + 25_000).to_string());
    let named = Parameters::Named(vec![("since".to_owned(), since)]);
    let asked =
        lakefall_queue::sql::Statement { parameters: named, ..statement("SELECT count(*) FROM flights WHERE _timestamp >= $since") };
    assert_eq!(answer(&sql, &heap, asked).await.unwrap().0, value!([[5]]));
    assert!(matches!(heap.refusal("SELECT $1").await, Error::Sql(_)), "a placeholder without a value");
}

#[tokio::test]
async fn watermarks_tell_what_was_seen() {
    let heap = flights();
    heap.trim("flights", 3);
    let sql = Sql::new(SqlConfig::default());
    let rows = sql.run(heap, statement("SELECT 1 FROM flights")).await.unwrap();
    let seen: Vec<_> = rows.watermarks().iter().map(|mark| (mark.partition.0, mark.log_start.0, mark.end.0)).collect();
    assert_eq!(seen, [(0, 3, 30), (1, 3, 5)]);
}

#[tokio::test]
async fn what_a_namespace_has_is_in_tables_too() {
    let heap = flights();
    assert_eq!(heap.rows("SELECT name, partitions, records FROM system.topics").await, value!([["flights", 2, 35]]));
    let tables = heap.rows("SHOW TABLES").await;
    assert_eq!(tables[0], value!(["system", "cursors"]));
    assert_eq!(tables[5], value!(["topics", "flights"]));
    let columns = heap.rows("DESCRIBE flights").await;
    let names: Vec<&str> = columns.as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(names, ["_partition", "_offset", "_timestamp", "_appended_at", "_key", "_headers", "_raw", "carrier", "delay", "plane"]);
    let plan = heap.rows("EXPLAIN SELECT carrier FROM flights WHERE _offset > 25").await.to_string();
    assert!(plan.contains("TopicScan: topic=flights"), "{plan}");
    let plan = heap.rows("EXPLAIN ANALYZE SELECT carrier FROM flights").await.to_string();
    assert!(plan.contains("output_rows=35"), "{plan}");
}
