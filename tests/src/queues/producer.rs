//! Senders: with delays, keys, dedup ids or an `Idempotency-Key`, some of which send again what is stored already.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::calls::{Outcome, body_id, class, text};
use super::history::{End, OpId, Sent};
use super::load::{Run, Way};
use crate::dice::Dice;
use crate::history::{RecordId, body};
use crate::load::Ways;

/// Largest padding of a message.
const PAD: u64 = 200;
/// Longest delay.
const DELAY_MS: u64 = 1_500;
/// Ordering keys of a sender.
const KEYS: u64 = 4;

/// How a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Batches; one whose outcome is unknown is sometimes sent again.
    Plain,
    /// The same, each message with a delay of its own.
    Delayed,
    /// Each message with an ordering key.
    Ordered,
    /// Each message with a dedup id: sent again until it is acknowledged, and sometimes after it.
    Dedup,
    /// An `Idempotency-Key` for each batch: likewise.
    Keyed,
}

impl Style {
    fn once(self) -> bool {
        matches!(self, Self::Dedup | Self::Keyed)
    }
}

/// Sends batch after batch.
pub async fn produce(run: Arc<Run>, ways: Ways, producer: u32, style: Style, mut dice: Dice) {
    let (mut way, mut seq) = (Way::new(&run, ways), 0);
    while !run.is_stopped() {
        let count = dice.between(1, 10);
        let batch: Vec<(Sent, u64, Value)> = (seq..seq + count).map(|seq| message(producer, seq, style, &mut dice)).collect();
        seq += count;
        let known: Vec<(Sent, u64)> = batch.iter().map(|(sent, hash, _)| (*sent, *hash)).collect();
        let body = json!({"records": batch.into_iter().map(|(.., message)| message).collect::<Vec<_>>()});
        let key = (style == Style::Keyed).then(|| format!("{producer}-{seq}"));
        let mut op = run.recorder.send(&known);
        loop {
            let outcome = attempt(&run, &way, op, &body, key.as_deref(), style).await;
            run.count(&outcome);
            let again = match outcome {
                Outcome::Ok(()) => {
                    run.count_sent(known.len());
                    way.served();
                    // A client that is not sure, although it could be.
                    if !style.once() || !dice.one_in(4) {
                        break;
                    }
                    op = run.recorder.send(&known);
                    continue;
                }
                Outcome::Fail | Outcome::Info if style.once() => true,
                Outcome::Fail => false,
                Outcome::Info => dice.one_in(2),
            };
            way.turn().await;
            if !again {
                break;
            }
            if !style.once() {
                op = run.recorder.send(&known);
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.between(1, run.pace_ms))).await;
    }
}

/// One try. What is sent again with a promise stays open until it is acknowledged.
async fn attempt(run: &Run, way: &Way, op: OpId, body: &Value, key: Option<&str>, style: Style) -> Outcome<()> {
    match class(way.queue().send(body, key).await, &[]) {
        Outcome::Ok(answer) => {
            run.recorder.end(op, End::Stored(answer.offsets()));
            Outcome::Ok(())
        }
        Outcome::Fail => {
            if !style.once() {
                run.recorder.end(op, End::Fail);
            }
            Outcome::Fail
        }
        Outcome::Info => {
            if !style.once() {
                run.recorder.end(op, End::Info);
            }
            Outcome::Info
        }
    }
}

/// A message, the hash of its value, and its JSON.
pub fn message(producer: u32, seq: u64, style: Style, dice: &mut Dice) -> (Sent, u64, Value) {
    let id = RecordId { producer, seq };
    let mut sent = Sent { id, key: None, delay: Duration::ZERO, once: style.once() };
    let value: Value = serde_json::from_str(&body(id, dice.between(0, PAD) as usize)).unwrap();
    let hash = body_id(&value).1;
    let mut message = json!({ "value": value });
    match style {
        Style::Plain | Style::Keyed => message["priority"] = json!(dice.between(0, 9)),
        Style::Delayed => {
            sent.delay = Duration::from_millis(dice.between(1, DELAY_MS));
            message["delay"] = json!(text(sent.delay));
        }
        Style::Ordered => {
            let key = u64::from(producer) * KEYS + dice.between(0, KEYS - 1);
            sent.key = Some(key);
            message["ordering_key"] = json!(key.to_string());
        }
        Style::Dedup => message["dedup_id"] = json!(format!("{producer}-{seq}")),
    }
    (sent, hash, message)
}
