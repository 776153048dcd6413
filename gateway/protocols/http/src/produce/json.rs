//! `application/json`: one record, or `{"records": […]}` with options.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::verbs::ProducerStamp;
use lakefall_queue::{Offset, PartitionIndex, Record};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::record::{RecordIn, Shape};
use crate::problem::{self, Problem, Result};

/// Records and what goes with them.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) partition: Option<PartitionIndex>,
    pub(crate) atomic: Option<bool>,
    pub(crate) expect_offset: Option<Offset>,
    pub(crate) fencing_token: Option<u64>,
    pub(crate) producer: Option<ProducerStamp>,
}

/// A producer stamp as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProducerIn {
    id: Arc<str>,
    epoch: u32,
    sequence: u64,
}

impl ProducerIn {
    /// The stamp; its id must be 1 to 255 bytes.
    pub(crate) fn check(self) -> Result<ProducerStamp> {
        if self.id.is_empty() || self.id.len() > 255 {
            return Err(Problem::invalid("producer/id", "a producer's id is 1 to 255 bytes"));
        }
        Ok(ProducerStamp { id: self.id, epoch: self.epoch, sequence: self.sequence })
    }
}

/// Records that say at which of them reading failed.
pub(crate) struct RecordList<'a>(pub(crate) Vec<RecordIn<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for RecordList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = RecordList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut records = Vec::new();
                loop {
                    match seq.next_element() {
                        Ok(Some(record)) => records.push(record),
                        Ok(None) => return Ok(RecordList(records)),
                        Err(error) => return Err(de::Error::custom(format!("/records/{}: {error}", records.len()))),
                    }
                }
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

impl RecordList<'_> {
    /// The records; a refusal says which of them it is about.
    pub(crate) fn into_records(self, body: &Bytes, shape: &Shape) -> Result<Vec<Record>> {
        let most = shape.limits.batch_records;
        if self.0.is_empty() {
            return Err(Problem::invalid("/records", "there must be at least one record"));
        }
        if self.0.len() > most {
            return Err(too_many(self.0.len(), most));
        }
        let numbered = self.0.into_iter().enumerate();
        numbered
            .map(|(at, record)| record.into_record(body, shape).map_err(|p| p.inside(&format!("/records/{at}")).with("record", at + 1)))
            .collect()
    }
}

/// A batch of more records than one request may carry.
pub(crate) fn too_many(actual: usize, most: usize) -> Problem {
    Problem::new(problem::TOO_LARGE, format!("the batch has {actual} records: at most {most} are allowed"))
        .with("limit", most)
        .with("actual", actual)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchIn<'a> {
    #[serde(borrow)]
    records: RecordList<'a>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    atomic: Option<bool>,
    #[serde(default)]
    expect_offset: Option<u64>,
    #[serde(default)]
    fencing_token: Option<u64>,
    #[serde(default)]
    producer: Option<ProducerIn>,
}

/// Reads a body of either shape: an object that has `records` is a batch.
pub(crate) fn parse(body: &Bytes, shape: &Shape) -> Result<Batch> {
    let text = utf8(body)?;
    if !is_batch(text) {
        return Ok(Batch { records: vec![parse_one(text, body, shape)?], ..Batch::default() });
    }
    let batch: BatchIn<'_> = serde_json::from_str(text).map_err(|e| problem::from_json(&e))?;
    Ok(Batch {
        records: batch.records.into_records(body, shape)?,
        partition: batch.partition.map(PartitionIndex),
        atomic: batch.atomic,
        expect_offset: batch.expect_offset.map(check_offset).transpose()?,
        fencing_token: batch.fencing_token,
        producer: batch.producer.map(ProducerIn::check).transpose()?,
    })
}

/// Reads a body that is one record; `text` is the body.
pub(crate) fn parse_one(text: &str, body: &Bytes, shape: &Shape) -> Result<Record> {
    let record: RecordIn<'_> = serde_json::from_str(text).map_err(|e| problem::from_json(&e))?;
    record.into_record(body, shape)
}

/// The body as text; JSON is UTF-8.
pub(crate) fn utf8(body: &Bytes) -> Result<&str> {
    simdutf8::basic::from_utf8(body).map_err(|_| Problem::new(problem::MALFORMED_BODY, "the body is not UTF-8"))
}

/// An offset that JSON carries exactly.
pub(crate) fn check_offset(offset: u64) -> Result<Offset> {
    if offset > Offset::MAX.0 {
        return Err(Problem::invalid("/expect_offset", "an offset is at most 2^53"));
    }
    Ok(Offset(offset))
}

/// Whether a top-level `records` is there. The walk is only taken where the word occurs at all.
fn is_batch(text: &str) -> bool {
    struct Keys<'f>(&'f Cell<bool>);
    impl<'de> Visitor<'de> for Keys<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == "records" {
                    self.0.set(true);
                    break;
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let found = Cell::new(false);
    if memchr::memmem::find(text.as_bytes(), b"\"records\"").is_some() {
        // Leaving the object early, or malformed JSON, is an error here; the caller's own pass tells the latter.
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(Keys(&found));
    }
    found.get()
}
