//! What may happen to a ledger, as small numbers that proptest can draw and shrink. The lab turns them into commands
//! with the state at hand; nothing here knows a ledger.

use proptest::prelude::*;

/// A group of commands and what the owner's clock says.
#[derive(Clone, Debug)]
pub(crate) struct GroupOp {
    /// The clock's jump since the last group, in milliseconds; may be negative.
    pub(crate) jump_ms: i64,
    pub(crate) ops: Vec<Op>,
    pub(crate) checkpoint: CheckpointOp,
}

/// What the owner does about checkpoints after a group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CheckpointOp {
    Nothing,
    /// Takes one, unless one is under way.
    Take,
    /// The one under way reaches the store; this many extents per partition stay in memory.
    Land(usize),
    /// The one under way is lost.
    Fail,
}

/// A command to be.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    PutNamespace {
        namespace: u8,
        condition: ConditionOp,
    },
    DeleteNamespace {
        namespace: u8,
    },
    PutTopic {
        namespace: u8,
        topic: u8,
        partitions: u32,
        window_ms: u64,
        condition: ConditionOp,
        request: Option<(u8, u8)>,
    },
    DeleteTopic {
        namespace: u8,
        topic: u8,
        condition: ConditionOp,
    },
    Trim {
        pick: u8,
        partition: Option<u32>,
        share: u8,
    },
    PutCursor(CursorOp),
    DeleteCursor {
        namespace: u8,
        cursor: u8,
        topic: Option<u8>,
    },
    Commit {
        segment: SegmentOp,
        requests: Vec<RequestOp>,
    },
    /// Segments never seen by the ledger, and one that was.
    Refuse {
        fresh: u8,
        known: Option<u8>,
    },
    Retire {
        pick: u8,
        count: u8,
        flaw: RetireFlaw,
    },
    Forget,
    Swap(SwapOp),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RetireFlaw {
    None,
    /// Not the oldest ones.
    OutOfTurn,
    /// As they were located before the last swap.
    BeforeSwap,
}

