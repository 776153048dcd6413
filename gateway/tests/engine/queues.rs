//! Queues as receivers see them: what is sent is leased once, settled or comes back.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::{Consumer, Delivery, QueueConfig, QueueStart, Receive, Retry, SeekTo, Settled, Settlement, Verdict};
use lakefall_queue::verbs::{Precondition, Verbs};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Properties, QueueName, Record};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::faults::Fault;
use crate::support::metadata::Mood;
use crate::support::{START, World, append, caller, keyed, placed, record, settle, topic};

pub(crate) fn name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn earliest() -> QueueConfig {
    QueueConfig { start: QueueStart::Earliest, ..QueueConfig::default() }
}

pub(crate) fn want(max: u32, wait_seconds: u64) -> Receive {
    Receive { max, max_bytes: 16 << 20, lease: None, wait: Duration::from_secs(wait_seconds), request_id: None }
}

pub(crate) fn values(delivery: &Delivery) -> Vec<String> {
    delivery.messages.iter().map(|m| String::from_utf8(m.record.value.clone().unwrap().to_vec()).unwrap()).collect()
}

pub(crate) fn verdicts(delivery: &Delivery, verdict: &Verdict) -> Vec<Settlement> {
    let one = |receipt: &Arc<str>| Settlement { receipt: Arc::clone(receipt), verdict: verdict.clone() };
    delivery.messages.iter().map(|m| one(m.receipt.as_ref().unwrap())).collect()
}

pub(crate) const NACK: Verdict = Verdict::Nack { delay: None, reason: None };

impl World {
    pub(crate) async fn queue(&self, queue: &str, config: QueueConfig) {
        self.engine.put_queue(&caller(), &name(queue), config, Precondition::Always, None).await.unwrap();
    }

    pub(crate) async fn receive(&self, queue: &str, receive: Receive) -> Result<Delivery> {
        self.engine.receive(&caller(), &name(queue), receive).await
    }

    pub(crate) async fn say(&self, queue: &str, delivery: &Delivery, verdict: &Verdict) -> Vec<Settled> {
        self.engine.settle(&caller(), &name(queue), verdicts(delivery, verdict)).await.unwrap()
    }

    pub(crate) async fn ack(&self, queue: &str, delivery: &Delivery) -> Vec<Settled> {
        self.say(queue, delivery, &Verdict::Ack).await
    }
}

async fn waiting(world: &Arc<World>, queue: &'static str, receive: Receive) -> JoinHandle<Delivery> {
    let world = Arc::clone(world);
    let waiting = tokio::spawn(async move { world.receive(queue, receive).await.unwrap() });
    settle().await;
    waiting
}

