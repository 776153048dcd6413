//! Request bodies, built once and sent again and again, so that the bench spends its CPU on sending. Sixty-four different
//! ones, so that nothing on the way can remember them.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use http::{HeaderName, header};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::failure::Failure;
use crate::input;

/// Bodies built for a run; fewer when they would hold more than [`BODIES_BYTES`].
const BODIES: usize = 64;
/// Most memory that bodies take.
const BODIES_BYTES: usize = 64 << 20;
/// Letters of random text: printable, none of them escaped in JSON, six bits of chance each.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The seed of random text: two runs send the same.
const SEED: u64 = 0x6c61_6b65_6661_6c6c;

/// How records are written into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// `{"value":…}`, or `{"records":[…]}` for more than one.
    Json,
    /// One value per line (`?format=values`).
    Ndjson,
    /// One record object per line.
    NdjsonRecords,
    /// Arrow IPC stream with a binary column `value`.
    Arrow,
    /// The body is the value; one record per request.
    Raw,
}

/// What values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Payload {
    /// Random printable text.
    Random,
    /// Lines of `--file`, or flights-like JSON made up when none is given.
    Flights,
}

impl Format {
    /// The headers that announce the format.
    pub(super) fn headers(self) -> [(HeaderName, &'static str); 1] {
        let media_type = match self {
            Self::Json => "application/json",
            Self::Ndjson | Self::NdjsonRecords => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Raw => "application/octet-stream",
        };
        [(header::CONTENT_TYPE, media_type)]
    }

    /// The query that goes with it, without acks.
    pub(super) fn query(self) -> &'static str {
        if self == Self::Ndjson { "format=values&" } else { "" }
    }
}

/// A body and what it counts for.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// The bytes to send.
    pub(super) bytes: Bytes,
    /// Sum of the values' lengths: what MB/s are counted in.
    pub(super) value_bytes: u64,
}

/// Builds the bodies of a run: `batch` records of about `record_bytes` each.
pub(super) fn bodies(
    format: Format,
    payload: Payload,
    file: Option<&Path>,
    record_bytes: usize,
    batch: usize,
) -> Result<Vec<Body>, Failure> {
    if format == Format::Raw && batch != 1 {
        return Err(Failure::Usage("--format raw sends one record per request: use --batch 1".to_owned()));
    }
    let count = (BODIES_BYTES / (record_bytes * batch).max(1)).clamp(4, BODIES);
    let mut values = Values::new(payload, file, record_bytes, count * batch)?;
    (0..count).map(|_| body(format, &values.take(batch))).collect()
}

fn body(format: Format, values: &[Vec<u8>]) -> Result<Body, Failure> {
    let value_bytes = values.iter().map(|value| value.len() as u64).sum();
    let bytes = match format {
        Format::Raw => values.concat(),
        Format::Ndjson => lines(values, b"", b""),
        Format::NdjsonRecords => lines(values, b"{\"value\":", b"}"),
        Format::Json if values.len() == 1 => [b"{\"value\":".as_slice(), &values[0], b"}"].concat(),
        Format::Json => {
            let records: Vec<Vec<u8>> = values.iter().map(|value| [b"{\"value\":".as_slice(), value, b"}"].concat()).collect();
            [b"{\"records\":[".as_slice(), &records.join(&b","[..]), b"]}"].concat()
        }
        Format::Arrow => arrow(values).map_err(|error| Failure::Defect(error.to_string()))?,
    };
    Ok(Body { bytes: bytes.into(), value_bytes })
}

fn lines(values: &[Vec<u8>], before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(after);
        bytes.push(b'\n');
    }
    bytes
}

fn arrow(values: &[Vec<u8>]) -> Result<Vec<u8>, arrow_schema::ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Binary, true)]));
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(values));
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&RecordBatch::try_new(schema, vec![column])?)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// Values, one after the other. All are JSON, so that every format can carry them.
struct Values {
    random: SmallRng,
    record_bytes: usize,
    payload: Payload,
    lines: Vec<Vec<u8>>,
    next: usize,
}

