//! Parquet files: what was written is read, whatever part is asked for, and other readers of Parquet read the same.

use std::process::Command;

use bytes::Bytes;
use lakefall_queue::{Header, Offset, PartitionIndex, Properties, StoredRecord, Timestamp, TopicId, ValueKind};
use lakefall_storage::parquet::{
    ChainDigest, ChainHash, Options, ParquetError, ParquetFile, ParquetWriter, ROW_GROUP_RECORDS, TypedColumns, Verification, Want,
    Written, infer_json, verify,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{BASE, file, freezing, path, records, stored};

const TOPIC: TopicId = TopicId(1 << 40);
const PARTITION: PartitionIndex = PartitionIndex(3);

pub(crate) fn write(records: &[StoredRecord], options: Options) -> Written {
    let mut writer = ParquetWriter::new(TOPIC, PARTITION, options).unwrap();
    // In portions, as batches come.
    records.chunks(7_000).for_each(|portion| writer.push(portion).unwrap());
    writer.finish().unwrap()
}

fn plain(records: &[StoredRecord]) -> Written {
    write(records, Options::default())
}

fn open(file: &Bytes) -> Result<ParquetFile, ParquetError> {
    ParquetFile::open(file, file.len() as u64)
}

pub(crate) fn read_all(object: &Bytes) -> Result<Vec<StoredRecord>, ParquetError> {
    let file = open(object)?;
    let mut out = Vec::new();
    for (index, group) in file.row_groups().iter().enumerate() {
        let bytes = object.slice(group.bytes.start as usize..group.bytes.end as usize);
        file.decode(index, &bytes, Want::from(Offset(0)), &mut out)?;
    }
    Ok(out)
}

fn hash(records: &[StoredRecord]) -> ChainDigest {
    let mut hash = ChainHash::new();
    records.iter().for_each(|record| hash.update(record));
    hash.digest()
}

/// The samples of every shape, appended at different times.
pub(crate) fn every_shape() -> Vec<StoredRecord> {
    let mut records = stored(&records(), 1_000);
    for (n, record) in records.iter_mut().enumerate() {
        record.appended_at = Timestamp::from_millis(BASE + n as i64 / 10);
    }
    records
}

/// Small records, all alike.
fn small(count: usize) -> Vec<StoredRecord> {
    let each = (0..count).map(|n| StoredRecord {
        partition: PARTITION,
        offset: Offset(5 + n as u64),
        timestamp: Timestamp::from_millis(BASE + n as i64),
        appended_at: Timestamp::from_millis(BASE + n as i64 / 100),
        key: Some(Bytes::from(format!("key {}", n % 100))),
        value: Some(Bytes::from(format!("value {n}"))),
        kind: ValueKind::Opaque,
        headers: Vec::new(),
        properties: None,
    });
    each.collect()
}

#[test]
fn a_file_says_when_its_topic_was_created_if_it_was_told() {
    let created = Timestamp::from_millis(BASE - 1);
    let told = write(&small(10), Options { topic_created: Some(created), ..Options::default() });
    assert_eq!(open(&told.bytes).unwrap().topic_created(), Some(created));
    assert_eq!(verify(&told.bytes, Some(told.hash)).unwrap().file.topic(), TOPIC);
    assert_eq!(open(&plain(&small(10)).bytes).unwrap().topic_created(), None);
}

#[test]
fn every_shape_of_record_comes_back_and_the_file_says_what_it_holds() {
    let records = every_shape();
    let written = plain(&records);
    assert_eq!(read_all(&written.bytes).unwrap(), records);
    let largest = records.iter().map(|record| record.timestamp).max().unwrap();
    assert_eq!((written.records, written.first, written.last), (66, Offset(1_000), Offset(1_065)));
    let smallest = records.iter().map(|record| record.timestamp).min().unwrap();
    assert_eq!((written.first_timestamp, written.max_timestamp), (smallest, largest));
    assert_eq!((written.first_appended_at, written.hash, written.untyped), (records[0].appended_at, hash(&records), 0));
    let file = open(&written.bytes).unwrap();
    assert_eq!((file.topic(), file.partition(), file.records()), (TOPIC, PARTITION, 66));
    assert_eq!((file.first(), file.last(), file.hash()), (written.first, written.last, written.hash));
    assert_eq!(file.row_groups().len(), 1);
    assert_eq!(file.row_groups()[0].max_timestamp, largest);
    assert_eq!(file.data_schema(), None);
    verify(&written.bytes, Some(hash(&records))).unwrap();
}

#[test]
fn a_large_file_is_read_from_any_offset_and_no_further_than_wanted() {
    let records = small(ROW_GROUP_RECORDS + 5_000);
    let written = plain(&records);
    let file = open(&written.bytes).unwrap();
    let ends: Vec<_> = file.row_groups().iter().map(|group| (group.first.0, group.last.0)).collect();
    let middle = 5 + ROW_GROUP_RECORDS as u64;
    assert_eq!(ends, [(5, middle - 1), (middle, middle + 4_999)]);
    let read = |from: u64, records, bytes| {
        let index = file.row_group_of(Offset(from)).unwrap();
        let range = file.row_groups()[index].bytes.clone();
        let mut out = Vec::new();
        let bytes_of_group = written.bytes.slice(range.start as usize..range.end as usize);
        file.decode(index, &bytes_of_group, Want { from: Offset(from), records, bytes }, &mut out).unwrap();
        out
    };
    for (from, count) in [(5, 1), (6, 3_000), (40_000, 10), (middle - 1, 1), (middle, 5_000), (middle + 4_999, 1)] {
        let expected = &records[from as usize - 5..from as usize - 5 + count];
        assert_eq!(read(from, count, usize::MAX), expected, "{count} from {from}");
    }
    assert_eq!(read(10_000, usize::MAX, 30), records[9_995..9_997], "each has 16 bytes");
    assert_eq!(file.row_group_of(Offset(4)), None);
    assert_eq!(file.row_group_of(Offset(middle + 5_000)), None);
    assert_eq!(read_all(&written.bytes).unwrap(), records);
}

#[test]
fn large_values_end_row_groups_early() {
    let mut records = small(40);
    for record in &mut records {
        record.value = Some(Bytes::from(vec![b'x'; 3 << 20]));
    }
    let written = plain(&records);
    let counts: Vec<_> = open(&written.bytes).unwrap().row_groups().iter().map(|group| group.records()).collect();
    assert_eq!(counts, [6, 6, 6, 6, 6, 6, 4]);
    assert_eq!(read_all(&written.bytes).unwrap(), records);
}

#[test]
fn records_that_do_not_follow_each_other_are_refused() {
    let records = small(3);
    let push = |order: &[usize]| {
        let mut writer = ParquetWriter::new(TOPIC, PARTITION, Options::default()).unwrap();
        order.iter().try_for_each(|at| writer.push(&records[*at..=*at]))
    };
    assert_eq!(push(&[0, 1, 2]), Ok(()));
    assert_eq!(push(&[0, 2]), Err(ParquetError::OutOfOrder { last: Offset(5), found: Offset(7) }));
    assert_eq!(push(&[1, 1]), Err(ParquetError::OutOfOrder { last: Offset(6), found: Offset(6) }));
    let mut elsewhere = ParquetWriter::new(TOPIC, PartitionIndex(4), Options::default()).unwrap();
    assert!(matches!(elsewhere.push(&records), Err(ParquetError::OutOfOrder { .. })));
    assert!(matches!(elsewhere.finish(), Err(ParquetError::Unwritable(_))), "a file without records");
}

#[test]
fn a_short_tail_says_how_much_is_needed() {
    let object = plain(&every_shape()).bytes;
    let len = object.len() as u64;
    let tail = |bytes: usize| ParquetFile::open(&object.slice(object.len() - bytes..), len).map(|file| file.records());
    assert_eq!(tail(3), Err(ParquetError::NeedMore { needed: 8 }));
    let Err(ParquetError::NeedMore { needed }) = tail(8) else { panic!("eight bytes are no footer") };
    assert_eq!(tail(needed as usize - 1), Err(ParquetError::NeedMore { needed }));
    assert_eq!(tail(needed as usize), Ok(66));
}

#[test]
fn every_damaged_byte_is_found() {
    let typed = infer_json(None, &every_shape(), 100).unwrap();
    let options = Options { typed: Some(TypedColumns::new(&typed).unwrap()), ..Options::default() };
    let object = write(&every_shape(), options).bytes;
    // The mark at the start belongs to Parquet: nobody reads it to find anything.
    for at in 4..object.len() {
        let mut damaged = object.to_vec();
        damaged[at] ^= 0x10;
        assert!(verify(&Bytes::from(damaged), None).is_err(), "byte {at} of {}", object.len());
    }
    for at in (0..object.len()).step_by(13) {
        assert!(verify(&object.slice(..at), None).is_err(), "cut at {at}");
    }
}

/// Reads a file in pieces of `most` bytes, each asked for before the one in front of it is checked.
fn verified_in_pieces(object: &Bytes, most: u64, expected: ChainDigest) -> Result<usize, ParquetError> {
    let slice = |range: std::ops::Range<u64>| object.slice(range.start as usize..range.end as usize);
    let mut reading = Verification::new(open(object)?);
    let (mut next, mut pieces) = (reading.piece(0, most), 0);
    while let Some((range, count)) = next {
        next = reading.piece(count, most);
        reading.take(&slice(range), count)?;
        pieces += 1;
    }
    let index = slice(reading.index());
    reading.finish(&index, Some(expected)).map(|_| pieces)
}

#[test]
fn a_file_is_verified_piece_by_piece_as_it_is_as_a_whole() {
    let typed = infer_json(None, &every_shape(), 100).unwrap();
    let records = small(3 * ROW_GROUP_RECORDS + 5_000);
    let options = Options { typed: Some(TypedColumns::new(&typed).unwrap()), ..Options::default() };
    let object = write(&records, options).bytes;
    let groups = open(&object).unwrap().row_groups().to_vec();
    assert_eq!(groups.len(), 4);
    let two = groups[1].data_bytes.end - groups[0].bytes.start;
    for (most, pieces) in [(0, 4), (two - 1, 3), (two, 2), (u64::MAX, 1)] {
        assert_eq!(verified_in_pieces(&object, most, hash(&records)), Ok(pieces), "pieces of {most} bytes");
    }
    // Of each row group a byte of the record's columns and one of the typed columns, and one of the indexes.
    let places = groups.iter().flat_map(|group| [group.bytes.start + 40, group.data_bytes.end - 3]);
    for at in places.chain([groups[3].data_bytes.end + 3]) {
        let mut damaged = object.to_vec();
        damaged[at as usize] ^= 0x10;
        assert!(verified_in_pieces(&Bytes::from(damaged), two, hash(&records)).is_err(), "byte {at}");
    }
}

#[test]
fn a_sound_file_of_other_records_is_told_apart() {
    let records = every_shape();
    let expected = hash(&records);
    let mut changed: Vec<Vec<StoredRecord>> = vec![records.clone(); 6];
    changed[0][7].timestamp = Timestamp::from_millis(0);
    changed[1][7].appended_at = Timestamp::from_millis(0);
    changed[2][7].kind = ValueKind::Json;
    changed[3][7].key = Some(Bytes::new());
    changed[4][7].headers.push(Header { name: "".into(), value: None });
    changed[5][5].properties = None;
    for (which, records) in changed.iter().enumerate() {
        let found = verify(&plain(records).bytes, Some(expected)).map(drop);
        assert_eq!(found, Err(ParquetError::OtherRecords { found: hash(records), expected }), "change {which}");
    }
    assert_eq!(expected.to_string().parse(), Ok(expected));
}

#[test]
fn a_file_of_the_first_version_is_read_for_ever() {
    let records = every_shape();
    if freezing() {
        std::fs::write(path("frozen/parquet-v1.parquet"), plain(&records).bytes).unwrap();
    }
    let frozen = file("frozen/parquet-v1.parquet");
    assert_eq!(read_all(&frozen).unwrap(), records);
    verify(&frozen, Some(hash(&records))).unwrap();
}

fn blob() -> impl Strategy<Value = Option<Bytes>> {
    let long = prop_oneof![4 => 0..20_usize, 1 => 20..3_000_usize];
    let bytes = (any::<u8>(), long).prop_map(|(byte, length)| Some(Bytes::from(vec![byte; length])));
    prop_oneof![1 => Just(None), 4 => bytes]
}

fn header() -> impl Strategy<Value = Header> {
    // Names of properties are not for producers; the reader would take them for properties.
    ("[a-s\u{e4}]{0,20}", blob()).prop_map(|(name, value)| Header { name: name.into(), value })
}

fn some_properties() -> impl Strategy<Value = Option<Box<Properties>>> {
    let some = (proptest::option::of("[a-z]{1,9}"), proptest::option::of(any::<u8>()), any::<i64>()).prop_map(|(text, priority, at)| {
        let at = Some(Timestamp::from_millis(at));
        Some(Box::new(Properties { dedup_id: text.map(|text| text.as_str().into()), priority, deliver_at: at, ..Properties::default() }))
    });
    prop_oneof![4 => Just(None), 1 => some]
}

fn any_records() -> impl Strategy<Value = Vec<StoredRecord>> {
    let times = (any::<i64>(), any::<i64>());
    let record = (times, blob(), blob(), any::<bool>(), proptest::collection::vec(header(), 0..4), some_properties());
    (0_u64..1 << 62, proptest::collection::vec(record, 1..60)).prop_map(|(base, records)| {
        let each =
            records.into_iter().enumerate().map(|(n, ((timestamp, appended_at), key, value, json, headers, properties))| StoredRecord {
                partition: PARTITION,
                offset: Offset(base + n as u64),
                timestamp: Timestamp::from_millis(timestamp),
                appended_at: Timestamp::from_millis(appended_at),
                key,
                value,
                kind: if json { ValueKind::Json } else { ValueKind::Opaque },
                headers,
                properties,
            });
        each.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_records_come_back(records in any_records(), skipped in 0_u64..70, most in 1_usize..70) {
        let object = plain(&records).bytes;
        prop_assert_eq!(read_all(&object).unwrap(), records.clone());
        verify(&object, Some(hash(&records))).unwrap();
        let file = open(&object).unwrap();
        let group = file.row_groups()[0].bytes.clone();
        let mut out = Vec::new();
        let want = Want { from: records[0].offset.plus(skipped), records: most, bytes: usize::MAX };
        file.decode(0, &object.slice(group.start as usize..group.end as usize), want, &mut out).unwrap();
        let expected: Vec<_> = records.into_iter().skip(skipped as usize).take(most).collect();
        prop_assert_eq!(out, expected);
    }
}

fn hex(bytes: &Option<Bytes>) -> Value {
    bytes.as_ref().map_or(Value::Null, |bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// What others should read of a record: properties are headers to them, of which the check takes only the names' count.
fn row(record: &StoredRecord) -> Value {
    let headers: Vec<Value> = record.headers.iter().map(|header| json!([&*header.name, hex(&header.value)])).collect();
    json!({
        "partition": record.partition.0,
        "offset": record.offset.0,
        "timestamp": record.timestamp.as_millis(),
        "appended_at": record.appended_at.as_millis(),
        "key": hex(&record.key),
        "value": hex(&record.value),
        "own_headers": headers,
        "json": record.kind == ValueKind::Json,
    })
}

#[test]
fn other_readers_of_parquet_read_the_same_rows() {
    let Some(python) = std::env::var_os("LAKEFALL_TEST_PYTHON") else {
        println!("skipped: LAKEFALL_TEST_PYTHON does not name a Python with pyarrow and duckdb");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut records = every_shape();
    let fields = json!({"n": 1, "part": 0.5, "text": "ä\"\n", "yes": true, "deep": {"list": [1, 2, null], "of": [{"a": 1}, {"b": "x"}]}, "gone": null});
    for (n, record) in records.iter_mut().enumerate().skip(20) {
        let value = match n % 4 {
            0 => fields.clone(),
            1 => json!({"n": n, "text": {"not": ["text", n]}}),
            2 => json!({"n": "not a number"}),
            _ => json!([n]),
        };
        (record.value, record.kind) = (Some(value.to_string().into()), ValueKind::Json);
    }
    let schema = infer_json(None, records.iter().filter(|record| record.offset.0 % 4 == 0 || record.offset.0 % 4 == 1), 100).unwrap();
    let options = || Options { typed: Some(TypedColumns::new(&schema).unwrap()), ..Options::default() };
    for (name, written) in [("plain", plain(&records)), ("typed", write(&records, options()))] {
        std::fs::write(directory.path().join(format!("{name}.parquet")), &written.bytes).unwrap();
        assert_eq!(read_all(&written.bytes).unwrap(), records, "{name}");
    }
    std::fs::write(directory.path().join("many.parquet"), plain(&small(70_000)).bytes).unwrap();
    let rows: Vec<Value> = records.iter().map(row).collect();
    std::fs::write(directory.path().join("rows.json"), Value::from(rows).to_string()).unwrap();
    let ran = Command::new(python).arg(path("golden/check_parquet.py")).arg(directory.path()).output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}
