//! The opaque cursor: a version byte, four bytes that tie it to its topic, then (partition, offset) pairs as varints,
//! in the order in which they are to be served; all of it in base64url.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lakefall_queue::{Offset, PartitionIndex, TopicName};
use xxhash_rust::xxh3::xxh3_64;

use super::Place;

const VERSION: u8 = 1;

fn tie(topic: &TopicName) -> [u8; 4] {
    (xxh3_64(topic.as_str().as_bytes()) as u32).to_le_bytes()
}

/// Writes a cursor.
pub(super) fn seal_cursor(topic: &TopicName, places: &[Place]) -> String {
    let mut bytes = Vec::with_capacity(5 + places.len() * 6);
    bytes.push(VERSION);
    bytes.extend(tie(topic));
    for (partition, offset) in places {
        push_varint(&mut bytes, u64::from(partition.0));
        push_varint(&mut bytes, offset.0);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor; `None` unless it is one of ours for this topic.
pub(super) fn open_cursor(topic: &TopicName, text: &str) -> Option<Vec<Place>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let mut rest = bytes.strip_prefix(&[VERSION])?.strip_prefix(&tie(topic))?;
    let mut places: Vec<Place> = Vec::new();
    while !rest.is_empty() {
        let partition = PartitionIndex(u32::try_from(take_varint(&mut rest)?).ok()?);
        let offset = Offset(take_varint(&mut rest).filter(|offset| *offset <= Offset::MAX.0)?);
        places.push((partition, offset));
    }
    let mut named: Vec<_> = places.iter().map(|(partition, _)| *partition).collect();
    named.sort_unstable();
    let doubled = named.windows(2).any(|pair| pair[0] == pair[1]);
    (!places.is_empty() && !doubled).then_some(places)
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_only_for_its_topic() {
        let topic = TopicName::new("orders").unwrap();
        let places = vec![(PartitionIndex(7), Offset(1 << 40)), (PartitionIndex(0), Offset(0))];
        let text = seal_cursor(&topic, &places);
        assert_eq!(open_cursor(&topic, &text), Some(places));
        assert_eq!(open_cursor(&TopicName::new("other").unwrap(), &text), None);
        for bad in ["", "AQ", "!!", &text[..text.len() - 1]] {
            assert_eq!(open_cursor(&topic, bad), None, "{bad:?}");
        }
    }
}
