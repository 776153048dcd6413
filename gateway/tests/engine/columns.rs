//! Records that compaction put elsewhere: read the same, with few requests, and never wrongly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_gateway::Engine;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{
    Answer, Command, CompactablePartition, Extent, NewExtent, ObjectLevel, Query, Reply, RetiredExtent, SliceOutcome, Swap, SwapPart,
    object_key,
};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Fetched, Read, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex, Record, SegmentId, StoredRecord, Timestamp};
use lakefall_storage::parquet::{Options, ParquetWriter};
use lakefall_storage::segment::{SegmentBuilder, take_over};
use lakefall_storage::store::Store;

use crate::support::faults::Fault;
use crate::support::{START, World, all, append, caller, keyed, read, start_at, topic, values};

const P0: PartitionIndex = PartitionIndex(0);

async fn described(world: &World) -> Topic {
    world.engine.describe_topic(&caller(), &topic("t")).await.unwrap().topic
}

async fn extents(world: &World, of: &Topic) -> Vec<Extent> {
    let query = Query::Locate { topic: of.id, partition: P0, from: Offset(0), max_bytes: u64::MAX, max_extents: 10_000 };
    match world.metadata.node.query(of.id.shard(), query).await.unwrap() {
        Answer::Located(located) => located.extents,
        other => panic!("{other:?}"),
    }
}

async fn generation(world: &World, of: &Topic) -> u64 {
    match world.metadata.node.query(of.id.shard(), Query::Compactable { limit: 1, after: None }).await.unwrap() {
        Answer::Compactable(found) => found.partitions.first().map_or(0, |found: &CompactablePartition| found.generation),
        other => panic!("{other:?}"),
    }
}

/// Puts one object in the place of all extents.
async fn swap(world: &World, of: &Topic, old: &[Extent], new: Extent, key: Option<String>) {
    let part = SwapPart {
        topic: of.id,
        partition: P0,
        generation: generation(world, of).await,
        old: old.iter().map(RetiredExtent::from).collect(),
        new: NewExtent {
            position: new.position,
            length: new.length,
            first_timestamp: new.first_timestamp,
            max_timestamp: new.max_timestamp,
            appended_at: new.appended_at,
        },
        settled: None,
        rest_since: None,
    };
    let swap = Swap { object: new.object, size: new.object_size, level: new.level, key: key.map(Into::into), parts: vec![part] };
    match world.metadata.node.execute(of.id.shard(), Command::Swap(Box::new(swap))).await.unwrap() {
        Reply::Committed(reply) => assert!(matches!(reply.slices[0], SliceOutcome::Stored(_)), "{reply:?}"),
        other => panic!("{other:?}"),
    }
}

fn minted(now: Timestamp) -> SegmentId {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    SegmentId::mint(now, u128::from(NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) << 64)
}

/// Rolls everything into one Parquet file, of the records that `stay`. Answers its key.
async fn roll(world: &World, now: Timestamp, stay: impl Fn(&StoredRecord) -> bool) -> String {
    let of = described(world).await;
    let old = extents(world, &of).await;
    let records: Vec<StoredRecord> = all(&world.engine, "t").await.into_iter().filter(stay).collect();
    let mut writer = ParquetWriter::new(of.id, P0, Options { gaps: true, ..Options::default() }).unwrap();
    writer.push(&records).unwrap();
    let written = writer.finish().unwrap();
    let size = written.bytes.len() as u64;
    let new = Extent {
        base_offset: Offset(0),
        records: old.last().unwrap().end().0 as u32,
        length: size as u32,
        object: minted(now),
        level: ObjectLevel::Parquet,
        object_size: size,
        position: 0,
        first_timestamp: written.first_timestamp,
        max_timestamp: written.max_timestamp,
        appended_at: written.first_appended_at,
    };
    let key = object_key(&of.namespace, &of.name, &new);
    Store::over(Arc::clone(&world.objects) as _).put_new(&key, vec![written.bytes]).await.unwrap();
    swap(world, &of, &old, new, Some(key.clone())).await;
    key
}

/// Merges everything into one segment.
async fn merge(world: &World, now: Timestamp) {
    let of = described(world).await;
    let old = extents(world, &of).await;
    let store = Store::over(Arc::clone(&world.objects) as _);
    let mut builder = SegmentBuilder::new();
    for extent in &old {
        let range = extent.position..extent.position + u64::from(extent.length);
        let bytes = store.get_range(&extent.object.key(), range).await.unwrap();
        let later = extent.appended_at.as_millis() - old[0].appended_at.as_millis();
        for batch in take_over(&bytes, later as u32, false).unwrap() {
            builder.add(of.id, P0, batch).unwrap();
        }
    }
    let segment = builder.finish();
    let new = Extent {
        records: old.last().unwrap().end().0 as u32,
        length: segment.index.extents[0].length as u32,
        object: minted(now),
        level: ObjectLevel::Merged,
        object_size: segment.len,
        position: segment.index.extents[0].position,
        max_timestamp: old.iter().map(|extent| extent.max_timestamp).max().unwrap(),
        ..old[0]
    };
    store.put_new(&new.object.key(), segment.chunks).await.unwrap();
    swap(world, &of, &old, new, None).await;
}

