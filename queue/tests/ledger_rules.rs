//! The ledger's rules by example: each test is the sentence it proves. What holds of all histories is in
//! `ledger_properties.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::Error;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{
    Answer, Applied, Atom, AtomOutcome, COMMIT_WINDOW, Command, CommitReply, DedupClaim, DedupHit, EntryError, JournalEntry, LayoutRun,
    Ledger, Partition, ProposedExtent, Query, Reclaimable, ReclaimablePartition, Refusal, Reply, RetiredExtent, RowKey, SegmentCommit,
    Slice, SliceCondition, SliceOutcome,
};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::{AckRange, CursorMove, Idempotency, PageRequest, Precondition, ProducerStamp};
use lakefall_queue::{CursorName, NamespaceName, Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const P0: PartitionIndex = PartitionIndex(0);
const P1: PartitionIndex = PartitionIndex(1);
const STORED_0: SliceOutcome = SliceOutcome::Stored(Offset(0));

/// A ledger whose every command is a group of its own, and the commands that changed it.
struct Bench {
    ledger: Ledger,
    now: Timestamp,
    ids: u128,
    entries: Vec<JournalEntry>,
}

impl Bench {
    fn new() -> Self {
        Self { ledger: Ledger::new(ShardId(0), 1), now: START, ids: 0, entries: Vec::new() }
    }

    /// With the topic `orders` of two partitions.
    fn with_topic() -> (Self, TopicId) {
        let mut bench = Self::new();
        let topic = bench.put_topic("orders", 2);
        (bench, topic)
    }

    fn apply(&mut self, command: Command) -> Applied {
        self.now = self.ledger.group_time(self.now);
        let applied = self.ledger.apply(&command, self.now);
        let journaled = applied.changed.then_some(command).into_iter().collect();
        self.entries.push(self.ledger.seal(Epoch(1), self.now, journaled));
        applied
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.entries.push(self.ledger.seal(Epoch(1), self.now, Vec::new()));
    }

    fn refusal(&mut self, command: Command) -> Error {
        let before = self.ledger.snapshot();
        let applied = self.ledger.apply(&command, self.ledger.group_time(self.now));
        assert!(!applied.changed && before == self.ledger.snapshot(), "a refused command changed something");
        applied.reply.unwrap_err()
    }

    fn put_topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let Ok(Reply::Topic(topic, _)) = self.apply(put_topic(name, partitions, None)).reply else { panic!("no topic") };
        topic.id
    }

    fn segment(&mut self) -> SegmentId {
        self.ids += 1;
        SegmentId::mint(self.now, self.ids << 64)
    }

    fn commit(&mut self, extents: Vec<ProposedExtent>, atoms: Vec<Atom>) -> SegmentCommit {
        SegmentCommit { segment: self.segment(), size: 1_000_000, extents, atoms }
    }

    fn send(&mut self, commit: &SegmentCommit) -> Arc<CommitReply> {
        let Ok(Reply::Committed(reply)) = self.apply(Command::Commit(commit.clone())).reply else { panic!("no reply") };
        reply
    }

    /// Appends one slice in a segment of its own.
    fn append(&mut self, topic: TopicId, partition: PartitionIndex, slice: Slice) -> SliceOutcome {
        let commit = self.commit(vec![extent(topic, partition, vec![slice])], Vec::new());
        self.send(&commit).slices[0].clone()
    }

    fn partition(&self, topic: TopicId, partition: PartitionIndex) -> &Partition {
        self.ledger.partition(topic, partition).unwrap()
    }

    fn end(&self, topic: TopicId, partition: PartitionIndex) -> u64 {
        self.partition(topic, partition).end().0
    }

    fn oldest(&self, topic: TopicId, count: usize) -> Vec<RetiredExtent> {
        self.partition(topic, P0).recent().take(count).map(RetiredExtent::from).collect()
    }

    fn reclaimable(&self) -> Reclaimable {
        let query = Query::Reclaimable {
            limit: 100,
            after: None,
            after_object: None,
            now: self.now.plus(Duration::from_secs(1)),
            grace: Duration::ZERO,
        };
        let Ok(Answer::Reclaimable(found)) = self.ledger.query(&query) else { panic!("no answer") };
        found
    }

    fn cursor_version(&self, name: &str) -> Option<u64> {
        let Ok(Answer::Cursor(found)) = self.ledger.query(&Query::Cursor(ns(), cursor(name))) else { panic!("no answer") };
        found.first().map(|c| c.version)
    }
}

fn ns() -> NamespaceName {
    NamespaceName::default_name()
}

fn cursor(name: &str) -> CursorName {
    CursorName::new(name).unwrap()
}

