//! Compaction over a real ledger and a store in memory: readers see the same records at the same offsets whatever happens to
//! compactors, to topics and to objects.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::ledger::{Answer, Command, ObjectLevel, Query, UsageQuery};
use lakefall_queue::topic::{Cleanup, ParquetConfig, Retention, TopicConfig};
use lakefall_queue::usage::{Figure, Grain, ONE};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{Offset, Timestamp};
use lakefall_storage::parquet::ParquetFile;
use lakefall_storage::store::Store;
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use serde_json::json;
use support::rolling::{Behind, Cut, json_record, numbered};
use support::{Bench, Dice, GRACE, ORPHAN_GRACE, S0};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const MAX_AGE: Duration = Duration::from_secs(300);
const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn records_are_the_same_at_the_same_offsets_in_every_level() {
    let bench = Bench::start(1).await;
    let (a, b) = (bench.topic_with(S0, "a", TopicConfig::default()).await, bench.topic_with(S0, "b", TopicConfig::default()).await);
    for n in 0..40 {
        bench.append(&[(&a, numbered(n * 10, 10)), (&b, numbered(n, 1))]).await;
        bench.clock.pass(SECOND);
    }
    let before = (bench.hash(&a).await, bench.hash(&b).await);
    let compactor = bench.compactor();
    assert!(compactor.merge_round().await.did);
    assert_eq!((bench.hash(&a).await, bench.hash(&b).await), before, "merged");
    assert_eq!(bench.levels(&a).await, [ObjectLevel::Merged]);
    assert_eq!(bench.referenced(&[&a, &b]).await.len(), 1, "one object for both");
    // Some that are not merged yet go into Parquet as they are.
    for n in 40..42 {
        bench.append(&[(&a, numbered(n * 10, 10)), (&b, numbered(n, 1))]).await;
    }
    let before = (bench.hash(&a).await, bench.hash(&b).await);
    let due = compactor.roll_round().await.due.unwrap();
    assert!(due <= bench.ambient.now().plus(MAX_AGE));
    bench.clock.pass(MAX_AGE);
    assert!(compactor.roll_round().await.did);
    assert_eq!((bench.hash(&a).await, bench.hash(&b).await), before, "rolled");
    assert_eq!((bench.levels(&a).await, bench.levels(&b).await), (vec![ObjectLevel::Parquet], vec![ObjectLevel::Parquet]));
    // Nothing else is to do, and nobody needs the segments any more.
    assert_eq!(bench.settle(&compactor).await, 0);
    assert_eq!(compactor.roll_round().await, Default::default());
    let collector = bench.marked().await;
    bench.clock.pass(GRACE + SECOND);
    collector.round().await;
    assert_eq!(bench.all_keys().await, bench.referenced(&[&a, &b]).await);
    bench.finish().await;
}

#[tokio::test]
async fn a_compactor_may_be_killed_at_any_step_and_another_goes_on() {
    let mut steps = 0;
    loop {
        let bench = Bench::start(1).await;
        let collector = bench.marked().await;
        let (a, b) = (bench.topic_with(S0, "a", TopicConfig::default()).await, bench.topic_with(S0, "b", TopicConfig::default()).await);
        for n in 0..5 {
            bench.append(&[(&a, numbered(n * 10, 10)), (&b, numbered(n, 1))]).await;
        }
        let before = (bench.hash(&a).await, bench.hash(&b).await);
        bench.clock.pass(20 * SECOND);
        let cut = Cut::after(steps);
        let store = Store::over(Arc::new(Behind(Arc::clone(&bench.bucket), Arc::clone(&cut))));
        let killed = bench.compactor_over(Arc::new(Behind(Arc::clone(&bench.metadata), Arc::clone(&cut))), store);
        let done = cut
            .during(async {
                killed.merge_round().await;
                bench.clock.pass(MAX_AGE);
                killed.roll_round().await;
            })
            .await;
        drop(killed);
        assert_eq!((bench.hash(&a).await, bench.hash(&b).await), before, "killed at step {steps}");
        bench.clock.pass(LEASE.max(MAX_AGE) + SECOND);
        let compactor = bench.compactor();
        bench.settle(&compactor).await;
        assert_eq!((bench.hash(&a).await, bench.hash(&b).await), before, "resumed after step {steps}");
        assert_eq!(bench.levels(&a).await, [ObjectLevel::Parquet], "step {steps}");
        // What was left behind goes, and nothing else.
        bench.clock.pass(ORPHAN_GRACE + SECOND);
        collector.sweep().await.unwrap();
        collector.round().await;
        assert_eq!(bench.all_keys().await, bench.referenced(&[&a, &b]).await, "step {steps}");
        bench.finish().await;
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps > 30, "only {steps} steps");
}

