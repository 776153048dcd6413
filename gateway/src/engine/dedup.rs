//! Records with a `dedup_id`: stored once, and answered with where they are when they come again.

use std::collections::HashMap;
use std::time::Duration;

use lakefall_queue::Record;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{DedupClaim, DedupHit};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{AckRange, Admission, Appended, Caller, Idempotency, Read, Start, TopicAppend};
use xxhash_rust::xxh3::xxh3_128;

use super::Engine;
use super::append::{ATTEMPTS, Answered, Judged, merge};
use crate::ingest::OrderKey;
use crate::read::Failure;

impl Engine {
    /// Records with a `dedup_id`: those that are stored already are answered with where they are, and the others are
    /// submitted again without them.
    pub(super) async fn append_deduplicated(
        &self,
        caller: &Caller,
        batch: TopicAppend,
        atomic: bool,
        idempotency: Option<Idempotency>,
        order: Option<OrderKey>,
        mut admission: Admission,
    ) -> Result<Appended> {
        if idempotency.is_some() {
            return Err(Error::invalid("dedup_id", "a request has an Idempotency-Key or records with a dedup_id, not both"));
        }
        let settings = batch.clone_settings();
        let mut acks: Vec<Option<AckRange>> = vec![None; batch.records.len()];
        let (mut open, repeats) = first_of_each(&batch.records);
        let judged = if atomic { Judged::Whole } else { Judged::Apart };
        let mut attempts = 0;
        while !open.is_empty() && attempts < ATTEMPTS {
            attempts += 1;
            let topic = self.topic(caller, &settings.topic).await?;
            let records: Vec<Record> = open.iter().map(|i| batch.records[*i].clone()).collect();
            let one = TopicAppend { records, ..settings.clone_settings() };
            let waiting = self.submit_one(caller, &topic, one, None, judged, order.clone(), std::mem::take(&mut admission))?;
            match waiting.per_record().await {
                Err(Answered::TopicGone) => self.topics.forget(&caller.namespace, &settings.topic),
                Err(Answered::Bound(hits)) => {
                    let stored = self.stored_ids(&topic, &hits).await?;
                    let ack = |index: usize| dedup_hash(&batch.records[index]).and_then(|hash| stored.get(&hash).copied());
                    let before = open.len();
                    open.retain(|index| {
                        acks[*index] = ack(*index);
                        acks[*index].is_none()
                    });
                    // One partition's duplicates are told at a time: only attempts in vain are counted.
                    attempts -= usize::from(open.len() < before);
                }
                Err(answered) => return Err(answered.into_error()),
                Ok(answers) => {
                    let mut left = Vec::new();
                    for (index, answer) in open.into_iter().zip(answers) {
                        match answer {
                            Some(ack) => acks[index] = Some(ack),
                            None => left.push(index),
                        }
                    }
                    open = left;
                }
            }
        }
        for (index, first) in repeats {
            acks[index] = acks[first].map(|ack| AckRange { duplicate: true, ..ack });
        }
        let acks: Option<Vec<AckRange>> = acks.into_iter().collect();
        let ranges = merge(acks.ok_or_else(|| Error::unavailable("records of this request keep being stored by others"))?);
        Ok(Appended { end: None, ranges })
    }

    /// Reads which ids the records stored before have: a hit of an atomic request tells where a record is, but not which.
    async fn stored_ids(&self, topic: &Topic, hits: &[DedupHit]) -> Result<HashMap<u128, AckRange>> {
        let mut stored = HashMap::new();
        for DedupHit { partition, offset, .. } in hits {
            let read = Read {
                topic: topic.name.clone(),
                from: vec![(*partition, Start::Offset(*offset))],
                max_records: 1,
                max_bytes: 1,
                until_offset: None,
                until_timestamp: None,
                wait: Duration::ZERO,
            };
            let read = self.reader.read(topic, &read, tokio::time::Instant::now()).await.map_err(Failure::into_error)?;
            let found = read.records.into_iter().find(|record| record.offset == *offset);
            let id = found.and_then(|record| record.properties).and_then(|properties| properties.dedup_id);
            let ack = AckRange { partition: *partition, first_offset: *offset, count: 1, duplicate: true };
            stored.extend(id.map(|id| (xxh3_128(id.as_bytes()), ack)));
        }
        Ok(stored)
    }
}

pub(super) fn has_dedup_id(record: &Record) -> bool {
    record.properties.as_ref().is_some_and(|p| p.dedup_id.is_some())
}

fn dedup_hash(record: &Record) -> Option<u128> {
    record.properties.as_ref()?.dedup_id.as_ref().map(|id| xxh3_128(id.as_bytes()))
}

pub(super) fn claims(records: &[Record]) -> Vec<DedupClaim> {
    let claim = |(index, record): (usize, &Record)| dedup_hash(record).map(|hash| DedupClaim { index: index as u32, hash });
    records.iter().enumerate().filter_map(claim).collect()
}

/// The records to submit, and those that repeat an earlier one of the same request.
fn first_of_each(records: &[Record]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut seen: HashMap<u128, usize> = HashMap::new();
    let (mut firsts, mut repeats) = (Vec::new(), Vec::new());
    for (index, record) in records.iter().enumerate() {
        match dedup_hash(record).map(|hash| *seen.entry(hash).or_insert(index)) {
            Some(first) if first != index => repeats.push((index, first)),
            _ => firsts.push(index),
        }
    }
    (firsts, repeats)
}
