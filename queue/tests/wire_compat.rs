//! The journal's bytes never change under our feet: a frozen entry of every shipped version, with one of each command,
//! decodes to the same commands and is encoded to the same bytes.
//!
//! `UPDATE_FROZEN=1 cargo test -p lakefall-queue --test wire_compat` writes the newest version's file again. Do that only
//! while the version was never shipped; afterwards, a change is a new version with its own file.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

use std::path::PathBuf;
use std::time::Duration;

use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{
    Atom, Classified, Command, DedupClaim, JournalEntry, LayoutRun, Mark, NewExtent, ObjectLevel, ProposedExtent, PutQueue,
    ReceiveMessages, RetiredExtent, SchemaCommand, SeekQueue, SegmentCommit, SettleAction, SettleItem, SettleMessages, Slice,
    SliceCondition, Swap, SwapPart, TakeBack, TakenFile, TakenPartition, Want,
};
use lakefall_queue::queue::{Binding, DeadLetter, Match, Ordering, Overflow, QueueConfig, QueueStart, Retry};
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaType};
use lakefall_queue::topic::{Cleanup, Compression, Retention, TopicConfig, Urgency};
use lakefall_queue::usage::{Figure, UsageCounts, UsageItem, UsageReport};
use lakefall_queue::verbs::{CursorMove, Idempotency, Precondition, ProducerStamp};
use lakefall_queue::{
    BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, SegmentId, ShardId, SubjectName, Timestamp,
    TopicId, TopicName,
};

const AT: Timestamp = Timestamp::from_millis(1_735_689_600_123);

fn frozen(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name)
}

fn to_hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// One of each command, and every optional field both there and absent.
fn version_1() -> JournalEntry {
    let namespace = NamespaceName::new("acme").unwrap();
    let (orders, audit) = (TopicName::new("orders").unwrap(), TopicName::new("audit.log-2_x").unwrap());
    let (topic, other) = (TopicId::new(ShardId(3), 7), TopicId::new(ShardId(3), 8));
    let segment = |n: u128| SegmentId::mint(AT, n << 64);
    let request = |key: &str| Some(Idempotency { key: key.into(), fingerprint: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10 });
    let put_namespace = |condition| Command::PutNamespace { name: namespace.clone(), description: "Ångström & co".to_owned(), condition };
    let put_topic = |config, condition, idempotency| Command::PutTopic {
        namespace: namespace.clone(),
        name: orders.clone(),
        config,
        condition,
        idempotency,
    };
    let config = TopicConfig {
        partitions: 12,
        retention: Retention { age: Some(Duration::from_secs(7 * 86_400)), bytes: Some(1 << 40) },
        cleanup: Cleanup::Compact,
        compression: Compression::Lz4,
        urgency: Urgency::Express,
        dedup_window: Duration::from_millis(1_500),
        max_record_bytes: Some(65_536),
        ..TopicConfig::default()
    };
    let offsets = vec![(PartitionIndex(0), Offset(41)), (PartitionIndex(3), Offset::MAX)];
    let change = CursorMove { cursor: CursorName::new("billing").unwrap(), topic: orders.clone(), offsets, if_version: Some(4) };
    let plain_move = CursorMove { offsets: Vec::new(), if_version: None, topic: audit.clone(), ..change.clone() };
    let condition = SliceCondition {
        expect_offset: Some(Offset(0)),
        fencing_token: Some(u64::MAX),
        producer: Some(ProducerStamp { id: "sensor/17 ü".into(), epoch: 2, sequence: 1 << 33 }),
        dedup: vec![DedupClaim { index: 0, hash: u128::MAX }, DedupClaim { index: 4, hash: 5 }],
    };
    let slice = Slice {
        length: 4_096,
        records: 5,
        first_timestamp: Timestamp::from_millis(-1),
        max_timestamp: AT,
        atom: Some(0),
        condition: Some(Box::new(condition)),
    };
    let extents = vec![
        ProposedExtent {
            topic,
            partition: PartitionIndex(0),
            position: 16,
            slices: vec![slice.clone(), Slice { atom: None, condition: None, ..slice.clone() }],
        },
        ProposedExtent { topic: other, partition: PartitionIndex(2), position: 8_208, slices: vec![Slice { atom: Some(1), ..slice }] },
    ];
    let layout = vec![
        LayoutRun { append: 0, topic, partition: PartitionIndex(0), count: 5 },
        LayoutRun { append: 1, topic: other, partition: PartitionIndex(2), count: 1 },
    ];
    let atoms = vec![
        Atom {
            namespace: namespace.clone(),
            idempotency: request("order-17"),
            layout,
            cursors: vec![change.clone(), plain_move],
            settles: Vec::new(),
        },
        Atom { namespace: namespace.clone(), idempotency: None, layout: Vec::new(), cursors: Vec::new(), settles: Vec::new() },
    ];
    let retired = RetiredExtent { base_offset: Offset(12), records: 5, length: 4_096, object: segment(2) };
    let cursor = change.cursor.clone();
    JournalEntry {
        shard: ShardId(3),
        seq: JournalSeq(1_000_001),
        epoch: Epoch(9),
        time: AT,
        commands: vec![
            put_namespace(Precondition::Absent),
            put_namespace(Precondition::Always),
            Command::DeleteNamespace { name: namespace.clone(), condition: Precondition::Version(3) },
            put_topic(config, Precondition::Present, request("create")),
            put_topic(TopicConfig::default(), Precondition::Always, None),
            Command::DeleteTopic { namespace: namespace.clone(), name: orders.clone(), condition: Precondition::Version(1) },
            Command::Trim { topic, partition: Some(PartitionIndex(0)), before: Offset(40) },
            Command::Trim { topic, partition: None, before: Offset(0) },
            Command::PutCursor { namespace: namespace.clone(), change },
            Command::DeleteCursor { namespace: namespace.clone(), cursor: cursor.clone(), topic: Some(orders) },
            Command::DeleteCursor { namespace, cursor, topic: None },
            Command::Commit(SegmentCommit { segment: segment(1), size: 1 << 23, extents, atoms }),
            Command::RefuseSegments { segments: vec![segment(3), segment(4)] },
            Command::Retire { topic, partition: PartitionIndex(1), extents: vec![retired], generation: None },
            Command::ForgetObjects { objects: vec![segment(5)] },
        ],
    }
}

