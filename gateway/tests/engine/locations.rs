//! What a gateway remembers of where records are: read without the metadata service, for a while, and never wrongly.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::Engine;
use lakefall_metadata::News;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::Command;
use lakefall_queue::verbs::{Fetched, Read, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex, SegmentId, ShardId};
use tokio::time::Instant;

use crate::support::metadata::{Mood, Watched};
use crate::support::{START, World, append, caller, placed, read, settle, start_at, topic, values};

/// A world with ten records, and another gateway that knows where they are.
async fn knowing(deaf: bool) -> (World, Arc<Engine>, Arc<Watched>) {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.topic("unknown", 1).await;
    for i in 0..5 {
        world.send("t", &[&(2 * i).to_string(), &(2 * i + 1).to_string()]).await.unwrap();
    }
    let (other, metadata) = world.gateway(deaf).await;
    assert_eq!(from(&other, 0).await.unwrap().records.len(), 10);
    (world, other, metadata)
}

async fn from(engine: &Arc<Engine>, offset: u64) -> Result<Fetched> {
    engine.read(&caller(), read("t", &[(0, start_at(offset))])).await
}

fn bounds(found: &Fetched) -> (u64, u64, u64) {
    (found.next[0].log_start.0, found.next[0].next.0, found.next[0].end.0)
}

