//! Who waits where nothing is left to read or to receive, and one record that comes at about the moment when they begin to: nothing
//! else comes that would wake him, so whoever sleeps before it is seen. Begins when all is well and the other clients have stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::http::{Answer, Ask, Http, NoAnswer, Outcome, class};
use crate::log::{WAKING, until_done};
use crate::tally::Tally;
use crate::time;
use crate::world::World;

/// A topic that is read from its end on.
struct Topic {
    name: &'static str,
    partitions: u32,
    /// What was read is trimmed.
    emptied: bool,
}

/// A read asks where the records are before it waits: once, or twice of several partitions of which nothing is left.
static TOPICS: [Topic; 2] =
    [Topic { name: "waking", partitions: 1, emptied: false }, Topic { name: "waking.emptied", partitions: 3, emptied: true }];
/// The queue, which has a topic of that name.
const QUEUE: &str = "waking.queue";
/// How long one waits: far longer than anybody may sleep, and shorter than clients are patient.
const WAIT: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));
/// Tries, of readers and of receivers.
const TRIES: u64 = 40;

/// Who waits.
#[derive(Clone, Copy, Debug)]
enum Who {
    Reader,
    Receiver,
}

impl Who {
    /// Within which time one begins to wait, and within which another sends. What is sent comes to the ledger after some 80 ms; the
    /// last question of a receiver after 40 ms, that of a reader after 80 or 160 ms. They must meet, and miss each other on both sides.
    fn within(self) -> (Duration, Duration) {
        match self {
            Self::Reader => (Duration::from_millis(50), Duration::from_millis(150)),
            Self::Receiver => (Duration::from_millis(100), Duration::from_millis(50)),
        }
    }
}

/// What the pairs share.
pub struct Run {
    world: Arc<World>,
    /// How calls went.
    pub tally: Tally,
    /// How many waited for something that came, by who it was.
    met: [AtomicU64; 2],
}

impl Run {
    /// Nobody waited yet.
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), tally: Tally::default(), met: Default::default() })
    }

    /// How many readers and receivers waited for something that came.
    pub fn met(&self) -> [u64; 2] {
        self.met.each_ref().map(|met| met.load(Ordering::Relaxed))
    }

    fn class(&self, sent: Result<Answer, NoAnswer>) -> Outcome<Answer> {
        let outcome = class(sent, &[]);
        self.tally.count();
        if let Outcome::Wrong(answer) = &outcome {
            self.world.violation(format!("a request in order was refused with {}: {}", answer.status, answer.text()));
        }
        outcome
    }

    /// From a time on there was something for one who waited, and then that one was answered, with it or with nothing.
    fn judge(&self, who: Who, from: Duration, answered: Duration) {
        self.met[who as usize].fetch_add(1, Ordering::Relaxed);
        let late = answered.saturating_sub(from);
        if late > WAKING {
            let who = match who {
                Who::Reader => "H7: a reader",
                Who::Receiver => "a receiver",
            };
            self.world.violation(format!("{who} slept for {late:?} before what was there from {from:?} on"));
        }
    }
}

/// One who waits, and one who sends.
struct Pair {
    run: Arc<Run>,
    who: Who,
    waits: Http,
    sends: Http,
    dice: Dice,
}

impl Pair {
    /// Lets one wait at a gateway, and the other send through another at about the same time. Answers what the first was told.
    async fn meet(&mut self, wait: Ask, send: Ask) -> Option<Answer> {
        let gateways = self.run.world.plan.gateways as u64;
        let here = self.dice.between(0, gateways - 1);
        let there = (here + self.dice.between(1, gateways - 1)) % gateways;
        self.waits.go(here as usize);
        self.sends.go(there as usize);
        let within = self.who.within();
        let (first, second) = (self.dice.time(Duration::ZERO, within.0), self.dice.time(Duration::ZERO, within.1));
        let Self { run, who, waits, sends, .. } = self;
        let waited = async {
            tokio::time::sleep(first).await;
            let began = time::elapsed();
            let told = run.class(waits.send(wait).await);
            (began, told, time::elapsed())
        };
        let sent = async {
            tokio::time::sleep(second).await;
            let told = run.class(sends.send(send).await);
            (told, time::elapsed())
        };
        let ((began, told, answered), (stored, acked)) = tokio::join!(waited, sent);
        // Without both answers nobody knows since when there was something, or who got it.
        let Outcome::Ok(told) = told else { return None };
        if matches!(stored, Outcome::Ok(_)) {
            run.judge(*who, began.max(acked), answered);
        }
        Some(told)
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.dice.time(PAUSE.0, PAUSE.1)).await;
    }

    /// Where a topic begins, as a cursor.
    async fn begin(&mut self, topic: &Topic) -> String {
        loop {
            let ask = Ask::get(format!("/v1/topics/{}/records?from=earliest", topic.name));
            if let Outcome::Ok(answer) = self.run.class(self.waits.send(ask).await)
                && let Some(cursor) = answer.json()["cursor"].as_str()
            {
                return cursor.to_owned();
            }
            self.waits.turn();
            self.pause().await;
        }
    }

    /// Lets go of what was read, and of nothing else: a read from below what is left would be refused.
    async fn trim(&mut self, topic: &Topic, page: &Value) {
        for place in page["partitions"].as_array().into_iter().flatten() {
            let (partition, start, next) = (place["partition"].as_u64(), place["log_start"].as_u64(), place["next_offset"].as_u64());
            let (Some(partition), Some(next)) = (partition, next.filter(|next| start < Some(*next))) else { continue };
            let ask = Ask::delete(format!("/v1/topics/{}/records?partition={partition}&before_offset={next}", topic.name));
            self.run.class(self.waits.send(ask).await);
        }
    }

    /// Acknowledges what was received, once: else it comes back, to whoever waits then.
    async fn finish(&mut self, got: &Value) {
        let receipts: Vec<&Value> = got["messages"].as_array().into_iter().flatten().map(|message| &message["receipt"]).collect();
        if !receipts.is_empty() {
            let ask = Ask::json(Method::POST, format!("/v1/queues/{QUEUE}/ack"), &json!({ "receipts": receipts }));
            let _ = self.waits.send(ask).await;
        }
    }
}

