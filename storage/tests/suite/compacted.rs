//! What only compaction makes: batches that say when they were appended, files with gaps, and pieces of objects in the cache.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lakefall_queue::{Offset, PartitionIndex, SegmentId, StoredRecord, Timestamp, TopicId};
use lakefall_storage::batch::{BatchError, DecodeContext, decode, patch_appended_delta, walk};
use lakefall_storage::cache::{Cache, CacheConfig, Place, Pool};
use lakefall_storage::parquet::{ChainHash, Options, ParquetError, ParquetFile, ParquetWriter, Want, verify};
use lakefall_storage::segment::take_over;
use lakefall_storage::store::Store;
use object_store::memory::InMemory;

use crate::samples::{BASE, encode, records};

fn batch(count: usize) -> Bytes {
    encode(Compression::Zstd, &records()[..count]).bytes
}

fn times(batch: &Bytes, merged: bool) -> Result<Vec<i64>, BatchError> {
    let context = DecodeContext { merged, ..DecodeContext::new(PartitionIndex(0), Offset(0), Timestamp::from_millis(1_000)) };
    let mut records = Vec::new();
    decode(batch, context, Offset(0), &mut records)?;
    Ok(records.iter().map(|record| record.appended_at.as_millis()).collect())
}

#[test]
fn batches_are_taken_over_as_they_are_and_say_how_much_later_they_were_appended() {
    let bytes = [batch(3), batch(2)].concat();
    let taken = take_over(&bytes, 250, false).unwrap();
    assert_eq!(taken.iter().map(|batch| batch.records).collect::<Vec<_>>(), [3, 2]);
    assert_eq!((times(&taken[0].bytes, true), times(&taken[1].bytes, true)), (Ok(vec![1_250; 3]), Ok(vec![1_250; 2])));
    assert_eq!(times(&taken[0].bytes, false), Ok(vec![1_000; 3]), "in a gateway's segment the field says nothing");
    let again = take_over(&taken[0].bytes, 50, true).unwrap();
    assert_eq!(times(&again[0].bytes, true), Ok(vec![1_300; 3]));
    for (taken, (header, range)) in taken.iter().zip(walk(&bytes).map(Result::unwrap)) {
        let original = &bytes[range];
        assert_eq!((&taken.bytes[..12], &taken.bytes[16..]), (&original[..12], &original[16..]), "nothing else changes");
        header.verify(&taken.bytes).unwrap();
    }
    let mut damaged = bytes.clone();
    damaged[70] ^= 1;
    assert_eq!(take_over(&damaged, 0, false), Err(BatchError::BadCrc));
}

#[test]
fn a_batch_is_of_the_day_of_its_extent() {
    let mut bytes = batch(1).to_vec();
    assert!(patch_appended_delta(&mut bytes, 86_400_001).is_err());
    assert!(times(&Bytes::from(bytes.clone()), true).is_err(), "as a gateway writes it");
    patch_appended_delta(&mut bytes, 86_400_000).unwrap();
    assert_eq!(times(&Bytes::from(bytes), true), Ok(vec![86_401_000]));
}

fn sparse(count: u64) -> Vec<StoredRecord> {
    let offsets = (0..count).map(|n| n * 3 + n % 2 + 100);
    let stored = |offset: u64| StoredRecord {
        partition: PartitionIndex(0),
        offset: Offset(offset),
        timestamp: Timestamp::from_millis(BASE + offset as i64),
        appended_at: Timestamp::from_millis(BASE),
        key: Some(Bytes::from(offset.to_string())),
        value: Some(Bytes::from("x".repeat(offset as usize % 40))),
        kind: lakefall_queue::ValueKind::Opaque,
        headers: Vec::new(),
        properties: None,
    };
    offsets.map(stored).collect()
}

#[test]
fn a_file_with_gaps_is_read_from_any_offset() {
    let records = sparse(70_000);
    let mut writer = ParquetWriter::new(TopicId(1), PartitionIndex(0), Options { gaps: true, ..Options::default() }).unwrap();
    writer.push(&records).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!((written.records, written.first, written.last), (70_000, records[0].offset, records[69_999].offset));
    let mut hash = ChainHash::new();
    records.iter().for_each(|record| hash.update(record));
    verify(&written.bytes, Some(hash.digest())).unwrap();
    let file = ParquetFile::open(&written.bytes, written.bytes.len() as u64).unwrap();
    assert_eq!(file.row_groups().iter().map(|group| group.records()).sum::<u64>(), 70_000);
    for from in [0, 100, 101, 150_003, 196_607, 196_709, 209_998, 210_098] {
        let Some(index) = file.row_group_from(Offset(from)) else {
            assert!(Offset(from) > written.last);
            continue;
        };
        let group = &file.row_groups()[index];
        let bytes = written.bytes.slice(group.bytes.start as usize..group.bytes.end as usize);
        let mut found = Vec::new();
        file.decode(index, &bytes, Want { records: 5, ..Want::from(Offset(from)) }, &mut found).unwrap();
        let expected: Vec<_> = records.iter().filter(|r| r.offset.0 >= from && r.offset <= group.last).take(5).cloned().collect();
        assert_eq!(found, expected, "from {from}");
    }
}

#[test]
fn gaps_are_refused_unless_they_are_meant() {
    let mut writer = ParquetWriter::new(TopicId(1), PartitionIndex(0), Options::default()).unwrap();
    assert!(matches!(writer.push(&sparse(2)), Err(ParquetError::OutOfOrder { .. })));
    let mut writer = ParquetWriter::new(TopicId(1), PartitionIndex(0), Options { gaps: true, ..Options::default() }).unwrap();
    let backwards: Vec<_> = sparse(2).into_iter().rev().collect();
    assert!(matches!(writer.push(&backwards), Err(ParquetError::OutOfOrder { .. })));
}

#[tokio::test]
async fn a_piece_is_one_request_under_any_key_and_kept_beside_the_blocks() {
    let inner = Arc::new(InMemory::new());
    let store = Store::over(inner);
    let content = Bytes::from((0..3_000_000_u32).map(|n| (n * 7) as u8).collect::<Vec<_>>());
    let id = SegmentId::mint(Timestamp::from_millis(1), 7);
    let place = Place { id, key: "tables/a/b/date=2026-01-01/x.parquet".into(), size: content.len() as u64 };
    store.put_new(&place.key, vec![content.clone()]).await.unwrap();
    let cache = Cache::new(store.clone(), CacheConfig::default()).await;
    for pool in [Pool::Cold, Pool::Hot] {
        assert_eq!(cache.get_piece(&place, 100..2_500_000, pool).await.unwrap(), content.slice(100..2_500_000));
        assert_eq!(cache.get_of(&place, 100..2_500_000, pool).await.unwrap(), content.slice(100..2_500_000));
    }
    store.delete(&place.key).await.unwrap();
    assert_eq!(cache.get_piece(&place, 100..2_500_000, Pool::Hot).await.unwrap(), content.slice(100..2_500_000), "kept");
    assert!(cache.get_piece(&place, 101..2_500_000, Pool::Hot).await.is_err(), "another piece");
    assert!(cache.renew_piece(&place, 100..2_500_000).await.is_err(), "past the cache");
    assert!(cache.get_piece(&place, 0..place.size + 1, Pool::Hot).await.is_err(), "beyond the end");
}
