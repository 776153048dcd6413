//! A hash over consecutive records, by which whoever rewrites them proves that nothing was lost, changed or moved. It says
//! nothing of the bytes they are stored in: a segment's records and a Parquet file's have the same. Not for secrets:
//! it finds mistakes, not forgers.

use std::fmt;
use std::str::FromStr;

use lakefall_queue::{Header, StoredRecord, ValueKind};
use xxhash_rust::xxh3::Xxh3;

use crate::batch::properties;

/// Stands for a key or value that is absent, where otherwise its length stands.
const ABSENT: u64 = u64::MAX;

/// Takes records one by one. All that a reader sees counts, except the partition: offset, timestamp, time of append, kind,
/// key, value, properties and headers, each with its length, so that no two sequences read the same.
#[derive(Clone, Default)]
pub struct ChainHash {
    state: Xxh3,
}

impl ChainHash {
    /// Of no records yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next record.
    pub fn update(&mut self, record: &StoredRecord) {
        let mut fixed = [0; 41];
        let mut put = |at: usize, number: u64| fixed[at..at + 8].copy_from_slice(&number.to_le_bytes());
        put(0, record.offset.0);
        put(8, record.timestamp.as_millis() as u64);
        put(16, record.appended_at.as_millis() as u64);
        put(24, length(record.key.as_deref()));
        put(32, length(record.value.as_deref()));
        fixed[40] = u8::from(record.kind == ValueKind::Json);
        self.state.update(&fixed);
        self.state.update(record.key.as_deref().unwrap_or_default());
        self.state.update(record.value.as_deref().unwrap_or_default());
        if let Some(properties) = &record.properties {
            properties::for_each(properties, |name, value| self.header(name, Some(value.as_bytes())));
        }
        for Header { name, value } in &record.headers {
            self.header(name, value.as_deref());
        }
        self.state.update(&[0]);
    }

    /// The hash of what was added so far.
    pub fn digest(&self) -> ChainDigest {
        ChainDigest(self.state.digest128())
    }

    fn header(&mut self, name: &str, value: Option<&[u8]>) {
        self.state.update(&[1]);
        self.state.update(&(name.len() as u64).to_le_bytes());
        self.state.update(&length(value).to_le_bytes());
        self.state.update(name.as_bytes());
        self.state.update(value.unwrap_or_default());
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({})", self.digest())
    }
}

fn length(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(ABSENT, |bytes| bytes.len() as u64)
}

/// A [`ChainHash`]'s value: XXH3, 128 bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainDigest(pub u128);

impl fmt::Display for ChainDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ChainDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainDigest {
    type Err = ();

    /// Only what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let value = Self(u128::from_str_radix(text, 16).map_err(drop)?);
        if value.to_string() == text { Ok(value) } else { Err(()) }
    }
}

/// A hash by which equal keys are found; another key has the same only by design of whoever chose both.
pub fn key_hash(key: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(key)
}
