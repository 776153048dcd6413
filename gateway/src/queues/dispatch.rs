//! The dispatcher of one queue: gathers what receivers want, asks the ledger for leases with what was found in new records,
//! and hands them out. It works while somebody waits, and sleeps until something is told; it never polls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Command, Grant, ReceiveMessages, Received, Reply};
use lakefall_queue::{Offset, PartitionIndex, TopicId};
use lakefall_service::failpoint;
use tokio::time::Instant;

use super::Queues;
use super::deliver::Handout;
use super::desk::{Desk, Waiting};
use super::kept::{Kept, Taken};
use super::known::Known;
use super::scan::{Scanned, Unseen, scan};
use super::shares::wants;

/// Commands under way at once: so that one disk's sync does not hold up everybody.
const ROUNDS: usize = 4;
/// How long a dispatcher stays when nobody waits any more.
const IDLE: Duration = Duration::from_secs(10);
/// Between two attempts while the metadata service or the object store does not answer: from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A partition as far as it is known.
#[derive(Clone, Debug, Default)]
struct Place {
    scanned: Offset,
    end: Offset,
    /// It cannot be read, and is tried again then.
    stuck: Option<(Error, Instant)>,
}

/// One exchange with the ledger, and what came of it.
struct Round {
    known: Arc<Known>,
    waiting: Vec<Waiting>,
    scanned: Scanned,
    scans: bool,
    answer: Result<Received>,
}

struct Dispatcher {
    queues: Arc<Queues>,
    desk: Arc<Desk>,
    known: Option<Arc<Known>>,
    places: BTreeMap<(TopicId, PartitionIndex), Place>,
    /// Where partitions end of which the ledger's answer is still to come: it may be older than the notice.
    ahead: BTreeMap<(TopicId, PartitionIndex), Offset>,
    kept: Kept,
    /// Messages that could be leased, as told last.
    ready: u64,
    held_back: bool,
    /// The ledger told where the queue stands since it changed.
    told: bool,
    poked: bool,
    scanning: bool,
    rotation: usize,
    /// Payload of the largest message found lately: what is too large for an answer is better not leased.
    largest: usize,
    pause: Duration,
    not_before: Option<Instant>,
}

/// Serves those who wait at a desk until nobody does.
pub(super) async fn run(queues: Arc<Queues>, desk: Arc<Desk>) {
    let mut dispatcher = Dispatcher {
        queues,
        desk,
        known: None,
        places: BTreeMap::new(),
        ahead: BTreeMap::new(),
        kept: Kept::default(),
        ready: 0,
        held_back: false,
        told: false,
        poked: false,
        scanning: false,
        rotation: 0,
        largest: 0,
        pause: PAUSE.0,
        not_before: None,
    };
    dispatcher.serve().await;
    let Dispatcher { queues, desk, .. } = dispatcher;
    queues.bell.close(desk);
}

impl Dispatcher {
    async fn serve(&mut self) {
        let mut rounds: FuturesUnordered<BoxFuture<'static, Round>> = FuturesUnordered::new();
        let mut idle_since = Instant::now();
        loop {
            self.take_in();
            while rounds.len() < ROUNDS {
                match self.next_round().await {
                    Some(round) => rounds.push(round),
                    None => break,
                }
            }
            let mut waiting = 0;
            self.desk.each_waiting(|_| waiting += 1);
            if waiting > 0 || !rounds.is_empty() {
                idle_since = Instant::now();
            }
            let wake_at = self.wake_at(waiting > 0).unwrap_or(idle_since + IDLE);
            tokio::select! {
                Some(round) = rounds.next(), if !rounds.is_empty() => self.finish(round),
                () = self.desk.woken() => {}
                () = tokio::time::sleep_until(wake_at), if waiting == 0 || self.wake_at(true).is_some() => {}
                () = self.queues.stop.cancelled() => break,
            }
            if waiting == 0 && rounds.is_empty() && idle_since.elapsed() >= IDLE && self.desk.leave() {
                return;
            }
        }
        self.tell(self.desk.take(), &Error::unavailable("the gateway is stopping"));
        self.desk.leave();
    }

    /// When to look again though nothing is told: only after a failure.
    fn wake_at(&self, waiting: bool) -> Option<Instant> {
        let stuck = self.places.values().filter_map(|place| place.stuck.as_ref().map(|(_, again)| *again)).min();
        [self.not_before, stuck].into_iter().flatten().min().filter(|_| waiting)
    }

    fn take_in(&mut self) {
        let told = self.desk.look();
        if told.doubt {
            self.doubt();
        }
        self.poked |= told.poked;
        for (at, end) in told.ends {
            let known = match self.places.get_mut(&at) {
                Some(place) => &mut place.end,
                None => self.ahead.entry(at).or_insert(end),
            };
            *known = end.max(*known);
        }
        let now = Instant::now();
        self.not_before = self.not_before.filter(|again| *again > now);
        for place in self.places.values_mut() {
            place.stuck = place.stuck.take().filter(|(_, again)| *again > now);
        }
    }