#[tokio::test]
async fn three_compactors_at_once_do_everything_once() {
    for seed in 0..8 {
        let dice = Dice::new(seed);
        let bench = Bench::start(1).await;
        let a = bench.topic_with(S0, "a", TopicConfig::default()).await;
        let b = bench.topic_with(S0, "b", TopicConfig::default()).await;
        for n in 0..12 {
            bench.append(&[(&a, numbered(n * 10, 10)), (&b, numbered(n, 1))]).await;
        }
        let before = (bench.hash(&a).await, bench.hash(&b).await);
        let compactors: Vec<_> = (0..3).map(|_| bench.compactor()).collect();
        bench.clock.pass(20 * SECOND);
        for _ in 0..3 {
            let rounds = compactors.iter().map(|compactor| {
                let dice = Arc::clone(&dice);
                async move {
                    dice.dawdle().await;
                    let merged = compactor.merge_round().await;
                    let rolled = compactor.roll_round().await;
                    assert!(!merged.failed && !rolled.failed, "seed {seed}: {merged:?} {rolled:?}");
                }
            });
            futures::future::join_all(rounds).await;
            bench.clock.pass(MAX_AGE);
        }
        assert_eq!((bench.hash(&a).await, bench.hash(&b).await), before, "seed {seed}");
        assert_eq!(bench.levels(&a).await, [ObjectLevel::Parquet], "seed {seed}");
        bench.finish().await;
    }
}

