//! Bounds of time, memory, rows and number, and that a statement ends when nobody wants its answer any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lakefall_queue::Error;
use lakefall_queue::sql::{SqlRefusal, Statement};
use lakefall_sql::{Sql, SqlConfig};
use serde_json::json as value;

use crate::heap::{Heap, answer, json, statement};

fn numbers(count: u64) -> Arc<Heap> {
    let heap = Heap::new();
    heap.create("t", 1);
    heap.append("t", (0..count).map(|n| json(0, n, &value!({"n": n, "s": format!("a text that is long enough {n}")}))).collect());
    heap
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended() {
    let heap = numbers(10);
    heap.hangs.store(true, Ordering::SeqCst);
    let sql = Sql::new(SqlConfig::default());
    let asked = Statement { timeout: Some(Duration::from_millis(50)), ..statement("SELECT n FROM t") };
    let refused = answer(&sql, &heap, asked).await.unwrap_err();
    assert_eq!(refused, SqlRefusal::TimedOut { after: Duration::from_millis(50) }.into());
    let endless = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT count(*) FROM r";
    let asked = Statement { timeout: Some(Duration::from_millis(50)), ..statement(endless) };
    assert!(matches!(answer(&sql, &heap, asked).await, Err(Error::Sql(SqlRefusal::TimedOut { .. } | SqlRefusal::LimitExceeded { .. }))));
}

#[tokio::test]
async fn a_statement_that_needs_too_much_memory_is_refused() {
    let heap = numbers(60_000);
    let sql = Sql::new(SqlConfig { memory_bytes: 12 << 20, ..SqlConfig::default() });
    let refused = answer(&sql, &heap, statement("SELECT s, count(*) FROM t GROUP BY s ORDER BY s")).await.unwrap_err();
    assert!(matches!(refused, Error::Sql(SqlRefusal::LimitExceeded { .. })), "{refused}");
    let (rows, _) = answer(&sql, &heap, statement("SELECT count(s) FROM t")).await.unwrap();
    assert_eq!(rows, value!([[60_000]]), "others go on");
}

#[tokio::test]
async fn rows_beyond_the_bound_are_left_out_and_that_is_told() {
    let heap = numbers(100);
    let sql = Sql::new(SqlConfig { max_rows: 50, ..SqlConfig::default() });
    let (rows, statistics) = answer(&sql, &heap, statement("SELECT n FROM t ORDER BY n")).await.unwrap();
    assert_eq!((rows.as_array().map(Vec::len), statistics.rows, statistics.truncated), (Some(50), 50, true));
    let asked = Statement { max_rows: Some(7), ..statement("SELECT n FROM t ORDER BY n") };
    let (rows, statistics) = answer(&sql, &heap, asked).await.unwrap();
    assert_eq!((rows.as_array().map(Vec::len), statistics.truncated), (Some(7), true));
    let (_, statistics) = answer(&sql, &heap, statement("SELECT n FROM t LIMIT 50")).await.unwrap();
    assert_eq!((statistics.rows, statistics.truncated), (50, false));
}

#[tokio::test]
async fn more_statements_than_may_be_answered_are_sent_away_until_one_ends() {
    let heap = numbers(10);
    heap.hangs.store(true, Ordering::SeqCst);
    let sql = Sql::new(SqlConfig { max_concurrent: 1, ..SqlConfig::default() });
    let one = sql.run(Arc::clone(&heap) as _, statement("SELECT _offset FROM t")).await.unwrap();
    assert!(matches!(answer(&sql, &heap, statement("SELECT 1")).await, Err(Error::Unavailable { .. })));
    drop(one);
    assert_eq!(answer(&sql, &heap, statement("SELECT 1")).await.unwrap().0, value!([[1]]));
}

#[tokio::test]
async fn what_is_read_for_an_answer_ends_with_it() {
    let heap = numbers(2_000);
    heap.hangs.store(true, Ordering::SeqCst);
    let sql = Sql::new(SqlConfig::default());
    let mut rows = sql.run(Arc::clone(&heap) as _, statement("SELECT _offset FROM t")).await.unwrap();
    assert!(rows.next().await.unwrap().is_some());
    assert_eq!(heap.reading.load(Ordering::SeqCst), 1);
    drop(rows);
    while heap.reading.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}
