//! Every limit of the native API with its default and bounds. Sizes are bytes.

use serde::{Deserialize, Serialize};

/// What one caller may send or ask for at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest value of a record. Larger values hold up everybody's segment. 1 KiB to 64 MiB.
    pub value_bytes: usize,
    /// Largest key of a record. 1 B to 1 MiB.
    pub key_bytes: usize,
    /// Largest sum of a record's header names and values. 0 to 1 MiB.
    pub header_bytes: usize,
    /// Largest body of a produce request that is not a stream, after decompression. 1 KiB to 256 MiB.
    pub batch_bytes: usize,
    /// Most records in one request that is not a stream. 1 to 100,000.
    pub batch_records: usize,
    /// Most records that one read answers. 1 to 100,000.
    pub read_records: usize,
    /// Most bytes of keys, values and headers that one read answers; at least one record is answered. 1 KiB to 256 MiB.
    pub read_bytes: usize,
    /// Longest wait of a long poll, in seconds. 0 to 300.
    pub wait_seconds: u64,
    /// Most partitions of a topic. 1 to 10,000.
    pub partitions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 8 << 20,
            key_bytes: 64 << 10,
            header_bytes: 64 << 10,
            batch_bytes: 16 << 20,
            batch_records: 10_000,
            read_records: 10_000,
            read_bytes: 16 << 20,
            wait_seconds: 60,
            partitions: 1_024,
        }
    }
}

impl Limits {
    /// The first field out of bounds, told as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let fields: [(&str, u64, u64, u64); 9] = [
            ("value_bytes", self.value_bytes as u64, 1 << 10, 64 << 20),
            ("key_bytes", self.key_bytes as u64, 1, 1 << 20),
            ("header_bytes", self.header_bytes as u64, 0, 1 << 20),
            ("batch_bytes", self.batch_bytes as u64, 1 << 10, 256 << 20),
            ("batch_records", self.batch_records as u64, 1, 100_000),
            ("read_records", self.read_records as u64, 1, 100_000),
            ("read_bytes", self.read_bytes as u64, 1 << 10, 256 << 20),
            ("wait_seconds", self.wait_seconds, 0, 300),
            ("partitions", u64::from(self.partitions), 1, 10_000),
        ];
        match fields.into_iter().find(|(_, value, low, high)| value < low || value > high) {
            Some((name, value, low, high)) => Err(format!("limits.{name} is {value}: allowed is {low} to {high}")),
            None => Ok(()),
        }
    }
}
