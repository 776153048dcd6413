//! What an acknowledgement means: stored, ordered, and visible to everyone.

use std::sync::Arc;

use lakefall_queue::PartitionIndex;
use lakefall_queue::verbs::{Read, TopicAppend, Verbs};

use crate::support::{Dice, World, all, append, append_of, caller, keyed, placed, places, read, record, start_at, topic, values};

#[tokio::test(start_paused = true)]
async fn a_record_that_is_acknowledged_is_read_back_by_every_gateway() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let acked = world.send("t", &["a"]).await.unwrap();
    assert_eq!(places(&acked), [(0, 0)]);
    assert_eq!(acked.end.unwrap().0, 1);
    let acked = world.send("t", &["b", "c"]).await.unwrap();
    assert_eq!(places(&acked), [(0, 1), (0, 2)]);
    assert_eq!(world.values("t").await, ["a", "b", "c"]);
    assert_eq!(world.objects.gets(), 0, "what was just written is in the cache");
    let other = world.other_engine().await;
    assert_eq!(values(&all(&other, "t").await), ["a", "b", "c"]);
    assert!(world.objects.gets() > 0);
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_the_records_with_interleaved_partitions() {
    let world = World::new().await;
    world.topic("t", 5).await;
    let mut dice = Dice::new(11);
    for round in 0..20 {
        let sent: Vec<String> = (0..50).map(|i| format!("{round}-{i}")).collect();
        let records = sent.iter().map(|value| placed(dice.below(5) as u32, value)).collect();
        let places = places(&world.append(append("t", records)).await.unwrap());
        assert_eq!(places.len(), sent.len());
        for ((partition, offset), value) in places.into_iter().zip(&sent) {
            let one = Read { max_records: 1, ..read("t", &[(partition, start_at(offset))]) };
            let found = world.read(one).await.unwrap();
            assert_eq!(values(&found.records), [value.as_str()]);
        }
    }
    assert_eq!(all(&world.engine, "t").await.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn keys_go_to_the_partition_where_kafka_puts_them() {
    let world = World::new().await;
    world.topic("t", 10).await;
    // The hashes stand in Kafka's own UtilsTest.testMurmur2.
    for (key, hash) in
        [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536), ("abc", 479_470_107)]
    {
        let acked = world.append(append("t", vec![keyed(key, "v")])).await.unwrap();
        assert_eq!(acked.ranges[0].partition.0, (hash & 0x7fff_ffff) as u32 % 10, "{key}");
    }
    let named = TopicAppend { partition: Some(PartitionIndex(3)), ..TopicAppend::new(topic("t"), vec![keyed("21", "v")]) };
    assert_eq!(world.append(append_of(named)).await.unwrap().ranges[0].partition.0, 3, "a named partition goes before the key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_starts_after_an_acknowledgement_sees_the_record_also_under_concurrency() {
    let world = Arc::new(World::new().await);
    world.topic("t", 3).await;
    let writers = (0..8).map(|writer| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for i in 0..60 {
                let value = format!("{writer}-{i}");
                let acked = world.append(append("t", vec![record(&value)])).await.unwrap();
                let (partition, offset) = places(&acked)[0];
                let one = Read { max_records: 1, ..read("t", &[(partition, start_at(offset))]) };
                let found = world.engine.read(&caller(), one).await.unwrap();
                assert_eq!(values(&found.records), [value], "acknowledged at {partition}:{offset}");
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    let mut found = world.values("t").await;
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 480);
}