fn topic_name(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn put_topic(name: &str, partitions: u32, idempotency: Option<Idempotency>) -> Command {
    let config = TopicConfig { partitions, dedup_window: Duration::from_secs(60), ..TopicConfig::default() };
    Command::PutTopic { namespace: ns(), name: topic_name(name), config, condition: Precondition::Always, idempotency }
}

fn delete_topic(name: &str) -> Command {
    Command::DeleteTopic { namespace: ns(), name: topic_name(name), condition: Precondition::Always }
}

fn extent(topic: TopicId, partition: PartitionIndex, slices: Vec<Slice>) -> ProposedExtent {
    ProposedExtent { topic, partition, position: 16 + 100_000 * u64::from(partition.0), slices }
}

fn records(records: u32) -> Slice {
    Slice { length: records * 100, records, ..Slice::default() }
}

fn asking(records: u32, condition: SliceCondition) -> Slice {
    Slice { condition: Some(Box::new(condition)), ..self::records(records) }
}

fn expecting(count: u32, offset: u64) -> Slice {
    asking(count, SliceCondition { expect_offset: Some(Offset(offset)), ..SliceCondition::default() })
}

fn fenced(count: u32, token: u64) -> Slice {
    asking(count, SliceCondition { fencing_token: Some(token), ..SliceCondition::default() })
}

fn produced(count: u32, epoch: u32, sequence: u64) -> Slice {
    let producer = Some(ProducerStamp { id: "p".into(), epoch, sequence });
    asking(count, SliceCondition { producer, ..SliceCondition::default() })
}

fn deduped(count: u32, hashes: &[u128]) -> Slice {
    let dedup = (0..).zip(hashes).map(|(index, hash)| DedupClaim { index, hash: *hash }).collect();
    asking(count, SliceCondition { dedup, ..SliceCondition::default() })
}

fn of_atom(atom: u32, slice: Slice) -> Slice {
    Slice { atom: Some(atom), ..slice }
}

fn request(key: &str, fingerprint: u128) -> Option<Idempotency> {
    Some(Idempotency { key: key.into(), fingerprint })
}

fn atom(idempotency: Option<Idempotency>, layout: Vec<LayoutRun>, cursors: Vec<CursorMove>) -> Atom {
    Atom { namespace: ns(), idempotency, layout, cursors, settles: Vec::new() }
}

fn run(append: u32, topic: TopicId, partition: PartitionIndex, count: u32) -> LayoutRun {
    LayoutRun { append, topic, partition, count }
}

fn move_to(name: &str, offset: u64, if_version: Option<u64>) -> CursorMove {
    CursorMove { cursor: cursor(name), topic: topic_name("orders"), offsets: vec![(P0, Offset(offset))], if_version }
}

fn trim(topic: TopicId, before: u64) -> Command {
    Command::Trim { topic, partition: Some(P0), before: Offset(before) }
}

fn reclaimable(topic: TopicId, oldest: u64, log_start: u64) -> ReclaimablePartition {
    ReclaimablePartition { topic, partition: P0, oldest: Offset(oldest), log_start: Offset(log_start), generation: Some(0) }
}

fn retire(topic: TopicId, extents: Vec<RetiredExtent>) -> Command {
    Command::Retire { topic, partition: P0, extents, generation: None }
}

#[test]
fn a_conditional_append_that_finds_another_end_is_told_the_end_and_takes_no_offset() {
    let (mut bench, topic) = Bench::with_topic();
    assert_eq!(bench.append(topic, P0, expecting(3, 0)), STORED_0);
    let mismatch = Refusal::OffsetMismatch { partition: P0, expected: Offset(0), end: Offset(3) };
    assert_eq!(bench.append(topic, P0, expecting(3, 0)), SliceOutcome::Refused(mismatch));
    assert_eq!(bench.end(topic, P0), 3);
    assert_eq!(bench.append(topic, P0, expecting(1, 3)), SliceOutcome::Stored(Offset(3)));
}

#[test]
fn of_two_equal_conditional_appends_in_one_segment_the_first_wins() {
    let (mut bench, topic) = Bench::with_topic();
    let commit = bench.commit(vec![extent(topic, P0, vec![expecting(2, 0), expecting(2, 0), records(1)])], Vec::new());
    let mismatch = Refusal::OffsetMismatch { partition: P0, expected: Offset(0), end: Offset(2) };
    let expected = [STORED_0, SliceOutcome::Refused(mismatch), SliceOutcome::Stored(Offset(2))];
    assert_eq!(bench.send(&commit).slices, expected);
    // The refused bytes lie between the two: they are two extents of one object.
    let positions: Vec<_> = bench.partition(topic, P0).recent().map(|e| (e.position, e.length, e.records)).collect();
    assert_eq!(positions, [(16, 200, 2), (416, 100, 1)]);
}

#[test]
fn slices_that_follow_each_other_in_the_object_become_one_extent() {
    let (mut bench, topic) = Bench::with_topic();
    let commit = bench.commit(vec![extent(topic, P0, vec![records(2), records(3), records(4)])], Vec::new());
    let expected = [STORED_0, SliceOutcome::Stored(Offset(2)), SliceOutcome::Stored(Offset(5))];
    assert_eq!(bench.send(&commit).slices, expected);
    let extents: Vec<_> = bench.partition(topic, P0).recent().map(|e| (e.base_offset, e.records, e.length)).collect();
    assert_eq!(extents, [(Offset(0), 9, 900)]);
}

#[test]
fn a_lower_fencing_token_than_the_highest_seen_is_refused() {
    let (mut bench, topic) = Bench::with_topic();
    assert_eq!(bench.append(topic, P0, fenced(1, 5)), STORED_0);
    assert_eq!(bench.append(topic, P0, fenced(1, 4)), SliceOutcome::Refused(Refusal::Fenced { token: 4, current: 5 }));
    assert_eq!(bench.append(topic, P0, fenced(1, 5)), SliceOutcome::Stored(Offset(1)));
    assert_eq!(bench.append(topic, P0, fenced(1, 9)), SliceOutcome::Stored(Offset(2)));
    // Who names none is not fenced, and the other partition has its own.
    assert_eq!(bench.append(topic, P0, records(1)), SliceOutcome::Stored(Offset(3)));
    assert_eq!(bench.append(topic, P1, fenced(1, 1)), STORED_0);
}

#[test]
fn a_refused_append_does_not_raise_the_fencing_token() {
    let (mut bench, topic) = Bench::with_topic();
    let both = SliceCondition { expect_offset: Some(Offset(7)), fencing_token: Some(9), ..SliceCondition::default() };
    assert!(matches!(bench.append(topic, P0, asking(1, both)), SliceOutcome::Refused(Refusal::OffsetMismatch { .. })));
    assert_eq!(bench.append(topic, P0, fenced(1, 1)), STORED_0);
}

#[test]
fn a_producers_repeated_batch_gets_its_first_offset() {
    let (mut bench, topic) = Bench::with_topic();
    assert_eq!(bench.append(topic, P0, records(4)), STORED_0);
    assert_eq!(bench.append(topic, P0, produced(3, 1, 0)), SliceOutcome::Stored(Offset(4)));
    assert_eq!(bench.append(topic, P0, produced(2, 1, 3)), SliceOutcome::Stored(Offset(7)));
    assert_eq!(bench.append(topic, P0, produced(3, 1, 0)), SliceOutcome::Duplicate(Offset(4)));
    assert_eq!(bench.end(topic, P0), 9);
}

#[test]
fn a_producers_repeated_batch_is_known_while_five_came_since_and_not_after() {
    let (mut bench, topic) = Bench::with_topic();
    for sequence in 0..5 {
        bench.append(topic, P0, produced(1, 0, sequence));
    }
    assert_eq!(bench.append(topic, P0, produced(1, 0, 0)), SliceOutcome::Duplicate(Offset(0)));
    bench.append(topic, P0, produced(1, 0, 5));
    let gap = Refusal::SequenceGap { sequence: 0, expected: 6 };
    assert_eq!(bench.append(topic, P0, produced(1, 0, 0)), SliceOutcome::Refused(gap));
    assert_eq!(bench.append(topic, P0, produced(1, 0, 1)), SliceOutcome::Duplicate(Offset(1)));
}

#[test]
fn a_producers_batch_out_of_turn_is_told_the_sequence_that_is_missing() {
    let (mut bench, topic) = Bench::with_topic();
    let gap = |sequence, expected| SliceOutcome::Refused(Refusal::SequenceGap { sequence, expected });
    assert_eq!(bench.append(topic, P0, produced(1, 0, 2)), gap(2, 0));
    assert_eq!(bench.append(topic, P0, produced(2, 0, 0)), STORED_0);
    assert_eq!(bench.append(topic, P0, produced(1, 0, 3)), gap(3, 2));
    // The same sequence with another number of records is another batch.
    assert_eq!(bench.append(topic, P0, produced(1, 0, 0)), gap(0, 2));
    assert_eq!(bench.end(topic, P0), 2);
}

#[test]
fn a_producers_new_epoch_starts_over_and_fences_the_old_one() {
    let (mut bench, topic) = Bench::with_topic();
    bench.append(topic, P0, produced(2, 1, 0));
    assert!(matches!(bench.append(topic, P0, produced(1, 2, 2)), SliceOutcome::Refused(Refusal::SequenceGap { expected: 0, .. })));
    assert_eq!(bench.append(topic, P0, produced(1, 2, 0)), SliceOutcome::Stored(Offset(2)));
    let fenced = SliceOutcome::Refused(Refusal::ProducerFenced { epoch: 1, current: 2 });
    assert_eq!(bench.append(topic, P0, produced(1, 1, 2)), fenced);
    assert_eq!(bench.append(topic, P0, produced(2, 1, 0)), fenced, "even what the old one stored");
}

#[test]
fn a_dedup_id_is_remembered_for_the_topics_window_of_journaled_time() {
    let (mut bench, topic) = Bench::with_topic();
    assert_eq!(bench.append(topic, P0, deduped(3, &[7, 8])), STORED_0);
    let hits = vec![DedupHit { index: 1, partition: P0, offset: Offset(1) }];
    let refused = SliceOutcome::Refused(Refusal::Deduplicated(hits));
    assert_eq!(bench.append(topic, P1, deduped(2, &[9, 8])), refused, "the topic's partitions share the window");
    bench.pass(Duration::from_millis(59_999));
    // A clock that goes back does not lengthen it, nor does a hit.
    bench.now = START;
    assert!(matches!(bench.append(topic, P1, deduped(1, &[8])), SliceOutcome::Refused(Refusal::Deduplicated(_))));
    bench.now = START.plus(Duration::from_secs(60));
    assert_eq!(bench.append(topic, P1, deduped(1, &[8])), STORED_0);
}

#[test]
fn of_two_records_with_one_dedup_id_in_a_segment_the_first_is_stored() {
    let (mut bench, topic) = Bench::with_topic();
    let commit = bench.commit(vec![extent(topic, P0, vec![deduped(1, &[1])]), extent(topic, P1, vec![deduped(1, &[1])])], Vec::new());
    let hits = vec![DedupHit { index: 0, partition: P0, offset: Offset(0) }];
    assert_eq!(bench.send(&commit).slices, [STORED_0, SliceOutcome::Refused(Refusal::Deduplicated(hits))]);
}

#[test]
fn an_idempotent_request_is_replayed_for_24_hours_and_conflicts_with_another_one() {
    let (mut bench, topic) = Bench::with_topic();
    bench.append(topic, P1, records(5));
    let layout = vec![run(0, topic, P1, 2), run(0, topic, P0, 1), run(1, topic, P1, 1)];
    let extents = vec![extent(topic, P0, vec![of_atom(0, records(1))]), extent(topic, P1, vec![of_atom(0, records(3))])];
    let send = |bench: &mut Bench, fingerprint| {
        let commit = bench.commit(extents.clone(), vec![atom(request("k", fingerprint), layout.clone(), Vec::new())]);
        bench.send(&commit)
    };
    let first = send(&mut bench, 1);
    assert_eq!(first.slices, [STORED_0, SliceOutcome::Stored(Offset(5))]);
    assert_eq!(first.atoms, [AtomOutcome::Applied]);
    let range = |partition, first, count| AckRange { partition, first_offset: Offset(first), count, duplicate: true };
    let replayed = AtomOutcome::Replayed(vec![(0, range(P1, 5, 2)), (0, range(P0, 0, 1)), (1, range(P1, 7, 1))]);
    bench.pass(Duration::from_secs(24 * 3_600 - 1));
    assert_eq!(send(&mut bench, 1).atoms, [replayed]);
    assert_eq!(send(&mut bench, 2).atoms, [AtomOutcome::Refused(Refusal::IdempotencyConflict)]);
    assert_eq!((bench.end(topic, P0), bench.end(topic, P1)), (1, 8));
    bench.pass(Duration::from_secs(1));
    assert_eq!(send(&mut bench, 2).atoms, [AtomOutcome::Applied]);
}

#[test]
fn the_creation_of_a_topic_is_replayed_by_its_idempotency_key() {
    let mut bench = Bench::new();
    let Ok(Reply::Topic(first, true)) = bench.apply(put_topic("t", 1, request("k", 1))).reply else { panic!("not created") };
    bench.apply(put_topic("t", 2, None)).reply.unwrap();
    let again = bench.apply(put_topic("t", 1, request("k", 1)));
    assert_eq!((again.reply, again.changed), (Ok(Reply::Topic(first, true)), false));
    assert_eq!(bench.refusal(put_topic("t", 1, request("k", 2))), Error::IdempotencyConflict);
}

#[test]
fn two_requests_with_one_idempotency_key_in_a_segment_are_one() {
    let (mut bench, topic) = Bench::with_topic();
    let one = atom(request("k", 1), vec![run(0, topic, P0, 1)], Vec::new());
    let slices = vec![of_atom(0, records(1)), of_atom(1, records(1))];
    let commit = bench.commit(vec![extent(topic, P0, slices)], vec![one.clone(), one]);
    let reply = bench.send(&commit);
    assert_eq!(reply.slices, [STORED_0, SliceOutcome::Refused(Refusal::Atom)]);
    assert!(matches!(&reply.atoms[..], [AtomOutcome::Applied, AtomOutcome::Replayed(_)]), "{reply:?}");
}

#[test]
fn an_atom_is_refused_as_a_whole() {
    let (mut bench, topic) = Bench::with_topic();
    bench.append(topic, P0, records(2));
    bench.apply(Command::PutCursor { namespace: ns(), change: move_to("c", 1, None) }).reply.unwrap();
    let all = |cursor| atom(request("k", 1), vec![run(0, topic, P0, 1), run(0, topic, P1, 1)], vec![cursor]);
    let commit = |bench: &mut Bench, last: Slice, cursor| {
        let extents = vec![extent(topic, P0, vec![of_atom(0, records(1)), records(1)]), extent(topic, P1, vec![of_atom(0, last)])];
        bench.commit(extents, vec![all(cursor)])
    };
    let mismatched = commit(&mut bench, expecting(1, 9), move_to("c", 2, Some(1)));
    let reply = bench.send(&mismatched);
    let mismatch = Refusal::OffsetMismatch { partition: P1, expected: Offset(9), end: Offset(0) };
    assert_eq!(reply.atoms, [AtomOutcome::Refused(mismatch)]);
    let refused = SliceOutcome::Refused(Refusal::Atom);
    assert_eq!(reply.slices, [refused.clone(), SliceOutcome::Stored(Offset(2)), refused], "others in the segment are stored");
    assert_eq!((bench.end(topic, P0), bench.end(topic, P1), bench.cursor_version("c")), (3, 0, Some(1)));

    let stale = commit(&mut bench, records(1), move_to("c", 2, Some(7)));
    assert_eq!(bench.send(&stale).atoms, [AtomOutcome::Refused(Refusal::CursorVersion { expected: 7, actual: 1 })]);
    let astray = commit(&mut bench, records(1), move_to("c", 99, None));
    assert_eq!(bench.send(&astray).atoms, [AtomOutcome::Refused(Refusal::CursorOffset { cursor: cursor("c") })]);
    assert_eq!((bench.end(topic, P0), bench.end(topic, P1), bench.cursor_version("c")), (5, 0, Some(1)));

    // A refused request is not remembered: the same key may succeed now.
    let good = commit(&mut bench, records(1), move_to("c", 2, Some(1)));
    assert_eq!(bench.send(&good).atoms, [AtomOutcome::Applied]);
    assert_eq!((bench.end(topic, P0), bench.end(topic, P1), bench.cursor_version("c")), (7, 1, Some(2)));
}

#[test]
fn an_atom_never_overtakes_what_lies_before_it_in_its_partitions() {
    let (mut bench, topic) = Bench::with_topic();
    // One producer sends a plain batch to partition 1, then an atomic one to both partitions.
    let extents =
        vec![extent(topic, P0, vec![of_atom(0, records(1))]), extent(topic, P1, vec![produced(2, 0, 0), of_atom(0, produced(1, 0, 2))])];
    let commit = bench.commit(extents, vec![atom(None, Vec::new(), Vec::new())]);
    assert_eq!(bench.send(&commit).slices, [STORED_0, STORED_0, SliceOutcome::Stored(Offset(2))]);
}

#[test]
fn an_atom_may_move_cursors_and_append_nothing() {
    let (mut bench, _) = Bench::with_topic();
    let commit = bench.commit(Vec::new(), vec![atom(None, Vec::new(), vec![move_to("c", 0, Some(0))])]);
    assert_eq!(bench.send(&commit).atoms, [AtomOutcome::Applied]);
    assert_eq!(bench.cursor_version("c"), Some(1));
}

#[test]
fn a_deleted_topics_extent_is_refused_while_the_rest_of_the_segment_is_stored() {
    let (mut bench, gone) = Bench::with_topic();
    let kept = bench.put_topic("kept", 1);
    bench.append(gone, P0, records(1));
    bench.apply(delete_topic("orders")).reply.unwrap();
    let absent = PartitionIndex(7);
    let extents = vec![extent(gone, P0, vec![records(1)]), extent(kept, P0, vec![records(2)]), extent(kept, absent, vec![records(1)])];
    let commit = bench.commit(extents, Vec::new());
    let refused = SliceOutcome::Refused(Refusal::TopicGone);
    assert_eq!(bench.send(&commit).slices, [refused.clone(), STORED_0, refused]);
    // Created again, it is another topic.
    let again = bench.put_topic("orders", 2);
    assert_ne!(again, gone);
    assert_eq!(bench.end(again, P0), 0);
}

#[test]
fn a_trim_raises_the_log_start_up_to_the_end_and_never_lowers_it() {
    let (mut bench, topic) = Bench::with_topic();
    bench.append(topic, P0, records(5));
    assert!(bench.apply(trim(topic, 3)).changed);
    assert!(!bench.apply(trim(topic, 2)).changed, "below");
    assert!(!bench.apply(trim(topic, 3)).changed, "the same");
    assert_eq!(bench.partition(topic, P0).log_start(), Offset(3));
    assert!(bench.apply(trim(topic, u64::MAX)).changed, "beyond the end");
    assert_eq!((bench.partition(topic, P0).log_start(), bench.end(topic, P0)), (Offset(5), 5));
    assert_eq!(bench.append(topic, P0, records(1)), SliceOutcome::Stored(Offset(5)));
}

#[test]
fn a_trim_of_a_partition_that_is_not_there_changes_nothing() {
    let (mut bench, topic) = Bench::with_topic();
    for index in [2, u32::MAX] {
        let command = Command::Trim { topic, partition: Some(PartitionIndex(index)), before: Offset(1) };
        assert!(!bench.apply(command).changed);
    }
    assert!(matches!(bench.refusal(trim(TopicId(99), 1)), Error::Unavailable { .. }));
}

#[test]
fn a_retire_out_of_turn_or_above_the_log_start_is_refused() {
    let (mut bench, topic) = Bench::with_topic();
    for _ in 0..3 {
        bench.append(topic, P0, records(2));
    }
    let all = bench.oldest(topic, 3);
    bench.apply(trim(topic, 3)).reply.unwrap();
    let mut unknown = all[0];
    unknown.object = SegmentId::mint(START, 1);
    let mut huge = all[0];
    huge.base_offset = Offset(u64::MAX);
    for (extents, why) in [
        (vec![all[1]], "not the oldest"),
        (vec![all[0], all[1]], "partly above the log start"),
        (vec![all[0], all[0]], "twice"),
        (vec![unknown], "an object that holds nothing"),
        (vec![huge], "an offset beyond all others"),
        (Vec::new(), "nothing"),
    ] {
        assert!(matches!(bench.refusal(retire(topic, extents)), Error::Internal(_)), "{why}");
    }
    bench.apply(retire(topic, vec![all[0]])).reply.unwrap();
    assert_eq!(bench.partition(topic, P0).first_recent(), Offset(2));
    assert_eq!(bench.reclaimable().partitions, [reclaimable(topic, 2, 3)]);
}

#[test]
fn a_deleted_topics_objects_are_free_after_their_extents_were_retired() {
    let (mut bench, topic) = Bench::with_topic();
    bench.append(topic, P0, records(1));
    bench.append(topic, P0, records(1));
    let extents = bench.oldest(topic, 2);
    bench.apply(delete_topic("orders")).reply.unwrap();
    assert!(bench.ledger.partition(topic, P1).is_none(), "an empty partition goes at once");
    assert_eq!(bench.reclaimable().partitions, [reclaimable(topic, 0, 2)]);
    bench.apply(retire(topic, extents.clone())).reply.unwrap();
    assert!(bench.ledger.partition(topic, P0).is_none());
    assert_eq!(bench.reclaimable().objects, [], "the answers to their commits are still owed");
    bench.pass(COMMIT_WINDOW + Duration::from_millis(1));
    let objects: Vec<SegmentId> = extents.iter().map(|e| e.object).collect();
    assert_eq!(bench.reclaimable().objects, objects);
    let forget = Command::ForgetObjects { objects };
    assert!(bench.apply(forget.clone()).changed);
    assert!(!bench.apply(forget).changed, "once");
    assert_eq!(bench.reclaimable(), Reclaimable::default());
}

#[test]
fn a_repeated_commit_gets_the_first_answer_while_it_is_kept_and_is_unknown_after() {
    let (mut bench, topic) = Bench::with_topic();
    let commit = bench.commit(vec![extent(topic, P0, vec![records(2)])], Vec::new());
    let first = bench.send(&commit);
    bench.pass(COMMIT_WINDOW);
    let again = bench.apply(Command::Commit(commit.clone()));
    assert_eq!((again.reply, again.changed), (Ok(Reply::Committed(first)), false));
    bench.pass(Duration::from_millis(1));
    assert!(matches!(bench.refusal(Command::Commit(commit)), Error::Unknown { .. }));
    assert_eq!(bench.end(topic, P0), 2);
}

#[test]
fn a_segment_that_was_refused_or_is_too_old_is_never_committed() {
    let (mut bench, topic) = Bench::with_topic();
    let swept = bench.commit(vec![extent(topic, P0, vec![records(1)])], Vec::new());
    let slow = bench.commit(vec![extent(topic, P0, vec![records(1)])], Vec::new());
    let refused = Ok(Reply::Refused(vec![swept.segment]));
    assert_eq!(bench.apply(Command::RefuseSegments { segments: vec![swept.segment] }).reply, refused);
    bench.pass(COMMIT_WINDOW + Duration::from_millis(1));
    for commit in [&swept, &slow] {
        assert_eq!(bench.send(commit).slices, [SliceOutcome::Refused(Refusal::SegmentRefused)]);
        bench.apply(Command::ForgetObjects { objects: vec![commit.segment] });
        assert_eq!(bench.send(commit).slices, [SliceOutcome::Refused(Refusal::SegmentRefused)]);
    }
    assert_eq!(bench.end(topic, P0), 0);
}

#[test]
fn a_committed_segment_is_not_refused() {
    let (mut bench, topic) = Bench::with_topic();
    let commit = bench.commit(vec![extent(topic, P0, vec![records(1)])], Vec::new());
    bench.send(&commit);
    let applied = bench.apply(Command::RefuseSegments { segments: vec![commit.segment] });
    assert_eq!((applied.reply, applied.changed), (Ok(Reply::Refused(Vec::new())), false));
}

#[test]
fn a_malformed_commit_is_refused_without_a_trace() {
    let (mut bench, topic) = Bench::with_topic();
    let of = |slices, position| vec![ProposedExtent { topic, partition: P0, position, slices }];
    for (extents, why) in [
        (of(vec![records(0)], 0), "a slice without records"),
        (of(vec![of_atom(0, records(1))], 0), "an atom that is not there"),
        (of(vec![records(1)], 999_999), "bytes beyond the object"),
        (of(vec![records(1)], u64::MAX), "a position beyond all others"),
    ] {
        let commit = bench.commit(extents, Vec::new());
        assert!(matches!(bench.refusal(Command::Commit(commit)), Error::Internal(_)), "{why}");
    }
}

#[test]
fn slices_too_many_for_one_extent_become_two() {
    let (mut bench, topic) = Bench::with_topic();
    let slice = Slice { length: 10, records: u32::MAX, ..Slice::default() };
    let commit = bench.commit(vec![extent(topic, P0, vec![slice.clone(), slice])], Vec::new());
    assert_eq!(bench.send(&commit).slices, [STORED_0, SliceOutcome::Stored(Offset(u64::from(u32::MAX)))]);
    assert_eq!(bench.partition(topic, P0).recent().count(), 2);
    assert_eq!(bench.end(topic, P0), 2 * u64::from(u32::MAX));
}

#[test]
fn a_namespace_that_holds_something_is_not_deleted() {
    let (mut bench, _) = Bench::with_topic();
    let name = NamespaceName::new("acme").unwrap();
    let delete = || Command::DeleteNamespace { name: name.clone(), condition: Precondition::Always };
    assert_eq!(bench.refusal(delete()), Error::NamespaceNotFound(name.clone()));
    let put = Command::PutNamespace { name: name.clone(), description: String::new(), condition: Precondition::Absent };
    bench.apply(put.clone()).reply.unwrap();
    assert_eq!(bench.refusal(put), Error::AlreadyExists { what: "namespace", name: "acme".to_owned() });
    let topic = |name: &NamespaceName| Command::PutTopic {
        namespace: name.clone(),
        name: topic_name("t"),
        config: TopicConfig::default(),
        condition: Precondition::Always,
        idempotency: None,
    };
    bench.apply(topic(&name)).reply.unwrap();
    assert_eq!(bench.refusal(delete()), Error::NamespaceNotEmpty(name.clone()));
    let gone = Command::DeleteTopic { namespace: name.clone(), name: topic_name("t"), condition: Precondition::Version(1) };
    bench.apply(gone).reply.unwrap();
    bench.apply(delete()).reply.unwrap();
    assert_eq!(bench.refusal(topic(&name)), Error::NamespaceNotFound(name));
}

#[test]
fn a_deleted_namespaces_idempotency_keys_are_forgotten_and_no_others() {
    let mut bench = Bench::new();
    let names = ["acme", "acme2"].map(|name| NamespaceName::new(name).unwrap());
    let make = |bench: &mut Bench, name: &NamespaceName| {
        let put = Command::PutNamespace { name: name.clone(), description: String::new(), condition: Precondition::Absent };
        bench.apply(put).reply.unwrap();
    };
    let create = |bench: &mut Bench, name: &NamespaceName, fingerprint| {
        let config = TopicConfig::default();
        let idempotency = request("k", fingerprint);
        let (namespace, name, condition) = (name.clone(), topic_name("t"), Precondition::Always);
        bench.apply(Command::PutTopic { namespace, name, config, condition, idempotency })
    };
    for name in &names {
        make(&mut bench, name);
        create(&mut bench, name, 1).reply.unwrap();
        let (namespace, name, condition) = (name.clone(), topic_name("t"), Precondition::Always);
        bench.apply(Command::DeleteTopic { namespace, name, condition }).reply.unwrap();
    }
    bench.apply(Command::DeleteNamespace { name: names[0].clone(), condition: Precondition::Always }).reply.unwrap();
    let checkpoint = bench.ledger.checkpoint();
    assert!(checkpoint.deletes.contains(&RowKey::Idempotency(names[0].clone(), "k".into())));
    make(&mut bench, &names[0]);
    assert!(create(&mut bench, &names[0], 2).changed, "the key is fresh in the new namespace");
    assert_eq!(create(&mut bench, &names[1], 2).reply, Err(Error::IdempotencyConflict), "the other one's is kept");
}

#[test]
fn extents_of_partitions_long_without_an_append_leave_memory_when_all_together_are_too_many() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("wide", 1_100);
    let fill = |bench: &mut Bench, partitions: std::ops::Range<u32>| {
        let extents =
            partitions.map(|index| ProposedExtent { topic, partition: PartitionIndex(index), position: 0, slices: vec![records(1)] });
        let commit = bench.commit(extents.collect(), Vec::new());
        bench.send(&commit);
        let checkpoint = bench.ledger.checkpoint();
        bench.ledger.checkpointed(&checkpoint, 1);
    };
    let in_memory = |bench: &Bench, partitions: std::ops::Range<u32>| -> usize {
        partitions.map(|index| bench.partition(topic, PartitionIndex(index)).recent().count()).sum()
    };
    fill(&mut bench, 0..1_000);
    fill(&mut bench, 0..10);
    assert_eq!(in_memory(&bench, 0..1_000), 1_000, "one each, within the bound of 1024");
    // None of the 76 that must go is in this checkpoint, nor among the ten with a newer append.
    fill(&mut bench, 1_000..1_100);
    assert_eq!(in_memory(&bench, 0..1_100), 1_024);
    assert_eq!((in_memory(&bench, 0..10), in_memory(&bench, 10..86), in_memory(&bench, 86..1_100)), (10, 0, 1_014));
}

