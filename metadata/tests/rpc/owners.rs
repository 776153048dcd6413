//! Shards that are spread over replicas, and move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakefall_metadata::rpc::ClientConfig;
use lakefall_metadata::{Metadata, Replica, ReplicaId};
use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Answer, Query};
use lakefall_service::net::Dialing;
use tokio::time::Instant;

use super::proxy::Ways;
use super::world::{LEASE, Running, World, commit, end, namespaces, stored_at, topic, until};

const SHARDS: u32 = 8;

/// How many shards a replica serves, as it says itself.
fn serves(replica: &Running) -> usize {
    let me = replica.node.me();
    replica.node.roster().holdings.iter().filter(|holding| holding.owner.as_ref() == Some(me)).count()
}

async fn spread(replicas: &[&Running]) {
    let share = SHARDS as usize / replicas.len();
    until(Duration::from_secs(20), || async { replicas.iter().all(|replica| serves(replica) == share) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_knows_one_replica_reaches_the_shards_of_all() {
    let world = World::shared(SHARDS);
    let first = world.replica().await;
    let second = world.replica().await;
    spread(&[&first, &second]).await;
    let client = world.client(&[&second]).await;
    assert_eq!(client.shards(), SHARDS);
    for namespace in namespaces(SHARDS) {
        let orders = topic(&*client, &namespace, "orders").await;
        assert_eq!(orders.id.shard(), namespace.shard(SHARDS));
        assert_eq!(stored_at(client.execute(orders.id.shard(), commit(orders.id, 1)).await), 0);
    }
    assert!(first.held.commands() > 0 && second.held.commands() > 0);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_that_shards_move_to_one_who_joins_and_back_from_one_who_leaves() {
    let world = World::shared(SHARDS);
    let first = world.replica().await;
    let client = world.client(&[&first]).await;
    let mut topics = Vec::new();
    for namespace in namespaces(SHARDS) {
        topics.push(topic(&*client, &namespace, "orders").await.id);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = topics
        .iter()
        .map(|topic| {
            let (client, stop, topic) = (Arc::clone(&client), Arc::clone(&stop), *topic);
            tokio::spawn(async move {
                let (mut expected, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::SeqCst) {
                    let asked = Instant::now();
                    assert_eq!(stored_at(client.execute(topic.shard(), commit(topic, 1)).await), expected);
                    longest = longest.max(asked.elapsed());
                    expected += 1;
                }
                (expected, longest)
            })
        })
        .collect();
    let second = world.replica().await;
    spread(&[&first, &second]).await;
    // The client was told of the first only; that there is a second it learns from redirects.
    until(Duration::from_secs(20), || async { second.held.commands() > 0 }).await;
    first.stop().await;
    spread(&[&second]).await;
    stop.store(true, Ordering::SeqCst);
    for (writer, topic) in writers.into_iter().zip(topics) {
        let (written, longest) = writer.await.unwrap();
        assert_eq!(end(&*client, topic).await, written);
        assert!(longest < LEASE, "a caller waited {longest:?} for a shard that was handed over");
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_an_owner_that_stopped_without_a_word_are_answered_by_the_next_one() {
    let world = World::shared(SHARDS);
    let (first, second) = (world.replica().await, world.replica().await);
    spread(&[&first, &second]).await;
    let client = world.client(&[&first, &second]).await;
    let mut topics = Vec::new();
    for namespace in namespaces(SHARDS) {
        topics.push(topic(&*client, &namespace, "orders").await.id);
    }
    // As when it is stopped: connections stay, nothing comes; and the store hears nothing of it either.
    first.proxy.set(Ways { hold_asks: true, hold_answers: true, refuse: true });
    first.leave.cancel();
    let asked = topics.iter().map(|topic| client.execute(topic.shard(), commit(*topic, 1)));
    for reply in futures::future::join_all(asked).await {
        assert_eq!(stored_at(reply), 0);
    }
    for topic in topics {
        assert_eq!(end(&*client, topic).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_hears_but_is_not_heard_is_given_up_too() {
    let world = World::alone();
    let replica = world.replica().await;
    let config = ClientConfig { deadline: Duration::from_secs(20), ..world.config_of(&[&replica]) };
    let client = world.connect(config);
    client.ready().await.unwrap();
    let orders = topic(&*client, &namespaces(1)[0], "orders").await;
    replica.proxy.set(Ways { hold_asks: true, ..Ways::default() });
    let before = replica.proxy.connections();
    let asked = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.execute(ShardId(0), commit(orders.id, 1)).await }
    });
    until(Duration::from_secs(15), || async { replica.proxy.connections() > before }).await;
    replica.proxy.set(Ways::default());
    assert_eq!(stored_at(asked.await.unwrap()), 0);
}

#[tokio::test]
async fn a_replica_that_nobody_reaches_does_not_keep_a_client_from_the_others() {
    let world = World::alone();
    let replica = world.replica().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = world.config_of(&[&replica]);
    for _ in 0..4 {
        config.endpoints.push(format!("http://{}", silent.local_addr().unwrap()));
        config.endpoints.push("http://127.0.0.1:1".to_owned());
    }
    let started = Instant::now();
    world.connect(config).ready().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_woken_by_its_peers() {
    use lakefall_metadata::Peers;
    use lakefall_metadata::rpc::RpcPeers;
    let world = World::shared(SHARDS);
    let replica = world.replica().await;
    let peers = RpcPeers::new(&world.client, Dialing::Tcp).unwrap();
    peers.nudge(replica.node.me()).await;
    // Neither an error nor a wait that matters.
    let started = Instant::now();
    peers.nudge(&Replica { id: ReplicaId(9), address: "http://127.0.0.1:1".to_owned() }).await;
    peers.nudge(&Replica { id: ReplicaId(9), address: "nonsense".to_owned() }).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    let client = world.client(&[&replica]).await;
    assert!(matches!(client.query(ShardId(3), Query::Position).await, Ok(Answer::Position(_))));
}
