//! Messages as JSON, written by hand as records are: every message passes here.

use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::queue::{Delivery, Message};
use lakefall_queue::{Error, Offset, PartitionIndex, TopicName};

use crate::problem::{Problem, Result};
use crate::read::json::RecordWriter;
use crate::read::plan::Encoding;
use crate::text::{TimeText, push_str, push_u64};

/// Bytes that a message takes beside its payload, about.
const BESIDES: usize = 384;

/// Writes messages of one queue, each on one line.
pub(super) struct MessageWriter {
    encoding: Option<Encoding>,
    /// One for each topic seen: a queue reads few.
    records: Vec<(TopicName, RecordWriter)>,
    until: TimeText,
    first: TimeText,
}

impl MessageWriter {
    /// A writer that forces `encoding`, if one is given.
    pub(super) fn new(encoding: Option<Encoding>) -> Self {
        Self { encoding, records: Vec::new(), until: TimeText::default(), first: TimeText::default() }
    }

    /// Appends one message: what names it and its lease, then its record.
    pub(super) fn put(&mut self, out: &mut BytesMut, message: &Message) {
        out.put_slice(b"{\"id\":\"");
        out.put_slice(message.topic.as_str().as_bytes());
        out.put_u8(b':');
        push_u64(out, u64::from(message.record.partition.0));
        out.put_u8(b'-');
        push_u64(out, message.record.offset.0);
        out.put_u8(b'"');
        if let Some(receipt) = &message.receipt {
            out.put_slice(b",\"receipt\":");
            push_str(out, receipt);
        }
        out.put_slice(b",\"attempt\":");
        push_u64(out, u64::from(message.attempt));
        if let Some(until) = message.lease_until {
            out.put_slice(b",\"lease_until\":");
            self.until.push(out, until);
        }
        if let Some(first) = message.first_leased_at {
            out.put_slice(b",\"first_leased_at\":");
            self.first.push(out, first);
        }
        out.put_u8(b',');
        self.records_of(&message.topic).put_members(out, &message.record);
        out.put_u8(b'}');
    }

    fn records_of(&mut self, topic: &TopicName) -> &mut RecordWriter {
        let at = self.records.iter().position(|(known, _)| known == topic).unwrap_or_else(|| {
            self.records.push((topic.clone(), RecordWriter::new(topic, self.encoding)));
            self.records.len() - 1
        });
        &mut self.records[at].1
    }

    /// `{"messages": […]}`, which keeps the delivery's room until it was sent.
    pub(super) fn page(mut self, delivery: Delivery) -> Bytes {
        let mut out = BytesMut::with_capacity(size(&delivery) + 32);
        out.put_slice(b"{\"messages\":[");
        for (at, message) in delivery.messages.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            self.put(&mut out, message);
        }
        out.put_slice(b"]}");
        delivery.admission.hold(out.freeze())
    }
}

/// Bytes that a delivery takes, about.
pub(super) fn size(delivery: &Delivery) -> usize {
    delivery.messages.iter().map(|message| message.record.payload_bytes() + BESIDES).sum()
}

/// A message's id as callers write it: `<topic>:<partition>-<offset>`, or without the topic where the queue has one topic.
pub(super) fn parse_id(id: &str) -> Result<(Option<TopicName>, PartitionIndex, Offset)> {
    let wrong =
        || Problem::invalid("message", "a message's id is <topic>:<partition>-<offset>, or <partition>-<offset>, as it was received");
    let (topic, place) = match id.rsplit_once(':') {
        Some((topic, place)) => (Some(TopicName::new(topic)?), place),
        None => (None, id),
    };
    let (partition, offset) = place.split_once('-').ok_or_else(wrong)?;
    let partition: u32 = whole(partition).ok_or_else(wrong)?;
    let offset: u64 = whole(offset).filter(|offset| *offset <= Offset::MAX.0).ok_or_else(wrong)?;
    Ok((topic, PartitionIndex(partition), Offset(offset)))
}

/// A number as we write it: no sign, no leading zero.
fn whole<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

/// A duration in a body's field, of at most `most`, which is `shown`.
pub(crate) fn span(pointer: &str, text: &str, most: std::time::Duration, shown: &str) -> Result<std::time::Duration> {
    match lakefall_queue::time::parse_duration(text) {
        Ok(span) if span <= most => Ok(span),
        Ok(_) => Err(Problem::invalid(pointer, format!("this is longer than {shown}"))),
        Err(Error::Invalid { reason, .. }) => Err(Problem::invalid(pointer, reason)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_id_is_read_as_it_is_written_and_nothing_else_is() {
        let (topic, partition, offset) = parse_id("a.b-c:7-12").unwrap();
        assert_eq!((topic.unwrap().as_str(), partition.0, offset.0), ("a.b-c", 7, 12));
        assert!(parse_id("0-0").unwrap().0.is_none());
        for bad in ["", "0", "-", "0-", "-0", "a:0", ":0-0", "0-0-0", "+1-0", "0-01", "0-9007199254740993", "4294967296-0", "a b:0-0"] {
            assert!(parse_id(bad).is_err(), "{bad:?}");
        }
    }
}
