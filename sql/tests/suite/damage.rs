//! Damaged files: an error, never other rows.

use std::sync::atomic::Ordering;

use lakefall_queue::Error;
use serde_json::json as value;

use crate::heap::{Heap, json};

fn file(is_typed: bool) -> std::sync::Arc<Heap> {
    let heap = Heap::new();
    heap.create("t", 1);
    let records: Vec<_> = (0..300).map(|n| json(0, n, &value!({"n": n, "s": format!("text {n}")}))).collect();
    heap.append_file("t", &records, is_typed);
    heap
}

const TEXT: &str = "SELECT sum(n), min(s), max(_raw), max(_key), sum(_offset), max(_headers['kind']) FROM t";

#[tokio::test]
async fn every_damaged_byte_is_an_error_or_nothing_that_was_read() {
    for is_typed in [true, false] {
        let expected = file(is_typed).rows(TEXT).await;
        let mut refused = 0;
        for at in (4..4_000).step_by(37) {
            let heap = file(is_typed);
            heap.damage(|bytes| {
                let place = at % bytes.len();
                bytes[place] ^= 0x10;
            });
            match heap.answer(TEXT).await {
                Ok((rows, _)) => assert_eq!(rows, expected, "byte {at}"),
                Err(Error::DataUnavailable { .. }) => refused += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert!(refused > 50, "{refused} of 108");
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_or_of_another_topic_is_an_error() {
    let heap = file(true);
    heap.damage(|bytes| {
        let length = bytes.len();
        bytes[length / 2..].fill(0);
    });
    assert!(matches!(heap.refusal(TEXT).await, Error::DataUnavailable { .. }));
    let heap = Heap::new();
    heap.create("other", 1);
    heap.create("t", 2);
    heap.append_file("t", &[json(1, 7, &value!({"n": 1}))], true);
    assert_eq!(heap.rows("SELECT n FROM t").await, value!([[1]]));
}

#[tokio::test]
async fn bytes_that_were_damaged_on_the_way_are_fetched_again() {
    for is_typed in [true, false] {
        let heap = file(is_typed);
        let expected = heap.rows(TEXT).await;
        heap.damages.store(true, Ordering::SeqCst);
        assert_eq!(heap.rows(TEXT).await, expected);
    }
}
