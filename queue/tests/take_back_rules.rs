//! What is taken back of a ledger that was lost, by example: each test is the sentence it proves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

use std::time::Duration;

use lakefall_queue::error::Error;
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{
    Answer, Command, Extent, JournalEntry, Ledger, NewExtent, ObjectLevel, ProposedExtent, Query, Reply, RetiredExtent, SegmentCommit,
    Slice, SliceOutcome, Swap, SwapPart, TakeBack, TakenFile, TakenPartition, object_key,
};
use lakefall_queue::topic::{Topic, TopicConfig};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// When all this was written first.
const THEN: Timestamp = Timestamp::from_millis(1_600_000_000_000);
const P0: PartitionIndex = PartitionIndex(0);
const P1: PartitionIndex = PartitionIndex(1);

/// A ledger whose every command is a group of its own, and its journal.
struct Bench {
    ledger: Ledger,
    entries: Vec<JournalEntry>,
}

impl Bench {
    fn new() -> Self {
        Self { ledger: Ledger::new(ShardId(0), 1), entries: Vec::new() }
    }

    fn apply(&mut self, command: Command) -> Result<Reply, Error> {
        let applied = self.ledger.apply(&command, NOW);
        let journaled = applied.changed.then_some(command).into_iter().collect();
        self.entries.push(self.ledger.seal(Epoch(1), NOW, journaled));
        applied.reply
    }

    fn refusal(&mut self, taken: TakeBack) -> Error {
        let before = self.ledger.snapshot();
        let applied = self.ledger.apply(&Command::TakeBack(Box::new(taken)), NOW);
        assert!(!applied.changed && before == self.ledger.snapshot(), "what was refused changed something");
        applied.reply.unwrap_err()
    }

    fn take_back(&mut self, taken: TakeBack) -> Topic {
        let Ok(Reply::Topic(topic, true)) = self.apply(Command::TakeBack(Box::new(taken))) else { panic!("not taken back") };
        topic
    }

    fn put_topic(&mut self, name: &str) -> TopicId {
        let (namespace, name) = (NamespaceName::default_name(), TopicName::new(name).unwrap());
        let put = Command::PutTopic { namespace, name, config: TopicConfig::default(), condition: Precondition::Always, idempotency: None };
        let Ok(Reply::Topic(topic, _)) = self.apply(put) else { panic!("no topic") };
        topic.id
    }

    fn append(&mut self, topic: TopicId, partition: PartitionIndex) -> SliceOutcome {
        let slices = vec![Slice { length: 10, records: 1, ..Slice::default() }];
        let extents = vec![ProposedExtent { topic, partition, position: 0, slices }];
        let segment = SegmentId::mint(NOW, (1_000 + self.entries.len() as u128) << 64);
        let commit = SegmentCommit { segment, size: 10, extents, atoms: Vec::new() };
        let Ok(Reply::Committed(reply)) = self.apply(Command::Commit(commit)) else { panic!("no reply") };
        reply.slices[0].clone()
    }

    fn located(&self, topic: TopicId, from: u64) -> Vec<Extent> {
        let query = Query::Locate { topic, partition: P0, from: Offset(from), max_bytes: u64::MAX, max_extents: 100 };
        let Ok(Answer::Located(located)) = self.ledger.query(&query) else { panic!("not located") };
        located.extents
    }
}

fn file(base: u64, records: u32) -> TakenFile {
    TakenFile {
        object: SegmentId::mint(THEN, u128::from(base + 1) << 64),
        base_offset: Offset(base),
        records,
        length: 100,
        first_timestamp: THEN,
        max_timestamp: THEN,
        appended_at: THEN,
    }
}

fn orders(number: u64, files: Vec<TakenFile>) -> TakeBack {
    TakeBack {
        namespace: NamespaceName::default_name(),
        name: TopicName::new("orders").unwrap(),
        topic: TopicId::new(ShardId(0), number),
        created_at: THEN,
        config: TopicConfig { partitions: 2, ..TopicConfig::default() },
        partitions: vec![TakenPartition { partition: P0, files }],
    }
}

#[test]
fn a_topic_comes_back_under_its_number_with_its_files_at_their_offsets_and_goes_on_behind_them() {
    let mut bench = Bench::new();
    let files = vec![file(100, 50), file(150, 10)];
    let topic = bench.take_back(orders(7, files.clone()));
    assert_eq!((topic.id, topic.created_at, topic.version), (TopicId::new(ShardId(0), 7), THEN, 1));
    assert_eq!(bench.located(topic.id, 120), files.iter().map(TakenFile::extent).collect::<Vec<_>>());
    let status = bench.ledger.partition(topic.id, P0).unwrap().status(P0);
    assert_eq!((status.log_start, status.end, status.bytes, status.extents), (Offset(100), Offset(160), 200, 2));
    let objects = files.iter().map(|file| file.object).collect();
    let Ok(Answer::Objects(known)) = bench.ledger.query(&Query::Objects(objects)) else { panic!("no objects") };
    let keys: Vec<String> = known.into_iter().map(|object| object.unwrap().key()).collect();
    assert_eq!(keys, files.iter().map(|file| object_key(&topic.namespace, &topic.name, &file.extent())).collect::<Vec<_>>());
    assert_eq!(bench.append(topic.id, P0), SliceOutcome::Stored(Offset(160)));
    assert_eq!(bench.append(topic.id, P1), SliceOutcome::Stored(Offset(0)));
    assert_eq!(bench.put_topic("later"), TopicId::new(ShardId(0), 8));
}

