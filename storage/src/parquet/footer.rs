//! What Lakefall says of a file in Parquet's key-value metadata.

use lakefall_queue::{Offset, PartitionIndex, Timestamp, TopicId};
use parquet::file::metadata::KeyValue;

use super::{ChainDigest, ParquetError, VERSION};

const FORMAT: &str = "lakefall.format";
const TOPIC: &str = "lakefall.topic";
const TOPIC_CREATED: &str = "lakefall.topic_created_ms";
const PARTITION: &str = "lakefall.partition";
const FIRST_OFFSET: &str = "lakefall.first_offset";
const LAST_OFFSET: &str = "lakefall.last_offset";
const RECORDS: &str = "lakefall.records";
const HASH: &str = "lakefall.hash";
const CRC32C: &str = "lakefall.crc32c";
const DATA_CRC32C: &str = "lakefall.crc32c.data";
const COLUMN_CRC32C: &str = "lakefall.crc32c.columns";

/// The pairs, as types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) topic: TopicId,
    /// When the topic was created: with its number it tells the topic from all others that ever were. None in older files.
    pub(super) topic_created: Option<Timestamp>,
    pub(super) partition: PartitionIndex,
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) records: u64,
    pub(super) hash: ChainDigest,
    /// Of each row group's bytes without `data`.
    pub(super) checksums: Vec<u32>,
    /// Of each row group's `data`; none without typed columns.
    pub(super) data_checksums: Vec<u32>,
    /// Of each column chunk, row group by row group; none in files written before there were queries.
    pub(super) column_checksums: Vec<u32>,
}

impl Footer {
    /// Whether offsets are missing between the first and the last record.
    pub(super) fn has_gaps(&self) -> bool {
        self.last.0 - self.first.0 >= self.records
    }

    /// As they are written.
    pub(super) fn pairs(&self) -> Vec<KeyValue> {
        let pairs = [
            (FORMAT, VERSION.to_string()),
            (TOPIC, self.topic.0.to_string()),
            (PARTITION, self.partition.0.to_string()),
            (FIRST_OFFSET, self.first.0.to_string()),
            (LAST_OFFSET, self.last.0.to_string()),
            (RECORDS, self.records.to_string()),
            (HASH, self.hash.to_string()),
            (CRC32C, checksums_text(&self.checksums)),
        ];
        let optional = [(DATA_CRC32C, &self.data_checksums), (COLUMN_CRC32C, &self.column_checksums)];
        let optional = optional.into_iter().filter(|(_, of)| !of.is_empty()).map(|(key, of)| (key, checksums_text(of)));
        let created = self.topic_created.map(|at| (TOPIC_CREATED, at.as_millis().to_string()));
        pairs.into_iter().chain(created).chain(optional).map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
    }

    /// Reads the pairs; others among them are somebody else's.
    pub(super) fn read(pairs: &[KeyValue]) -> Result<Self, ParquetError> {
        let find = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
        let text = |key: &str| find(key).ok_or_else(|| ParquetError::Corrupt(format!("its metadata lack {key}")));
        let footer = Self {
            topic: TopicId(number(text(TOPIC)?)?),
            topic_created: find(TOPIC_CREATED).map(number).transpose()?.map(Timestamp::from_millis),
            partition: PartitionIndex(number(text(PARTITION)?)?),
            first: Offset(number(text(FIRST_OFFSET)?)?),
            last: Offset(number(text(LAST_OFFSET)?)?),
            records: number(text(RECORDS)?)?,
            hash: text(HASH)?.parse().map_err(|()| unreadable(HASH))?,
            checksums: read_checksums(text(CRC32C)?)?,
            data_checksums: find(DATA_CRC32C).map_or(Ok(Vec::new()), read_checksums)?,
            column_checksums: find(COLUMN_CRC32C).map_or(Ok(Vec::new()), read_checksums)?,
        };
        if text(FORMAT)? != VERSION.to_string() {
            return Err(ParquetError::Corrupt("its mark and its metadata differ in the version".to_owned()));
        }
        let counted = footer.last.0.checked_sub(footer.first.0).and_then(|count| count.checked_add(1));
        let possible = counted.is_some_and(|span| (1..=span).contains(&footer.records));
        if !possible || i64::try_from(footer.last.0).is_err() {
            return Err(ParquetError::Corrupt("its offsets and its count of records differ".to_owned()));
        }
        Ok(footer)
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, ParquetError> {
    text.parse().map_err(|_| unreadable("a number"))
}

fn unreadable(what: &str) -> ParquetError {
    ParquetError::Corrupt(format!("{what} in its metadata cannot be read"))
}

fn checksums_text(checksums: &[u32]) -> String {
    let each: Vec<String> = checksums.iter().map(|crc| format!("{crc:08x}")).collect();
    each.join(",")
}

fn read_checksums(text: &str) -> Result<Vec<u32>, ParquetError> {
    text.split(',').map(|crc| u32::from_str_radix(crc, 16).map_err(|_| unreadable("a checksum"))).collect()
}
