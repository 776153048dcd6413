//! Requests that wait for a reply on another topic.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::Engine;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::record::Properties;
use lakefall_queue::topic::Urgency;
use lakefall_queue::verbs::{Admission, Read, Request, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex, Record, StoredRecord, TopicName};
use tokio::task::JoinHandle;

use crate::support::{World, append, caller, read, record, settle, topic};

fn request(value: &str, wait: Duration) -> Request {
    Request { topic: topic("ask"), record: record(value), reply_to: None, wait, admission: Admission::default() }
}

fn with(record: Record, correlation_id: &str) -> Record {
    Record { properties: Some(Box::new(Properties { correlation_id: Some(correlation_id.into()), ..Properties::default() })), ..record }
}

fn ask(engine: &Arc<Engine>, request: Request) -> JoinHandle<Result<(TopicName, StoredRecord)>> {
    let engine = Arc::clone(engine);
    tokio::spawn(async move { engine.request(&caller(), request).await })
}

fn text(record: &StoredRecord) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

/// Answers so many requests, each with its value twice.
fn serve(engine: &Arc<Engine>, count: usize) -> JoinHandle<()> {
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let (mut next, mut left) = (Offset(0), count);
        while left > 0 {
            let asked = Read { wait: Duration::from_secs(60), ..read("ask", &[(0, Start::Offset(next))]) };
            let fetched = engine.read(&caller(), asked).await.unwrap();
            next = fetched.next[0].next;
            for asked in fetched.records {
                left -= 1;
                let properties = asked.properties.as_ref().unwrap();
                let reply = with(record(&text(&asked).repeat(2)), properties.correlation_id.as_ref().unwrap());
                engine.append(&caller(), append(properties.reply_to.as_ref().unwrap(), vec![reply])).await.unwrap();
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_the_reply_with_its_correlation_id_on_a_topic_made_for_it() {
    let world = World::new().await;
    world.topic_of("ask", Urgency::Express).await;
    let server = serve(&world.engine, 1);
    let (replies, reply) = world.engine.request(&caller(), request("ab", Duration::from_secs(5))).await.unwrap();
    assert_eq!((replies, text(&reply)), (topic("ask.replies"), "abab".to_owned()));
    server.await.unwrap();
    let made = world.engine.describe_topic(&caller(), &topic("ask.replies")).await.unwrap().topic.config;
    assert_eq!((made.urgency, made.partitions), (Urgency::Express, 1));
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_for_replies_one_reader_reads_them() {
    let world = World::new().await;
    world.topic("ask", 1).await;
    world.topic("ask.replies", 4).await;
    let server = serve(&world.engine, 200);
    let asking: Vec<_> = (0..200).map(|i| ask(&world.engine, request(&format!("{i},"), Duration::from_secs(30)))).collect();
    for (i, asked) in asking.into_iter().enumerate() {
        let (_, reply) = asked.await.unwrap().unwrap();
        assert_eq!(text(&reply), format!("{i},{i},"));
    }
    server.await.unwrap();
    let readers = world.running("reply-reader");
    assert_eq!(readers, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    settle().await;
    assert_eq!(world.running("reply-reader"), 0, "nobody waits any more");
    let server = serve(&world.engine, 201);
    let (_, reply) = world.engine.request(&caller(), request("x", Duration::from_secs(30))).await.unwrap();
    assert_eq!(text(&reply), "xx");
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_says_where_it_is() {
    let world = World::new().await;
    world.topic("ask", 1).await;
    world.send("ask", &["before"]).await.unwrap();
    let begun = tokio::time::Instant::now();
    let refused = world.engine.request(&caller(), request("a", Duration::from_secs(5))).await.unwrap_err();
    let waited = Duration::from_secs(5);
    assert_eq!(refused, Error::NoReply { topic: topic("ask"), partition: PartitionIndex(0), offset: Offset(1), waited });
    assert!(begun.elapsed() < Duration::from_secs(6));
    assert_eq!(world.values("ask").await, ["before", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_to_an_earlier_request_with_the_same_correlation_id_is_not_taken() {
    let world = World::new().await;
    world.topic("ask", 1).await;
    world.topic("ask.replies", 1).await;
    world.append(append("ask.replies", vec![with(record("old"), "c")])).await.unwrap();
    // Another one keeps a reader on the topic.
    let other = ask(&world.engine, request("other", Duration::from_secs(30)));
    settle().await;
    world.append(append("ask.replies", vec![with(record("old again"), "c")])).await.unwrap();
    let asked = ask(&world.engine, Request { record: with(record("q"), "c"), ..request("", Duration::from_secs(30)) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!asked.is_finished());
    world.append(append("ask.replies", vec![with(record("not mine"), "d"), record("nobody's"), with(record("new"), "c")])).await.unwrap();
    assert_eq!(text(&asked.await.unwrap().unwrap().1), "new");
    other.abort();
}

#[tokio::test(start_paused = true)]
async fn a_reply_topic_that_makes_no_sense_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    world.topic("ask", 1).await;
    let to = |name: &str| Request { reply_to: Some(topic(name)), ..request("a", Duration::from_secs(1)) };
    assert!(matches!(world.engine.request(&caller(), to("ask")).await, Err(Error::Invalid { field, .. }) if field == "reply_to"));
    assert!(matches!(world.engine.request(&caller(), to("nowhere")).await, Err(Error::TopicNotFound(_))));
    let long = Request { wait: Duration::from_secs(61), ..to("ask") };
    assert!(matches!(world.engine.request(&caller(), long).await, Err(Error::Invalid { field, .. }) if field == "wait"));
    let nowhere = Request { topic: topic("nowhere"), ..request("a", Duration::from_secs(1)) };
    assert!(matches!(world.engine.request(&caller(), nowhere).await, Err(Error::TopicNotFound(_))));
    assert!(world.values("ask").await.is_empty());
}
