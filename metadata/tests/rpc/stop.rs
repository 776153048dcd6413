//! A replica that stops leaves nobody without an answer.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::Metadata;
use lakefall_queue::ShardId;

use super::world::{World, commit, end, namespace, stored_at, topic, until};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_a_replica_stops_is_answered() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let before = replica.held.commands();
    replica.held.hold();
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.execute(ShardId(0), commit(orders.id, 1)).await })
        })
        .collect();
    until(SOON, || async { replica.held.commands() == before + 20 }).await;
    replica.tasks.token().cancel();
    replica.stop.cancel();
    // No new connection is taken: it stops.
    until(SOON, || async { tokio::net::TcpStream::connect(replica.listens).await.is_err() }).await;
    assert!(asked.iter().all(|one| !one.is_finished()));
    replica.held.release();
    for one in asked {
        stored_at(one.await.unwrap());
    }
    assert_eq!(replica.held.commands(), before + 20, "none was asked twice");
    replica.leave.cancel();
    replica.tasks.shutdown(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_keep_asking_do_not_keep_a_replica_from_stopping() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let asking = tokio::spawn({
        let client = Arc::clone(&client);
        async move {
            let mut stored = 0;
            while let Ok(reply) = client.execute(ShardId(0), commit(orders.id, 1)).await {
                assert_eq!(stored_at(Ok(reply)), stored);
                stored += 1;
            }
            stored
        }
    });
    until(SOON, || async { replica.held.commands() > 20 }).await;
    replica.tasks.token().cancel();
    replica.stop.cancel();
    until(SOON, || async { replica.tasks.list().iter().all(|task| !task.name.starts_with("metadata-") || task.running == 0) }).await;
    let stored = asking.await.unwrap();
    assert_eq!(end(&*replica.node, orders.id).await, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_ends_its_tasks() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    topic(&*client, &namespace("acme"), "orders").await;
    world.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(client.execute(ShardId(0), commit(lakefall_queue::TopicId(0), 1)).await.is_err());
}
