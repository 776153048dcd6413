//! Topics that change under a gateway that still remembers them as they were.

use lakefall_queue::error::Error;
use lakefall_queue::ledger::Command;
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::{Precondition, Read, Start, Verbs};
use lakefall_queue::{NamespaceName, ShardId};

use crate::support::{Setup, World, append, caller, placed, places, read, record, topic};

/// Behind the gateway's back.
async fn delete(world: &World) {
    let command = Command::DeleteTopic { namespace: NamespaceName::default_name(), name: topic("t"), condition: Precondition::Always };
    world.metadata.node.execute(ShardId(0), command).await.unwrap();
}

async fn put(world: &World, partitions: u32) {
    let config = TopicConfig { partitions, ..TopicConfig::default() };
    let (namespace, name, condition) = (NamespaceName::default_name(), topic("t"), Precondition::Always);
    let command = Command::PutTopic { namespace, name, config, condition, idempotency: None };
    world.metadata.node.execute(ShardId(0), command).await.unwrap();
}

async fn worlds() -> Vec<World> {
    vec![World::new().await, World::with(Setup { deaf: true, ..Setup::default() }).await]
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_deleted_and_created_again_takes_records_at_once() {
    for world in worlds().await {
        world.topic("t", 1).await;
        world.send("t", &["old", "old"]).await.unwrap();
        delete(&world).await;
        put(&world, 1).await;
        assert_eq!(places(&world.send("t", &["new"]).await.unwrap()), [(0, 0)]);
        assert_eq!(world.values("t").await, ["new"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_deleted_and_created_again_is_read_anew() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.send("t", &["old", "old"]).await.unwrap();
    delete(&world).await;
    put(&world, 1).await;
    let other = world.other_engine().await;
    other.append(&caller(), append("t", vec![record("new")])).await.unwrap();
    assert_eq!(world.values("t").await, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_not_found() {
    for world in worlds().await {
        world.topic("t", 1).await;
        world.send("t", &["old"]).await.unwrap();
        delete(&world).await;
        assert_eq!(world.send("t", &["new"]).await, Err(Error::TopicNotFound(topic("t"))));
        let found = world.read(Read { ..read("t", &[(0, Start::Earliest)]) }).await;
        assert_eq!(found.map(|f| f.records.len()), Err(Error::TopicNotFound(topic("t"))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_not_there_is_told_and_one_that_was_added_is_used() {
    let world = World::new().await;
    world.topic("t", 1).await;
    assert!(matches!(world.append(append("t", vec![placed(1, "x")])).await, Err(Error::PartitionNotFound { partitions: 1, .. })));
    put(&world, 2).await;
    crate::support::settle().await;
    assert_eq!(places(&world.append(append("t", vec![placed(1, "x")])).await.unwrap()), [(1, 0)]);
    let beyond = world.read(read("t", &[(2, Start::Earliest)])).await;
    assert!(matches!(beyond, Err(Error::PartitionNotFound { partitions: 2, .. })));
}
