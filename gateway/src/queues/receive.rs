//! Receiving and peeking: what a caller asks for, checked, and what it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Peeked, Query};
use lakefall_queue::queue::{Delivery, LEASE_MAX, Message, RECEIVE_MAX, Receive};
use lakefall_queue::verbs::{Admission, Caller};
use lakefall_queue::{Offset, PartitionIndex, QueueName, TopicId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::Queues;
use super::classify::is_over;
use super::deliver::{Handout, deliver};
use super::desk::{Desk, Waiting};
use super::dispatch;
use super::known::Known;
use super::mover::Found;

/// How long is looked for a message on behalf of one who does not wait: a filter may pass over many.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// How long one whose time is up waits for what the ledger is being asked on its behalf.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// Longest name of a receive, in bytes.
const REQUEST_ID_MAX: usize = 255;
/// Bytes of messages peeked at.
const PEEK_BYTES: usize = 16 << 20;

impl Queues {
    /// Leases messages to a caller.
    pub(crate) async fn receive(self: &Arc<Self>, caller: &Caller, name: &QueueName, receive: Receive) -> Result<Delivery> {
        check(&receive)?;
        let deadline = Instant::now() + if receive.wait.is_zero() { LOOK_FOR } else { receive.wait };
        let known = self.known(caller, name).await?;
        self.count_request(&known);
        loop {
            let known = self.known(caller, name).await?;
            // The desk is let go of before records are read: its dispatcher may leave meanwhile, and is to be the last.
            let waited = self.wait(self.desk(&known)?, &receive, deadline).await?;
            let Some(handout) = waited else { return Ok(Delivery::default()) };
            let delivery = deliver(handout, receive.max_bytes).await?;
            // What was leased may have been over or dead: then there may be more behind it.
            if !delivery.messages.is_empty() || Instant::now() >= deadline {
                return Ok(delivery);
            }
        }
    }

    pub(super) fn desk(&self, known: &Known) -> Result<Arc<Desk>> {
        if known.queue.sources.is_empty() {
            return Err(Error::QueueWithoutTopic(known.queue.name.clone()));
        }
        Ok(self.bell.desk(&known.queue))
    }

    /// Waits at a desk for leases. `None`: there are none, or the deadline came.
    async fn wait(self: &Arc<Self>, desk: Arc<Desk>, receive: &Receive, deadline: Instant) -> Result<Option<Handout>> {
        let (reply, mut told) = oneshot::channel();
        let (number, starts) = desk.wait(Waiting {
            max: receive.max,
            max_bytes: receive.max_bytes,
            lease: receive.lease,
            request: receive.request_id.as_ref().map(|id| xxh3_128(id.as_bytes())),
            patient: !receive.wait.is_zero(),
            fresh: true,
            until: deadline,
            number: 0,
            reply,
        });
        if starts {
            self.tasks.spawn("queue", dispatch::run(Arc::clone(self), Arc::clone(&desk)));
        }
        let mut answered = tokio::time::timeout_at(deadline, &mut told).await;
        // What the ledger leases just now would be given back, and the next one who waits so shortly were no better off.
        if answered.is_err() && !desk.withdraw(number) {
            answered = tokio::time::timeout_at(deadline + UNDER_WAY, told).await;
        }
        match answered {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Err(Error::unavailable("the gateway is stopping")),
            Err(_) => Ok(None),
        }
    }

    /// The next messages, as far as they pass the queue's filters.
    pub(crate) async fn peek(&self, caller: &Caller, name: &QueueName, max: u32) -> Result<Delivery> {
        if !(1..=RECEIVE_MAX).contains(&max) {
            return Err(Error::invalid("max", format!("max is {max}: allowed is 1 to {RECEIVE_MAX}")));
        }
        let known = self.known(caller, name).await?;
        if known.queue.sources.is_empty() {
            return Err(Error::QueueWithoutTopic(name.clone()));
        }
        self.count_request(&known);
        let peeked = match self.mover.metadata.query(known.queue.id.shard(), Query::QueuePeek(known.queue.id, max)).await? {
            Answer::QueuePeek(peeked) => peeked,
            other => return Err(Error::Internal(format!("asked for messages of a queue, got {other:?}"))),
        };
        let mut of: BTreeMap<(TopicId, PartitionIndex), BTreeSet<Offset>> = BTreeMap::new();
        for Peeked { topic, partition, offset, .. } in &peeked {
            of.entry((*topic, *partition)).or_default().insert(*offset);
        }
        let (mut found, mut admission) = (BTreeMap::new(), Admission::default());
        let mut bytes = 0;
        for ((topic, partition), mut wanted) in of {
            let Some(source) = known.source(topic) else { continue };
            let described = self.mover.topic(&known.queue.namespace, &source.name).await?;
            while !wanted.is_empty() && described.id == topic && bytes < PEEK_BYTES {
                let page = self.mover.page(&described, partition, &wanted).await;
                if page.records.is_empty() {
                    break;
                }
                admission.join(page.admission);
                for (offset, one) in page.records {
                    wanted.remove(&offset);
                    if let Found::Record(record) = one {
                        bytes += record.payload_bytes();
                        found.insert((topic, partition, offset), *record);
                    }
                }
            }
        }
        let now = self.mover.ambient.now();
        let message = |Peeked { topic, partition, offset, attempt }: Peeked| {
            let (source, record) = (known.source(topic)?, found.remove(&(topic, partition, offset))?);
            let passes = !is_over(&known.queue, &record, now) && known.filters.take(topic, &source.name, &record);
            let topic = source.name.clone();
            passes.then(|| Message { topic, record, receipt: None, attempt, lease_until: None, first_leased_at: None })
        };
        Ok(Delivery { messages: peeked.into_iter().filter_map(message).collect(), admission })
    }
}

fn check(receive: &Receive) -> Result<()> {
    if !(1..=RECEIVE_MAX).contains(&receive.max) {
        return Err(Error::invalid("max", format!("max is {}: allowed is 1 to {RECEIVE_MAX}", receive.max)));
    }
    if receive.lease.is_some_and(|lease| lease > LEASE_MAX) {
        return Err(Error::invalid("lease", "lease is longer than 12h"));
    }
    if receive.request_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > REQUEST_ID_MAX) {
        return Err(Error::invalid("request_id", format!("request_id has 1 to {REQUEST_ID_MAX} bytes")));
    }
    Ok(())
}