    /// What is known of the queue may be stale.
    fn doubt(&mut self) {
        self.known = None;
        (self.told, self.poked) = (false, true);
    }

    /// The next exchange, if there is reason for one.
    async fn next_round(&mut self) -> Option<BoxFuture<'static, Round>> {
        if self.not_before.is_some() {
            return None;
        }
        let (mut wanted, mut count, mut fresh, mut impatient) = (0, 0, false, false);
        self.desk.each_waiting(|waiting| {
            wanted += u64::from(waiting.max);
            count += 1;
            fresh |= waiting.fresh;
            impatient |= !waiting.patient;
        });
        if count == 0 {
            return None;
        }
        let unseen = if self.scanning || !self.told { Vec::new() } else { self.unseen() };
        let leasable = self.ready > 0 && !self.held_back;
        let scans = !unseen.is_empty() && self.ready < wanted;
        // While records are being looked at, those who come wait for what is found, unless there is something for them.
        let asks = self.poked || leasable || (fresh && !self.scanning);
        if !(scans || asks) {
            return None;
        }
        let known = match self.known().await {
            Ok(known) => known,
            Err(error) => {
                self.refuse(error);
                return None;
            }
        };
        self.poked = false;
        self.scanning |= scans;
        let waiting = self.desk.take();
        let (queues, told, ready, largest) = (Arc::clone(&self.queues), self.told, self.ready, self.largest);
        let unseen = if scans { unseen } else { Vec::new() };
        Some(Box::pin(async move {
            let mut scanned = scan(&queues.mover, &known, unseen, wanted).await;
            let largest = scanned.largest().max(largest);
            let wants = wants(&known.queue.config, &waiting, if told { ready + scanned.ready() } else { u64::MAX }, largest);
            let command = ReceiveMessages {
                queue: known.queue.id,
                generation: known.queue.generation,
                classified: std::mem::take(&mut scanned.classified),
                wants,
            };
            let answer = match queues.mover.metadata.execute(known.queue.id.shard(), Command::Receive(command)).await {
                Ok(Reply::Received(received)) => {
                    if received.grants.iter().any(|grants| !grants.is_empty()) {
                        failpoint::hit("l1");
                    }
                    Ok(*received)
                }
                Ok(other) => Err(Error::Internal(format!("the ledger answered another question: {other:?}"))),
                Err(error) => Err(error),
            };
            Round { known, waiting, scanned, scans, answer }
        }))
    }

    /// Partitions with records that nobody looked at, beginning with another one each time.
    fn unseen(&mut self) -> Vec<Unseen> {
        let behind = self.places.iter().filter(|(_, place)| place.scanned < place.end && place.stuck.is_none());
        let one = |((topic, partition), place): (&(TopicId, PartitionIndex), &Place)| Unseen {
            topic: *topic,
            partition: *partition,
            from: place.scanned,
            end: place.end,
        };
        let mut unseen: Vec<Unseen> = behind.map(one).collect();
        if !unseen.is_empty() {
            self.rotation = self.rotation.wrapping_add(1);
            let first = self.rotation % unseen.len();
            unseen.rotate_left(first);
        }
        unseen
    }

    async fn known(&mut self) -> Result<Arc<Known>> {
        if let Some(known) = &self.known {
            return Ok(Arc::clone(known));
        }
        let known = self.queues.bell.known.get(&self.desk.namespace, &self.desk.name).await?;
        if known.queue.id != self.desk.queue {
            // Deleted, and another one of the same name created.
            return Err(Error::QueueNotFound(self.desk.name.clone()));
        }
        // Registers the desk with topics that came since.
        self.queues.bell.desk(&known.queue);
        self.places.clear();
        // What was told so far, the ledger's next answer knows.
        self.ahead.clear();
        self.kept.clear();
        (self.ready, self.held_back, self.told) = (0, false, false);
        self.known = Some(Arc::clone(&known));
        Ok(known)
    }

    /// Takes in what a round brought.
    fn finish(&mut self, round: Round) {
        let Round { known, waiting, scanned, scans, answer } = round;
        self.scanning &= !scans;
        self.stick(&scanned);
        let received = match answer {
            Ok(received) => received,
            Err(error) => return self.fail(error, waiting),
        };
        self.pause = PAUSE.0;
        let current = self.known.as_ref().is_some_and(|now| Arc::ptr_eq(now, &known));
        let mut moved = received.grants.iter().any(|grants| !grants.is_empty());
        if current {
            moved |= self.stand(&received);
            self.largest = scanned.largest().max(self.largest / 2);
            for (topic, partition, records, room) in scanned.plain {
                self.kept.keep(topic, partition, records, room);
            }
            // What cannot be leased though it is ready must not be asked for again and again.
            self.ready = if moved { received.ready } else { 0 };
            self.held_back = received.held_back;
            self.desk.held_back.store(received.held_back, Ordering::Relaxed);
            self.told = true;
            if scans && !moved {
                self.rest();
            }
        }
        let mut on = Vec::new();
        let mut grants = received.grants.into_iter();
        for mut waiting in waiting {
            let granted = grants.next().unwrap_or_default();
            if granted.is_empty() {
                // What the queue was before says nothing of it now.
                waiting.fresh = !current;
                on.push(waiting);
                continue;
            }
            let handout = self.handout(&known, granted, received.now);
            // Whoever went away drops it, which gives the leases back.
            let _ = waiting.reply.send(Ok(Some(handout)));
        }
        let on = if current { self.let_go(on) } else { on };
        self.desk.wait_on(on);
    }

    fn handout(&mut self, known: &Arc<Known>, grants: Vec<Grant>, now: lakefall_queue::Timestamp) -> Handout {
        let mut taken = Taken::default();
        for grant in &grants {
            self.kept.take(grant.topic, grant.partition, grant.first, grant.count, &mut taken);
        }
        Handout::new(Arc::clone(&self.queues), Arc::clone(known), grants, taken, now)
    }

    /// Learns where the queue stands. Answers whether it came further.
    fn stand(&mut self, received: &Received) -> bool {
        let mut moved = !self.told;
        for state in &received.partitions {
            let at = (state.topic, state.partition);
            let ahead = self.ahead.remove(&at).unwrap_or_default();
            let place = self.places.entry(at).or_default();
            moved |= state.scanned > place.scanned;
            place.scanned = place.scanned.max(state.scanned);
            place.end = place.end.max(state.end).max(ahead);
        }
        moved
    }

    fn stick(&mut self, scanned: &Scanned) {
        let again = Instant::now() + PAUSE.1;
        for (topic, partition, error) in &scanned.failed {
            if matches!(error, Error::QueueChanged(_) | Error::TopicNotFound(_)) {
                self.queues.bell.known.forget(&self.desk.namespace, &self.desk.name);
                self.known = None;
                self.rest();
            }
            if let Some(place) = self.places.get_mut(&(*topic, *partition)) {
                place.stuck = Some((error.clone(), again));
            }
        }
    }

    /// Those who only wanted what is there are told that there is nothing, once everything was looked at.
    fn let_go(&self, waiting: Vec<Waiting>) -> Vec<Waiting> {
        let behind = self.places.values().any(|place| place.scanned < place.end && place.stuck.is_none());
        if behind && !self.held_back {
            return waiting;
        }
        let stuck = self.places.values().find_map(|place| place.stuck.as_ref().map(|(error, _)| error.clone()));
        let damaged = matches!(stuck, Some(Error::DataUnavailable { .. }));
        let mut on = Vec::new();
        for waiting in waiting {
            // Who waits may wait for a store to answer, but not for what only an operator can mend.
            if waiting.patient && !damaged {
                on.push(waiting);
            } else {
                let _ = waiting.reply.send(stuck.clone().map_or(Ok(None), Err));
            }
        }
        on
    }

    /// The ledger did not answer, or refused.
    fn fail(&mut self, error: Error, waiting: Vec<Waiting>) {
        match error {
            Error::QueueChanged(_) => {
                self.queues.bell.known.forget(&self.desk.namespace, &self.desk.name);
                self.doubt();
                self.desk.wait_on(waiting);
            }
            Error::Unavailable { .. } => {
                let (on, off): (Vec<Waiting>, Vec<Waiting>) = waiting.into_iter().partition(|waiting| waiting.patient);
                self.tell(off, &error);
                self.desk.wait_on(on);
                self.rest();
            }
            // Leases may have been given: whoever named the request gets them by asking again.
            Error::Unknown { .. } => {
                let (on, off): (Vec<Waiting>, Vec<Waiting>) =
                    waiting.into_iter().partition(|waiting| waiting.patient && waiting.request.is_some());
                self.tell(off, &error);
                self.desk.wait_on(on);
                self.rest();
            }
            other => self.tell(waiting, &other),
        }
    }

    fn rest(&mut self) {
        let random = (self.queues.mover.ambient.entropy.draw() as u32) as f64 / f64::from(u32::MAX);
        self.not_before = Some(Instant::now() + self.pause.mul_f64(0.5 + random / 2.0));
        self.pause = (self.pause * 2).min(PAUSE.1);
        self.poked = true;
    }

    fn refuse(&mut self, error: Error) {
        let waiting = self.desk.take();
        self.fail(error, waiting);
    }

    fn tell(&self, waiting: Vec<Waiting>, error: &Error) {
        waiting.into_iter().for_each(|waiting| drop(waiting.reply.send(Err(error.clone()))));
    }
}
