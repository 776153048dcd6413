//! One read from its start to its answer, waiting for a first record as long as its caller does. Must never poll while
//! nothing happens; while the metadata service is away, who waits asks again now and then.

use std::time::Duration;

use lakefall_queue::StoredRecord;
use lakefall_queue::error::Error;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Admission, Fetched, Position, Read};
use lakefall_storage::meter::within;
use tokio::time::Instant;

use super::pass::Pass;
use super::{At, Failure, Reader, tails};

/// Between two questions of a waiting reader while the metadata service does not answer: from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Reader {
    /// Reads until there is a record, or `deadline`.
    pub(crate) async fn read(&self, topic: &Topic, read: &Read, deadline: Instant) -> Result<Fetched, Failure> {
        within(self.usage.of(topic).tally(), self.read_until(topic, read, deadline)).await
    }

    async fn read_until(&self, topic: &Topic, read: &Read, deadline: Instant) -> Result<Fetched, Failure> {
        // Subscribed before anything is located: what is appended in between is not missed.
        let mut tail = (!read.wait.is_zero()).then(|| self.tails.watch(topic.id));
        let (mut at, mut pause) = (Vec::new(), PAUSE.0);
        let mut unanswered: Option<Error> = None;
        loop {
            // Boxed: whoever waits keeps no room for looking.
            let look = Box::pin(self.look(topic, read, &at, tail.as_mut()));
            let looked = match &unanswered {
                None => look.await,
                // It was waited for long enough once; now the caller's patience counts.
                Some(away) => tokio::time::timeout_at(deadline, look).await.unwrap_or_else(|_| Err(Failure::Away(away.clone()))),
            };
            unanswered = match looked {
                Ok((reached, pass)) => {
                    at = reached;
                    if !pass.records.is_empty() || at.iter().all(|at| at.finished) {
                        return Ok(fetched(pass, &at));
                    }
                    pass.away
                }
                // Where the partitions stood before still holds: what was read in vain is read again.
                Err(Failure::Away(error)) => {
                    at.iter_mut().for_each(|at| at.current = false);
                    Some(error)
                }
                Err(failure) => return Err(failure),
            };
            let over = match &mut tail {
                Some(tail) => self.wait(tail, deadline, unanswered.is_some(), &mut pause).await,
                None => true,
            };
            if over {
                // What it would say is what was told before; but a caller that does not wait is told to come again.
                let known = !at.is_empty() && at.iter().all(|at| at.located) && tail.is_some();
                return match unanswered {
                    Some(error) if !known => Err(Failure::Away(error)),
                    _ => Ok(fetched(Pass::new(topic, read), &at)),
                };
            }
        }
    }

    /// Looks once at every partition. Answers where they stand then.
    async fn look<'a>(
        &self,
        topic: &'a Topic,
        read: &'a Read,
        at: &[At],
        tail: Option<&mut tails::Watcher>,
    ) -> Result<(Vec<At>, Pass<'a>), Failure> {
        let mut at = if at.is_empty() { self.places(topic, &read.from).await? } else { at.to_vec() };
        if let Some(tail) = tail {
            tail.tell(&mut at);
        }
        let pass = self.gather(topic, read, &mut at).await?;
        Ok((at, pass))
    }

    /// Waits for something to happen. Answers whether the deadline came first.
    async fn wait(&self, tail: &mut tails::Watcher, deadline: Instant, away: bool, pause: &mut Duration) -> bool {
        if !away {
            *pause = PAUSE.0;
            return tokio::time::timeout_at(deadline, tail.changed()).await.is_err();
        }
        let random = (self.ambient.entropy.draw() as u32) as f64 / f64::from(u32::MAX);
        let again = Instant::now() + pause.mul_f64(0.5 + random / 2.0);
        *pause = (*pause * 2).min(PAUSE.1);
        // Also when notices come: they tell nothing to somebody who does not know where he stands.
        tokio::time::sleep_until(again.min(deadline)).await;
        Instant::now() >= deadline
    }
}

/// Partitions that were served go last, so that the next read begins with the others.
fn fetched(pass: Pass<'_>, at: &[At]) -> Fetched {
    let Pass { records, served, held, weight, old, .. } = pass;
    let bytes: usize = records.iter().map(StoredRecord::payload_bytes).sum();
    metrics::counter!(crate::metrics::READ_RECORDS).increment(records.len() as u64);
    metrics::counter!(crate::metrics::READ_BYTES).increment(bytes as u64);
    let waiting = (0..at.len()).filter(|i| !served.contains(i));
    let order: Vec<usize> = waiting.chain(served.iter().copied()).collect();
    let admission = match held {
        Some(mut held) if !records.is_empty() => {
            held.shrink_to(weight);
            Admission::new(Box::new(held))
        }
        _ => Admission::default(),
    };
    Fetched { records, next: order.into_iter().map(|i| Position::from(at[i])).collect(), old, admission }
}
