//! Checkpoints: rows, and the entries that they make superfluous.

use std::time::Duration;

use bytes::Bytes;
use lakefall_metadata::{StoreError, WriterToken};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{
    Atom, COMMIT_WINDOW, Command, DedupClaim, LayoutRun, Ledger, ProposedExtent, RetiredExtent, Row, RowKey, SegmentCommit, Slice,
    SliceCondition,
};
use lakefall_queue::verbs::{CursorMove, Idempotency, Precondition, ProducerStamp};
use lakefall_queue::{CursorName, NamespaceName, Offset, ShardId, TopicId};

use crate::bench::{Bench, TOKEN, sorted};
use crate::fixtures::{P0, SHARD, commit, ns, put_topic, segment, topic_name};
use crate::suite::Kind;

/// A commit that leaves every kind of row behind: with numbers above `i64::MAX` where they are allowed.
fn rich_commit(topic: TopicId) -> Command {
    let condition = SliceCondition {
        expect_offset: Some(Offset(0)),
        fencing_token: Some(u64::MAX),
        producer: Some(ProducerStamp { id: "sensor/17 ü".into(), epoch: u32::MAX, sequence: 0 }),
        dedup: vec![DedupClaim { index: 0, hash: u128::MAX }, DedupClaim { index: 1, hash: 7 }],
    };
    let slice = Slice { length: u32::MAX, records: 3, condition: Some(Box::new(condition)), ..Slice::default() };
    let change = CursorMove {
        cursor: CursorName::new("billing").unwrap(),
        topic: topic_name("orders"),
        offsets: vec![(P0, Offset(0))],
        if_version: None,
    };
    let atom = Atom {
        namespace: ns(),
        idempotency: Some(Idempotency { key: "ключ 🔑".into(), fingerprint: u128::MAX }),
        layout: vec![LayoutRun { append: 0, topic, partition: P0, count: 3 }],
        cursors: vec![change],
        settles: Vec::new(),
    };
    let extents = vec![ProposedExtent { topic, partition: P0, position: 16, slices: vec![Slice { atom: Some(0), ..slice }] }];
    Command::Commit(SegmentCommit { segment: segment(1), size: 1 << 40, extents, atoms: vec![atom] })
}

fn put_namespace(name: &str) -> Command {
    let description = "Ångström & co\0".to_owned();
    Command::PutNamespace { name: NamespaceName::new(name).unwrap(), description, condition: Precondition::Always }
}

/// A shard with rows of every kind in its checkpoint.
async fn rich<K: Kind>() -> (Bench, TopicId) {
    let mut bench = Bench::of::<K>().await;
    bench.group(vec![put_namespace("acme")]).await;
    let topic = bench.topic("orders", 2).await;
    let Command::PutTopic { namespace, name, config, condition, .. } = put_topic("orders", 3) else { panic!("another command") };
    let idempotency = Some(Idempotency { key: "alter".into(), fingerprint: 1 });
    bench.group(vec![Command::PutTopic { namespace, name, config, condition, idempotency }]).await;
    bench.group(vec![rich_commit(topic), Command::RefuseSegments { segments: vec![segment(2)] }]).await;
    (bench, topic)
}

fn kind(row: &Row) -> usize {
    match row {
        Row::Namespace(_) => 0,
        Row::Topic(_) => 1,
        Row::Partition(_) => 2,
        Row::Object(_) => 3,
        Row::Cursor(_) => 4,
        Row::Producer(_) => 5,
        Row::Dedup(_) => 6,
        Row::Idempotency(_) => 7,
        Row::Queue(_) => 8,
        Row::QueuePartition(_) => 9,
        Row::QueueBlock(_) => 10,
        Row::Subject(_) => 11,
        Row::Schema(_) => 12,
        Row::Usage(_) => 13,
        Row::UsageReporter(_) => 14,
    }
}

pub(crate) async fn a_load_finds_the_checkpoints_rows_and_the_entries_after_it<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    bench.group(vec![commit(1, topic, 5)]).await;
    let checkpoint = bench.checkpoint().await;
    assert_eq!(checkpoint.shard.seq, 2);
    bench.group(vec![commit(2, topic, 7)]).await;
    bench.group(vec![commit(3, topic, 1), commit(4, topic, 1)]).await;
    let loaded = bench.load().await;
    assert_eq!(loaded.shard, Some(checkpoint.shard));
    assert_eq!(sorted(loaded.rows), sorted(checkpoint.puts));
    assert_eq!(loaded.entries.len(), 2);
    bench.check_rebuilt().await;
}

pub(crate) async fn rows_of_every_kind_are_written_and_found_as_they_were<K: Kind>() {
    let (mut bench, _) = rich::<K>().await;
    let checkpoint = bench.checkpoint().await;
    let mut kinds: Vec<usize> = checkpoint.puts.iter().map(kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (0..8).collect::<Vec<_>>(), "the sample has rows of every kind; for those of queues see queues.rs");
    let loaded = bench.load().await;
    assert_eq!(sorted(loaded.rows), sorted(checkpoint.puts));
    bench.check_rebuilt().await;
    // Written again with other values, a row takes the place of the one before.
    bench.group(vec![put_namespace("acme"), put_topic("orders", 4)]).await;
    let later = bench.checkpoint().await;
    let rows = bench.load().await.rows;
    assert!(later.puts.iter().all(|row| rows.contains(row)), "{rows:#?}");
    let keys: Vec<Option<RowKey>> = sorted(rows).iter().map(Row::key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "a row is there twice: {keys:?}");
    bench.check_rebuilt().await;
}

