//! What becomes of asks whose connection broke before they were answered.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::Metadata;
use lakefall_queue::error::Outcome;
use lakefall_queue::ledger::{Command, Query, SettleAction, SettleItem, SettleMessages};
use lakefall_queue::{Offset, PartitionIndex, QueueId, ShardId};

use super::proxy::Ways;
use super::world::{World, commit, end, locate, namespace, put_topic, stored_at, topic, until};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_a_commit_whose_connection_broke_is_repeated_and_answered_as_the_first_time() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let before = replica.held.commands();
    replica.held.hold();
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.execute(ShardId(0), commit(orders.id, 1)).await })
        })
        .collect();
    until(SOON, || async { replica.held.commands() == before + 50 }).await;
    assert_eq!(end(&*replica.node, orders.id).await, 50, "all were applied, none was answered");
    replica.die();
    until(SOON, || async { replica.proxy.open() == 0 }).await;
    replica.held.release();
    replica.proxy.set(Ways::default());
    let mut offsets = Vec::new();
    for one in asked {
        offsets.push(stored_at(one.await.unwrap()));
    }
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..50));
    assert_eq!(end(&*client, orders.id).await, 50, "nothing was applied twice");
    assert!(replica.held.commands() >= before + 100, "they were asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_would_do_something_else_the_second_time_is_not_repeated_but_unknown() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let acme = namespace("acme");
    let orders = topic(&*client, &acme, "orders").await;
    let before = replica.held.commands();
    replica.held.hold();
    let asked = tokio::spawn({
        let (client, acme) = (Arc::clone(&client), acme.clone());
        async move { client.execute(ShardId(0), put_topic(&acme, "orders")).await }
    });
    until(SOON, || async { replica.held.commands() > before }).await;
    replica.proxy.cut();
    let told = asked.await.unwrap().unwrap_err();
    assert_eq!(told.outcome(), Outcome::Unknown, "{told}");
    replica.held.release();
    let found = client.query(ShardId(0), Query::Topic(acme, orders.name)).await;
    assert!(format!("{found:?}").contains("version: 2"), "applied once: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_may_have_been_cancelled_is_not_cancelled_again_to_be_told_that_it_is_not_there() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let before = replica.held.commands();
    replica.held.hold();
    let item =
        SettleItem { topic: orders.id, partition: PartitionIndex(0), first: Offset(0), count: 1, attempt: 0, action: SettleAction::Cancel };
    let cancel = SettleMessages { queue: QueueId::new(ShardId(0), 99), generation: 1, version: None, items: vec![item] };
    let asked = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.execute(ShardId(0), Command::Settle(cancel)).await }
    });
    until(SOON, || async { replica.held.commands() > before }).await;
    replica.proxy.cut();
    let told = asked.await.unwrap().unwrap_err();
    assert_eq!((told.outcome(), replica.held.commands()), (Outcome::Unknown, before + 1), "{told}");
    replica.held.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_left_is_asked_again_whatever_it_is() {
    let world = World::alone();
    let replica = world.replica().await;
    let acme = namespace("acme");
    topic(&*world.client(&[&replica]).await, &acme, "orders").await;
    let before = replica.held.commands();
    // It never asked anything: there is no connection on which the first attempt could leave.
    let client = world.client(&[&replica]).await;
    replica.die();
    until(SOON, || async { client.trouble().is_some() }).await;
    let asked = tokio::spawn({
        let (client, acme) = (Arc::clone(&client), acme.clone());
        async move { client.execute(ShardId(0), put_topic(&acme, "invoices")).await }
    });
    tokio::task::yield_now().await;
    replica.proxy.set(Ways::default());
    assert!(asked.await.unwrap().is_ok());
    assert_eq!(replica.held.commands(), before + 1, "it was applied once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_repeated_over_connections_that_break_again_and_again() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    stored_at(client.execute(ShardId(0), commit(orders.id, 1)).await);
    for round in 0..20 {
        let asked = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.query(ShardId(0), locate(orders.id, 0)).await }
        });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        replica.proxy.cut();
        assert!(asked.await.unwrap().is_ok(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_commits_over_a_connection_that_breaks_all_the_time_leave_no_gap_and_no_double() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let mut offsets = Vec::new();
                for _ in 0..50 {
                    offsets.push(stored_at(client.execute(ShardId(0), commit(orders.id, 1)).await));
                }
                offsets
            })
        })
        .collect();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        // Something gets through between two cuts, however slow the machine is.
        let before = replica.held.commands();
        tokio::time::sleep(Duration::from_millis(20)).await;
        while replica.held.commands() == before && !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        replica.proxy.cut();
    }
    let mut offsets = Vec::new();
    for writer in writers {
        offsets.extend(writer.await.unwrap());
    }
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..400));
    assert_eq!(end(&*client, orders.id).await, 400);
}