/// A compactor's swap of consecutive extents of one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwapOp {
    pub(crate) pick: u8,
    pub(crate) count: u8,
    pub(crate) kind: SwapKind,
    pub(crate) flaw: SwapFlaw,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SwapKind {
    Merge,
    Roll,
    /// Parquet files become one.
    Rewrite,
    /// The last swap that was sent, once more.
    Repeat,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SwapFlaw {
    None,
    Generation,
    /// One extent in between is left out.
    Gap,
    /// Its object was minted too long ago.
    Late,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ConditionOp {
    Always,
    Absent,
    Present,
    Version(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SegmentOp {
    /// Minted this long before the group's time.
    Fresh { age_ms: i64 },
    /// The whole commit of an earlier segment once more.
    Repeat(u8),
    /// Another content under the id of an earlier segment.
    Impostor(u8),
    /// An id that was refused before it came.
    Refused(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum RequestOp {
    Plain(SliceOp),
    Atom { slices: Vec<SliceOp>, request: Option<(u8, u8)>, cursor: Option<CursorOp> },
}

#[derive(Clone, Debug)]
pub(crate) struct SliceOp {
    /// Among all topics that ever were, the newest more often.
    pub(crate) pick: u8,
    pub(crate) partition: u32,
    pub(crate) records: u32,
    pub(crate) ask: AskOp,
}

#[derive(Clone, Debug)]
pub(crate) enum AskOp {
    Nothing,
    /// This far from the end.
    Expect(u64),
    Fence(u64),
    Producer {
        id: u8,
        epoch: u32,
        sequence: SequenceOp,
    },
    Dedup(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SequenceOp {
    Next,
    /// The batch that came this many before the last.
    Again(usize),
    Gap,
}

#[derive(Clone, Debug)]
pub(crate) struct CursorOp {
    pub(crate) namespace: u8,
    pub(crate) cursor: u8,
    pub(crate) topic: u8,
    pub(crate) partition: u32,
    /// Of the partition's records, in eighths; above 8 it lies beyond the end.
    pub(crate) share: u8,
    /// `Some(0)`: the version that is there; else that many off.
    pub(crate) version: Option<u64>,
}

pub(crate) fn history(groups: usize) -> impl Strategy<Value = Vec<GroupOp>> {
    prop::collection::vec(group(), 1..groups)
}

fn group() -> impl Strategy<Value = GroupOp> {
    let jump = prop_oneof![
        8 => 0_i64..2_000,
        4 => -120_000_i64..0,
        3 => 20_000_i64..400_000,
        1 => Just(25 * 3_600_000),
        1 => Just(8 * 24 * 3_600_000),
    ];
    let checkpoint = prop_oneof![
        4 => Just(CheckpointOp::Nothing),
        3 => Just(CheckpointOp::Take),
        2 => (0_usize..3).prop_map(CheckpointOp::Land),
        1 => Just(CheckpointOp::Fail),
    ];
    (jump, prop::collection::vec(op(), 0..7), checkpoint).prop_map(|(jump_ms, ops, checkpoint)| GroupOp { jump_ms, ops, checkpoint })
}

fn condition() -> impl Strategy<Value = ConditionOp> {
    prop_oneof![
        5 => Just(ConditionOp::Always),
        1 => Just(ConditionOp::Absent),
        1 => Just(ConditionOp::Present),
        1 => (1_u64..4).prop_map(ConditionOp::Version),
    ]
}

fn request() -> impl Strategy<Value = Option<(u8, u8)>> {
    prop_oneof![3 => Just(None), 2 => (0_u8..4, 0_u8..2).prop_map(Some)]
}

fn op() -> impl Strategy<Value = Op> {
    let put_topic = (0_u8..3, 0_u8..3, 1_u32..5, prop_oneof![Just(0_u64), Just(30_000), Just(300_000)], condition(), request());
    let put_topic = put_topic.prop_map(|(namespace, topic, partitions, window_ms, condition, request)| Op::PutTopic {
        namespace,
        topic,
        partitions,
        window_ms,
        condition,
        request,
    });
    let delete_topic = (0_u8..3, 0_u8..3, condition());
    let trim = (any::<u8>(), prop::option::of(prop_oneof![9 => 0_u32..4, 1 => Just(u32::MAX)]), 0_u8..12);
    prop_oneof![
        2 => (0_u8..3, condition()).prop_map(|(namespace, condition)| Op::PutNamespace { namespace, condition }),
        1 => (0_u8..3).prop_map(|namespace| Op::DeleteNamespace { namespace }),
        4 => put_topic,
        1 => delete_topic.prop_map(|(namespace, topic, condition)| Op::DeleteTopic { namespace, topic, condition }),
        3 => trim.prop_map(|(pick, partition, share)| Op::Trim { pick, partition, share }),
        3 => cursor().prop_map(Op::PutCursor),
        1 => (0_u8..3, 0_u8..3, prop::option::of(0_u8..3))
            .prop_map(|(namespace, cursor, topic)| Op::DeleteCursor { namespace, cursor, topic }),
        14 => (segment(), prop::collection::vec(request_op(), 0..7)).prop_map(|(segment, requests)| Op::Commit { segment, requests }),
        1 => (0_u8..3, prop::option::of(any::<u8>())).prop_map(|(fresh, known)| Op::Refuse { fresh, known }),
        4 => (any::<u8>(), 1_u8..4, retire_flaw()).prop_map(|(pick, count, flaw)| Op::Retire { pick, count, flaw }),
        2 => Just(Op::Forget),
        6 => swap().prop_map(Op::Swap),
    ]
}

fn retire_flaw() -> impl Strategy<Value = RetireFlaw> {
    prop_oneof![8 => Just(RetireFlaw::None), 1 => Just(RetireFlaw::OutOfTurn), 2 => Just(RetireFlaw::BeforeSwap)]
}

fn swap() -> impl Strategy<Value = SwapOp> {
    let kind =
        prop_oneof![4 => Just(SwapKind::Merge), 4 => Just(SwapKind::Roll), 3 => Just(SwapKind::Rewrite), 1 => Just(SwapKind::Repeat)];
    let flaw =
        prop_oneof![12 => Just(SwapFlaw::None), 1 => Just(SwapFlaw::Generation), 1 => Just(SwapFlaw::Gap), 1 => Just(SwapFlaw::Late)];
    (any::<u8>(), 1_u8..5, kind, flaw).prop_map(|(pick, count, kind, flaw)| SwapOp { pick, count, kind, flaw })
}

fn segment() -> impl Strategy<Value = SegmentOp> {
    prop_oneof![
        12 => (0_i64..5_000).prop_map(|age_ms| SegmentOp::Fresh { age_ms }),
        1 => (-60_000_i64..0).prop_map(|age_ms| SegmentOp::Fresh { age_ms }),
        1 => (290_000_i64..400_000).prop_map(|age_ms| SegmentOp::Fresh { age_ms }),
        3 => any::<u8>().prop_map(SegmentOp::Repeat),
        1 => any::<u8>().prop_map(SegmentOp::Impostor),
        1 => any::<u8>().prop_map(SegmentOp::Refused),
    ]
}

fn request_op() -> impl Strategy<Value = RequestOp> {
    prop_oneof![
        3 => slice().prop_map(RequestOp::Plain),
        2 => (prop::collection::vec(slice(), 0..4), request(), prop::option::weighted(0.4, cursor()))
            .prop_map(|(slices, request, cursor)| RequestOp::Atom { slices, request, cursor }),
    ]
}

fn slice() -> impl Strategy<Value = SliceOp> {
    (any::<u8>(), 0_u32..4, 1_u32..5, ask()).prop_map(|(pick, partition, records, ask)| SliceOp { pick, partition, records, ask })
}

fn ask() -> impl Strategy<Value = AskOp> {
    let sequence = prop_oneof![
        5 => Just(SequenceOp::Next),
        3 => (0_usize..7).prop_map(SequenceOp::Again),
        1 => Just(SequenceOp::Gap),
    ];
    prop_oneof![
        5 => Just(AskOp::Nothing),
        2 => prop_oneof![3 => Just(0_u64), 1 => 1_u64..3].prop_map(AskOp::Expect),
        2 => (0_u64..4).prop_map(AskOp::Fence),
        4 => (0_u8..2, 0_u32..3, sequence).prop_map(|(id, epoch, sequence)| AskOp::Producer { id, epoch, sequence }),
        3 => prop::collection::vec(0_u8..12, 1..3).prop_map(AskOp::Dedup),
    ]
}

fn cursor() -> impl Strategy<Value = CursorOp> {
    let version = prop_oneof![2 => Just(None), 3 => Just(Some(0_u64)), 1 => Just(Some(1_u64))];
    (0_u8..3, 0_u8..3, 0_u8..3, 0_u32..4, 0_u8..10, version).prop_map(|(namespace, cursor, topic, partition, share, version)| CursorOp {
        namespace,
        cursor,
        topic,
        partition,
        share,
        version,
    })
}
