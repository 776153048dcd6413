//! Under which keys objects are kept.

use super::{Extent, ObjectLevel};
use crate::id::{NamespaceName, Offset, SegmentId, TopicName};

/// The folder of everything that other programs may read as tables.
pub const TABLES: &str = "tables/";

/// The key of the object that an extent of a topic lies in: a segment's own, or
/// `tables/<namespace>/<topic>/date=YYYY-MM-DD/<first offset>-<last offset>-<uuid>.parquet`, where offsets have 20 digits and the
/// date is the UTC day of the time of append.
pub fn object_key(namespace: &NamespaceName, topic: &TopicName, extent: &Extent) -> String {
    match extent.level {
        ObjectLevel::Segment | ObjectLevel::Merged => extent.object.key(),
        ObjectLevel::Parquet => {
            let (first, last) = (extent.base_offset.0, extent.end().0.saturating_sub(1));
            let (date, id) = (extent.appended_at.date(), extent.object);
            format!("{}date={date}/{first:020}-{last:020}-{id}.parquet", table_folder(namespace, topic))
        }
    }
}

/// The folder of a topic's Parquet files: `tables/<namespace>/<topic>/`.
pub fn table_folder(namespace: &NamespaceName, topic: &TopicName) -> String {
    format!("{TABLES}{namespace}/{topic}/")
}

/// The object that a Parquet file's key is of; `None` for keys of anything else.
pub fn parquet_id(key: &str) -> Option<SegmentId> {
    let (_, name) = key.strip_prefix(TABLES)?.rsplit_once('/')?;
    parts_of(name).map(|(.., id)| id)
}

/// What the key of a Parquet file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParquetKey {
    /// The topic's namespace.
    pub namespace: NamespaceName,
    /// The topic.
    pub topic: TopicName,
    /// The first offset of its extent.
    pub first: Offset,
    /// The last one.
    pub last: Offset,
    /// The object.
    pub object: SegmentId,
}

impl ParquetKey {
    /// Reads a key; `None` for what is not where a topic's files are.
    pub fn read(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(TABLES)?.split('/');
        let (namespace, topic, _day, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (first, last, object) = parts_of(name)?;
        let (first, last) = (Offset(first.parse().ok()?), Offset(last.parse().ok()?));
        Some(Self { namespace: NamespaceName::new(namespace).ok()?, topic: TopicName::new(topic).ok()?, first, last, object })
    }
}

/// First and last offset, as digits, and the object, of a Parquet file's name.
fn parts_of(name: &str) -> Option<(&str, &str, SegmentId)> {
    let name = name.strip_suffix(".parquet")?;
    let (offsets, id) = name.split_at_checked(name.len().checked_sub(36)?)?;
    let (first, last) = offsets.strip_suffix('-')?.split_once('-')?;
    let digits = |text: &str| text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = SegmentId(id.parse().ok()?);
    // Other spellings of the same id are other keys.
    (digits(first) && digits(last) && parsed.to_string() == id).then_some((first, last, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn extent(level: ObjectLevel) -> Extent {
        Extent {
            base_offset: Offset(7),
            records: 3,
            length: 10,
            object: SegmentId::mint(Timestamp::from_millis(1), 0xabcd_ef00 << 96),
            level,
            object_size: 10,
            position: 0,
            first_timestamp: Timestamp::default(),
            max_timestamp: Timestamp::default(),
            appended_at: Timestamp::from_millis(86_400_000 * 20_000 + 86_399_999),
        }
    }

    #[test]
    fn a_parquet_files_key_tells_topic_day_offsets_and_id() {
        let (namespace, topic) = (NamespaceName::default_name(), TopicName::new("flights").unwrap());
        let extent = extent(ObjectLevel::Parquet);
        let key = object_key(&namespace, &topic, &extent);
        let expected =
            format!("tables/default/flights/date=2024-10-04/00000000000000000007-00000000000000000009-{}.parquet", extent.object);
        assert_eq!(key, expected);
        assert_eq!(parquet_id(&key), Some(extent.object));
        let read = ParquetKey { namespace, topic, first: Offset(7), last: Offset(9), object: extent.object };
        assert_eq!(ParquetKey::read(&key), Some(read));
    }

    #[test]
    fn segments_merged_or_not_lie_under_their_own_key() {
        let (namespace, topic) = (NamespaceName::default_name(), TopicName::new("flights").unwrap());
        for level in [ObjectLevel::Segment, ObjectLevel::Merged] {
            let extent = extent(level);
            assert_eq!(object_key(&namespace, &topic, &extent), extent.object.key());
        }
    }

    #[test]
    fn a_key_that_no_parquet_file_has_is_nobodys() {
        let id = extent(ObjectLevel::Parquet).object;
        for key in [
            format!("seg/00/{id}.seg"),
            format!("tables/a/b/{id}.parquet"),
            format!("tables/a/b/00000000000000000007-00000000000000000009-{}.parquet", id.to_string().to_uppercase()),
            format!("tables/a/b/7-9-{id}.parquet"),
            "tables/a/b/metadata/v1.metadata.json".to_owned(),
            "tables/é".to_owned(),
        ] {
            assert_eq!(parquet_id(&key), None, "{key}");
            assert_eq!(ParquetKey::read(&key), None, "{key}");
        }
        let elsewhere = format!("tables/a/b/c/date=2024-10-04/00000000000000000007-00000000000000000009-{id}.parquet");
        assert_eq!((parquet_id(&elsewhere), ParquetKey::read(&elsewhere)), (Some(id), None));
    }
}
