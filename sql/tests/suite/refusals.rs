//! What is wrong with a statement, and how it is told.

use lakefall_queue::Error;
use lakefall_queue::sql::SqlRefusal;
use serde_json::json as value;

use crate::heap::{Heap, json};

fn heap() -> std::sync::Arc<Heap> {
    let heap = Heap::new();
    heap.create("flights", 1);
    heap.append("flights", (0..3).map(|n| json(0, n, &value!({"carrier": "AA", "n": n}))).collect());
    heap
}

#[tokio::test]
async fn a_wrong_statement_names_what_is_wrong_and_where() {
    for (text, words, place) in [
        ("SELEC 1", "SELEC", Some((1, 1))),
        ("SELECT 1 FROM", "identifier", None),
        ("SELECT\n carier FROM flights", "carrier", Some((2, 2))),
        ("SELECT count(*) FROM flights GROUP BY nothing", "nothing", None),
        ("SELECT nofunction(n) FROM flights", "nofunction", None),
        ("SELECT carrier FROM flights WHERE n", "", None),
        ("SELECT CAST('x' AS INT)", "x", None),
        ("SELECT n / 0 FROM flights", "ivide by zero", None),
        ("SELECT carrier, count(*) FROM flights", "carrier", None),
    ] {
        match heap().refusal(text).await {
            Error::Sql(SqlRefusal::Invalid { reason, place: found }) => {
                assert!(reason.contains(words), "{text}: {reason}");
                if place.is_some() {
                    assert_eq!(found, place, "{text}: {reason}");
                }
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named() {
    for (text, table) in [
        ("SELECT * FROM flight", "flight"),
        ("SELECT * FROM Flights", "Flights"),
        ("SELECT * FROM flights JOIN trains ON true", "trains"),
        ("SELECT * FROM system.nothing", "system.nothing"),
        ("SELECT * FROM information_schema.tables", "information_schema.tables"),
        ("SELECT * FROM web.logs", "web.logs"),
        ("SELECT * FROM \"/etc/passwd\"", "/etc/passwd"),
        ("SELECT * FROM 'https://example.org/x.parquet'", "https://example.org/x.parquet"),
    ] {
        match heap().refusal(text).await {
            Error::Sql(SqlRefusal::TableNotFound { table: found, .. }) => assert_eq!(found.trim_matches('"'), table, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