#[tokio::test(start_paused = true)]
async fn what_was_located_is_read_on_for_a_minute_while_the_metadata_service_is_away() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let (world, other, metadata) = knowing(false).await;
        metadata.be(mood);
        for second in 0..5 {
            for offset in 0..10 {
                let found = from(&other, offset).await.unwrap();
                assert_eq!(found.records.len() as u64, 10 - offset, "{mood:?}, {second}");
                assert_eq!(bounds(&found), (0, 10, 10), "what is known, no more");
                assert!(found.next[0].is_stale(), "and told as such");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let earliest = other.read(&caller(), read("t", &[(0, Start::Earliest)])).await.unwrap();
        assert_eq!(earliest.records.len(), 10);
        let started = Instant::now();
        let Err(Error::Unavailable { reason, .. }) = from(&other, 10).await else { panic!("the end is not known") };
        assert!(reason.contains("metadata service"), "{reason}");
        assert!(other.read(&caller(), read("t", &[(0, Start::Latest)])).await.is_err());
        assert!(other.read(&caller(), read("unknown", &[(0, Start::Earliest)])).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(20), "three answers took {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(matches!(from(&other, 0).await, Err(Error::Unavailable { .. })), "too old to be believed");
        metadata.be(Mood::Serving);
        world.send("t", &["10"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(from(&other, 0).await.unwrap().records.len(), 11, "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_known_are_read_together_while_the_metadata_service_is_away() {
    let world = World::new().await;
    world.topic("t", 3).await;
    world.append(append("t", (0..3).map(|p| placed(p, "x")).collect())).await.unwrap();
    let (other, metadata) = world.gateway(false).await;
    let all: Vec<_> = (0..3).map(|p| (p, start_at(0))).collect();
    assert_eq!(other.read(&caller(), read("t", &all)).await.unwrap().records.len(), 3);
    metadata.be(Mood::Silent);
    let positions = other.offsets(&caller(), &topic("t"), None, Start::Earliest).await.unwrap();
    assert!(positions.iter().all(|p| (p.next.0, p.end.0) == (0, 1)));
    let started = Instant::now();
    let found = other.read(&caller(), read("t", &all)).await.unwrap();
    assert_eq!(found.records.len(), 3);
    assert!(found.next.iter().all(|p| (p.log_start.0, p.end.0) == (0, 1)));
    assert!(started.elapsed() < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_record_is_found_at_once_through_a_gateway_that_remembers_an_older_end() {
    for deaf in [false, true] {
        let (world, other, _) = knowing(deaf).await;
        for i in 10..20 {
            world.send("t", &[&i.to_string()]).await.unwrap();
            // Each way of asking comes first in some round, before another one made the record known.
            for way in (0..3).map(|way| (way + i) % 3) {
                if way == 0 {
                    assert_eq!(values(&from(&other, i).await.unwrap().records), [i.to_string()], "deaf: {deaf}");
                } else if way == 1 {
                    let found = from(&other, 3).await.unwrap();
                    assert_eq!((found.records.len() as u64, bounds(&found)), (i - 2, (0, i + 1, i + 1)), "on from what is remembered");
                } else {
                    let whole = Read { max_records: i as usize, ..read("t", &[(0, start_at(0))]) };
                    let page = other.read(&caller(), whole).await.unwrap();
                    assert_eq!(bounds(&page), (0, i, i + 1), "a page that ends where the end was does not say that it still is");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_read_without_a_question() {
    let (_world, other, metadata) = knowing(false).await;
    let asked = metadata.queries();
    for offset in 0..9 {
        let one = Read { max_records: 1, ..read("t", &[(0, start_at(offset))]) };
        assert_eq!(other.read(&caller(), one).await.unwrap().records.len(), 1);
    }
    assert_eq!(metadata.queries(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_trim_is_respected_as_soon_as_it_is_known_and_without_notices_after_the_lease() {
    let gone = |log_start| Error::BelowLogStart { partition: PartitionIndex(0), offset: Offset(2), log_start: Offset(log_start) };
    let (world, other, _) = knowing(false).await;
    world.engine.trim(&caller(), &topic("t"), None, Offset(4)).await.unwrap();
    settle().await;
    assert_eq!(from(&other, 2).await.unwrap_err(), gone(4), "told by a notice");
    other.trim(&caller(), &topic("t"), None, Offset(5)).await.unwrap();
    assert_eq!(from(&other, 2).await.unwrap_err(), gone(5), "done by itself");

    let (world, other, metadata) = knowing(true).await;
    world.engine.trim(&caller(), &topic("t"), None, Offset(4)).await.unwrap();
    // It learns of it with another answer, and then serves nothing below, also when nobody can be asked.
    assert_eq!(bounds(&from(&other, 10).await.unwrap()), (4, 10, 10));
    metadata.be(Mood::Refusing);
    assert_eq!(from(&other, 2).await.unwrap_err(), gone(4));
    assert_eq!(values(&from(&other, 4).await.unwrap().records)[0], "4");

    // What it remembers, it serves; with what it was told since, it does not.
    let (world, other, _) = knowing(true).await;
    world.engine.trim(&caller(), &topic("t"), None, Offset(4)).await.unwrap();
    let page = Read { max_records: 2, ..read("t", &[(0, start_at(2))]) };
    assert_eq!(values(&other.read(&caller(), page).await.unwrap().records), ["2", "3"]);
    assert_eq!(from(&other, 2).await.unwrap_err(), gone(4), "told where the end is, and that the log begins later");

    let (world, other, _) = knowing(true).await;
    world.engine.trim(&caller(), &topic("t"), None, Offset(4)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(from(&other, 2).await.unwrap_err(), gone(4), "believed for no longer than the lease");
}

#[tokio::test(start_paused = true)]
async fn missed_news_are_a_reason_to_believe_nothing() {
    let (_world, other, metadata) = knowing(true).await;
    let asked = metadata.queries();
    let one = || async { other.read(&caller(), Read { max_records: 1, ..read("t", &[(0, start_at(3))]) }).await.unwrap() };
    one().await;
    assert_eq!(metadata.queries(), asked);
    metadata.tell(News::Missed);
    settle().await;
    one().await;
    assert!(metadata.queries() > asked);
}

#[tokio::test(start_paused = true)]
async fn records_that_were_moved_are_located_once_more_and_those_that_are_gone_are_an_error() {
    let (world, other, metadata) = knowing(true).await;
    let objects =
        |engine: Arc<Engine>| async move { engine.objects(&caller(), &topic("t"), PartitionIndex(0), Offset(0), 100).await.unwrap() };
    // With an empty cache, so that nothing but the object can answer.
    let (empty, empty_metadata) = world.gateway(true).await;
    let listed = objects(Arc::clone(&empty)).await;
    drop((other, metadata));
    let to = SegmentId::mint(START, 77);
    world.objects.move_object(&listed[1].object.key(), &to.key()).await;
    empty_metadata.say_moved(listed[1].object, to);
    assert_eq!(from(&empty, 0).await.unwrap().records.len(), 10, "nobody notices");
    let gone = SegmentId::mint(START, 78);
    world.objects.move_object(&listed[3].object.key(), &gone.key()).await;
    let asked = empty_metadata.queries();
    let missing = empty.read(&caller(), read("t", &[(0, start_at(6))])).await;
    assert!(missing.is_ok(), "in the cache by now");
    let (fresh, fresh_metadata) = world.gateway(true).await;
    let missing = fresh.read(&caller(), read("t", &[(0, start_at(6))])).await;
    assert!(matches!(missing, Err(Error::DataUnavailable { object, .. }) if object == listed[3].object), "{missing:?}");
    assert!(empty_metadata.queries() - asked <= 1 && fresh_metadata.queries() <= 4);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_outlasts_an_outage() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let (world, other, metadata) = knowing(true).await;
        metadata.be(mood);
        let waiting = {
            let other = Arc::clone(&other);
            let wait = Read { wait: Duration::from_secs(60), ..read("t", &[(0, start_at(10))]) };
            tokio::spawn(async move { values(&other.read(&caller(), wait).await.unwrap().records) })
        };
        tokio::time::sleep(Duration::from_secs(20)).await;
        world.send("t", &["10"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        let returned = Instant::now();
        metadata.be(Mood::Serving);
        assert_eq!(waiting.await.unwrap(), ["10"], "{mood:?}");
        assert!(returned.elapsed() <= Duration::from_secs(3), "{mood:?}: {:?}", returned.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn news_that_are_missed_during_an_outage_are_made_up_for_after_it() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let (world, other, metadata) = knowing(true).await;
        let waiting = {
            let other = Arc::clone(&other);
            let wait = Read { wait: Duration::from_secs(60), ..read("t", &[(0, start_at(10))]) };
            tokio::spawn(async move { values(&other.read(&caller(), wait).await.unwrap().records) })
        };
        settle().await;
        metadata.be(mood);
        metadata.tell(News::Missed);
        world.send("t", &["10"]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        metadata.be(Mood::Serving);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(waiting.is_finished(), "{mood:?}");
        assert_eq!(waiting.await.unwrap(), ["10"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_an_outage_outlasts_ends_with_what_is_known_or_an_error() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let (_world, other, metadata) = knowing(true).await;
        metadata.be(mood);
        let started = Instant::now();
        let wait = |offset| Read { wait: Duration::from_secs(10), ..read("t", &[(0, offset)]) };
        let found = other.read(&caller(), wait(start_at(10))).await.unwrap();
        assert_eq!((found.records.len(), bounds(&found)), (0, (0, 10, 10)));
        assert!(matches!(found.certain(), Err(Error::Unavailable { .. })), "nobody may be told that there is nothing");
        assert!(started.elapsed() >= Duration::from_secs(10) && started.elapsed() < Duration::from_secs(11));
        let found = other.read(&caller(), wait(start_at(3))).await.unwrap();
        assert_eq!(found.records.len(), 7, "what is known is not waited for");
        assert!(found.next[0].is_stale() && found.certain().is_ok());
        let unknown = other.read(&caller(), wait(Start::Latest)).await;
        assert!(matches!(unknown, Err(Error::Unavailable { .. })), "where it would begin is not known");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_told_since_the_read_began_is_told_also_when_the_metadata_service_goes_away_meanwhile() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let (_world, other, metadata) = knowing(true).await;
        let waiting = {
            let other = Arc::clone(&other);
            let wait = Read { wait: Duration::from_secs(10), ..read("t", &[(0, start_at(10))]) };
            tokio::spawn(async move { other.read(&caller(), wait).await.unwrap() })
        };
        settle().await;
        metadata.be(mood);
        metadata.tell(News::Missed);
        let found = waiting.await.unwrap();
        assert_eq!((bounds(&found), found.next[0].is_stale()), ((0, 10, 10), false), "{mood:?}");
        assert!(found.certain().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deaf_gateway_reads_a_topic_that_was_deleted_or_created_again_as_it_is() {
    // Deleted with its records still there, and without any.
    for records in [true, false] {
        let world = World::new().await;
        world.topic("t", 2).await;
        if records {
            world.append(append("t", vec![placed(0, "old")])).await.unwrap();
        }
        let (other, _) = world.gateway(true).await;
        let read_all = |start| read("t", &[(0, start), (1, start)]);
        let reads = [read("t", &[(0, start_at(1))]), read("t", &[(0, Start::Latest)]), read_all(start_at(0)), read_all(Start::Earliest)];
        for one in &reads {
            other.read(&caller(), one.clone()).await.unwrap();
        }
        let delete = Command::DeleteTopic {
            namespace: caller().namespace,
            name: topic("t"),
            condition: lakefall_queue::verbs::Precondition::Always,
        };
        world.metadata.node.execute(ShardId(0), delete).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        for one in &reads {
            let (gone, wait) = (other.read(&caller(), one.clone()).await, Read { wait: Duration::from_secs(5), ..one.clone() });
            assert_eq!(gone.unwrap_err(), Error::TopicNotFound(topic("t")), "{one:?}");
            assert_eq!(other.read(&caller(), wait).await.unwrap_err(), Error::TopicNotFound(topic("t")));
            world.topic("t", 2).await;
            world.append(append("t", vec![placed(0, "new"), placed(0, "new"), placed(1, "new")])).await.unwrap();
            let found = other.read(&caller(), one.clone()).await.unwrap();
            assert!(values(&found.records).iter().all(|value| value == "new"));
            assert!(found.next.iter().all(|p| p.end.0 >= 1));
            let delete = Command::DeleteTopic {
                namespace: caller().namespace,
                name: topic("t"),
                condition: lakefall_queue::verbs::Precondition::Always,
            };
            world.metadata.node.execute(ShardId(0), delete).await.unwrap();
            // What it believes of the records runs out.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let ask = other.offsets(&caller(), &topic("t"), None, Start::Latest).await;
        assert_eq!(ask.unwrap_err(), Error::TopicNotFound(topic("t")));
        let objects = other.objects(&caller(), &topic("t"), PartitionIndex(0), Offset(0), 10).await;
        assert_eq!(objects.unwrap_err(), Error::TopicNotFound(topic("t")));
        let trim = other.trim(&caller(), &topic("t"), None, Offset(1)).await;
        assert_eq!(trim.unwrap_err(), Error::TopicNotFound(topic("t")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deaf_gateway_finds_partitions_that_were_added() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let (other, _) = world.gateway(true).await;
    other.read(&caller(), read("t", &[(0, Start::Earliest)])).await.unwrap();
    world.topic("t", 2).await;
    settle().await;
    world.append(append("t", vec![placed(1, "x")])).await.unwrap();
    let found = other.read(&caller(), read("t", &[(1, Start::Earliest)])).await.unwrap();
    assert_eq!(values(&found.records), ["x"]);
    let beyond = other.read(&caller(), read("t", &[(2, Start::Earliest)])).await;
    assert!(matches!(beyond, Err(Error::PartitionNotFound { partitions: 2, .. })));
}