#[tokio::test]
async fn a_damaged_object_puts_its_partition_aside_and_the_others_go_on() {
    let bench = Bench::start(1).await;
    let (a, b) = (bench.topic_with(S0, "a", TopicConfig::default()).await, bench.topic_with(S0, "b", TopicConfig::default()).await);
    for n in 0..6 {
        bench.append(&[(&a, numbered(n * 10, 10))]).await;
        bench.append(&[(&b, numbered(n, 1))]).await;
    }
    let hash = bench.hash(&b).await;
    let victim = bench.extents(&a).await[3];
    let path = ObjectPath::from(victim.object.key());
    let whole = bench.bucket.honest().get(&path).await.unwrap().bytes().await.unwrap();
    let mut damaged = whole.to_vec();
    damaged[victim.position as usize + 70] ^= 4;
    bench.bucket.honest().put(&path, damaged.into()).await.unwrap();
    bench.clock.pass(20 * SECOND);
    let compactor = bench.compactor();
    let _ = compactor.merge_round().await;
    let merged = compactor.merge_round().await;
    assert!(merged.did, "the other partition is merged");
    bench.clock.pass(MAX_AGE);
    let rolled = compactor.roll_round().await;
    assert!(rolled.did && !rolled.failed, "{rolled:?}");
    assert_eq!((bench.levels(&b).await, bench.hash(&b).await), (vec![ObjectLevel::Parquet], hash));
    assert_eq!(bench.levels(&a).await, [ObjectLevel::Segment], "nothing of it was touched");
    // Another compactor is told, too.
    let other = bench.compactor().roll_round().await;
    assert!(!other.did && other.due.is_some(), "{other:?}");
    // Mended, it goes on by itself.
    bench.bucket.honest().put(&path, whole.into()).await.unwrap();
    bench.clock.pass(Duration::from_secs(3_600));
    bench.settle(&compactor).await;
    assert_eq!(bench.levels(&a).await, [ObjectLevel::Parquet]);
    bench.finish().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_or_trimmed_meanwhile_is_left_in_peace() {
    for trim in [false, true] {
        for steps in 0..40 {
            let bench = Bench::start(1).await;
            let config = TopicConfig { retention: Retention { age: Some(MAX_AGE), bytes: None }, ..TopicConfig::default() };
            let a = bench.topic_with(S0, "a", config).await;
            for n in 0..6 {
                bench.append(&[(&a, numbered(n * 10, 10))]).await;
            }
            let kept = bench.read(&a).await.split_off(20);
            bench.clock.pass(MAX_AGE);
            let cut = Cut::after(steps);
            let store = Store::over(Arc::new(Behind(Arc::clone(&bench.bucket), Arc::clone(&cut))));
            let compactor = bench.compactor_over(Arc::new(Behind(Arc::clone(&bench.metadata), Arc::clone(&cut))), store);
            // Held at a step, while the topic goes; then let go on.
            let rounds = async {
                let _ = compactor.roll_round().await;
            };
            tokio::pin!(rounds);
            let done = tokio::select! { () = &mut rounds => true, () = cut.held() => false };
            if trim {
                bench.trim(a.id, 20).await;
                bench.collector().retire(S0).await.unwrap();
            } else {
                let delete = Command::DeleteTopic { namespace: a.namespace.clone(), name: a.name.clone(), condition: Precondition::Always };
                bench.metadata.execute(S0, delete).await.unwrap();
            }
            cut.release();
            if !done {
                rounds.await;
            }
            if trim {
                let left: Vec<_> = bench.read(&a).await.into_iter().filter(|record| record.offset >= Offset(20)).collect();
                assert_eq!(left, kept, "step {steps}");
            }
            bench.clock.pass(LEASE + MAX_AGE);
            let compactor = bench.compactor();
            bench.settle(&compactor).await;
            if done {
                assert!(steps > 8, "only {steps} steps");
                bench.finish().await;
                break;
            }
            bench.finish().await;
        }
    }
}

#[tokio::test]
async fn a_day_never_shares_a_file_with_another() {
    let bench = Bench::start(1).await;
    let a = bench.topic_with(S0, "a", TopicConfig::default()).await;
    let day = 86_400_000;
    let left = day - bench.ambient.now().as_millis() % day;
    bench.clock.pass(Duration::from_millis(left as u64 - 3_000));
    for n in 0..6 {
        bench.append(&[(&a, numbered(n * 10, 10))]).await;
        bench.clock.pass(SECOND);
    }
    let hash = bench.hash(&a).await;
    bench.clock.pass(MAX_AGE);
    let compactor = bench.compactor();
    bench.settle(&compactor).await;
    let extents = bench.extents(&a).await;
    assert_eq!(extents.iter().map(|extent| extent.records).collect::<Vec<_>>(), [30, 30]);
    let keys = bench.referenced(&[&a]).await;
    for (extent, key) in extents.iter().zip(&keys) {
        assert!(key.contains(&format!("/date={}/", extent.appended_at.date())), "{key}");
        for record in bench.read_extent(&a, extent).await {
            assert_eq!(record.appended_at.date(), extent.appended_at.date());
        }
    }
    assert_eq!(bench.hash(&a).await, hash);
    bench.finish().await;
}

#[tokio::test]
async fn inferred_columns_stay_and_widen_from_file_to_file() {
    let bench = Bench::start(1).await;
    let config = TopicConfig { parquet: ParquetConfig { infer_json: true, ..ParquetConfig::default() }, ..TopicConfig::default() };
    let a = bench.topic_with(S0, "a", config).await;
    let values = [
        json!({"n": 1, "who": {"name": "x"}}),
        json!({"n": 2}),
        json!({"n": 2.5, "who": {"age": 7}}),
        json!({"tags": ["t"]}),
        json!({"n": 1}),
    ];
    let mut schemas = Vec::new();
    for value in &values {
        bench.append(&[(&a, vec![json_record("k", value)])]).await;
        bench.clock.pass(MAX_AGE);
        // Each time another compactor, which knows nothing of the files before.
        let compactor = bench.compactor();
        assert!(compactor.roll_round().await.did);
        let last = *bench.extents(&a).await.last().unwrap();
        let key = bench.referenced(&[&a]).await.last().unwrap().clone();
        let bytes = Store::over(bench.bucket.honest()).get_range(&key, 0..last.object_size).await.unwrap();
        let file = ParquetFile::open(&bytes, last.object_size).unwrap();
        schemas.push(file.data_schema().unwrap());
    }
    let names = |n: usize| schemas[n].fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect::<Vec<_>>();
    assert_eq!(names(0)[0], "n: Int64");
    assert_eq!(schemas[0], schemas[1], "nothing new");
    assert_eq!(names(2)[0], "n: Float64");
    assert_eq!((names(3)[0].as_str(), schemas[3].fields().len()), ("n: Float64", 3));
    assert_eq!(schemas[3], schemas[4], "what is not seen stays");
    bench.finish().await;
}

#[tokio::test]
async fn of_each_key_the_last_record_stays_at_its_offset() {
    let bench = Bench::start(1).await;
    let a = bench.topic_with(S0, "a", TopicConfig { cleanup: Cleanup::Compact, ..TopicConfig::default() }).await;
    let compactor = bench.compactor();
    let mut expected: std::collections::BTreeMap<String, (u64, Option<Bytes>)> = Default::default();
    for n in 0..16_u64 {
        let records = (0..10_u64).map(|m| {
            let offset = n * 10 + m;
            let key = format!("k{}", (offset * 7) % 23);
            let value = if offset % 11 == 3 { json!(null) } else { json!({"o": offset}) };
            let record = json_record(&key, &value);
            expected.insert(key, (offset, record.value.clone()));
            record
        });
        bench.append(&[(&a, records.collect())]).await;
        bench.clock.pass(MAX_AGE);
        bench.settle(&compactor).await;
    }
    let records = bench.read(&a).await;
    assert!(records.len() < 110, "{} records are left", records.len());
    assert!(records.is_sorted_by(|one, other| one.offset < other.offset));
    for (key, (offset, value)) in &expected {
        let last = records.iter().rfind(|record| record.key.as_deref() == Some(key.as_bytes())).unwrap();
        assert_eq!((last.offset.0, &last.value), (*offset, value), "{key}");
    }
    // Deletions of long ago go, and what they deleted does not come back.
    bench.clock.pass(Duration::from_secs(90_000));
    for n in 0..8 {
        bench.append(&[(&a, vec![json_record("other", &json!({"n": n}))])]).await;
        bench.clock.pass(MAX_AGE);
        bench.settle(&compactor).await;
    }
    let records = bench.read(&a).await;
    let last = records.last().unwrap().offset;
    assert!(records.iter().all(|record| record.value.is_some() || record.offset == last), "a deletion stayed");
    for (key, (offset, value)) in expected {
        let found = records.iter().rfind(|record| record.key.as_deref() == Some(key.as_bytes()));
        assert_eq!(found.map(|record| record.offset.0), value.map(|_| offset), "{key}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn after_an_hour_of_small_appends_few_objects_are_left() {
    let bench = Bench::start(1).await;
    let collector = bench.marked().await;
    let topics = [bench.topic_with(S0, "a", TopicConfig::default()).await, bench.topic_with(S0, "b", TopicConfig::default()).await];
    let compactor = bench.compactor();
    let (mut appends, mut most) = (0, 0);
    for second in 0..3_600 {
        if second % 2 == 0 {
            bench.append(&[(&topics[0], numbered(second, 3)), (&topics[1], numbered(second, 1))]).await;
            appends += 1;
        }
        bench.clock.pass(SECOND);
        if second % 15 == 0 {
            bench.settle(&compactor).await;
        }
        if second % 600 == 0 {
            collector.round().await;
            most = most.max(bench.all_keys().await.len());
        }
    }
    let hashes = (bench.hash(&topics[0]).await, bench.hash(&topics[1]).await);
    bench.clock.pass(MAX_AGE);
    bench.settle(&compactor).await;
    assert_eq!((bench.hash(&topics[0]).await, bench.hash(&topics[1]).await), hashes);
    bench.clock.pass(GRACE + SECOND);
    collector.round().await;
    let keys = bench.all_keys().await;
    let of_a = keys.iter().filter(|key| key.contains("/a/")).count();
    println!("{appends} segments in an hour: {} objects are left, {of_a} of one topic; {most} at most while it went on", keys.len());
    // Three of each tier at most, and files of this size are all of the lowest.
    assert!(of_a <= 3 && keys.len() <= 6, "{keys:#?}");
    assert!(most < 600, "{most}");
    bench.finish().await;
}

#[tokio::test]
async fn a_full_bucket_is_tried_again_later_and_nothing_is_put_aside() {
    let bench = Bench::start(1).await;
    let a = bench.topic_with(S0, "a", TopicConfig::default()).await;
    bench.append(&[(&a, numbered(0, 10))]).await;
    bench.clock.pass(MAX_AGE);
    bench.bucket.refuse_puts(true);
    let compactor = bench.compactor();
    let round = compactor.roll_round().await;
    assert!(round.failed && !round.did, "{round:?}");
    bench.bucket.refuse_puts(false);
    assert!(compactor.roll_round().await.did, "at once, when there is room");
    assert_eq!(bench.levels(&a).await, [ObjectLevel::Parquet]);
    assert!(bench.extents(&a).await[0].appended_at > Timestamp::default());
    bench.finish().await;
}

#[tokio::test]
async fn what_a_merge_took_that_was_cut_off_is_reported_at_the_end() {
    let bench = Bench::start(1).await;
    let (a, b) = (bench.topic_with(S0, "a", TopicConfig::default()).await, bench.topic_with(S0, "b", TopicConfig::default()).await);
    for n in 0..5 {
        bench.append(&[(&a, numbered(n * 10, 10)), (&b, numbered(n, 1))]).await;
    }
    bench.clock.pass(20 * SECOND);
    // No request to the store is answered.
    let cut = Cut::after(0);
    let store = Store::over(Arc::new(Behind(Arc::clone(&bench.bucket), Arc::clone(&cut))));
    let compactor = bench.compactor_over(Arc::clone(&bench.metadata), store);
    let merged = cut.during(async {
        compactor.merge_round().await;
    });
    assert!(!merged.await);
    let stop = CancellationToken::new();
    stop.cancel();
    compactor.run(stop).await.unwrap();
    let used = async |topic| {
        let (from, to) = (Timestamp::from_millis(0), Timestamp::from_millis(i64::MAX));
        let query = UsageQuery { namespace: a.namespace.clone(), topic, grain: Grain::Day, from, to };
        let Answer::Usage(answer) = bench.metadata.query(S0, Query::Usage(Box::new(query))).await.unwrap() else {
            panic!("another answer");
        };
        answer.buckets.iter().map(|(_, counts)| counts.get(Figure::StoreReads)).sum::<u64>()
    };
    let (of_a, of_b, all) = (used(Some(a.name.clone())).await, used(Some(b.name.clone())).await, used(None).await);
    assert!(all >= ONE && all.is_multiple_of(ONE), "{all}");
    assert!(of_a > of_b && of_b > 0 && of_a + of_b == all, "{of_a} and {of_b} of {all}: shared by their bytes");
    bench.finish().await;
}
