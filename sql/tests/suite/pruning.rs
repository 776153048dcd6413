//! What is passed over without being read, and that it holds nothing that was asked for.

use serde_json::{Value, json as value};

use crate::heap::{BASE, Heap, json};

/// Four row groups of a file, then ten extents of a thousand.
fn large() -> std::sync::Arc<Heap> {
    let heap = Heap::new();
    heap.create("t", 1);
    let record = |n: u64| json(0, n, &value!({"n": n, "s": format!("{:07}", n), "even": n.is_multiple_of(2)}));
    let records: Vec<_> = (0..4 * 65_536).map(record).collect();
    heap.append_file("t", &records, true);
    for at in 0..10 {
        let base = 4 * 65_536 + at * 1_000;
        heap.append("t", (base..base + 1_000).map(record).collect());
    }
    heap
}

#[tokio::test]
async fn pieces_that_cannot_hold_a_row_are_not_read() {
    let heap = large();
    let end: u64 = 4 * 65_536 + 10_000;
    let time = |offset: u64| lakefall_queue::Timestamp::from_millis(BASE + offset as i64 * 1_000).to_string();
    let cases = [
        ("_offset = 70000".to_owned(), 1, (1, 3), (0, 10)),
        ("_offset >= 65536 AND _offset < 131072".to_owned(), 65_536, (1, 3), (0, 10)),
        (format!("_offset >= {}", end - 1_500), 1_500, (0, 4), (2, 8)),
        (format!("_timestamp < '{}'", time(10)), 10, (1, 3), (10, 0)),
        (format!("_timestamp >= '{}'", time(end - 10)), 10, (0, 4), (1, 9)),
        ("_partition = 1".to_owned(), 0, (0, 4), (0, 10)),
        ("n = 200000".to_owned(), 1, (1, 3), (10, 0)),
        ("s = '0070000'".to_owned(), 1, (1, 3), (10, 0)),
        ("n BETWEEN 65000 AND 66000".to_owned(), 1_001, (2, 2), (10, 0)),
        ("_key = 'no key'".to_owned(), 0, (0, 4), (10, 0)),
        ("even IS NULL".to_owned(), 0, (0, 4), (10, 0)),
        (format!("n > {} OR _offset < 5", end + 1), 5, (1, 3), (10, 0)),
    ];
    for (filter, expected, groups, extents) in cases {
        let (rows, statistics) = heap.answer(&format!("SELECT count(*), count(n) FROM t WHERE {filter}")).await.unwrap();
        assert_eq!(rows, value!([[expected, expected]]), "{filter}");
        assert_eq!((statistics.row_groups_read, statistics.row_groups_pruned), groups, "row groups of {filter}");
        assert_eq!((statistics.extents_read, statistics.extents_pruned), extents, "extents of {filter}");
    }
}

#[tokio::test]
async fn only_the_columns_named_are_read() {
    let heap = large();
    let bytes = async |text: &str| heap.answer(text).await.unwrap().1.bytes_read;
    let whole = bytes("SELECT max(_raw), max(s) FROM t WHERE _offset < 262144").await;
    let one = bytes("SELECT sum(CASE WHEN even THEN 1 ELSE 0 END) FROM t WHERE _offset < 262144").await;
    assert!(one * 4 < whole, "{one} of {whole}");
}

#[tokio::test]
async fn counting_all_records_reads_none() {
    let heap = large();
    let (rows, statistics) = heap.answer("SELECT count(*) FROM t").await.unwrap();
    assert_eq!(rows, value!([[4 * 65_536 + 10_000]]));
    assert_eq!((statistics.row_groups_read, statistics.extents_read), (0, 0));
}

#[tokio::test]
async fn a_limit_ends_reading_early() {
    let heap = large();
    let (rows, statistics) = heap.answer("SELECT n FROM t LIMIT 5").await.unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(5));
    assert!(statistics.row_groups_read <= 4 && statistics.extents_read == 0, "{statistics:?}");
}

#[tokio::test]
async fn sums_over_all_pieces_are_exact() {
    let heap = large();
    let end: u64 = 4 * 65_536 + 10_000;
    let rows: Value = heap.rows("SELECT sum(n), count(DISTINCT s), sum(CASE WHEN even THEN 1 ELSE 0 END) FROM t").await;
    assert_eq!(rows, value!([[end * (end - 1) / 2, end, end / 2]]));
}