impl Values {
    fn new(payload: Payload, file: Option<&Path>, record_bytes: usize, wanted: usize) -> Result<Self, Failure> {
        let lines = match file {
            Some(path) if payload == Payload::Flights => read_lines(path, wanted)?,
            Some(_) => return Err(Failure::Usage("--file goes with --payload flights".to_owned())),
            None => Vec::new(),
        };
        Ok(Self { random: SmallRng::seed_from_u64(SEED), record_bytes, payload, lines, next: 0 })
    }

    fn take(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        let number = self.next;
        self.next += 1;
        match self.payload {
            Payload::Random => self.text(self.record_bytes),
            Payload::Flights if self.lines.is_empty() => self.flight(number),
            Payload::Flights => self.lines[number % self.lines.len()].clone(),
        }
    }

    /// A JSON string of `length` bytes with its quotes.
    fn text(&mut self, length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length.max(2));
        text.push(b'"');
        text.extend((2..length).map(|_| LETTERS[(self.random.next_u32() & 63) as usize]));
        text.push(b'"');
        text
    }

    /// A flight with the fields of the well-known data set of departures from New York in 2013, padded to the length.
    fn flight(&mut self, number: usize) -> Vec<u8> {
        let mut below = |limit: u32| self.random.next_u32() % limit;
        let mut flight = format!(
            "{{\"id\":{number},\"year\":2013,\"month\":{},\"day\":{},\"dep_time\":{},\"dep_delay\":{},\"arr_time\":{},\"carrier\":\"{}\",\"flight\":{},\"tailnum\":\"N{}\",\"origin\":\"{}\",\"air_time\":{},\"distance\":{}",
            below(12) + 1,
            below(28) + 1,
            below(2400),
            below(90),
            below(2400),
            ["UA", "AA", "B6", "DL", "EV", "MQ"][below(6) as usize],
            below(6000),
            10_000 + below(80_000),
            ["EWR", "LGA", "JFK"][below(3) as usize],
            below(400),
            below(5000),
        );
        let padding = self.record_bytes.saturating_sub(flight.len() + r#","note":""}"#.len());
        if padding > 0 {
            flight.push_str(r#","note":""#);
            flight.extend(std::iter::repeat_n("gate open ", padding.div_ceil(10)).collect::<String>().chars().take(padding));
            flight.push('"');
        }
        flight.push('}');
        flight.into_bytes()
    }
}

fn read_lines(path: &Path, wanted: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let reader = input::open(Some(path))?;
    let lines = reader.reader.split(b'\n').take(wanted).collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    if lines.is_empty() { Err(Failure::Usage(format!("{} is empty", path.display()))) } else { Ok(lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_carries_the_records_it_claims() {
        let count = |format, batch| bodies(format, Payload::Random, None, 100, batch).unwrap();
        let ndjson = count(Format::Ndjson, 10);
        assert_eq!(ndjson[0].bytes.iter().filter(|byte| **byte == b'\n').count(), 10);
        assert_eq!(ndjson[0].value_bytes, 1000);
        assert_ne!(ndjson[0].bytes, ndjson[1].bytes);
        let json: serde_json::Value = serde_json::from_slice(&count(Format::Json, 3)[0].bytes).unwrap();
        assert_eq!(json["records"].as_array().unwrap().len(), 3);
        let one: serde_json::Value = serde_json::from_slice(&count(Format::Json, 1)[0].bytes).unwrap();
        assert_eq!(one["value"].as_str().unwrap().len(), 98);
        let arrow = count(Format::Arrow, 7);
        let mut reader = arrow_ipc::reader::StreamReader::try_new(&arrow[0].bytes[..], None).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().num_rows(), 7);
        assert!(bodies(Format::Raw, Payload::Random, None, 100, 2).is_err());
    }

    #[test]
    fn a_flight_is_json_of_the_length_asked_for() {
        let made = bodies(Format::Ndjson, Payload::Flights, None, 1024, 5).unwrap();
        for line in made[0].bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            assert_eq!(line.len(), 1024);
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
    }
}