/// So many records in ten requests, a second between them.
async fn filled(count: usize) -> World {
    let world = World::new().await;
    world.topic("t", 1).await;
    for part in 0..10 {
        let records = (0..count / 10).map(|n| {
            let n = part * (count / 10) + n;
            Record { timestamp: Some(START.plus(Duration::from_secs(n as u64))), ..keyed(&format!("k{}", n % 100), &line(n)) }
        });
        world.append(append("t", records.collect())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world
}

fn line(n: usize) -> String {
    format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(100 + n * 31 % 100))
}

/// Of a gateway that knows nothing yet.
async fn from(engine: &Arc<Engine>, offset: u64, most: usize) -> Result<Fetched> {
    engine.read(&caller(), Read { max_records: most, ..read("t", &[(0, start_at(offset))]) }).await
}

#[tokio::test(start_paused = true)]
async fn records_of_merged_segments_keep_their_own_times() {
    let world = filled(100).await;
    let before = all(&world.engine, "t").await;
    merge(&world, START.plus(Duration::from_secs(10))).await;
    let other = world.other_engine().await;
    assert_eq!(all(&other, "t").await, before);
    let times: std::collections::BTreeSet<_> = before.iter().map(|record| record.appended_at).collect();
    assert_eq!(times.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn records_of_parquet_files_are_read_by_offset_and_by_time() {
    let world = filled(20_000).await;
    let before = all(&world.engine, "t").await;
    roll(&world, START.plus(Duration::from_secs(10)), |_| true).await;
    let objects = world.engine.objects(&caller(), &topic("t"), P0, Offset(0), 10).await.unwrap();
    assert_eq!(objects.iter().map(|range| (range.level, range.records)).collect::<Vec<_>>(), [(ObjectLevel::Parquet, 20_000)]);
    assert!(objects[0].key.starts_with("tables/default/t/date=2023-11-14/"), "{}", objects[0].key);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let other = world.other_engine().await;
    assert_eq!(all(&other, "t").await, before);
    for at in [0, 1, 777, 9_999, 19_999] {
        let time = START.plus(Duration::from_secs(at)).minus(Duration::from_millis(1));
        let found = other.read(&caller(), Read { max_records: 1, ..read("t", &[(0, Start::Timestamp(time))]) }).await.unwrap();
        assert_eq!(found.records[0].offset, Offset(at));
    }
    let none = other.read(&caller(), read("t", &[(0, Start::Timestamp(START.plus(Duration::from_secs(20_000))))])).await.unwrap();
    assert_eq!((none.records.len(), none.next[0].next), (0, Offset(20_000)));
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_parquet_file_takes_three_requests_at_most_and_the_next_ones_none() {
    let world = filled(150_000).await;
    roll(&world, START.plus(Duration::from_secs(10)), |_| true).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut most = 0;
    for offset in [0, 70_000, 149_999] {
        let other = world.other_engine().await;
        let before = world.objects.gets();
        assert_eq!(values(&from(&other, offset, 1).await.unwrap().records), [line(offset as usize)]);
        most = most.max(world.objects.gets() - before);
        from(&other, offset, 1).await.unwrap();
        assert!(world.objects.gets() - before <= 3);
    }
    let other = world.other_engine().await;
    let before = world.objects.gets();
    let (mut next, mut pages) = (0, 0);
    while next < 150_000 {
        let found = from(&other, next, 500).await.unwrap();
        (next, pages) = (found.next[0].next.0, pages + 1);
    }
    println!("a record: {most} requests; {pages} pages of 500: {} requests", world.objects.gets() - before);
    assert!(most <= 3, "{most}");
    // The footer, and each row group once.
    assert!(world.objects.gets() - before <= 2 + 150_000 / 65_536 + 2);
}

#[tokio::test(start_paused = true)]
async fn offsets_that_key_compaction_took_out_are_passed_over() {
    let world = filled(2_000).await;
    let kept = |offset: u64| offset % 7 == 3 && (40..1_900).contains(&offset);
    roll(&world, START.plus(Duration::from_secs(10)), |record| kept(record.offset.0)).await;
    let other = world.other_engine().await;
    let offsets: Vec<u64> = all(&other, "t").await.iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets, (0..2_000).filter(|offset| kept(*offset)).collect::<Vec<_>>());
    for offset in (0..2_000).step_by(13) {
        let found = from(&other, offset, 1).await.unwrap();
        let expected = (offset..2_000).find(|offset| kept(*offset));
        assert_eq!(found.records.first().map(|record| record.offset.0), expected, "from {offset}");
        assert_eq!(found.next[0].next.0, expected.map_or(2_000, |offset| offset + 1), "from {offset}");
        assert_eq!(found.next[0].end, Offset(2_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_parquet_file_is_fetched_once_more_and_then_an_error() {
    let world = filled(1_000).await;
    let before = values(&all(&world.engine, "t").await);
    let key = roll(&world, START.plus(Duration::from_secs(10)), |_| true).await;
    let (mut refused, mut right) = (0, 0);
    for _ in 0..100 {
        let other = world.other_engine().await;
        world.objects.order_gets([Some(Fault::Flip)]);
        match from(&other, 0, 1_000).await {
            Ok(found) => right += usize::from(values(&found.records) == before),
            Err(error) => panic!("one bad answer is fetched again: {error:?}"),
        }
    }
    assert_eq!(right, 100);
    world.objects.every_get(Some(Fault::Flip));
    for _ in 0..100 {
        let other = world.other_engine().await;
        match from(&other, 0, 1_000).await {
            Ok(found) => assert_eq!(values(&found.records), before, "harmless"),
            Err(Error::DataUnavailable { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 50, "{refused}");
    world.objects.every_get(None);
    world.objects.move_object(&key, "elsewhere").await;
    let other = world.other_engine().await;
    assert!(matches!(from(&other, 0, 1).await, Err(Error::DataUnavailable { .. })));
    let store = Store::over(Arc::clone(&world.objects) as _);
    store.put_new(&key, vec![Bytes::from(vec![7; 1 << 20])]).await.unwrap();
    assert!(matches!(from(&other, 0, 1).await, Err(Error::DataUnavailable { .. })));
}
