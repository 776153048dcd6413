//! Leases that are streamed to one receiver on credit: as many as it has not settled, never more. Credit comes back when a
//! lease is settled through this gateway, or is over; who has none left asks the ledger now and then what was settled elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query, SettleAction, SettleItem, SettleMessages, SettleOutcome, SettledRun};
use lakefall_queue::queue::{Consumer, Delivery, LEASE_MAX, Queue, RECEIVE_MAX, Receive};
use lakefall_queue::verbs::Caller;
use lakefall_queue::{QueueName, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Queues;
use super::deliver::Place;
use super::desk::Desk;
use super::settle::joined;
use crate::read::ASK_FOR;

/// Bytes of messages handed over at once.
const BYTES: usize = 4 << 20;

/// Between two questions of one who has no credit left: from the first to the last.
const ASK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Which receiver's credit a lease counts against, and which attempt it is: a receipt of an earlier one gives nothing back.
#[derive(Default)]
pub(super) struct Credits(Mutex<HashMap<Place, (u32, Arc<Credit>)>>);

impl Credits {
    /// A lease was settled or is over, or lasts until then.
    pub(super) fn settled(&self, place: Place, attempt: u32, until: Option<Timestamp>) {
        let mut all = lock(&self.0);
        let Some((_, credit)) = all.get(&place).filter(|(leased, _)| *leased == attempt) else { return };
        match until {
            Some(until) => {
                lock(&credit.leases).insert(place, (attempt, until));
            }
            None => {
                lock(&credit.leases).remove(&place);
                credit.back.notify_one();
                all.remove(&place);
            }
        }
    }
}

/// What one receiver has not settled: attempts, and until when they last.
#[derive(Default)]
struct Credit {
    leases: Mutex<HashMap<Place, (u32, Timestamp)>>,
    back: Notify,
}

/// One receiver.
struct OnCredit {
    queues: Arc<Queues>,
    caller: Caller,
    name: QueueName,
    /// Until it leaves.
    desk: Option<Arc<Desk>>,
    credit: Arc<Credit>,
    most: usize,
    lease: Option<Duration>,
}

impl Queues {
    /// Leases messages to one receiver as they come.
    pub(crate) async fn consume(
        self: &Arc<Self>,
        caller: &Caller,
        name: &QueueName,
        credit: u32,
        lease: Option<Duration>,
    ) -> Result<Box<dyn Consumer>> {
        if !(1..=RECEIVE_MAX).contains(&credit) {
            return Err(Error::invalid("credit", format!("credit is {credit}: allowed is 1 to {RECEIVE_MAX}")));
        }
        if lease.is_some_and(|lease| lease > LEASE_MAX) {
            return Err(Error::invalid("lease", "lease is longer than 12h"));
        }
        let known = self.known(caller, name).await?;
        Ok(Box::new(OnCredit {
            queues: Arc::clone(self),
            caller: caller.clone(),
            name: name.clone(),
            desk: Some(self.desk(&known)?),
            credit: Arc::default(),
            most: credit as usize,
            lease,
        }))
    }
}

#[async_trait]
impl Consumer for OnCredit {
    async fn next(&mut self, wait: Duration) -> Result<Delivery> {
        let deadline = Instant::now() + wait;
        let mut pause = ASK.0;
        let free = loop {
            let (free, is_over, ends_in) = self.free();
            if is_over {
                // It may have been extended elsewhere.
                self.ask(deadline).await;
                continue;
            }
            if free > 0 {
                break free;
            }
            let until = deadline.min(Instant::now() + pause.min(ends_in));
            if tokio::time::timeout_at(until, self.credit.back.notified()).await.is_ok() {
                continue;
            }
            if Instant::now() >= deadline {
                return Ok(Delivery::default());
            }
            pause = (pause * 2).min(ASK.1);
            self.ask(deadline).await;
        };
        let wait = deadline.saturating_duration_since(Instant::now());
        let max = u32::try_from(free).unwrap_or(RECEIVE_MAX);
        let receive = Receive { max, max_bytes: BYTES, lease: self.lease, wait, request_id: None };
        let delivery = self.queues.receive(&self.caller, &self.name, receive).await?;
        self.owe(&delivery).await?;
        Ok(delivery)
    }
}

impl OnCredit {
    /// How many more may be leased, whether a lease is over as far as is known, and when the next one is.
    fn free(&self) -> (usize, bool, Duration) {
        let now = self.queues.mover.ambient.now();
        let leases = lock(&self.credit.leases);
        let next_end = leases.values().map(|(_, until)| *until).min();
        let ends_in =
            next_end.map_or(Duration::MAX, |end| Duration::from_millis((end.as_millis() - now.as_millis()).max(0).unsigned_abs()));
        (self.most.saturating_sub(leases.len()), ends_in.is_zero(), ends_in)
    }

    /// Asks the ledger how the leases stand: they may have been settled or extended through other gateways. While it does not
    /// answer, they end when they were to end.
    async fn ask(&self, deadline: Instant) {
        let mut asked: Vec<(Place, u32)> = lock(&self.credit.leases).iter().map(|(place, (attempt, _))| (*place, *attempt)).collect();
        asked.sort_unstable();
        let item = |((topic, partition, first), attempt): &(Place, u32)| SettleItem {
            topic: *topic,
            partition: *partition,
            first: *first,
            count: 1,
            attempt: *attempt,
            action: SettleAction::Ack,
        };
        let told = async {
            let known = self.queues.known(&self.caller, &self.name).await.ok()?;
            let Queue { id, generation, .. } = known.queue;
            let leases = SettleMessages { queue: id, generation, version: None, items: joined(asked.iter().map(item)) };
            match self.queues.mover.metadata.query(id.shard(), Query::QueueLeases(leases)).await {
                Ok(Answer::QueueLeases(runs)) => Some(runs),
                _ => None,
            }
        };
        let now = Instant::now();
        let told = tokio::time::timeout_at(deadline.max(now + ASK.0).min(now + ASK_FOR), told).await.ok().flatten();
        let outcomes = told.map(|runs| {
            let each = |run: SettledRun| std::iter::repeat_n(run.outcome, run.count as usize);
            runs.into_iter().flat_map(each).collect::<Vec<SettleOutcome>>()
        });
        let now = self.queues.mover.ambient.now();
        let mut over = Vec::new();
        let mut leases = lock(&self.credit.leases);
        for (index, (place, attempt)) in asked.into_iter().enumerate() {
            let Some((_, until)) = leases.get_mut(&place).filter(|(leased, _)| *leased == attempt) else { continue };
            match outcomes.as_ref().and_then(|outcomes| outcomes.get(index)) {
                Some(SettleOutcome::Until(lasts)) => *until = *lasts,
                Some(_) => *until = now,
                None => {}
            }
            if *until <= now {
                leases.remove(&place);
                over.push(place);
            }
        }
        drop(leases);
        self.let_go(over);
    }

    async fn owe(&self, delivery: &Delivery) -> Result<()> {
        let known = self.queues.known(&self.caller, &self.name).await?;
        let Some(desk) = &self.desk else { return Ok(()) };
        for message in &delivery.messages {
            let source = known.queue.sources.iter().find(|source| source.name == message.topic);
            if let (Some(source), Some(until)) = (source, message.lease_until) {
                let place = (source.topic, message.record.partition, message.record.offset);
                lock(&desk.credits.0).insert(place, (message.attempt, Arc::clone(&self.credit)));
                lock(&self.credit.leases).insert(place, (message.attempt, until));
            }
        }
        Ok(())
    }

    /// Leases that count against nobody any more, unless another receiver has them by now.
    fn let_go(&self, places: impl IntoIterator<Item = Place>) {
        let Some(desk) = &self.desk else { return };
        let mut all = lock(&desk.credits.0);
        for place in places {
            if all.get(&place).is_some_and(|(_, credit)| Arc::ptr_eq(credit, &self.credit)) {
                all.remove(&place);
            }
        }
    }
}

impl Drop for OnCredit {
    fn drop(&mut self) {
        let places: Vec<Place> = lock(&self.credit.leases).keys().copied().collect();
        self.let_go(places);
        if let Some(desk) = self.desk.take() {
            self.queues.bell.close(desk);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
