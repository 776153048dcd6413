//! What is remembered for a while: idempotent producers, dedup ids, and the answers to requests with an idempotency key.
//! Each window is bounded in time by the journaled clock and in number by a cap.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{ProducerKey, Refusal, RowKey};
use crate::id::{NamespaceName, Offset, PartitionIndex, TopicId};
use crate::planted::{self, Bug};
use crate::queue::Queue;
use crate::time::Timestamp;
use crate::topic::Topic;
use crate::verbs::{AckRange, Idempotency, ProducerStamp};

/// How long the answer to a request with an idempotency key is kept.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 3_600);
/// Answers kept in a shard; beyond it the oldest is forgotten early.
const IDEMPOTENCY_CAP: usize = 1_000_000;
/// How long a silent producer is remembered.
const PRODUCER_WINDOW: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Producers remembered in a shard; beyond it the one longest silent is forgotten early.
const PRODUCER_CAP: usize = 100_000;
/// Batches of a producer whose repetition is recognised: Kafka's number of batches in flight.
const PRODUCER_BATCHES: usize = 5;

/// How long something with this window is remembered.
pub(crate) fn kept_for(window: Duration) -> Duration {
    if planted::is(Bug::DedupForgottenEarly) { window.min(Duration::from_secs(1)) } else { window }
}

/// A batch that a producer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) sequence: u64,
    pub(crate) records: u32,
    pub(crate) base: Offset,
}

/// What is known of a producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: u32,
    pub(crate) next_sequence: u64,
    pub(crate) seen_at: Timestamp,
    pub(crate) batches: VecDeque<ProducerBatch>,
}

/// The idempotent producers of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    pub(crate) by_key: BTreeMap<ProducerKey, Producer>,
    pub(crate) by_age: BTreeSet<(Timestamp, ProducerKey)>,
}

impl Producers {
    /// `Ok(None)`: it is the next batch. `Ok(Some(base))`: it is stored already.
    pub(crate) fn check(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
        stamp: &ProducerStamp,
        records: u32,
    ) -> Result<Option<Offset>, Refusal> {
        let known = self.by_key.get(&(topic, partition, stamp.id.clone()));
        let gap = |expected| Err(Refusal::SequenceGap { sequence: stamp.sequence, expected });
        match known {
            Some(producer) if stamp.epoch < producer.epoch => Err(Refusal::ProducerFenced { epoch: stamp.epoch, current: producer.epoch }),
            Some(producer) if stamp.epoch == producer.epoch && stamp.sequence == producer.next_sequence => Ok(None),
            Some(producer) if stamp.epoch == producer.epoch => {
                let same = producer.batches.iter().find(|b| b.sequence == stamp.sequence && b.records == records);
                same.map_or_else(|| gap(producer.next_sequence), |batch| Ok(Some(batch.base)))
            }
            _ if stamp.sequence == 0 => Ok(None),
            _ => gap(0),
        }
    }

    pub(crate) fn record(
        &mut self,
        key: ProducerKey,
        stamp: &ProducerStamp,
        records: u32,
        base: Offset,
        now: Timestamp,
        dirty: &mut BTreeSet<RowKey>,
    ) {
        let fresh = || Producer { epoch: stamp.epoch, next_sequence: 0, seen_at: now, batches: VecDeque::new() };
        let producer = self.by_key.entry(key.clone()).or_insert_with(fresh);
        self.by_age.remove(&(producer.seen_at, key.clone()));
        if stamp.epoch > producer.epoch {
            *producer = fresh();
        }
        producer.seen_at = now;
        producer.next_sequence = stamp.sequence + u64::from(records);
        producer.batches.push_back(ProducerBatch { sequence: stamp.sequence, records, base });
        if producer.batches.len() > PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        self.by_age.insert((now, key.clone()));
        dirty.insert(RowKey::Producer(key));
    }

    pub(crate) fn expire(&mut self, now: Timestamp, dirty: &mut BTreeSet<RowKey>) {
        let horizon = now.minus(PRODUCER_WINDOW);
        while self.by_age.first().is_some_and(|(at, _)| *at < horizon) || self.by_age.len() > PRODUCER_CAP {
            let Some((_, key)) = self.by_age.pop_first() else { break };
            self.by_key.remove(&key);
            dirty.insert(RowKey::Producer(key));
        }
    }

    pub(crate) fn forget_topic(&mut self, topic: TopicId, dirty: &mut BTreeSet<RowKey>) {
        let keys: Vec<ProducerKey> = self.by_key.keys().filter(|key| key.0 == topic).cloned().collect();
        for key in keys {
            if let Some(producer) = self.by_key.remove(&key) {
                self.by_age.remove(&(producer.seen_at, key.clone()));
            }
            dirty.insert(RowKey::Producer(key));
        }
    }
}

/// Where the first record with a dedup id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DedupEntry {
    pub(crate) partition: PartitionIndex,
    pub(crate) offset: Offset,
    pub(crate) expires_at: Timestamp,
}

/// The dedup ids of a shard's topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dedup {
    pub(crate) by_hash: BTreeMap<(TopicId, u128), DedupEntry>,
    pub(crate) by_expiry: BTreeSet<(Timestamp, TopicId, u128)>,
}