#[test]
fn the_default_namespace_is_there_from_the_start_and_stays() {
    let mut bench = Bench::new();
    let delete = Command::DeleteNamespace { name: ns(), condition: Precondition::Always };
    assert!(matches!(bench.refusal(delete), Error::Invalid { .. }));
}

#[test]
fn a_topics_partitions_grow_and_never_shrink() {
    let (mut bench, topic) = Bench::with_topic();
    assert!(matches!(bench.refusal(put_topic("orders", 1, None)), Error::Invalid { .. }));
    assert_eq!(bench.put_topic("orders", 3), topic);
    assert_eq!(bench.append(topic, PartitionIndex(2), records(1)), STORED_0);
}

#[test]
fn a_cursor_moves_only_from_the_version_that_was_named() {
    let (mut bench, topic) = Bench::with_topic();
    bench.append(topic, P0, records(5));
    let put = |offset, version| Command::PutCursor { namespace: ns(), change: move_to("c", offset, version) };
    assert_eq!(bench.refusal(put(1, Some(1))), Error::VersionMismatch { expected: 1, actual: 0 });
    let Ok(Reply::Cursor(made)) = bench.apply(put(2, Some(0))).reply else { panic!("no cursor") };
    assert_eq!((made.version, made.positions[0].offset, made.positions[0].lag), (1, Offset(2), 3));
    assert_eq!(bench.refusal(put(3, Some(0))), Error::VersionMismatch { expected: 0, actual: 1 });
    assert!(matches!(bench.refusal(put(6, None)), Error::Invalid { .. }), "beyond the end");
    bench.apply(delete_topic("orders")).reply.unwrap();
    assert_eq!(bench.cursor_version("c"), None, "cursors go with their topic");
}