#[test]
fn nothing_that_this_ledger_has_given_out_is_taken_for_something_else() {
    let mut bench = Bench::new();
    let taken = bench.put_topic("payments");
    assert_eq!(taken, TopicId::new(ShardId(0), 1));
    assert!(matches!(bench.refusal(orders(1, vec![file(0, 1)])), Error::Invalid { .. }), "its number");
    let mut other = orders(2, vec![file(0, 1)]);
    other.topic = TopicId::new(ShardId(1), 2);
    assert!(matches!(bench.refusal(other), Error::Invalid { .. }), "another shard's number");
    assert!(matches!(bench.refusal(orders((1 << 40) - 1, vec![file(0, 1)])), Error::Invalid { .. }), "the last number");
    let mut named = orders(2, vec![file(0, 1)]);
    named.name = TopicName::new("payments").unwrap();
    assert!(matches!(bench.refusal(named), Error::AlreadyExists { .. }), "its name");
    let mut elsewhere = orders(2, vec![file(0, 1)]);
    elsewhere.namespace = NamespaceName::new("nowhere").unwrap();
    assert!(matches!(bench.refusal(elsewhere), Error::NamespaceNotFound(_)));
    // Refused for ever, as an orphan is: it may be deleted at any moment.
    bench.apply(Command::RefuseSegments { segments: vec![file(0, 1).object] }).unwrap();
    assert!(matches!(bench.refusal(orders(2, vec![file(0, 1)])), Error::Invalid { .. }));
    bench.take_back(orders(2, vec![file(5, 1)]));
    assert!(matches!(bench.refusal(orders(3, vec![file(5, 1)])), Error::AlreadyExists { .. }), "once");
}

#[test]
fn files_that_do_not_follow_each_other_are_not_taken() {
    let mut bench = Bench::new();
    let twice = file(0, 5);
    let again = TakenFile { base_offset: Offset(5), ..twice };
    let cases = [
        vec![file(0, 5), file(6, 5)],
        vec![file(0, 5), file(4, 5)],
        vec![file(5, 5), file(0, 5)],
        vec![file(0, 0)],
        vec![twice, again],
        vec![TakenFile { length: 0, ..file(0, 5) }],
        vec![file(u64::MAX - 2, 5)],
    ];
    for files in cases {
        assert!(matches!(bench.refusal(orders(1, files.clone())), Error::Internal(_)), "{files:?}");
    }
    let mut beyond = orders(1, vec![file(0, 5)]);
    beyond.partitions[0].partition = PartitionIndex(2);
    assert!(matches!(bench.refusal(beyond), Error::Internal(_)));
}

#[test]
fn l6_what_was_taken_back_is_the_same_after_a_replay_and_a_checkpoint() {
    let mut bench = Bench::new();
    let topic = bench.take_back(orders(7, vec![file(100, 50), file(150, 10)]));
    bench.append(topic.id, P0);
    let mut replayed = Ledger::new(ShardId(0), 1);
    for entry in &bench.entries {
        replayed.replay(&JournalEntry::decode(&entry.encode()).unwrap()).unwrap();
    }
    assert_eq!(replayed.snapshot(), bench.ledger.snapshot());
    let checkpoint = bench.ledger.checkpoint();
    let bases: Vec<u64> = checkpoint.extents.iter().map(|extent| extent.base_offset).collect();
    assert_eq!(bases, [100, 150, 160]);
    let mut restored = Ledger::restore(ShardId(0), &checkpoint.shard, checkpoint.puts.clone()).unwrap();
    let status = |ledger: &Ledger| ledger.partition(topic.id, P0).unwrap().status(P0);
    assert_eq!(status(&restored), status(&bench.ledger));
    let second = restored.apply(&Command::TakeBack(Box::new(orders(9, vec![file(0, 1)]))), NOW);
    assert!(matches!(second.reply, Err(Error::AlreadyExists { .. })));
}

#[test]
fn files_that_were_taken_back_are_merged_like_others() {
    let mut bench = Bench::new();
    let files = [file(100, 50), file(150, 10)];
    let topic = bench.take_back(orders(7, files.to_vec()));
    let old = files.iter().map(|file| RetiredExtent::from(&file.extent())).collect();
    let new = NewExtent { position: 0, length: 150, first_timestamp: THEN, max_timestamp: THEN, appended_at: THEN };
    let part = SwapPart { topic: topic.id, partition: P0, generation: 0, old, new, settled: None, rest_since: None };
    let object = SegmentId::mint(NOW, 1 << 80);
    let swap = Swap { object, size: 150, level: ObjectLevel::Parquet, key: Some("tables/x".into()), parts: vec![part] };
    let Ok(Reply::Committed(reply)) = bench.apply(Command::Swap(Box::new(swap))) else { panic!("no swap") };
    assert_eq!(reply.slices, [SliceOutcome::Stored(Offset(100))]);
    let located = bench.located(topic.id, 100);
    assert_eq!(located.iter().map(|extent| (extent.object, extent.records)).collect::<Vec<_>>(), [(object, 60)]);
    assert_eq!(bench.append(topic.id, P0), SliceOutcome::Stored(Offset(160)));
    let query = Query::Reclaimable {
        limit: 100,
        after: None,
        after_object: None,
        now: NOW.plus(Duration::from_secs(3_600)),
        grace: Duration::ZERO,
    };
    let Ok(Answer::Reclaimable(reclaimable)) = bench.ledger.query(&query) else { panic!("no answer") };
    assert_eq!(reclaimable.objects, files.map(|file| file.object));
}
