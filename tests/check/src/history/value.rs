//! Values that say who sent them, and their sums.

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{RecordId, Run};

/// A record's value: says who sent it, and is padded to `pad` more bytes that differ from record to record.
pub fn body(id: RecordId, pad: usize) -> String {
    let filler: String = (0..pad as u64)
        .map(|at| char::from(b'a' + (id.seq.wrapping_mul(7).wrapping_add(at * at + u64::from(id.producer)) % 26) as u8))
        .collect();
    format!("{{\"producer\":{},\"seq\":{},\"pad\":\"{filler}\"}}", id.producer, id.seq)
}

#[derive(Deserialize)]
struct Body {
    producer: u32,
    seq: u64,
}

/// Who sent a value, where it tells.
pub fn parse_id(value: &[u8]) -> Option<RecordId> {
    let Body { producer, seq } = serde_json::from_slice(value).ok()?;
    Some(RecordId { producer, seq })
}

/// The sum of a value: the low 53 bits of its XXH3-64, so that every reader of JSON keeps all of them.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes) & ((1 << 53) - 1)
}

/// Places (partition, offset) as runs.
pub fn runs(places: impl IntoIterator<Item = (u32, u64)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (partition, offset) in places {
        match runs.last_mut() {
            Some(last)
                if last.partition == partition
                    && last.first.checked_add(u64::from(last.count)) == Some(offset)
                    && last.count < u32::MAX =>
            {
                last.count += 1
            }
            _ => runs.push(Run { partition, first: offset, count: 1 }),
        }
    }
    runs
}
