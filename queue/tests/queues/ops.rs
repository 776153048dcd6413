//! What may happen to queues, as small numbers that proptest can draw and shrink.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) struct GroupOp {
    /// The clock's jump since the last group, in milliseconds; may be negative.
    pub(crate) jump_ms: i64,
    pub(crate) ops: Vec<Op>,
    pub(crate) checkpoint: CheckpointOp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CheckpointOp {
    Nothing,
    Take,
    Land,
    Fail,
    /// The owner dies; another one goes on from what is stored.
    Recover,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    PutTopic { topic: u8, partitions: u32 },
    DeleteTopic { topic: u8 },
    PutQueue { queue: u8, topics: u8, bound: Option<(u64, bool)>, max_in_flight: Option<u64>, priorities: u8 },
    DeleteQueue { queue: u8 },
    Seek { queue: u8, to: u8, share: u8 },
    Append { topic: u8, partition: u32, records: u32 },
    Trim { topic: u8, partition: u32, share: u8 },
    Receive { queue: u8, stale: bool, look: u8, overlap: u8, seed: u8, wants: Vec<WantOp> },
    Settle { queue: u8, items: Vec<ItemOp>, atom: Option<u32> },
    Wake { ahead_ms: i64 },
}

#[derive(Clone, Debug)]
pub(crate) struct WantOp {
    pub(crate) max: u32,
    pub(crate) lease_ms: u64,
    pub(crate) request: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct ItemOp {
    /// Which of the grants given out, from the newest.
    pub(crate) back: u8,
    /// Off by so much.
    pub(crate) shift: i8,
    pub(crate) count: u8,
    pub(crate) action: ActionOp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ActionOp {
    Ack,
    Release(u16),
    Undelivered(u16),
    Extend(u16),
    Bury,
    Cancel,
}

fn item() -> impl Strategy<Value = ItemOp> {
    let action = prop_oneof![
        4 => Just(ActionOp::Ack),
        2 => prop_oneof![Just(0), 0..3_000_u16].prop_map(ActionOp::Release),
        1 => prop_oneof![Just(0), 0..3_000_u16].prop_map(ActionOp::Undelivered),
        1 => prop_oneof![Just(0), 0..3_000_u16].prop_map(ActionOp::Extend),
        1 => Just(ActionOp::Bury),
        1 => Just(ActionOp::Cancel),
    ];
    (0..12_u8, prop_oneof![6 => Just(0_i8), 1 => -2..3_i8], prop_oneof![3 => Just(1_u8), 1 => 1..40_u8], action)
        .prop_map(|(back, shift, count, action)| ItemOp { back, shift, count, action })
}

fn want() -> impl Strategy<Value = WantOp> {
    let lease = prop_oneof![1 => Just(0_u64), 6 => 1..2_000_u64, 2 => Just(30_000_u64)];
    (prop_oneof![4 => 0..12_u32, 1 => 100..5_000_u32], lease, proptest::option::weighted(0.2, 0..4_u8))
        .prop_map(|(max, lease_ms, request)| WantOp { max, lease_ms, request })
}

fn op() -> impl Strategy<Value = Op> {
    let records = prop_oneof![8 => 1..30_u32, 1 => 1_000..4_500_u32];
    let bound = proptest::option::weighted(0.3, (1..60_u64, any::<bool>()));
    prop_oneof![
        1 => (0..3_u8, 1..4_u32).prop_map(|(topic, partitions)| Op::PutTopic { topic, partitions }),
        1 => (0..12_u8).prop_map(|topic| Op::DeleteTopic { topic }),
        3 => (0..3_u8, 1..8_u8, bound, proptest::option::weighted(0.3, 1..30_u64), 1..11_u8).prop_map(
            |(queue, topics, bound, max_in_flight, priorities)| Op::PutQueue { queue, topics, bound, max_in_flight, priorities }
        ),
        1 => (0..12_u8).prop_map(|queue| Op::DeleteQueue { queue }),
        1 => (0..3_u8, 0..4_u8, any::<u8>()).prop_map(|(queue, to, share)| Op::Seek { queue, to, share }),
        8 => (0..3_u8, 0..3_u32, records).prop_map(|(topic, partition, records)| Op::Append { topic, partition, records }),
        1 => (0..3_u8, 0..3_u32, any::<u8>()).prop_map(|(topic, partition, share)| Op::Trim { topic, partition, share }),
        16 => (0..3_u8, proptest::bool::weighted(0.05), any::<u8>(), 0..6_u8, any::<u8>(), proptest::collection::vec(want(), 0..4)).prop_map(
            |(queue, stale, look, overlap, seed, wants)| Op::Receive { queue, stale, look, overlap, seed, wants }
        ),
        14 => (0..3_u8, proptest::collection::vec(item(), 1..5), proptest::option::weighted(0.3, 0..5_u32))
            .prop_map(|(queue, items, atom)| Op::Settle { queue, items, atom }),
        2 => (-500..3_000_i64).prop_map(|ahead_ms| Op::Wake { ahead_ms }),
    ]
}

pub(crate) fn history(groups: usize) -> impl Strategy<Value = Vec<GroupOp>> {
    let jump = prop_oneof![4 => 0..400_i64, 2 => 400..4_000_i64, 1 => -1_000..0_i64, 1 => Just(40_000_i64)];
    let checkpoint = prop_oneof![
        6 => Just(CheckpointOp::Nothing),
        2 => Just(CheckpointOp::Take),
        2 => Just(CheckpointOp::Land),
        1 => Just(CheckpointOp::Fail),
        1 => Just(CheckpointOp::Recover),
    ];
    let group = (jump, proptest::collection::vec(op(), 0..6), checkpoint).prop_map(|(jump_ms, ops, checkpoint)| GroupOp {
        jump_ms,
        ops,
        checkpoint,
    });
    proptest::collection::vec(group, 1..groups)
}