/// What queues added to version 1.
fn version_1_queues() -> JournalEntry {
    let namespace = NamespaceName::new("acme").unwrap();
    let (name, orders) = (QueueName::new("billing").unwrap(), TopicName::new("orders").unwrap());
    let (queue, topic) = (QueueId::new(ShardId(3), 9), TopicId::new(ShardId(3), 7));
    let idempotency = Some(Idempotency { key: "create".into(), fingerprint: 5 });
    let config = QueueConfig {
        topics: vec![orders.clone()],
        start: QueueStart::Time(AT),
        lease: Duration::from_millis(1_500),
        max_attempts: Some(7),
        retry: Retry { min: Duration::from_secs(1), max: Duration::from_secs(60), multiplier: 1.5, jitter: 0.25 },
        ordering: Ordering::Key,
        dead_letter: Some(DeadLetter { topic: TopicName::new("orders.dead").unwrap() }),
        delay: Duration::from_secs(2),
        ttl: Some(Duration::from_secs(86_400)),
        priorities: 3,
        max_depth: Some(1_000),
        overflow: Overflow::DropOldest,
        max_in_flight: Some(10),
        fair: false,
        filter: Some("headers.colour == 'red'".to_owned()),
    };
    let binding = |id: &str, matches| (BindingName::new(id).unwrap(), Binding { topic: orders.clone(), matches });
    let bindings = [
        binding("all", Match::All {}),
        binding("exact", Match::Exact { key: "a.b".to_owned() }),
        binding("wildcard", Match::Wildcard { pattern: "a.#".to_owned() }),
        binding("headers", Match::Headers { headers: [("colour".to_owned(), "red".to_owned())].into(), any: true }),
        binding("expression", Match::Expression { expression: "true".to_owned() }),
    ];
    let put = PutQueue {
        namespace: namespace.clone(),
        name: name.clone(),
        config,
        bindings: Some(bindings.into()),
        positions: vec![(topic, PartitionIndex(2), Offset(40))],
        condition: Precondition::Version(3),
        idempotency,
    };
    let plain = PutQueue {
        config: QueueConfig::default(),
        bindings: None,
        positions: Vec::new(),
        condition: Precondition::Always,
        idempotency: None,
        ..put.clone()
    };
    let seek = |start| {
        Command::SeekQueue(SeekQueue {
            namespace: namespace.clone(),
            name: name.clone(),
            start,
            positions: vec![(topic, PartitionIndex(0), Offset(1))],
        })
    };
    let mark = |index, not_before, priority, group| Mark { index, not_before, priority, group };
    let classified = Classified {
        topic,
        partition: PartitionIndex(1),
        from: Offset(100),
        to: Offset(164),
        skipped: vec![(0, 3), (10, 1)],
        marks: vec![
            mark(4, Some(AT), 0, None),
            mark(5, None, 9, Some(u64::MAX)),
            mark(20, Some(AT.plus(Duration::from_secs(1))), 2, Some(1)),
        ],
    };
    let plain_records = Classified { partition: PartitionIndex(2), skipped: Vec::new(), marks: Vec::new(), ..classified.clone() };
    let want = |request| Want { max: 100, lease: Duration::from_secs(30), request };
    let item =
        |first, count, attempt, action| SettleItem { topic, partition: PartitionIndex(1), first: Offset(first), count, attempt, action };
    let settle = SettleMessages {
        queue,
        generation: 2,
        version: None,
        items: vec![
            item(103, 100, 1, SettleAction::Ack),
            item(210, 1, 1, SettleAction::Ack),
            item(205, 1, 3, SettleAction::Release { delay: Duration::from_millis(250) }),
            item(206, 1, 3, SettleAction::Extend { lease: Duration::from_secs(60) }),
            item(207, 1, 3, SettleAction::Bury),
            item(208, 1, 0, SettleAction::Cancel),
        ],
    };
    let atom =
        Atom { namespace: namespace.clone(), idempotency: None, layout: Vec::new(), cursors: Vec::new(), settles: vec![settle.clone()] };
    JournalEntry {
        shard: ShardId(3),
        seq: JournalSeq(1_000_002),
        epoch: Epoch(9),
        time: AT,
        commands: vec![
            Command::PutQueue(Box::new(put)),
            Command::PutQueue(Box::new(plain)),
            Command::DeleteQueue { namespace: namespace.clone(), name: name.clone(), condition: Precondition::Present },
            seek(None),
            seek(Some(QueueStart::Earliest)),
            seek(Some(QueueStart::Latest)),
            seek(Some(QueueStart::Offset(Offset(7)))),
            seek(Some(QueueStart::Time(AT))),
            Command::Receive(ReceiveMessages {
                queue,
                generation: 2,
                classified: vec![classified, plain_records],
                wants: vec![want(None), want(Some(u128::MAX))],
            }),
            Command::Settle(settle),
            Command::Commit(SegmentCommit { segment: SegmentId::mint(AT, 9 << 64), size: 64, extents: Vec::new(), atoms: vec![atom] }),
        ],
    }
}