pub(crate) async fn rows_of_every_kind_are_deleted<K: Kind>() {
    let (mut bench, topic) = rich::<K>().await;
    bench.checkpoint().await;
    let extents: Vec<RetiredExtent> = vec![RetiredExtent { base_offset: Offset(0), records: 3, length: u32::MAX, object: segment(1) }];
    bench
        .group(vec![
            Command::DeleteNamespace { name: NamespaceName::new("acme").unwrap(), condition: Precondition::Always },
            Command::DeleteTopic { namespace: ns(), name: topic_name("orders"), condition: Precondition::Always },
            Command::Retire { topic, partition: P0, extents, generation: Some(0) },
        ])
        .await;
    bench.now = bench.now.plus(Duration::from_secs(8 * 24 * 3_600).max(COMMIT_WINDOW));
    bench.group(Vec::new()).await;
    bench.group(vec![Command::ForgetObjects { objects: vec![segment(1), segment(2)] }]).await;
    bench.checkpoint().await;
    let rows = bench.load().await.rows;
    // The default namespace stays.
    assert!(matches!(&rows[..], [Row::Namespace(row)] if row.name == ns().as_str()), "{rows:#?}");
    bench.check_rebuilt().await;
}

pub(crate) async fn a_checkpoint_drops_the_entries_that_are_in_it_and_no_others<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    // More than a store may like to drop at once.
    for number in 0..600 {
        bench.group(vec![commit(number, topic, 1)]).await;
    }
    let checkpoint = bench.ledger.checkpoint();
    // Journaled while the checkpoint is on its way.
    bench.group(vec![commit(600, topic, 1)]).await;
    bench.group(vec![commit(601, topic, 1)]).await;
    assert_eq!(bench.load().await.entries.len(), 603);
    bench.store.checkpoint(&bench.lease, &checkpoint).await.unwrap();
    bench.ledger.checkpointed(&checkpoint, 0);
    assert_eq!(bench.load().await.entries.len(), 2);
    bench.check_rebuilt().await;
    bench.checkpoint().await;
    assert!(bench.load().await.entries.is_empty());
    // The journal goes on, also after it was empty.
    bench.group(vec![commit(602, topic, 1)]).await;
    bench.check_rebuilt().await;
}

pub(crate) async fn a_checkpoint_of_an_old_epoch_is_fenced_and_changes_nothing<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    bench.checkpoint().await;
    bench.group(vec![commit(1, topic, 1)]).await;
    let old = bench.lease;
    bench.lease = bench.store.take(SHARD).await.unwrap();
    let before = bench.load().await;
    let checkpoint = bench.ledger.checkpoint();
    assert_eq!(bench.store.checkpoint(&old, &checkpoint).await, Err(StoreError::Fenced));
    let after = bench.load().await;
    assert_eq!((after.shard, sorted(after.rows), after.entries), (before.shard, sorted(before.rows), before.entries));
}

/// One that was held up on its way, of the same owner.
pub(crate) async fn a_checkpoint_that_is_older_than_the_one_that_stands_is_fenced_and_changes_nothing<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    let older = bench.checkpoint().await;
    // The one that stands may come again.
    bench.store.checkpoint(&bench.lease, &older).await.unwrap();
    bench.group(vec![commit(1, topic, 1)]).await;
    bench.checkpoint().await;
    let before = bench.load().await;
    assert_eq!(bench.store.checkpoint(&bench.lease, &older).await, Err(StoreError::Fenced));
    let after = bench.load().await;
    assert_eq!((after.shard, sorted(after.rows), after.entries), (before.shard, sorted(before.rows), before.entries));
    bench.check_rebuilt().await;
}

/// Nothing stands there any more, and nobody would ever read it.
pub(crate) async fn an_append_of_an_old_epoch_is_fenced_also_at_a_place_that_a_checkpoint_emptied<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    let old = bench.lease;
    bench.lease = bench.store.take(SHARD).await.unwrap();
    bench.group(vec![commit(1, topic, 1)]).await;
    bench.checkpoint().await;
    assert!(bench.load().await.entries.is_empty());
    for _ in 0..2 {
        let late = bench.store.append(&old, JournalSeq(2), WriterToken(2), Bytes::from_static(b"late")).await;
        assert_eq!(late, Err(StoreError::Fenced));
    }
    bench.group(vec![commit(2, topic, 1)]).await;
    assert_eq!(bench.load().await.entries.len(), 1);
    bench.check_rebuilt().await;
}

pub(crate) async fn a_shards_rows_are_not_anothers<K: Kind>() {
    let (mut bench, _) = rich::<K>().await;
    let other = bench.store.take(ShardId(1)).await.unwrap();
    bench.checkpoint().await;
    let loaded = bench.store.load(&other).await.unwrap();
    assert!(loaded.shard.is_none() && loaded.rows.is_empty(), "{loaded:?}");
    let mut ledger = Ledger::new(ShardId(1), 2);
    let entry = ledger.seal(other.epoch, bench.now, Vec::new());
    bench.store.append(&other, JournalSeq(1), TOKEN, Bytes::from(entry.encode())).await.unwrap();
    bench.store.checkpoint(&other, &ledger.checkpoint()).await.unwrap();
    assert_eq!(bench.store.load(&other).await.unwrap().shard.unwrap().seq, 1);
    bench.check_rebuilt().await;
}
