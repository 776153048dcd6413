//! Filter expressions: an input is an expression and, below a line of three dashes, a record's value.

use lakefall_gateway::Filters;
use lakefall_queue::StoredRecord;

use super::records::{TOPIC, queue, record, topic};

/// No panic, bounded time and memory; and the laws of logic: an expression and its opposite are not both true, and `and true` and
/// `or false` change nothing.
pub fn filter_expression(input: &[u8]) -> bool {
    let (expression, value) = match input.windows(5).position(|window| window == b"\n---\n") {
        Some(at) => (&input[..at], &input[at + 5..]),
        None => (input, &b"{\"n\":1,\"items\":[\"a\",2],\"a\":{\"b\":null}}"[..]),
    };
    let Ok(expression) = std::str::from_utf8(expression) else { return false };
    let Ok(filters) = Filters::new(&queue(Some(expression), None)) else { return false };
    let mut text = record(None, value);
    text.kind = lakefall_queue::ValueKind::Opaque;
    let records = [record(Some(b"eu.orders"), value), text, record(Some(b"\xff"), b"[1, \"x\", {\"a\": 1e300}]")];
    let takes = |filters: &Filters, record: &StoredRecord| filters.take(TOPIC, &topic(), record);
    // A comment would reach to the end.
    let within = |before: &str, after: &str| Filters::new(&queue(Some(&format!("{before}({expression}\n){after}")), None)).ok();
    for record in &records {
        let taken = takes(&filters, record);
        assert_eq!(takes(&filters, record), taken, "another answer for the same record");
        if let Some(opposite) = within("!", "") {
            assert!(!(taken && takes(&opposite, record)), "{expression:?} and its opposite are true");
        }
        for same in [within("", " && true"), within("", " || false"), within("true && ", "")].into_iter().flatten() {
            assert_eq!(takes(&same, record), taken, "{expression:?}");
        }
    }
    true
}
