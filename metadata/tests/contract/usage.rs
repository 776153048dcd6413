//! Usage in the tables. Rows by hand: what a ledger makes of them is not the stores' affair.

use lakefall_queue::ledger::{Row, RowKey, proto};
use lakefall_queue::usage::Grain;
use lakefall_queue::{NamespaceName, Timestamp, TopicId};

use crate::bench::{Bench, sorted};
use crate::queues::written;
use crate::suite::Kind;

fn used(namespace: &str, topic: u64, grain: i32, start_ms: i64, counts: &[u64]) -> Row {
    Row::Usage(proto::UsageRow { namespace: namespace.to_owned(), topic, grain, start_ms, counts: counts.to_vec() })
}

fn reporter(id: u128, sequence: u64) -> Row {
    Row::UsageReporter(proto::UsageReporterRow { reporter: id.to_be_bytes().to_vec().into(), sequence, seen_ms: -1 })
}

async fn stored(bench: &Bench) -> Vec<Row> {
    let of_usage = |row: &Row| matches!(row, Row::Usage(_) | Row::UsageReporter(_));
    sorted(bench.load().await.rows.into_iter().filter(of_usage).collect())
}

pub(crate) async fn rows_of_usage_are_written_added_to_and_deleted<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let hour = 3_600_000;
    let first = [
        used("default", 0, 0, hour, &[1, 0, u64::MAX]),
        used("default", 0, 1, 0, &[]),
        used("default", u64::MAX, 0, hour, &[7]),
        used("other", 1, 1, -86_400_000, &[1; 16]),
        reporter(u128::MAX, u64::MAX),
        reporter(1, 1),
    ];
    written(&mut bench, &first, &[]).await;
    assert_eq!(stored(&bench).await, sorted(first.to_vec()));

    let key = |namespace: &str, topic: Option<u64>, grain, start| {
        RowKey::Usage((NamespaceName::new(namespace).unwrap(), topic.map(TopicId), grain, Timestamp::from_millis(start)))
    };
    let gone = [
        key("default", None, Grain::Hour, hour),
        key("default", Some(u64::MAX), Grain::Hour, hour),
        key("other", Some(1), Grain::Day, 0),
        RowKey::UsageReporter(1),
        RowKey::UsageReporter(77),
    ];
    written(&mut bench, &[used("default", 0, 1, 0, &[5, 5]), reporter(u128::MAX, 3)], &gone).await;
    let left = vec![used("default", 0, 1, 0, &[5, 5]), used("other", 1, 1, -86_400_000, &[1; 16]), reporter(u128::MAX, 3)];
    assert_eq!(stored(&bench).await, sorted(left));
}

pub(crate) async fn more_rows_of_usage_than_a_statement_takes_are_all_written<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let many: Vec<Row> = (0..6_000).map(|topic| used("default", topic, 0, 0, &[topic, 1])).collect();
    written(&mut bench, &many, &[]).await;
    assert_eq!(stored(&bench).await, sorted(many.clone()));
    let gone: Vec<RowKey> = many.iter().filter_map(Row::key).collect();
    written(&mut bench, &[], &gone).await;
    assert_eq!(stored(&bench).await, Vec::new());
}