/// When nobody else does anything any more.
async fn quiet(run: &Run) {
    tokio::time::sleep(run.world.plan.length.stop.saturating_sub(time::elapsed())).await;
}

/// Reads topics on from their ends.
pub async fn read(run: Arc<Run>, waits: Http, sends: Http, dice: Dice) {
    let mut pair = Pair { run, who: Who::Reader, waits, sends, dice };
    quiet(&pair.run).await;
    let mut cursors = Vec::new();
    for topic in &TOPICS {
        let settings = json!({"name": topic.name, "partitions": topic.partitions});
        until_done(&mut pair.sends, &Ask::json(Method::POST, "/v1/topics", &settings)).await;
        cursors.push(pair.begin(topic).await);
    }
    for n in 0..TRIES {
        if time::elapsed() > pair.run.world.plan.length.last_wait {
            return;
        }
        let nth = pair.dice.between(0, TOPICS.len() as u64 - 1) as usize;
        let (topic, cursor) = (&TOPICS[nth], &mut cursors[nth]);
        let partition = pair.dice.between(0, u64::from(topic.partitions) - 1);
        let path = format!("/v1/topics/{}/records", topic.name);
        let wait = Ask::get(format!("{path}?cursor={cursor}&wait={}ms", WAIT.as_millis()));
        let send = Ask::lines(format!("{path}?format=values&partition={partition}"), format!("{{\"n\":{n}}}\n"));
        if let Some(page) = pair.meet(wait, send).await {
            let page = page.json();
            if let Some(next) = page["cursor"].as_str() {
                *cursor = next.to_owned();
            }
            if topic.emptied {
                pair.trim(topic, &page).await;
            }
        }
        pair.pause().await;
    }
}

/// Receives from a queue in which nothing is.
pub async fn receive(run: Arc<Run>, waits: Http, sends: Http, dice: Dice) {
    let mut pair = Pair { run, who: Who::Receiver, waits, sends, dice };
    quiet(&pair.run).await;
    let settings = json!({ "lease": "30s" });
    until_done(&mut pair.sends, &Ask::json(Method::PUT, format!("/v1/queues/{QUEUE}"), &settings)).await;
    let wanted = json!({"max": 10, "wait": format!("{}ms", WAIT.as_millis())});
    for n in 0..TRIES {
        if time::elapsed() > pair.run.world.plan.length.last_wait {
            return;
        }
        let wait = Ask::json(Method::POST, format!("/v1/queues/{QUEUE}/receive"), &wanted);
        let send = Ask::json(Method::POST, format!("/v1/queues/{QUEUE}/messages"), &json!({"records": [{"value": {"n": n}}]}));
        match pair.meet(wait, send).await {
            Some(got) => pair.finish(&got.json()).await,
            // One whose answer was lost may still wait at that gateway: what is sent next would be given to it.
            None => tokio::time::sleep(WAIT * 2).await,
        }
        pair.pause().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::length::Length;
    use crate::plan::Plan;
    use crate::trace::Trace;
    use crate::weather::Weather;

    #[test]
    fn who_is_told_soon_is_counted_and_who_sleeps_for_long_is_a_violation() {
        let trace = Arc::new(Trace::new(None).unwrap());
        let weather = Arc::new(Weather::new(1, BTreeMap::new(), Arc::clone(&trace), Box::new(|_: &str| {})));
        let run = Run::new(&World::new(Plan::new(1, Length::LONG), weather, trace));
        let at = Duration::from_secs(350);
        // Answered before the acknowledgement came, and as late as is allowed.
        run.judge(Who::Reader, at, at - Duration::from_millis(20));
        run.judge(Who::Receiver, at, at + WAKING);
        assert_eq!((run.met(), run.world.violations()), ([1, 1], vec![]));
        run.judge(Who::Receiver, at, at + WAIT);
        assert_eq!(run.met(), [1, 2]);
        assert_eq!(run.world.violations(), ["a receiver slept for 10s before what was there from 350s on"]);
    }
}