#[test]
fn a_page_of_cursors_goes_on_where_the_last_one_ended() {
    let (mut bench, _) = Bench::with_topic();
    // In bytes, '-' and '.' come before the '/' that joins a cursor and its topic.
    let names = ["a", "a-b", "a.b", "ab"];
    for name in names {
        bench.apply(Command::PutCursor { namespace: ns(), change: move_to(name, 0, None) }).reply.unwrap();
    }
    let mut found = Vec::new();
    let mut after = None;
    for _ in 0..=names.len() {
        let query = Query::Cursors(ns(), PageRequest { after, limit: 1 });
        let Ok(Answer::Cursors(page)) = bench.ledger.query(&query) else { panic!("no page") };
        found.extend(page.items.iter().map(|c| c.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, names);
}

#[test]
fn an_entry_out_of_turn_or_back_in_time_or_not_reproduced_is_refused() {
    let (bench, _) = Bench::with_topic();
    let first = bench.entries[0].clone();
    let fresh = || Ledger::new(ShardId(0), 1);
    let replay = |entry: JournalEntry| {
        let mut ledger = fresh();
        ledger.replay(&first).unwrap();
        ledger.replay(&entry).unwrap_err()
    };
    let next = JournalEntry { seq: JournalSeq(2), commands: Vec::new(), ..first.clone() };
    assert_eq!(replay(first.clone()), EntryError::OutOfTurn { expected: 2, found: 1 });
    assert_eq!(replay(JournalEntry { seq: JournalSeq(3), ..next.clone() }), EntryError::OutOfTurn { expected: 2, found: 3 });
    assert_eq!(replay(JournalEntry { epoch: Epoch(0), ..next.clone() }), EntryError::WentBack { seq: 2 });
    assert_eq!(replay(JournalEntry { time: Timestamp::from_millis(0), ..next.clone() }), EntryError::WentBack { seq: 2 });
    let unheard = vec![trim(TopicId(1), 9)];
    assert_eq!(replay(JournalEntry { commands: unheard, ..next }), EntryError::NotReproduced { seq: 2 });
}

#[test]
fn an_entry_of_an_unknown_version_is_refused() {
    let bytes = Bench::with_topic().0.entries[0].encode();
    // Field 1, a varint, is the version.
    assert_eq!(bytes[..2], [0x08, 1]);
    for version in [0, 2, 99] {
        let other = [&[0x08, version], &bytes[2..]].concat();
        assert_eq!(JournalEntry::decode(&other), Err(EntryError::UnknownVersion(u32::from(version))));
    }
    assert_eq!(JournalEntry::decode(&[]), Err(EntryError::UnknownVersion(0)));
}

/// An entry with a commit in it, for tearing apart.
fn sample() -> Vec<u8> {
    let (mut bench, topic) = Bench::with_topic();
    let extents = vec![extent(topic, P0, vec![of_atom(0, produced(2, 1, 0)), deduped(1, &[1 << 100])])];
    let atoms = vec![atom(request("k", 1 << 90), vec![run(0, topic, P0, 2)], vec![move_to("c", 0, Some(0))])];
    let commit = bench.commit(extents, atoms);
    bench.send(&commit);
    bench.entries.last().unwrap().encode()
}

#[test]
fn an_entry_with_a_condition_of_an_unknown_kind_is_refused() {
    let mut bench = Bench::new();
    let name = NamespaceName::new("acme").unwrap();
    bench.apply(Command::PutNamespace { name, description: String::new(), condition: Precondition::Absent }).reply.unwrap();
    let bytes = bench.entries[0].encode();
    // The condition is the last field: field 3, two bytes long, in it field 1 with the kind.
    assert_eq!(bytes[bytes.len() - 4..], [0x1a, 2, 0x08, 1]);
    for kind in [4, 99] {
        let other = [&bytes[..bytes.len() - 1], &[kind]].concat();
        assert!(matches!(JournalEntry::decode(&other), Err(EntryError::Corrupt(_))), "kind {kind}");
    }
}

#[test]
fn a_truncated_entry_is_never_taken_for_a_whole_one() {
    let bytes = sample();
    let whole = JournalEntry::decode(&bytes).unwrap();
    for length in 0..bytes.len() {
        assert_ne!(JournalEntry::decode(&bytes[..length]).as_ref(), Ok(&whole), "cut at {length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn garbage_is_decoded_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = JournalEntry::decode(&bytes);
        let _ = JournalEntry::decode(&[&[0x08, 1], &bytes[..]].concat());
    }

    /// What can still be decoded may be any command: it is replayed without a panic, or refused.
    #[test]
    fn a_damaged_entry_is_replayed_or_refused_without_a_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = sample();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(entry) = JournalEntry::decode(&bytes) {
            let again = JournalEntry::decode(&entry.encode());
            prop_assert_eq!(again.as_ref(), Ok(&entry));
            let (mut bench, _) = Bench::with_topic();
            let _ = bench.ledger.replay(&entry);
        }
    }
}
