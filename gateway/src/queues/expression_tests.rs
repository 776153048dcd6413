//! What expressions say of records, and which are refused.

use bytes::Bytes;
use lakefall_queue::{Header, Offset, PartitionIndex, Timestamp};

use super::*;

fn record(value: &str) -> StoredRecord {
    StoredRecord {
        partition: PartitionIndex(3),
        offset: Offset(42),
        timestamp: Timestamp::from_millis(1_000),
        appended_at: Timestamp::from_millis(2_000),
        key: Some(Bytes::from_static(b"eu.orders")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        kind: ValueKind::Json,
        headers: vec![
            Header { name: "region".into(), value: Some(Bytes::from_static(b"eu")) },
            Header { name: "region".into(), value: Some(Bytes::from_static(b"us")) },
            Header { name: "raw".into(), value: Some(Bytes::from_static(b"\xff")) },
        ],
        properties: None,
    }
}

fn matches(expression: &str, value: &str) -> bool {
    let (topic, record) = (TopicName::new("orders").unwrap(), record(value));
    Expression::compile("filter", expression).unwrap().matches(&Spoken::new(&topic, &record))
}

fn refusal(expression: &str) -> String {
    match Expression::compile("filter", expression) {
        Err(Error::Invalid { field, reason }) if field == "filter" => reason,
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn an_expression_speaks_of_everything_that_a_record_has() {
    for truth in [
        "key == 'eu.orders' && topic == 'orders' && partition == 3 && offset == 42 && timestamp == 1000",
        "headers.region == 'eu'",
        "headers['region'] in ['eu', 'us']",
        "value.amount > 10 && value.amount < 10.9",
        "value.items[0].sku.startsWith('a') && size(value.items) == 2",
        "has(value.amount) && !has(value.absent)",
        "!('absent' in headers)",
        "value.flag ? true : false",
        "value.big == 18446744073709551615u",
    ] {
        assert!(matches(truth, r#"{"amount":10.5,"items":[{"sku":"ab"},1],"flag":true,"big":18446744073709551615}"#), "{truth}");
    }
}

#[test]
fn what_cannot_be_evaluated_or_is_no_truth_does_not_match() {
    for expression in ["value.absent == 1", "headers.absent == 'a'", "1", "'true'", "value.a > 'b'", "1 / 0 == 1", "value.a.b.c"] {
        assert!(!matches(expression, r#"{"a":1}"#), "{expression}");
    }
    assert!(matches("value == 'not json'", "not json"));
    assert!(!matches("value.a == 1", "{\"a\":1"));
    assert!(matches("value == null", &format!("\"{}\"", "x".repeat(VALUE_MAX_BYTES))), "a large body is not read");
}

#[test]
fn a_refusal_says_where_the_expression_is_wrong() {
    assert!(refusal("value.a ==").starts_with("the expression cannot be read: line 1, column "), "{}", refusal("value.a =="));
    assert!(
        refusal("key == 'a' &&\n  body == 1").contains("line 2, column 3: there is no \"body\""),
        "{}",
        refusal("key == 'a' &&\n  body == 1")
    );
    assert!(refusal("key.matches('a+')").contains("there is no function \"matches\""));
    assert!(refusal("value.items.exists(x, x == 1)").contains("not allowed in a filter"));
    assert!(refusal("").contains("cannot be read"));
    assert!(refusal(&"a".repeat(5_000)).contains("5000 bytes"));
}

#[test]
fn an_expression_that_would_cost_much_is_refused() {
    assert!(refusal(&vec!["key"; 20].join(" + ")).contains("additions"));
    assert!(refusal(&vec!["true"; 600].join("||")).contains("operators"));
    for deep in [
        format!("{}true{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("{}true", "!".repeat(4_000)),
        "[".repeat(4_000),
        "-".repeat(4_000),
    ] {
        let _ = Expression::compile("filter", &deep);
    }
}
