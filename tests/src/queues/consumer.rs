//! Receivers: most acknowledge, others give back, forget, come too late, ask for more time or reject.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::calls::{Message, Outcome, Queue, class, messages, text};
use super::history::{Delivered, End, OpId, Status, Verb};
use super::load::{Run, Way};
use crate::dice::Dice;
use crate::load::Ways;

/// How long a receiver waits for a message.
const WAIT: Duration = Duration::from_millis(300);
/// Most messages of a receive.
const MOST: u64 = 30;
/// Longest delay of what is given back.
const DELAY_MS: u64 = 400;

/// Receives and settles until the run is stopped.
pub async fn consume(run: Arc<Run>, ways: Ways, consumer: u32, mut dice: Dice) {
    let mut way = Way::new(&run, ways);
    let mut late: Vec<(Instant, Message)> = Vec::new();
    let mut asked = 0;
    while !run.is_stopped() {
        asked += 1;
        // Named, a receive whose answer was lost is asked again; else its leases run out.
        let request = dice.one_in(2).then(|| format!("{consumer}-{asked}"));
        let got = receive(&run, &mut way, dice.between(1, MOST), request.as_deref()).await;
        let (mut ack, mut extend) = (Vec::new(), Vec::new());
        for message in got {
            match dice.between(1, 100) {
                1..=72 => ack.push(message),
                73..=80 => settle(&run, &mut way, Verb::Nack(Duration::from_millis(dice.between(0, DELAY_MS))), &[message], 1).await,
                // It comes back when its lease is over.
                81..=86 => {}
                87..=92 => late.push((Instant::now() + run.lease + Duration::from_millis(dice.between(0, 200)), message)),
                93..=97 => extend.push(message),
                _ if run.dead_letters => settle(&run, &mut way, Verb::Reject, &[message], 1).await,
                _ => settle(&run, &mut way, Verb::Extend(Duration::ZERO), &[message], 1).await,
            }
        }
        settle(&run, &mut way, Verb::Extend(run.lease * 2), &extend, 1).await;
        ack.extend(extend);
        settle(&run, &mut way, Verb::Ack, &ack, 3).await;
        let (due, rest) = late.into_iter().partition(|(due, _)| *due <= Instant::now());
        late = rest;
        let due: Vec<Message> = due.into_iter().map(|(_, message): (Instant, Message)| message).collect();
        settle(&run, &mut way, Verb::Ack, &due, 1).await;
    }
}

/// What a history keeps of messages.
pub(crate) fn deliveries(got: &[Message]) -> Vec<Delivered> {
    let delivered = |message: &Message| {
        let (id, hash) = message.id();
        Delivered { lease: message.lease(), id, hash }
    };
    got.iter().map(delivered).collect()
}

/// Records what came.
pub(super) fn delivered(run: &Run, op: OpId, got: &[Message]) {
    run.recorder.end(op, End::Delivered(deliveries(got)));
}

async fn receive(run: &Run, way: &mut Way, max: u64, request: Option<&str>) -> Vec<Message> {
    let op = run.recorder.receive(run.lease, false);
    let mut body = json!({"max": max, "wait": text(WAIT), "lease": text(run.lease)});
    if let Some(request) = request {
        body["request_id"] = json!(request);
    }
    loop {
        let outcome = class(way.queue().try_receive(&body).await, &[]);
        run.count(&outcome);
        match outcome {
            Outcome::Ok(answer) => {
                way.served();
                let got = messages(&answer);
                delivered(run, op, &got);
                return got;
            }
            Outcome::Info if request.is_some() && !run.is_stopped() => way.turn().await,
            // One try may have been answered to nobody, when another says that nothing happened.
            Outcome::Fail if request.is_none() => {
                run.recorder.end(op, End::Fail);
                way.turn().await;
                return Vec::new();
            }
            Outcome::Fail if !run.is_stopped() => way.turn().await,
            Outcome::Fail | Outcome::Info => {
                run.recorder.end(op, End::Info);
                way.turn().await;
                return Vec::new();
            }
        }
    }
}

/// Settles, and tries again what had no certain outcome.
async fn settle(run: &Run, way: &mut Way, verb: Verb, messages: &[Message], tries: usize) {
    let mut left: Vec<&Message> = messages.iter().collect();
    for _ in 0..tries {
        if left.is_empty() {
            return;
        }
        let statuses = settle_once(run, &way.queue(), verb, &left).await;
        match statuses {
            Some(statuses) => {
                way.served();
                left = left.into_iter().zip(statuses).filter(|(_, status)| *status == Status::Info).map(|(message, _)| message).collect();
            }
            None => way.turn().await,
        }
    }
}

/// Settles leases once, and records how that went. `None` when the call as a whole did not happen or nobody knows.
pub(super) async fn settle_once(run: &Run, queue: &Queue, verb: Verb, messages: &[&Message]) -> Option<Vec<Status>> {
    let op = run.recorder.settle(verb, messages.iter().map(|message| message.lease()).collect());
    let receipts: Vec<String> = messages.iter().map(|message| message.receipt.clone()).collect();
    let outcome = queue.settle(verb, &receipts).await;
    run.count(&outcome);
    match outcome {
        Outcome::Ok(statuses) => {
            if verb == Verb::Ack {
                run.count_acked(statuses.iter().filter(|status| **status == Status::Done).count());
            }
            run.recorder.end(op, End::Settled(statuses.clone()));
            Some(statuses)
        }
        Outcome::Fail => {
            run.recorder.end(op, End::Fail);
            None
        }
        Outcome::Info => {
            run.recorder.end(op, End::Info);
            None
        }
    }
}