impl Dedup {
    pub(crate) fn find(&self, topic: TopicId, hash: u128, now: Timestamp) -> Option<&DedupEntry> {
        self.by_hash.get(&(topic, hash)).filter(|entry| entry.expires_at > now)
    }

    pub(crate) fn remember(&mut self, topic: TopicId, hash: u128, entry: DedupEntry, dirty: &mut BTreeSet<RowKey>) {
        if let Some(old) = self.by_hash.insert((topic, hash), entry) {
            self.by_expiry.remove(&(old.expires_at, topic, hash));
        }
        self.by_expiry.insert((entry.expires_at, topic, hash));
        dirty.insert(RowKey::Dedup(topic, hash));
    }

    pub(crate) fn expire(&mut self, now: Timestamp, dirty: &mut BTreeSet<RowKey>) {
        while let Some((at, topic, hash)) = self.by_expiry.first().copied()
            && at <= now
        {
            self.by_expiry.pop_first();
            self.by_hash.remove(&(topic, hash));
            dirty.insert(RowKey::Dedup(topic, hash));
        }
    }

    pub(crate) fn forget_topic(&mut self, topic: TopicId, dirty: &mut BTreeSet<RowKey>) {
        let keys: Vec<(TopicId, u128)> = self.by_hash.range((topic, 0)..=(topic, u128::MAX)).map(|(key, _)| *key).collect();
        for (topic, hash) in keys {
            if let Some(entry) = self.by_hash.remove(&(topic, hash)) {
                self.by_expiry.remove(&(entry.expires_at, topic, hash));
            }
            dirty.insert(RowKey::Dedup(topic, hash));
        }
    }
}

/// The answer that a repeated request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RememberedReply {
    /// To appends: each range with the index of its append.
    Acks(Vec<(u32, AckRange)>),
    /// To the creation of a topic.
    Topic(Box<Topic>),
    /// To the creation of a queue.
    Queue(Box<Queue>),
}

/// A request that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) fingerprint: u128,
    pub(crate) expires_at: Timestamp,
    pub(crate) reply: RememberedReply,
}

/// The idempotency keys of a shard's namespaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdempotencyWindow {
    pub(crate) by_key: BTreeMap<(NamespaceName, Arc<str>), Remembered>,
    pub(crate) by_expiry: BTreeSet<(Timestamp, NamespaceName, Arc<str>)>,
}

impl IdempotencyWindow {
    /// `Err`: the key was used for another request.
    pub(crate) fn find(&self, namespace: &NamespaceName, request: &Idempotency, now: Timestamp) -> Result<Option<&RememberedReply>, ()> {
        match self.by_key.get(&(namespace.clone(), request.key.clone())).filter(|r| r.expires_at > now) {
            None => Ok(None),
            Some(remembered) if remembered.fingerprint == request.fingerprint => Ok(Some(&remembered.reply)),
            Some(_) => Err(()),
        }
    }

    pub(crate) fn remember(
        &mut self,
        namespace: &NamespaceName,
        request: &Idempotency,
        reply: RememberedReply,
        now: Timestamp,
        dirty: &mut BTreeSet<RowKey>,
    ) {
        let expires_at = now.plus(kept_for(IDEMPOTENCY_WINDOW));
        self.restore(namespace.clone(), request.key.clone(), Remembered { fingerprint: request.fingerprint, expires_at, reply });
        dirty.insert(RowKey::Idempotency(namespace.clone(), request.key.clone()));
    }

    pub(crate) fn forget_namespace(&mut self, namespace: &NamespaceName, dirty: &mut BTreeSet<RowKey>) {
        let from = (namespace.clone(), Arc::from(""));
        let of: Vec<_> = self.by_key.range(from..).map(|(key, _)| key).take_while(|(ns, _)| ns == namespace).cloned().collect();
        for (namespace, key) in of {
            if let Some(remembered) = self.by_key.remove(&(namespace.clone(), key.clone())) {
                self.by_expiry.remove(&(remembered.expires_at, namespace.clone(), key.clone()));
            }
            dirty.insert(RowKey::Idempotency(namespace, key));
        }
    }

    pub(crate) fn restore(&mut self, namespace: NamespaceName, key: Arc<str>, remembered: Remembered) {
        self.by_expiry.insert((remembered.expires_at, namespace.clone(), key.clone()));
        if let Some(old) = self.by_key.insert((namespace.clone(), key.clone()), remembered) {
            self.by_expiry.remove(&(old.expires_at, namespace, key));
        }
    }

    pub(crate) fn expire(&mut self, now: Timestamp, dirty: &mut BTreeSet<RowKey>) {
        while self.by_expiry.first().is_some_and(|(at, ..)| *at <= now) || self.by_expiry.len() > IDEMPOTENCY_CAP {
            let Some((_, namespace, key)) = self.by_expiry.pop_first() else { break };
            self.by_key.remove(&(namespace.clone(), key.clone()));
            dirty.insert(RowKey::Idempotency(namespace, key));
        }
    }
}
