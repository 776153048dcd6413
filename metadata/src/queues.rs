//! What both databases make of a queue's rows: columns for what people look for, protobuf for the rest. Must never drop a field
//! that has no column: a ledger may come to know more of a queue without a change of the tables.

use lakefall_queue::ledger::proto::{QueueBlockRow, QueuePartitionRow, QueueRow};
use prost::Message as _;

/// Messages of a block.
const BLOCK: i32 = 4_096;
/// Bytes of one of its entries.
const ENTRY: usize = 12;

/// The row without what has columns.
pub(crate) fn queue_rest(row: &QueueRow) -> Vec<u8> {
    let rest = QueueRow {
        id: 0,
        namespace: String::new(),
        name: String::new(),
        version: 0,
        generation: 0,
        created_ms: 0,
        config_json: String::new(),
        bindings_json: String::new(),
        acked_total: 0,
        dead_total: 0,
        ..row.clone()
    };
    rest.encode_to_vec()
}

/// The row without what has columns: nothing, today.
pub(crate) fn partition_rest(row: &QueuePartitionRow) -> Vec<u8> {
    let mut rest = *row;
    (rest.queue, rest.topic, rest.partition) = (0, 0, 0);
    (rest.floor, rest.head, rest.scanned) = (0, 0, 0);
    rest.encode_to_vec()
}

/// The row without its key.
pub(crate) fn block_state(row: &QueueBlockRow) -> Vec<u8> {
    QueueBlockRow { queue: 0, topic: 0, partition: 0, block: 0, ..row.clone() }.encode_to_vec()
}

/// Messages that are finished.
pub(crate) fn finished(row: &QueueBlockRow) -> i32 {
    if row.all_finished { BLOCK } else { row.finished.iter().map(|byte| byte.count_ones() as i32).sum() }
}

/// Messages that are neither finished nor plain.
pub(crate) fn entries(row: &QueueBlockRow) -> i32 {
    i32::try_from(row.entries.len() / ENTRY).unwrap_or(i32::MAX)
}
