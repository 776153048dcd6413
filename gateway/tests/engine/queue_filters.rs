//! Which messages come to a queue: bindings, filters, a message's own word.

use std::collections::BTreeMap;

use bytes::Bytes;
use lakefall_queue::error::Error;
use lakefall_queue::queue::{Binding, Match, QueueConfig};
use lakefall_queue::verbs::{Precondition, Verbs};
use lakefall_queue::{BindingName, Header, Properties, Record, ValueKind};

use super::queues::{earliest, name, values, want};
use crate::support::{World, append, caller, keyed, record, topic};

fn id(id: &str) -> BindingName {
    BindingName::new(id).unwrap()
}

async fn bind(world: &World, queue: &str, binding: &str, to: &str, matches: Match) -> lakefall_queue::Result<bool> {
    let binding_to = Binding { topic: topic(to), matches };
    world.engine.put_binding(&caller(), &name(queue), &id(binding), binding_to).await.map(|(_, added)| added)
}

async fn received(world: &World, queue: &str) -> Vec<String> {
    let got = world.receive(queue, want(100, 0)).await.unwrap();
    if !got.messages.is_empty() {
        world.ack(queue, &got).await;
    }
    values(&got)
}

fn headed(name: &str, header: &str, value: &str) -> Record {
    let headers = vec![Header { name: name.into(), value: Some(Bytes::copy_from_slice(header.as_bytes())) }];
    Record { headers, ..record(value) }
}

#[tokio::test(start_paused = true)]
async fn bindings_choose_by_routing_key_pattern_and_headers() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.topic("ignored", 1).await;
    let region = BTreeMap::from([("region".to_owned(), "eu".to_owned()), ("tier".to_owned(), "gold".to_owned())]);
    let all = [
        ("exact", Match::Exact { key: "orders.eu".to_owned() }),
        ("wild", Match::Wildcard { pattern: "orders.#".to_owned() }),
        ("any", Match::Headers { headers: region.clone(), any: true }),
        ("both", Match::Headers { headers: region, any: false }),
        ("says", Match::Expression { expression: "key.startsWith('bill')".to_owned() }),
    ];
    for (queue, matches) in all {
        // A queue that reads another topic whole, until it is bound.
        world.queue(queue, QueueConfig { topics: vec![topic("ignored")], ..earliest() }).await;
        assert!(bind(&world, queue, "one", "t", matches.clone()).await.unwrap());
        assert!(!bind(&world, queue, "one", "t", matches).await.unwrap(), "replaced");
    }
    let records = vec![
        keyed("orders.eu", "1"),
        keyed("orders.us.west", "2"),
        keyed("bills", "3"),
        headed("routing-key", "orders.eu", "4"),
        headed("region", "eu", "5"),
        headed("region", "us", "6"),
    ];
    world.append(append("t", records)).await.unwrap();
    assert_eq!(received(&world, "exact").await, ["1", "4"]);
    assert_eq!(received(&world, "wild").await, ["1", "2", "4"]);
    assert_eq!(received(&world, "any").await, ["5"]);
    assert!(received(&world, "both").await.is_empty());
    assert_eq!(received(&world, "says").await, ["3"]);
    let stats = world.engine.queue_stats(&caller(), &name("exact")).await.unwrap();
    assert_eq!((stats.ready, stats.leased), (0, 0), "what does not match is finished");
}

#[tokio::test(start_paused = true)]
async fn a_filter_looks_into_json_bodies_and_changing_it_counts_for_what_comes() {
    let world = World::new().await;
    let filter = |text: &str| QueueConfig { filter: Some(text.to_owned()), ..earliest() };
    world.queue("q", filter("value.amount > 10")).await;
    let json = |text: &str| Record { kind: ValueKind::Json, ..record(text) };
    world.append(append("q", vec![json(r#"{"amount":5}"#), json(r#"{"amount":50}"#), json("[1]")])).await.unwrap();
    assert_eq!(received(&world, "q").await, [r#"{"amount":50}"#]);
    let topics = vec![topic("q")];
    world.queue("q", QueueConfig { topics, ..filter("value.amount <= 10") }).await;
    world.append(append("q", vec![json(r#"{"amount":6}"#), json(r#"{"amount":60}"#)])).await.unwrap();
    assert_eq!(received(&world, "q").await, [r#"{"amount":6}"#]);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_be_for_one_queue_comes_to_that_one_alone() {
    let world = World::new().await;
    world.topic("t", 1).await;
    for queue in ["billing", "audit"] {
        world.queue(queue, QueueConfig { topics: vec![topic("t")], ..earliest() }).await;
    }
    let only = Properties { for_queue: Some("billing".into()), ..Properties::default() };
    let records = vec![record("all"), Record { properties: Some(Box::new(only)), ..record("one") }];
    world.append(append("t", records)).await.unwrap();
    assert_eq!(received(&world, "billing").await, ["all", "one"]);
    assert_eq!(received(&world, "audit").await, ["all"]);
}

#[tokio::test(start_paused = true)]
async fn filters_and_bindings_that_cannot_be_read_are_refused_and_change_nothing() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let bad = QueueConfig { filter: Some("value.".to_owned()), ..earliest() };
    let refused = world.engine.put_queue(&caller(), &name("q"), bad, Precondition::Always, None).await;
    assert!(matches!(refused, Err(Error::Invalid { ref field, .. }) if field == "filter"), "{refused:?}");
    assert!(matches!(world.engine.describe_queue(&caller(), &name("q")).await, Err(Error::QueueNotFound(_))));
    world.queue("q", earliest()).await;
    let before = world.engine.describe_queue(&caller(), &name("q")).await.unwrap();
    for bad in [
        Match::Wildcard { pattern: "a.b*".to_owned() },
        Match::Expression { expression: "1 +".to_owned() },
        Match::Headers { headers: BTreeMap::new(), any: false },
        Match::Exact { key: "x".repeat(5_000) },
    ] {
        assert!(matches!(bind(&world, "q", "one", "t", bad).await, Err(Error::Invalid { .. })));
    }
    assert!(matches!(bind(&world, "q", "one", "absent", Match::All {}).await, Err(Error::TopicNotFound(_))));
    assert_eq!(world.engine.describe_queue(&caller(), &name("q")).await.unwrap(), before);
    let gone = world.engine.delete_binding(&caller(), &name("q"), &id("one")).await;
    assert!(matches!(gone, Err(Error::BindingNotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_long_backlog_that_does_not_match_is_passed_over_in_one_receive() {
    let world = World::new().await;
    world.queue("q", QueueConfig { filter: Some("key == 'needle'".to_owned()), ..earliest() }).await;
    for _ in 0..30 {
        world.append(append("q", (0..1_000).map(|_| keyed("hay", "x")).collect())).await.unwrap();
    }
    world.append(append("q", vec![keyed("needle", "found")])).await.unwrap();
    assert_eq!(received(&world, "q").await, ["found"]);
}
