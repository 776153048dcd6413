//! Queues in the tables. Rows by hand: what a ledger makes of queues is not the stores' affair.

use lakefall_queue::ledger::{Row, RowKey, proto};
use lakefall_queue::{PartitionIndex, QueueId, TopicId};

use crate::bench::{Bench, sorted};
use crate::suite::Kind;

/// With numbers above `i64::MAX` where they are allowed.
fn queue(id: u64, version: u64) -> Row {
    let grant =
        proto::Grant { topic: u64::MAX, partition: 3, first: 9, count: 2, attempt: 1, until_ms: 1, undelivered: 1_023, first_leased_ms: 5 };
    Row::Queue(proto::QueueRow {
        id,
        namespace: "default".to_owned(),
        name: format!("billing-{id:x}"),
        version,
        generation: u32::MAX,
        created_ms: -1,
        config_json: r#"{"topics":["orders"],"filter":"headers.städte == '\\u0000'"}"#.to_owned(),
        bindings_json: r#"{"b":{"topic":"orders","match":{"type":"all"}}}"#.to_owned(),
        sources: vec![1, u64::MAX],
        acked_total: u64::MAX,
        dead_total: 7,
        receives: vec![proto::RememberedReceive { request: vec![1; 16].into(), until_ms: 5, grants: vec![grant] }],
        returned: vec![proto::ReturnedLease { topic: u64::MAX, partition: 3, offset: u64::MAX, attempt: 2, at_ms: -1 }],
    })
}

fn place(queue: u64, partition: u32, floor: u64) -> Row {
    let row = proto::QueuePartitionRow { queue, topic: 1, partition, floor, head: floor + 5, scanned: u64::MAX };
    Row::QueuePartition(row)
}

fn block(queue: u64, partition: u32, block: u64, entries: usize) -> Row {
    Row::QueueBlock(proto::QueueBlockRow {
        queue,
        topic: 1,
        partition,
        block,
        finished: vec![0b1010_0001; 512].into(),
        entries: (0..entries * 12).map(|n| n as u8).collect::<Vec<_>>().into(),
        groups: vec![7; entries * 10].into(),
        ..Default::default()
    })
}

fn all_finished(queue: u64, number: u64) -> Row {
    Row::QueueBlock(proto::QueueBlockRow { queue, topic: 1, partition: 0, block: number, all_finished: true, ..Default::default() })
}

/// Writes the rows with a checkpoint, and deletes these.
pub(crate) async fn written(bench: &mut Bench, rows: &[Row], gone: &[RowKey]) {
    bench.group(Vec::new()).await;
    let mut checkpoint = bench.ledger.checkpoint();
    checkpoint.puts.extend_from_slice(rows);
    checkpoint.deletes.extend_from_slice(gone);
    bench.store.checkpoint(&bench.lease, &checkpoint).await.unwrap();
}

async fn stored(bench: &Bench) -> Vec<Row> {
    let of_queues = |row: &Row| matches!(row, Row::Queue(_) | Row::QueuePartition(_) | Row::QueueBlock(_));
    sorted(bench.load().await.rows.into_iter().filter(of_queues).collect())
}

pub(crate) async fn rows_of_queues_are_written_replaced_and_deleted<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let first = [
        queue(1, 1),
        queue(u64::MAX, 1),
        place(1, 0, 0),
        place(1, 1, 4_096),
        place(u64::MAX, 0, 1 << 63),
        block(1, 0, 0, 4_096),
        block(1, 0, u64::MAX >> 12, 1),
        block(1, 1, 0, 0),
        all_finished(1, 1),
        block(u64::MAX, 0, 0, 2),
    ];
    written(&mut bench, &first, &[]).await;
    assert_eq!(stored(&bench).await, sorted(first.to_vec()));

    let again = [queue(1, 2), place(1, 0, 9), block(1, 0, 0, 1)];
    let (other, topic, p0, p1) = (QueueId(u64::MAX), TopicId(1), PartitionIndex(0), PartitionIndex(1));
    let gone = [
        RowKey::Queue(other),
        RowKey::QueuePartition(other, topic, p0),
        RowKey::QueueBlock(other, topic, p0, 0),
        RowKey::QueueBlock(QueueId(1), topic, p1, 0),
        RowKey::QueueBlock(QueueId(1), topic, p0, u64::MAX >> 12),
        RowKey::QueueBlock(QueueId(1), topic, p0, 77),
    ];
    written(&mut bench, &again, &gone).await;
    let left = vec![queue(1, 2), place(1, 0, 9), place(1, 1, 4_096), block(1, 0, 0, 1), all_finished(1, 1)];
    assert_eq!(stored(&bench).await, sorted(left));
}

pub(crate) async fn more_blocks_than_a_statement_takes_are_all_written<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let many: Vec<Row> = (0..300).map(|number| block(1, 0, number, 300)).collect();
    written(&mut bench, &many, &[]).await;
    assert_eq!(stored(&bench).await, sorted(many.clone()));
    let gone: Vec<RowKey> = many.iter().filter_map(Row::key).collect();
    written(&mut bench, &[], &gone).await;
    assert_eq!(stored(&bench).await, Vec::new());
}
