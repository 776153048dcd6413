//! Leases that are streamed to one receiver on credit: as many as it has not settled, never more. Credit comes back when a
//! lease is settled through this gateway, or is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::{Consumer, Delivery, LEASE_MAX, RECEIVE_MAX, Receive};
use lakefall_queue::verbs::Caller;
use lakefall_queue::{QueueName, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Queues;
use super::deliver::Place;
use super::desk::Desk;

/// Bytes of messages handed over at once.
const BYTES: usize = 4 << 20;

/// Which receiver's credit a lease counts against.
#[derive(Default)]
pub(super) struct Credits(Mutex<HashMap<Place, Arc<Credit>>>);

impl Credits {
    /// A lease was settled, or lasts until then.
    pub(super) fn settled(&self, place: Place, until: Option<Timestamp>) {
        let mut all = lock(&self.0);
        match until {
            Some(until) => {
                if let Some(credit) = all.get(&place) {
                    lock(&credit.leases).insert(place, until);
                }
            }
            None => {
                if let Some(credit) = all.remove(&place) {
                    lock(&credit.leases).remove(&place);
                    credit.back.notify_one();
                }
            }
        }
    }
}

/// What one receiver has not settled.
#[derive(Default)]
struct Credit {
    leases: Mutex<HashMap<Place, Timestamp>>,
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
        let free = loop {
            let (free, next_end) = self.free();
            if free > 0 {
                break free;
            }
            let now = self.queues.mover.ambient.now();
            let ends = Duration::from_millis((next_end.as_millis() - now.as_millis()).max(1).unsigned_abs());
            let until = deadline.min(Instant::now() + ends);
            let _ = tokio::time::timeout_at(until, self.credit.back.notified()).await;
            if Instant::now() >= deadline {
                return Ok(Delivery::default());
            }
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
    /// How many more may be leased, and when the next lease is over.
    fn free(&self) -> (usize, Timestamp) {
        let now = self.queues.mover.ambient.now();
        let mut leases = lock(&self.credit.leases);
        let over: Vec<Place> = leases.iter().filter(|(_, until)| **until <= now).map(|(place, _)| *place).collect();
        over.iter().for_each(|place| {
            leases.remove(place);
        });
        let free = self.most.saturating_sub(leases.len());
        let next_end = leases.values().min().copied().unwrap_or(now);
        drop(leases);
        self.let_go(over);
        (free, next_end)
    }

    async fn owe(&self, delivery: &Delivery) -> Result<()> {
        let known = self.queues.known(&self.caller, &self.name).await?;
        let Some(desk) = &self.desk else { return Ok(()) };
        for message in &delivery.messages {
            let source = known.queue.sources.iter().find(|source| source.name == message.topic);
            if let (Some(source), Some(until)) = (source, message.lease_until) {
                let place = (source.topic, message.record.partition, message.record.offset);
                lock(&desk.credits.0).insert(place, Arc::clone(&self.credit));
                lock(&self.credit.leases).insert(place, until);
            }
        }
        Ok(())
    }

    /// Leases that count against nobody any more, unless another receiver has them by now.
    fn let_go(&self, places: impl IntoIterator<Item = Place>) {
        let Some(desk) = &self.desk else { return };
        let mut all = lock(&desk.credits.0);
        for place in places {
            if all.get(&place).is_some_and(|credit| Arc::ptr_eq(credit, &self.credit)) {
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
