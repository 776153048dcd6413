//! A receiver that waits gets what there is at once: what is sent, given back, due, or no longer leased. Nobody polls.

use std::time::Duration;

use lakefall_tests::Server;
use lakefall_tests::queues::history::Verb;
use lakefall_tests::queues::waiting::Waiting;
use lakefall_tests::queues::{Message, Queue};
use serde_json::json;
use tokio::time::Instant;

use super::machine;

const PROMPT: Duration = Duration::from_secs(10);
const TIMES: usize = 5;
/// Within which the median must lie: nobody polls, so what comes sooner than the end of a wait was a waking. How soon is for
/// benches to tell, as other tests may have the machine.
const BOUND: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_receiver_is_woken_by_a_send_a_nack_a_due_delay_and_the_end_of_a_lease() {
    let _machine = machine().await;
    let server = Server::start_default().await;
    let queue = Queue::of(&server.client(), "work");
    queue.create(json!({})).await;
    let ack = async |message: Message| queue.settled(Verb::Ack, &message).await;
    let waiting = Waiting::default();
    let delay = Duration::from_millis(150);
    for n in 0..TIMES {
        let receiver = waiting.receiver(&queue).await;
        queue.put(&json!({ "value": n })).await;
        let message = receiver.woken("a send", Instant::now()).await;

        let receiver = waiting.receiver(&queue).await;
        queue.settled(Verb::Nack(Duration::ZERO), &message).await;
        let message = receiver.woken("a nack", Instant::now()).await;

        let (receiver, due) = (waiting.receiver(&queue).await, Instant::now() + delay);
        queue.settled(Verb::Nack(delay), &message).await;
        let message = receiver.woken("a nack with a delay", due).await;

        let (receiver, due) = (waiting.receiver(&queue).await, Instant::now() + delay);
        queue.settled(Verb::Extend(delay), &message).await;
        ack(receiver.woken("the end of a lease", due).await).await;

        let (receiver, due) = (waiting.receiver(&queue).await, Instant::now() + delay);
        queue.put(&json!({"value": n, "delay": "150ms"})).await;
        ack(receiver.woken("a due delay", due).await).await;
    }
    waiting.judge("queue_wake", BOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_gives_as_much_as_its_credit_and_more_when_messages_are_settled() {
    let server = Server::start_default().await;
    let queue = Queue::of(&server.client(), "work");
    queue.create(json!({"lease": "30s"})).await;
    let mut stream = queue.stream(3).await;
    let records: Vec<_> = (0..10).map(|n| json!({ "value": n })).collect();
    queue.send(&json!({ "records": records }), None).await.unwrap().ok();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(stream.next(PROMPT).await.expect("a message for each credit"));
    }
    assert!(stream.next(Duration::from_millis(300)).await.is_none(), "more came than there was credit for");
    let mut seen: Vec<u64> = open.iter().map(|message| message.value().as_u64().unwrap()).collect();
    while seen.len() < 10 {
        queue.settled(Verb::Ack, &open.remove(0)).await;
        let message = stream.next(PROMPT).await.expect("a message for the credit that came back");
        seen.push(message.value().as_u64().unwrap());
        open.push(message);
    }
    for message in &open {
        queue.settled(Verb::Ack, message).await;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    assert_eq!(queue.left().await, 0);
}
