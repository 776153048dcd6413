//! Real rows: flights and webhooks from the shared data folder, or rows like them where that folder is not there.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Lines of JSON, and the same compressed.
pub struct Rows {
    /// All lines with their newlines.
    pub text: Bytes,
    /// The lines as gzip, for `Content-Encoding: gzip`.
    pub gzip: Bytes,
    /// Whether they are the real ones.
    pub real: bool,
}

impl Rows {
    /// Each line without its newline.
    pub fn lines(&self) -> Vec<Bytes> {
        let lines = self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| self.text.slice_ref(line)).collect()
    }
}

/// The 336,776 flights that left New York in 2013, or as many rows of the same shape.
pub fn flights() -> Rows {
    load("flights.ndjson.gz").unwrap_or_else(|| made((0..336_776).map(flight).collect()))
}

/// Webhook payloads: nested objects of 2 to 30 KiB, or a few hundred rows of that shape.
pub fn webhooks() -> Rows {
    load("webhooks.ndjson.gz").unwrap_or_else(|| made((0..329).map(webhook).collect()))
}

fn load(name: &str) -> Option<Rows> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let path: PathBuf = root.parent()?.join("shared/data").join(name);
    let Ok(packed) = std::fs::read(&path) else {
        println!("{name} is not in the shared data folder: rows of the same shape are made instead");
        return None;
    };
    let mut text = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut text).unwrap();
    Some(Rows { text: text.into(), gzip: packed.into(), real: true })
}

fn made(text: String) -> Rows {
    Rows { gzip: gzip(text.as_bytes()), text: text.into(), real: false }
}

/// Compresses.
pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut packed, bytes).unwrap();
    packed.finish().unwrap().into()
}

fn flight(n: u32) -> String {
    let (month, day, hour) = (n % 12 + 1, n % 28 + 1, n % 24);
    let carrier = ["UA", "AA", "B6", "DL"][n as usize % 4];
    format!(
        "{{\"year\":2013,\"month\":{month},\"day\":{day},\"dep_time\":{},\"dep_delay\":{},\"arr_time\":null,\"carrier\":\"{carrier}\",\"flight\":{n},\"tailnum\":\"N{}\",\"origin\":\"EWR\",\"dest\":\"IAH\",\"air_time\":{},\"distance\":{},\"hour\":{hour},\"time_hour\":\"2013-{month:02}-{day:02}T{hour:02}:00:00Z\"}}\n",
        n % 2400,
        i64::from(n % 90) - 20,
        10_000 + n % 5_000,
        n % 600,
        n % 3_000
    )
}

fn webhook(n: u32) -> String {
    let labels: Vec<String> =
        (0..n % 40).map(|i| format!("{{\"id\":{i},\"name\":\"läbel \\\"{i}\\\"\",\"color\":null,\"n\":1.50e{}}}", i % 9)).collect();
    format!(
        "{{\"event\":\"issues\",\"payload\":{{\"action\":\"edited\",\"number\":{n},\"issue\":{{\"labels\":[{}]}}}}}}\n",
        labels.join(",")
    )
}

/// A JSON string of about 200 KB that does not compress.
pub fn noise(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let text: String = (0..200_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + (state % 90) as u8)
        })
        .collect();
    serde_json::Value::String(text).to_string()
}