/// What was added to settlements after that.
fn version_1_settles() -> JournalEntry {
    let (queue, topic) = (QueueId::new(ShardId(3), 9), TopicId::new(ShardId(3), 7));
    let item = |first, action| SettleItem { topic, partition: PartitionIndex(1), first: Offset(first), count: 1, attempt: 3, action };
    let undelivered = SettleAction::Undelivered { delay: Duration::from_millis(250) };
    let settle = |version, items| Command::Settle(SettleMessages { queue, generation: 2, version, items });
    JournalEntry {
        shard: ShardId(3),
        seq: JournalSeq(1_000_003),
        epoch: Epoch(9),
        time: AT,
        commands: vec![settle(Some(4), vec![item(103, SettleAction::Bury)]), settle(None, vec![item(104, undelivered)])],
    }
}

/// What was added for schemas.
fn version_1_schemas() -> JournalEntry {
    let (namespace, subject) = (NamespaceName::new("acme").unwrap(), SubjectName::new("orders-value").unwrap());
    let put = |kind, message: Option<&str>, expected| SchemaCommand::Put {
        namespace: namespace.clone(),
        subject: subject.clone(),
        schema: SchemaText { kind, text: "{\"ü\": 1}".into(), message: message.map(Into::into) },
        expected,
    };
    let delete = |version, condition| SchemaCommand::Delete { namespace: namespace.clone(), subject: subject.clone(), version, condition };
    let configure = |compatibility| SchemaCommand::Configure {
        namespace: namespace.clone(),
        subject: subject.clone(),
        compatibility,
        condition: Precondition::Absent,
    };
    let commands = [
        put(SchemaType::Json, None, 0),
        put(SchemaType::Avro, None, 7),
        put(SchemaType::Protobuf, Some("shop.Order"), u64::MAX),
        delete(None, Precondition::Always),
        delete(Some(3), Precondition::Version(9)),
        configure(Compatibility::None),
        configure(Compatibility::Backward),
        configure(Compatibility::Forward),
        configure(Compatibility::Full),
    ];
    let commands = commands.into_iter().map(|command| Command::Schema(Box::new(command))).collect();
    JournalEntry { shard: ShardId(3), seq: JournalSeq(1_000_004), epoch: Epoch(9), time: AT, commands }
}

