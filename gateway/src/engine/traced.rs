//! The verbs that handle messages, each in a span of its own where its request is traced. What is not goes by: nothing here may cost
//! it more than a look.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::error::Result;
use lakefall_queue::queue::{Consumer, Delivery, Receive, Settled, Settlement, Verdict};
use lakefall_queue::verbs::{Append, Appended, Caller, Commit, Fetched, Read};
use lakefall_queue::{QueueName, Record, TraceContext};
use lakefall_service::trace::{FutureExt, Span, SpanKind};

use super::Engine;
use crate::trace::{Operation, ended, sent_in, verb};

const SEND: Operation = Operation { name: "send", of_type: "send", kind: SpanKind::Producer };
const COMMIT: Operation = Operation { name: "commit", ..SEND };
const READ: Operation = Operation { name: "read", ..RECEIVE };
const RECEIVE: Operation = Operation { name: "receive", of_type: "receive", kind: SpanKind::Client };
const SETTLE: Operation = Operation { name: "settle", of_type: "settle", kind: SpanKind::Client };

/// How many messages a span is of.
const COUNT: &str = "messaging.batch.message_count";

impl Engine {
    pub(super) async fn append_traced(&self, caller: &Caller, mut append: Append) -> Result<Appended> {
        let Some(parent) = &caller.trace else { return self.append_once_or_again(caller, append).await };
        let span = verb(caller, parent, SEND, Some(append.batch.topic.as_str()), []);
        span.set(COUNT, append.batch.records.len() as i64);
        let caller = within(caller, &span);
        stamp(&mut append.batch.records, caller.trace.as_ref());
        let appended = Box::pin(self.append_once_or_again(&caller, append).with_context(span.context())).await;
        if let Ok(Appended { ranges, .. }) = &appended
            && let [range] = ranges.as_slice()
        {
            span.set("messaging.destination.partition.id", range.partition.to_string());
            span.set("lakefall.offset", range.first_offset.0 as i64);
        }
        ended(Some(span), appended.as_ref().err());
        appended
    }

    pub(super) async fn commit_traced(&self, caller: &Caller, mut commit: Commit) -> Result<Vec<Appended>> {
        let Some(parent) = &caller.trace else { return self.commit_all(caller, commit).await };
        let settlements = commit.settlements.iter().flat_map(|of| &of.settlements);
        let links = self.settled_in(settlements);
        let only = match commit.appends.as_slice() {
            [only] => Some(only.topic.as_str()),
            _ => None,
        };
        let span = verb(caller, parent, if commit.appends.is_empty() { SETTLE } else { COMMIT }, only, links);
        let records: usize = commit.appends.iter().map(|append| append.records.len()).sum();
        let settled: usize = commit.settlements.iter().map(|of| of.settlements.len()).sum();
        span.set(COUNT, (records + settled) as i64);
        let caller = within(caller, &span);
        commit.appends.iter_mut().for_each(|append| stamp(&mut append.records, caller.trace.as_ref()));
        let appended = Box::pin(self.commit_all(&caller, commit).with_context(span.context())).await;
        ended(Some(span), appended.as_ref().err());
        appended
    }

    pub(super) async fn read_traced(&self, caller: &Caller, read: Read) -> Result<Fetched> {
        let Some(parent) = &caller.trace else { return self.read_and_count(caller, read).await };
        let span = verb(caller, parent, READ, Some(read.topic.as_str()), []);
        let fetched = Box::pin(self.read_and_count(caller, read).with_context(span.context())).await;
        if let Ok(fetched) = &fetched {
            span.set(COUNT, fetched.records.len() as i64);
            span.link(fetched.records.iter().filter_map(sent_in));
        }
        ended(Some(span), fetched.as_ref().err());
        fetched
    }

    pub(super) async fn receive_traced(&self, caller: &Caller, queue: &QueueName, receive: Receive) -> Result<Delivery> {
        let Some(parent) = &caller.trace else { return self.queues.receive(caller, queue, receive).await };
        let span = verb(caller, parent, RECEIVE, Some(queue.as_str()), []);
        let delivery = Box::pin(self.queues.receive(caller, queue, receive).with_context(span.context())).await;
        if let Ok(delivery) = &delivery {
            delivered(&span, delivery);
        }
        ended(Some(span), delivery.as_ref().err());
        delivery
    }

    pub(super) async fn consume_traced(
        &self,
        caller: &Caller,
        queue: &QueueName,
        credit: u32,
        lease: Option<Duration>,
    ) -> Result<Box<dyn Consumer>> {
        let consumer = self.queues.consume(caller, queue, credit, lease).await?;
        Ok(match caller.trace {
            None => consumer,
            Some(parent) => Box::new(Traced { consumer, caller: caller.clone(), parent, queue: queue.clone() }),
        })
    }

    pub(super) async fn settle_traced(&self, caller: &Caller, queue: &QueueName, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        let Some(parent) = &caller.trace else { return self.queues.settle(caller, queue, settlements).await };
        // One request settles alike.
        let name = match settlements.first().map(|one| &one.verdict) {
            Some(Verdict::Ack) => "ack",
            Some(Verdict::Nack { .. }) => "nack",
            Some(Verdict::Reject { .. }) => "reject",
            Some(Verdict::Extend { .. }) => "extend",
            None => SETTLE.name,
        };
        let span = verb(caller, parent, Operation { name, ..SETTLE }, Some(queue.as_str()), self.settled_in(&settlements));
        span.set(COUNT, settlements.len() as i64);
        let settled = Box::pin(self.queues.settle(caller, queue, settlements).with_context(span.context())).await;
        if let Ok(settled) = &settled {
            span.set("lakefall.settled", settled.iter().filter(|one| matches!(one, Settled::Ok(_))).count() as i64);
        }
        ended(Some(span), settled.as_ref().err());
        settled
    }

    /// What messages were sent in, as their receipts tell.
    fn settled_in<'a>(&self, settlements: impl IntoIterator<Item = &'a Settlement>) -> Vec<TraceContext> {
        settlements.into_iter().filter_map(|one| self.queues.receipts.open(&one.receipt).ok()?.trace).collect()
    }
}

/// The caller within a span.
fn within(caller: &Caller, span: &Span) -> Caller {
    Caller { trace: span.trace(), ..caller.clone() }
}

/// Records that come from no trace come from this one: who receives them is linked with it.
fn stamp(records: &mut [Record], trace: Option<&TraceContext>) {
    let Some(traceparent) = trace.map(|trace| Arc::<str>::from(trace.to_string())) else { return };
    for record in records {
        let own = record.properties.get_or_insert_default();
        if own.traceparent.is_none() {
            own.traceparent = Some(Arc::clone(&traceparent));
        }
    }
}

fn delivered(span: &Span, delivery: &Delivery) {
    span.set(COUNT, delivery.messages.len() as i64);
    span.link(delivery.messages.iter().filter_map(|message| sent_in(&message.record)));
}

/// A stream of leases whose request is traced: a span for each delivery.
struct Traced {
    consumer: Box<dyn Consumer>,
    caller: Caller,
    parent: TraceContext,
    queue: QueueName,
}

#[async_trait]
impl Consumer for Traced {
    async fn next(&mut self, wait: Duration) -> Result<Delivery> {
        let delivery = self.consumer.next(wait).await?;
        if !delivery.messages.is_empty() {
            delivered(&verb(&self.caller, &self.parent, RECEIVE, Some(self.queue.as_str()), []), &delivery);
        }
        Ok(delivery)
    }
}
