//! What is asked comes back as it was answered, however many ask.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::Metadata;
use lakefall_metadata::rpc::ClientConfig;
use lakefall_queue::error::{Error, Outcome};
use lakefall_queue::ledger::{Answer, Command, Query, Reply};
use lakefall_queue::verbs::PageRequest;
use lakefall_queue::{SegmentId, ShardId, TopicName};
use lakefall_service::system_ambient;
use tokio::time::Instant;

use super::proxy::Ways;
use super::world::{World, commit, end, locate, namespace, stored_at, topic};

#[tokio::test]
async fn a_client_is_told_what_the_node_tells() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    assert_eq!(client.shards(), 1);
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    for expected in 0..3 {
        assert_eq!(stored_at(client.execute(ShardId(0), commit(orders.id, 1)).await), expected);
    }
    let everything = [
        Query::Namespace(namespace("acme")),
        Query::Namespaces(PageRequest { after: None, limit: 10 }),
        Query::Topic(namespace("acme"), orders.name.clone()),
        Query::Topics(namespace("acme"), PageRequest { after: None, limit: 10 }),
        Query::Partitions(orders.id),
        locate(orders.id, 1),
        Query::Cursors(namespace("acme"), PageRequest { after: None, limit: 10 }),
        Query::Objects(vec![SegmentId(uuid::Uuid::nil())]),
    ];
    for query in everything {
        let (here, there) = (replica.node.query(ShardId(0), query.clone()).await, client.query(ShardId(0), query).await);
        assert_eq!(format!("{here:?}"), format!("{there:?}"));
        assert!(there.is_ok());
    }
    assert_eq!(client.identity().await, replica.node.identity().await);
}

#[tokio::test]
async fn errors_of_the_ledger_come_back_as_they_are() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let missing = TopicName::new("missing").unwrap();
    topic(&*client, &namespace("acme"), "orders").await;
    let told = client.query(ShardId(0), Query::Topic(namespace("acme"), missing.clone())).await;
    assert_eq!(told.unwrap_err(), Error::TopicNotFound(missing));
    let told = client.execute(ShardId(7), Command::ForgetObjects { objects: Vec::new() }).await;
    assert_eq!(told.unwrap_err(), Error::Internal("there is no shard 7".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_ask_at_once_and_each_gets_its_own_answer() {
    const CALLERS: usize = 10_000;
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let asked = (0..CALLERS).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { stored_at(client.execute(ShardId(0), commit(orders.id, 1)).await) })
    });
    let mut offsets = Vec::new();
    for one in asked.collect::<Vec<_>>() {
        offsets.push(one.await.unwrap());
    }
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..CALLERS as u64), "an offset was told twice");
    assert_eq!(replica.proxy.connections(), 1 + 1, "all of them over one connection, beside the one that found it");
}

#[tokio::test]
async fn a_herd_with_one_question_asks_it_twice_at_most() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    let before = replica.held.queries();
    let herd = (0..1_000).map(|_| client.query(ShardId(0), locate(orders.id, 0)));
    let answers = futures::future::join_all(herd).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Answer::Located(_)))));
    assert!(replica.held.queries() - before <= 2, "{} were asked", replica.held.queries() - before);
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unknown_for_a_command_and_unavailable_for_a_question() {
    let world = World::alone();
    let replica = world.replica().await;
    let config = ClientConfig { deadline: Duration::from_millis(300), ..world.config_of(&[&replica]) };
    let client = world.connect(config);
    client.ready().await.unwrap();
    let orders = topic(&*client, &namespace("acme"), "orders").await;
    replica.proxy.set(Ways { hold_answers: true, ..Ways::default() });
    let started = Instant::now();
    let (command, question) =
        tokio::join!(client.execute(ShardId(0), commit(orders.id, 1)), client.query(ShardId(0), locate(orders.id, 0)));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(command.unwrap_err().outcome(), Outcome::Unknown);
    assert!(matches!(question, Err(Error::Unavailable { .. })), "{question:?}");
    replica.proxy.set(Ways::default());
    assert_eq!(end(&*client, orders.id).await, 1, "it was applied");
}

#[tokio::test]
async fn a_metadata_service_that_is_not_there_is_told_with_what_to_do_about_it() {
    let world = World::alone();
    let replica = world.replica().await;
    replica.die();
    let config = ClientConfig { deadline: Duration::from_millis(500), ..world.config_of(&[&replica]) };
    let client = world.connect(config);
    let started = Instant::now();
    let told = client.execute(ShardId(0), Command::ForgetObjects { objects: Vec::new() }).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(told.outcome(), Outcome::NotApplied);
    assert!(told.to_string().contains("metadata.endpoints") && told.to_string().contains(&replica.url), "{told}");
    replica.proxy.set(Ways::default());
    client.ready().await.unwrap();
    assert_eq!(client.execute(ShardId(0), Command::ForgetObjects { objects: Vec::new() }).await, Ok(Reply::Done));
    assert_eq!(client.trouble(), None);
}

#[tokio::test]
async fn an_ask_that_no_frame_could_carry_is_refused_before_it_leaves() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let objects = vec![SegmentId(uuid::Uuid::nil()); 2 << 20];
    let told = client.execute(ShardId(0), Command::ForgetObjects { objects }).await;
    assert!(matches!(told, Err(Error::TooLarge { limit: 33_554_432, .. })), "{told:?}");
    assert_eq!(replica.held.commands(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_ask_and_many_at_once_pass_in_both_directions() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let ids: Vec<SegmentId> = (0..100_000_u128).map(|n| SegmentId(uuid::Uuid::from_u128(n))).collect();
    let asks = (0..8).map(|extra| {
        let mut ids = ids.clone();
        ids.truncate(100_000 - extra);
        client.query(ShardId(0), Query::Objects(ids))
    });
    for (extra, answer) in futures::future::join_all(asks).await.into_iter().enumerate() {
        let Ok(Answer::Objects(found)) = answer else { panic!("{answer:?}") };
        assert_eq!(found.len(), 100_000 - extra);
    }
}

#[tokio::test]
async fn the_clients_clock_follows_the_clusters() {
    let mut world = World::alone();
    world.clock = Arc::new(Ahead(system_ambient().clock));
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let skew = client.clock().skew_ms().unwrap();
    assert!((-3_600_500..=-3_599_500).contains(&skew), "the cluster is an hour ahead: {skew}");
}

/// A machine whose clock is an hour ahead.
struct Ahead(Arc<dyn lakefall_queue::clock::Clock>);

impl lakefall_queue::clock::Clock for Ahead {
    fn now(&self) -> lakefall_queue::Timestamp {
        self.0.now().plus(Duration::from_secs(3_600))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