/// What was added for usage.
fn version_1_usage() -> JournalEntry {
    let all: Vec<u64> = (1..=Figure::ALL.len() as u64).map(|n| n << 33).collect();
    let item = |namespace: &str, topic, counts: &[u64]| UsageItem {
        namespace: NamespaceName::new(namespace).unwrap(),
        topic: TopicId::new(ShardId(3), topic),
        counts: UsageCounts::from_list(counts),
    };
    let report = |sequence| {
        Command::ReportUsage(Box::new(UsageReport {
            reporter: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            sequence,
            items: vec![item("acme", 7, &all), item("other", 8, &[0, 0, 1])],
        }))
    };
    let trim = |before| Command::Trim { topic: TopicId::new(ShardId(3), 7), partition: None, before: Offset(before) };
    // Before, between and behind other commands.
    let commands = vec![report(1), trim(5), report(2), report(3), trim(6), report(u64::MAX)];
    JournalEntry { shard: ShardId(3), seq: JournalSeq(1_000_005), epoch: Epoch(9), time: AT, commands }
}

/// What came with compaction.
fn version_1_swap() -> JournalEntry {
    let (topic, segment) = (TopicId::new(ShardId(3), 7), |n: u128| SegmentId::mint(AT, n << 64));
    let old = |base, object| RetiredExtent { base_offset: Offset(base), records: 2, length: 50, object: segment(object) };
    let new = NewExtent { position: 16, length: 80, first_timestamp: AT, max_timestamp: AT.plus(Duration::from_secs(1)), appended_at: AT };
    let part = |partition, settled, rest_since| SwapPart {
        topic,
        partition: PartitionIndex(partition),
        generation: 3,
        old: vec![old(7, 1), old(9, 2)],
        new,
        settled,
        rest_since,
    };
    let merged = Swap {
        object: segment(3),
        size: 200,
        level: ObjectLevel::Merged,
        key: None,
        parts: vec![part(0, None, None), part(1, None, None)],
    };
    let parquet = Swap {
        level: ObjectLevel::Parquet,
        key: Some("tables/default/orders/date=2026-01-31/7-10.parquet".into()),
        parts: vec![part(2, Some(Offset(7)), Some(AT))],
        ..merged.clone()
    };
    let commands = [merged, parquet].into_iter().map(|swap| Command::Swap(Box::new(swap))).collect();
    JournalEntry { shard: ShardId(3), seq: JournalSeq(1_000_004), epoch: Epoch(9), time: AT, commands }
}

/// What came with taking topics back.
fn version_1_take_back() -> JournalEntry {
    let file = |base, n: u128| TakenFile {
        object: SegmentId::mint(AT, n << 64),
        base_offset: Offset(base),
        records: 3,
        length: 900,
        first_timestamp: AT,
        max_timestamp: AT.plus(Duration::from_secs(1)),
        appended_at: AT.plus(Duration::from_secs(2)),
    };
    let partition = |index, files| TakenPartition { partition: PartitionIndex(index), files };
    let taken = TakeBack {
        namespace: NamespaceName::new("acme").unwrap(),
        name: TopicName::new("orders").unwrap(),
        topic: TopicId::new(ShardId(3), 7),
        created_at: AT,
        config: TopicConfig { partitions: 3, cleanup: Cleanup::Compact, ..TopicConfig::default() },
        partitions: vec![partition(0, vec![file(100, 1), file(103, 2)]), partition(2, Vec::new())],
    };
    let commands = vec![Command::TakeBack(Box::new(taken))];
    JournalEntry { shard: ShardId(3), seq: JournalSeq(1_000_006), epoch: Epoch(9), time: AT, commands }
}

