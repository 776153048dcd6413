//! A small ledger: a namespace with a topic, records, a cursor, a queue with leases, and schemas.

use std::time::Duration;

use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{
    Atom, Classified, Command, DedupClaim, LayoutRun, Ledger, Mark, NewExtent, ObjectLevel, ProposedExtent, PutQueue, ReceiveMessages,
    Reply, RetiredExtent, SchemaCommand, SeekQueue, SegmentCommit, SettleAction, SettleItem, SettleMessages, Slice, SliceCondition, Swap,
    SwapPart, Want,
};
use lakefall_queue::queue::{QueueConfig, QueueStart};
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaType};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::{CursorMove, Idempotency, Precondition, ProducerStamp};
use lakefall_queue::{
    CursorName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, SegmentId, ShardId, SubjectName, Timestamp, TopicId, TopicName,
};

/// When all of it happens.
pub(crate) const AT: Timestamp = Timestamp::from_millis(1_735_689_600_123);
pub(crate) const SHARD: ShardId = ShardId(0);
const P0: PartitionIndex = PartitionIndex(0);
const P1: PartitionIndex = PartitionIndex(1);

/// What the ledger gave its topic and its queue for numbers.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
}

/// A ledger with something in it.
pub(crate) fn ledger() -> (Ledger, Known) {
    let mut ledger = Ledger::new(SHARD, 1);
    let apply = |ledger: &mut Ledger, command: &Command| ledger.apply(command, AT).reply.expect("a sound command");
    let config = TopicConfig { partitions: 4, dedup_window: Duration::from_secs(60), ..TopicConfig::default() };
    let put = Command::PutTopic { namespace: namespace(), name: orders(), config, condition: Precondition::Always, idempotency: None };
    let Reply::Topic(topic, _) = apply(&mut ledger, &put) else { panic!("no topic") };
    let config = QueueConfig { topics: vec![orders()], start: QueueStart::Earliest, max_attempts: Some(3), ..QueueConfig::default() };
    let put = PutQueue {
        namespace: namespace(),
        name: QueueName::new("billing").unwrap(),
        config,
        bindings: None,
        positions: Vec::new(),
        condition: Precondition::Always,
        idempotency: None,
    };
    let Reply::Queue(queue, _) = apply(&mut ledger, &Command::PutQueue(Box::new(put))) else { panic!("no queue") };
    let known = Known { topic: topic.id, queue: queue.id };
    for command in [first_commit(known), receive(known, 0, 5, 3), cursor(None), schema(r#"{"type":"object"}"#, 0)] {
        apply(&mut ledger, &command);
    }
    ledger.seal(Epoch(1), AT, Vec::new());
    ledger.take_notices();
    (ledger, known)
}

/// Groups of commands that such a ledger takes, each group by itself.
pub(crate) fn groups(known: Known) -> Vec<Vec<Command>> {
    let settle = |first: u64, count, action| {
        let items = vec![SettleItem { topic: known.topic, partition: P0, first: Offset(first), count, attempt: 1, action }];
        Command::Settle(SettleMessages { queue: known.queue, generation: 1, version: None, items })
    };
    let seek = SeekQueue {
        namespace: namespace(),
        name: QueueName::new("billing").unwrap(),
        start: Some(QueueStart::Latest),
        positions: Vec::new(),
    };
    vec![
        vec![stamped(known, 0), stamped(known, 5)],
        vec![atomic(known)],
        vec![settle(0, 2, SettleAction::Ack), settle(2, 1, SettleAction::Release { delay: Duration::from_secs(1) })],
        vec![
            settle(0, 1, SettleAction::Extend { lease: Duration::from_secs(60) }),
            settle(1, 1, SettleAction::Bury),
            receive(known, 5, 8, 10),
        ],
        vec![marked(known), settle(4, 1, SettleAction::Cancel)],
        vec![Command::SeekQueue(seek)],
        vec![
            Command::Trim { topic: known.topic, partition: Some(P0), before: Offset(8) },
            Command::Retire { topic: known.topic, partition: P0, extents: vec![retired(0)], generation: Some(0) },
        ],
        vec![swap(known), Command::RefuseSegments { segments: vec![segment(70)] }],
        vec![schema(r#"{"type":"object","required":[]}"#, 3), configure()],
        vec![cursor(Some(1)), Command::DeleteTopic { namespace: namespace(), name: orders(), condition: Precondition::Present }],
    ]
}

fn namespace() -> NamespaceName {
    NamespaceName::default_name()
}

fn orders() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn segment(number: u128) -> SegmentId {
    SegmentId::mint(AT, number << 64)
}

fn slice(records: u32) -> Slice {
    Slice { length: 100 * records, records, first_timestamp: Timestamp::from_millis(-1), max_timestamp: AT, atom: None, condition: None }
}

fn commit(number: u128, extents: Vec<ProposedExtent>, atoms: Vec<Atom>) -> Command {
    Command::Commit(SegmentCommit { segment: segment(number), size: 1 << 20, extents, atoms })
}

/// Eight records in one partition, and two in another.
fn first_commit(known: Known) -> Command {
    let extent = |partition, position, slices| ProposedExtent { topic: known.topic, partition, position, slices };
    commit(1, vec![extent(P0, 8, vec![slice(8)]), extent(P1, 808, vec![slice(2)])], Vec::new())
}

fn retired(base: u64) -> RetiredExtent {
    RetiredExtent { base_offset: Offset(base), records: 8, length: 800, object: segment(1) }
}

/// Of an idempotent producer, fenced, with ids that must be new.
fn stamped(known: Known, sequence: u64) -> Command {
    let condition = SliceCondition {
        expect_offset: Some(Offset(2 + sequence)),
        fencing_token: Some(7),
        producer: Some(ProducerStamp { id: "sensor".into(), epoch: 2, sequence }),
        dedup: vec![DedupClaim { index: 0, hash: 5 + u128::from(sequence) }],
    };
    let slices = vec![Slice { condition: Some(Box::new(condition)), ..slice(5) }];
    commit(10 + u128::from(sequence), vec![ProposedExtent { topic: known.topic, partition: P1, position: 8, slices }], Vec::new())
}

/// Records, a cursor and a settled lease, all or nothing.
fn atomic(known: Known) -> Command {
    let change =
        CursorMove { cursor: CursorName::new("reader").unwrap(), topic: orders(), offsets: vec![(P0, Offset(3))], if_version: Some(1) };
    let items = vec![SettleItem { topic: known.topic, partition: P0, first: Offset(0), count: 1, attempt: 1, action: SettleAction::Ack }];
    let atom = Atom {
        namespace: namespace(),
        idempotency: Some(Idempotency { key: "order-17".into(), fingerprint: 9 }),
        layout: vec![LayoutRun { append: 0, topic: known.topic, partition: P0, count: 2 }],
        cursors: vec![change],
        settles: vec![SettleMessages { queue: known.queue, generation: 1, version: None, items }],
    };
    let slices = vec![slice(1), Slice { atom: Some(0), ..slice(2) }];
    commit(20, vec![ProposedExtent { topic: known.topic, partition: P0, position: 8, slices }], vec![atom])
}

fn receive(known: Known, from: u64, to: u64, max: u32) -> Command {
    let classified = vec![Classified {
        topic: known.topic,
        partition: P0,
        from: Offset(from),
        to: Offset(to),
        skipped: vec![(1, 1)],
        marks: Vec::new(),
    }];
    let wants = vec![Want { max, lease: Duration::from_secs(30), request: Some(3) }];
    Command::Receive(ReceiveMessages { queue: known.queue, generation: 1, classified, wants })
}

/// Messages that are delayed, urgent, or of a group.
fn marked(known: Known) -> Command {
    let mark = |index, priority, group| Mark { index, not_before: (index == 0).then(|| AT.plus(Duration::from_secs(5))), priority, group };
    let marks = vec![mark(0, 0, None), mark(1, 9, None), mark(2, 0, Some(77))];
    let classified = vec![Classified { topic: known.topic, partition: P0, from: Offset(5), to: Offset(8), skipped: Vec::new(), marks }];
    let wants = vec![Want { max: 5, lease: Duration::from_secs(30), request: None }];
    Command::Receive(ReceiveMessages { queue: known.queue, generation: 1, classified, wants })
}

fn cursor(if_version: Option<u64>) -> Command {
    let change = CursorMove {
        cursor: CursorName::new("reader").unwrap(),
        topic: orders(),
        offsets: vec![(P0, Offset(2)), (P1, Offset(0))],
        if_version,
    };
    Command::PutCursor { namespace: namespace(), change }
}

fn swap(known: Known) -> Command {
    let new = NewExtent { position: 8, length: 500, first_timestamp: Timestamp::from_millis(-1), max_timestamp: AT, appended_at: AT };
    let part = SwapPart { topic: known.topic, partition: P0, generation: 0, old: vec![retired(0)], new, settled: None, rest_since: None };
    Command::Swap(Box::new(Swap { object: segment(30), size: 1 << 20, level: ObjectLevel::Merged, key: None, parts: vec![part] }))
}

fn schema(text: &str, expected: u64) -> Command {
    let schema = SchemaText { kind: SchemaType::Json, text: text.into(), message: None };
    Command::Schema(Box::new(SchemaCommand::Put { namespace: namespace(), subject: subject(), schema, expected }))
}

fn configure() -> Command {
    let compatibility = Compatibility::Full;
    Command::Schema(Box::new(SchemaCommand::Configure {
        namespace: namespace(),
        subject: subject(),
        compatibility,
        condition: Precondition::Always,
    }))
}

fn subject() -> SubjectName {
    SubjectName::new("orders-value").unwrap()
}