fn with(properties: Properties, value: &str) -> Record {
    Record { properties: Some(Box::new(properties)), ..record(value) }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_received_once_and_acknowledged_for_good() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b", "c"]).await.unwrap();
    let first = world.receive("q", want(2, 0)).await.unwrap();
    assert_eq!(values(&first), ["a", "b"]);
    assert!(first.messages.iter().all(|m| m.attempt == 1 && m.lease_until.is_some_and(|until| until > START)));
    let second = world.receive("q", want(10, 0)).await.unwrap();
    assert_eq!(values(&second), ["c"]);
    assert_eq!(world.ack("q", &first).await, [Settled::Ok(None), Settled::Ok(None)]);
    assert_eq!(world.ack("q", &first).await, [Settled::Ok(None), Settled::Ok(None)], "twice is ok");
    assert_eq!(world.ack("q", &second).await, [Settled::Ok(None)]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.receive("q", want(10, 0)).await.unwrap().messages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_back_when_its_lease_ends_and_a_waiting_receiver_is_woken() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    world.send("q", &["a"]).await.unwrap();
    let first = world.receive("q", want(1, 0)).await.unwrap();
    let started = Instant::now();
    let again = waiting(&world, "q", want(1, 60)).await.await.unwrap();
    assert_eq!((values(&again), again.messages[0].attempt), (vec!["a".to_owned()], 2));
    assert!(first.messages[0].first_leased_at.is_some());
    assert_eq!(again.messages[0].first_leased_at, first.messages[0].first_leased_at);
    assert!((29_900..30_100).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!(world.ack("q", &first).await, [Settled::Expired]);
    assert_eq!(world.ack("q", &again).await, [Settled::Ok(None)]);
}

#[tokio::test(start_paused = true)]
async fn a_nacked_message_comes_back_after_its_delay() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b"]).await.unwrap();
    let first = world.receive("q", want(2, 0)).await.unwrap();
    let later = Verdict::Nack { delay: Some(Duration::from_secs(7)), reason: None };
    assert_eq!(world.say("q", &first, &later).await, [Settled::Ok(None), Settled::Ok(None)]);
    assert!(world.receive("q", want(2, 0)).await.unwrap().messages.is_empty());
    let started = Instant::now();
    let again = world.receive("q", want(2, 20)).await.unwrap();
    assert_eq!(values(&again), ["a", "b"]);
    assert!((6_900..7_100).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_nack_without_a_delay_waits_as_the_queue_says() {
    let world = World::new().await;
    let retry = Retry { min: Duration::from_secs(4), max: Duration::from_secs(60), multiplier: 2.0, jitter: 0.0 };
    world.queue("q", QueueConfig { retry, ..earliest() }).await;
    world.send("q", &["a"]).await.unwrap();
    let mut got = world.receive("q", want(1, 0)).await.unwrap();
    for (attempt, seconds) in [(1, 4), (2, 8), (3, 16)] {
        assert_eq!(got.messages[0].attempt, attempt);
        world.say("q", &got, &NACK).await;
        let started = Instant::now();
        got = world.receive("q", want(1, 60)).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), seconds, "after attempt {attempt}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_receiver_gets_what_is_sent_at_once_and_otherwise_nothing_at_its_deadline() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    let one = waiting(&world, "q", want(10, 30)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!one.is_finished());
    let asked = world.metadata.queries();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.metadata.queries(), asked, "nobody asks while nothing happens");
    let started = Instant::now();
    world.send("q", &["a"]).await.unwrap();
    assert_eq!(values(&one.await.unwrap()), ["a"]);
    assert!(started.elapsed() < Duration::from_millis(10), "{:?}", started.elapsed());
    let started = Instant::now();
    assert!(world.receive("q", want(1, 10)).await.unwrap().messages.is_empty());
    assert!((10_000..10_010).contains(&started.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn receivers_that_wait_share_what_comes() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    let mut receivers = Vec::new();
    for _ in 0..4 {
        receivers.push(waiting(&world, "q", want(100, 30)).await);
    }
    let values: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    world.send("q", &values.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    for receiver in receivers {
        assert_eq!(receiver.await.unwrap().messages.len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn extending_keeps_a_lease_and_extending_by_nothing_gives_it_back() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a"]).await.unwrap();
    let got = world.receive("q", want(1, 0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    let extended = world.say("q", &got, &Verdict::Extend { lease: Duration::from_secs(60) }).await;
    assert!(matches!(extended[..], [Settled::Ok(Some(until))] if until >= START.plus(Duration::from_secs(89))), "{extended:?}");
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(world.receive("q", want(1, 0)).await.unwrap().messages.is_empty());
    world.say("q", &got, &Verdict::Extend { lease: Duration::ZERO }).await;
    assert_eq!(world.receive("q", want(1, 0)).await.unwrap().messages[0].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn each_receipt_has_its_own_answer_and_the_good_ones_proceed() {
    let world = World::new().await;
    for queue in ["q", "other"] {
        world.queue(queue, earliest()).await;
        world.send(queue, &["a", "b"]).await.unwrap();
    }
    let got = world.receive("q", want(2, 0)).await.unwrap();
    let others = world.receive("other", want(1, 0)).await.unwrap();
    let mut settlements = verdicts(&got, &Verdict::Ack);
    settlements.insert(0, Settlement { receipt: "nonsense".into(), verdict: Verdict::Ack });
    settlements.push(verdicts(&others, &Verdict::Ack).remove(0));
    settlements.push(settlements[1].clone());
    let settled = world.engine.settle(&caller(), &name("q"), settlements).await.unwrap();
    let ok = Settled::Ok(None);
    assert_eq!(settled, [Settled::Forged, ok.clone(), ok.clone(), Settled::Unknown, ok]);
    assert!(matches!(world.engine.settle(&caller(), &name("q"), Vec::new()).await, Err(Error::Invalid { .. })));
    assert!(matches!(world.receive("nobody", want(1, 0)).await, Err(Error::QueueNotFound(_))));
    for bad in [want(0, 0), want(1_001, 0), Receive { lease: Some(Duration::from_secs(43_201)), ..want(1, 0) }] {
        assert!(matches!(world.receive("q", bad).await, Err(Error::Invalid { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_gets_the_same_leases() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b", "c"]).await.unwrap();
    let named = |id: &str| Receive { request_id: Some(id.into()), ..want(2, 0) };
    let first = world.receive("q", named("one")).await.unwrap();
    let again = world.receive("q", named("one")).await.unwrap();
    assert_eq!(first.messages, again.messages);
    assert_eq!(values(&world.receive("q", named("two")).await.unwrap()), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn delayed_messages_come_at_their_time_and_urgent_ones_first() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    let at = |seconds| Some(START.plus(Duration::from_secs(seconds)));
    let records = vec![
        with(Properties { deliver_at: at(20), ..Properties::default() }, "later"),
        with(Properties { priority: Some(1), ..Properties::default() }, "low"),
        record("plain"),
        with(Properties { priority: Some(9), ..Properties::default() }, "urgent"),
        with(Properties { expires_at: at(1), ..Properties::default() }, "expired"),
    ];
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.append(append("q", records)).await.unwrap();
    let got = world.receive("q", want(10, 0)).await.unwrap();
    assert_eq!(values(&got), ["urgent", "low", "plain"]);
    let started = Instant::now();
    assert_eq!(values(&world.receive("q", want(10, 60)).await.unwrap()), ["later"]);
    assert!((17_900..18_100).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_can_be_cancelled() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    let delayed = Properties { deliver_at: Some(START.plus(Duration::from_secs(20))), ..Properties::default() };
    world.append(append("q", vec![with(delayed, "never")])).await.unwrap();
    assert!(world.receive("q", want(10, 0)).await.unwrap().messages.is_empty());
    let cancel = async |offset| world.engine.cancel_message(&caller(), &name("q"), &topic("q"), PartitionIndex(0), Offset(offset)).await;
    cancel(0).await.unwrap();
    for none in [0, 7] {
        assert!(matches!(cancel(none).await, Err(Error::MessageNotFound(_))), "{none}");
    }
    assert!(world.receive("q", want(10, 60)).await.unwrap().messages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_went_away_leaves_its_messages_to_others() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    let (other, _) = world.gateway(false).await;
    let gone = waiting(&world, "q", want(1, 60)).await;
    // The lease is asked for, and given when nobody wants it any more.
    world.metadata.be(Mood::Silent);
    other.append(&caller(), append("q", vec![record("x")])).await.unwrap();
    settle().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    world.metadata.be(Mood::Serving);
    let started = Instant::now();
    let got = world.receive("q", want(1, 20)).await.unwrap();
    assert_eq!((values(&got), got.messages[0].attempt), (vec!["x".to_owned()], 2));
    assert!(started.elapsed() < Duration::from_millis(20), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_messages_over_partitions_are_each_received_once() {
    let world = Arc::new(World::new().await);
    world.topic("t", 7).await;
    world.queue("q", QueueConfig { topics: vec![topic("t")], ..earliest() }).await;
    let mut sent: Vec<String> = (0..1_000).map(|i| i.to_string()).collect();
    for (i, values) in sent.chunks(100).enumerate() {
        let records = values.iter().map(|v| placed((i % 7) as u32, v)).collect();
        world.append(append("t", records)).await.unwrap();
    }
    let mut receivers = Vec::new();
    for _ in 0..8 {
        let world = Arc::clone(&world);
        receivers.push(tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let delivery = world.receive("q", want(17, 1)).await.unwrap();
                if delivery.messages.is_empty() {
                    return got;
                }
                assert!(world.ack("q", &delivery).await.iter().all(|settled| *settled == Settled::Ok(None)));
                got.extend(values(&delivery));
            }
        }));
    }
    let mut got = Vec::new();
    for receiver in receivers {
        got.extend(receiver.await.unwrap());
    }
    got.sort();
    sent.sort();
    assert_eq!(got, sent);
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_key_come_one_at_a_time_in_order() {
    let world = World::new().await;
    let ordering = lakefall_queue::queue::Ordering::Key;
    world.queue("q", QueueConfig { ordering, ..earliest() }).await;
    let records = vec![keyed("a", "a1"), keyed("a", "a2"), keyed("b", "b1"), record("none"), keyed("a", "a3")];
    world.append(append("q", records)).await.unwrap();
    let first = world.receive("q", want(10, 0)).await.unwrap();
    let mut got = values(&first);
    got.sort();
    assert_eq!(got, ["a1", "b1", "none"]);
    world.say("q", &first, &NACK).await;
    let mut again = values(&world.receive("q", want(10, 0)).await.unwrap());
    again.sort();
    assert_eq!(again, ["a1", "b1", "none"], "what is given back still comes before what follows");
    tokio::time::sleep(Duration::from_secs(31)).await;
    let third = world.receive("q", want(10, 0)).await.unwrap();
    world.ack("q", &third).await;
    assert_eq!(values(&world.receive("q", want(10, 0)).await.unwrap()), ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_good_at_another_gateway_and_receivers_there_are_woken() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    let (other, _) = world.gateway(false).await;
    world.send("q", &["a"]).await.unwrap();
    let got = world.receive("q", want(1, 0)).await.unwrap();
    let (engine, started) = (Arc::clone(&other), Instant::now());
    let there = tokio::spawn(async move { engine.receive(&caller(), &name("q"), want(1, 60)).await.unwrap() });
    settle().await;
    other.settle(&caller(), &name("q"), verdicts(&got, &NACK)).await.unwrap();
    assert_eq!(values(&there.await.unwrap()), ["a"]);
    assert!(started.elapsed() < Duration::from_millis(20), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_but_what_is_leased_is_told_after_a_seek_and_old_receipts_are_stale() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b"]).await.unwrap();
    let got = world.receive("q", want(2, 0)).await.unwrap();
    let to = async |start| world.engine.seek_queue(&caller(), &name("q"), SeekTo::Start(start)).await;
    to(QueueStart::Earliest).await.unwrap();
    assert_eq!(world.ack("q", &got).await, [Settled::Expired, Settled::Expired]);
    assert_eq!(values(&world.receive("q", want(2, 0)).await.unwrap()), ["a", "b"]);
    to(QueueStart::Latest).await.unwrap();
    assert!(world.receive("q", want(2, 0)).await.unwrap().messages.is_empty());
    to(QueueStart::Time(START)).await.unwrap();
    assert_eq!(values(&world.receive("q", want(2, 0)).await.unwrap()), ["a", "b"]);
    let offsets = |partition| SeekTo::Offsets(vec![(topic("q"), PartitionIndex(partition), Offset(1))]);
    world.engine.seek_queue(&caller(), &name("q"), offsets(0)).await.unwrap();
    assert_eq!(values(&world.receive("q", want(2, 0)).await.unwrap()), ["b"]);
    let beyond = world.engine.seek_queue(&caller(), &name("q"), offsets(9)).await;
    assert!(matches!(beyond, Err(Error::PartitionNotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn peeking_leases_nothing_and_figures_tell_what_there_is() {
    let world = World::new().await;
    world.queue("q", QueueConfig { max_depth: Some(10), ..earliest() }).await;
    world.send("q", &["a", "b", "c"]).await.unwrap();
    let peeked = world.engine.peek(&caller(), &name("q"), 10).await.unwrap();
    assert_eq!(values(&peeked), ["a", "b", "c"]);
    assert!(peeked.messages.iter().all(|m| m.receipt.is_none() && m.attempt == 0));
    let got = world.receive("q", want(1, 0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stats = world.engine.queue_stats(&caller(), &name("q")).await.unwrap();
    assert_eq!((stats.ready, stats.leased, stats.delayed), (2, 1, 0));
    assert!((3.0..4.0).contains(&stats.oldest_age_seconds.unwrap()), "{stats:?}");
    assert!(stats.in_rate > 0.0 && stats.time_to_full_seconds.is_some(), "{stats:?}");
    world.ack("q", &got).await;
    assert_eq!(world.engine.queue_stats(&caller(), &name("q")).await.unwrap().acked_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_never_has_more_than_its_credit_and_gets_it_back_by_settling_or_in_time() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b", "c", "d", "e", "f"]).await.unwrap();
    let mut consumer: Box<dyn Consumer> = world.engine.consume(&caller(), &name("q"), 3, None).await.unwrap();
    let first = consumer.next(Duration::from_secs(1)).await.unwrap();
    assert_eq!(values(&first), ["a", "b", "c"]);
    assert!(consumer.next(Duration::from_secs(5)).await.unwrap().messages.is_empty(), "no credit left");
    let two = Delivery { messages: first.messages[..2].to_vec(), ..Delivery::default() };
    world.ack("q", &two).await;
    let second = consumer.next(Duration::from_secs(1)).await.unwrap();
    assert_eq!(values(&second), ["d", "e"]);
    let started = Instant::now();
    let third = consumer.next(Duration::from_secs(60)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(31), "the first lease was over by then");
    assert!(!third.messages.is_empty());
    assert!(matches!(world.engine.consume(&caller(), &name("q"), 0, None).await, Err(Error::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn queues_of_another_namespace_are_not_there() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    let stranger = lakefall_queue::verbs::Caller { namespace: NamespaceName::new("others").unwrap(), ..caller() };
    let refused = world.engine.receive(&stranger, &name("q"), want(1, 0)).await;
    assert!(matches!(refused, Err(Error::NamespaceNotFound(_) | Error::QueueNotFound(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_an_error_and_comes_back() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a"]).await.unwrap();
    let got = world.receive("q", want(1, 0)).await.unwrap();
    world.say("q", &got, &NACK).await;
    let (blind, _) = world.gateway(false).await;
    world.objects.every_get(Some(Fault::Denied));
    let refused = blind.receive(&caller(), &name("q"), want(1, 0)).await;
    assert!(matches!(refused, Err(Error::DataUnavailable { .. })), "{refused:?}");
    world.objects.every_get(None);
    let again = blind.receive(&caller(), &name("q"), want(1, 30)).await.unwrap();
    assert_eq!(values(&again), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn receivers_wait_through_an_outage_of_the_metadata_service() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    world.send("q", &["a"]).await.unwrap();
    let got = world.receive("q", want(1, 0)).await.unwrap();
    world.ack("q", &got).await;
    world.metadata.be(Mood::Refusing);
    assert!(matches!(world.receive("q", want(1, 0)).await, Err(Error::Unavailable { .. })));
    let patient = waiting(&world, "q", want(1, 60)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!patient.is_finished());
    world.metadata.be(Mood::Serving);
    world.send("q", &["b"]).await.unwrap();
    assert_eq!(values(&patient.await.unwrap()), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_first_answer_is_under_way_is_not_overlooked() {
    let world = Arc::new(World::new().await);
    world.queue("q", earliest()).await;
    world.send("q", &["a"]).await.unwrap();
    let got = world.receive("q", want(1, 0)).await.unwrap();
    world.ack("q", &got).await;
    // The dispatcher goes home, and the next one knows nothing.
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.metadata.be(Mood::LateLeases);
    let there = waiting(&world, "q", want(1, 60)).await;
    world.send("q", &["b"]).await.unwrap();
    settle().await;
    let started = Instant::now();
    world.metadata.be(Mood::Serving);
    assert_eq!(values(&there.await.unwrap()), ["b"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_message_expires_early_because_a_gateways_clock_is_ahead() {
    let world = World::new().await;
    world.queue("q", QueueConfig { ttl: Some(Duration::from_secs(20)), ..earliest() }).await;
    let ahead = world.engine_with_clock(30).await;
    world.send("q", &["a"]).await.unwrap();
    let got = ahead.receive(&caller(), &name("q"), want(1, 0)).await.unwrap();
    assert_eq!(values(&got), ["a"]);
    world.send("q", &["b"]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert!(ahead.receive(&caller(), &name("q"), want(1, 0)).await.unwrap().messages.is_empty(), "by the ledger's clock it is over");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_gets_its_credit_back_for_what_is_settled_through_another_gateway_and_keeps_to_it_when_that_extends() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b", "c", "d", "e"]).await.unwrap();
    let other = world.other_engine().await;
    let mut consumer: Box<dyn Consumer> = world.engine.consume(&caller(), &name("q"), 2, None).await.unwrap();
    let first = consumer.next(Duration::from_secs(1)).await.unwrap();
    assert_eq!(values(&first), ["a", "b"]);
    other.settle(&caller(), &name("q"), verdicts(&first, &Verdict::Ack)).await.unwrap();
    let started = Instant::now();
    let second = consumer.next(Duration::from_secs(20)).await.unwrap();
    assert_eq!(values(&second), ["c", "d"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let longer = Verdict::Extend { lease: Duration::from_secs(300) };
    other.settle(&caller(), &name("q"), verdicts(&second, &longer)).await.unwrap();
    assert!(consumer.next(Duration::from_secs(60)).await.unwrap().messages.is_empty(), "both are leased still");
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_an_earlier_attempt_gives_no_credit_back() {
    let world = World::new().await;
    world.queue("q", earliest()).await;
    world.send("q", &["a", "b"]).await.unwrap();
    let stale = world.receive("q", want(1, 0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut consumer: Box<dyn Consumer> = world.engine.consume(&caller(), &name("q"), 1, None).await.unwrap();
    assert_eq!(values(&consumer.next(Duration::from_secs(1)).await.unwrap()), ["a"]);
    assert_eq!(world.ack("q", &stale).await, [Settled::Expired]);
    assert!(consumer.next(Duration::from_secs(5)).await.unwrap().messages.is_empty(), "its one message is not settled");
}