#[test]
fn the_frozen_journal_entries_of_version_1_decode_to_the_same_commands_and_back() {
    let samples = [
        ("journal_entry_v1.hex", version_1()),
        ("journal_entry_v1_queues.hex", version_1_queues()),
        ("journal_entry_v1_settles.hex", version_1_settles()),
        ("journal_entry_v1_swap.hex", version_1_swap()),
        ("journal_entry_v1_schemas.hex", version_1_schemas()),
        ("journal_entry_v1_usage.hex", version_1_usage()),
        ("journal_entry_v1_take_back.hex", version_1_take_back()),
    ];
    for (file, entry) in samples {
        let path = frozen(file);
        if std::env::var_os("UPDATE_FROZEN").is_some() {
            std::fs::write(&path, to_hex(&entry.encode())).unwrap();
        }
        let bytes = from_hex(&std::fs::read_to_string(&path).unwrap());
        let decoded = JournalEntry::decode(&bytes).unwrap();
        assert_eq!(decoded, entry, "{file}");
        assert_eq!(to_hex(&decoded.encode()), to_hex(&bytes), "{file}");
    }
}

/// Written before reports had a place of their own, as requests still have it.
#[test]
fn an_entry_with_a_report_among_its_commands_is_still_read() {
    let bytes = from_hex(&std::fs::read_to_string(frozen("journal_entry_v1_usage_command.hex")).unwrap());
    let mut expected = version_1_usage();
    expected.commands.drain(..5);
    assert_eq!(JournalEntry::decode(&bytes).unwrap(), expected);
}

/// To whom usage is unknown, it is a field behind all others.
#[test]
fn an_entry_with_usage_is_one_without_and_a_field_behind_it() {
    let entry = version_1_usage();
    let mut without = entry.clone();
    without.commands.retain(|command| !matches!(command, Command::ReportUsage(_)));
    let (bytes, known) = (entry.encode(), without.encode());
    let unknown = bytes.strip_prefix(&known[..]).unwrap();
    // Its number is 7, its type bytes.
    assert_eq!(unknown[0], 7 << 3 | 2);
}

#[test]
fn reports_that_stand_nowhere_among_the_commands_are_refused() {
    let entry = JournalEntry { commands: Vec::new(), ..version_1_usage() };
    let at = |before: u8| {
        let mut bytes = entry.encode();
        // Field 7 of 22 bytes: `before`, and a report of nobody's usage.
        bytes.extend([0x3a, 22, 0x08, before, 0x12, 18, 0x0a, 16]);
        bytes.extend([0; 16]);
        bytes
    };
    assert_eq!(JournalEntry::decode(&at(0)).unwrap().commands.len(), 1);
    assert!(JournalEntry::decode(&at(1)).is_err(), "there is no command before it");
}

/// A new command must be added to the sample: this match does not compile without it.
#[test]
fn the_sample_has_one_of_each_command() {
    let entries = [version_1(), version_1_queues(), version_1_swap(), version_1_schemas(), version_1_usage(), version_1_take_back()];
    let mut found: Vec<u32> = entries
        .iter()
        .flat_map(|entry| &entry.commands)
        .map(|command| match command {
            Command::PutNamespace { .. } => 1,
            Command::DeleteNamespace { .. } => 2,
            Command::PutTopic { .. } => 3,
            Command::DeleteTopic { .. } => 4,
            Command::Trim { .. } => 5,
            Command::PutCursor { .. } => 6,
            Command::DeleteCursor { .. } => 7,
            Command::Commit(_) => 8,
            Command::RefuseSegments { .. } => 9,
            Command::Retire { .. } => 10,
            Command::ForgetObjects { .. } => 11,
            Command::PutQueue(_) => 12,
            Command::DeleteQueue { .. } => 13,
            Command::SeekQueue(_) => 14,
            Command::Receive(_) => 15,
            Command::Settle(_) => 16,
            Command::Swap(_) => 17,
            // Never journaled.
            Command::Claim(_) | Command::Unclaim { .. } => 0,
            Command::Schema(_) => 18,
            Command::ReportUsage(_) => 19,
            Command::TakeBack(_) => 20,
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (1..=20).collect::<Vec<_>>());
}
