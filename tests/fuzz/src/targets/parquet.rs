//! Parquet files: footer, row groups and single columns; and the same sealed again, as one forges who can write to the bucket.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::{Offset, StoredRecord};
use lakefall_storage::parquet::{ChainHash, ColumnReader, ParquetError, ParquetFile, Want, verify};

/// Bytes behind the file's metadata: its length and `PAR1`.
const END: usize = 8;
/// Bytes in front of it: a mark, and checksums of the page indexes and of itself.
const TRAILER: usize = 16;
/// Where the format keeps checksums of row groups.
const CHECKSUMS: &[u8] = b"lakefall.crc32c";

/// No panic, memory within the format's bounds, and all ways of reading agree on the records.
pub fn parquet_read(input: &[u8]) -> bool {
    let taken = run(&Bytes::copy_from_slice(input));
    forged(input).is_some_and(|object| run(&object.into())) || taken
}

fn run(object: &Bytes) -> bool {
    let whole = verify(object, None);
    let tail = object.slice(object.len() / 2..);
    let file = match ParquetFile::open(&tail, object.len() as u64) {
        Ok(file) => file,
        // A tail may be too short where the whole is not, and never says that it needs more than there is.
        Err(ParquetError::NeedMore { needed }) => {
            assert!(needed <= object.len() as u64, "{needed} bytes of {}", object.len());
            match ParquetFile::open(object, object.len() as u64) {
                Ok(file) => file,
                Err(error) => return refused(whole.map(|_| ()), &error),
            }
        }
        Err(error) => return refused(whole.map(|_| ()), &error),
    };
    let file = Arc::new(file);
    let records = records(&file, object);
    if let Ok(report) = &whole {
        let records = records.as_ref().unwrap();
        let mut hash = ChainHash::new();
        records.iter().for_each(|record| hash.update(record));
        assert_eq!((hash.digest(), records.len() as u64), (file.hash(), file.records()), "another reading of a file that was verified");
        assert_eq!(records.iter().map(|record| record.payload_bytes() as u64).sum::<u64>(), report.payload_bytes);
        parts(&file, object, records);
    }
    columns(&file, object, records.as_deref().ok());
    whole.is_ok()
}

fn refused(whole: Result<(), ParquetError>, error: &ParquetError) -> bool {
    assert!(whole.is_err(), "a file that was verified cannot be opened: {error}");
    false
}

fn slice(object: &Bytes, range: &Range<u64>) -> Bytes {
    object.slice(range.start as usize..range.end as usize)
}

fn records(file: &ParquetFile, object: &Bytes) -> Result<Vec<StoredRecord>, ParquetError> {
    let mut records = Vec::new();
    for (index, group) in file.row_groups().iter().enumerate() {
        let before = records.len();
        let read = file.decode(index, &slice(object, &group.bytes), Want::from(Offset(0)), &mut records);
        if read.is_err() {
            assert_eq!(records.len(), before, "records of a row group that is refused");
        }
        read?;
        let of_group = &records[before..];
        assert_eq!((of_group[0].offset, of_group[of_group.len() - 1].offset), (group.first, group.last));
    }
    Ok(records)
}

/// From an offset in the middle on, a few records: the same as of the whole.
fn parts(file: &ParquetFile, object: &Bytes, all: &[StoredRecord]) {
    let from = all[all.len() / 2].offset;
    let Some(index) = file.row_group_from(from) else { panic!("no row group holds offset {from}") };
    let group = &file.row_groups()[index];
    let mut some = Vec::new();
    file.decode(index, &slice(object, &group.bytes), Want { from, records: 3, bytes: usize::MAX }, &mut some).unwrap();
    let expected: Vec<_> = all.iter().filter(|record| record.offset >= from && record.offset <= group.last).take(3).cloned().collect();
    assert_eq!(some, expected, "from offset {from} on");
}

/// Single columns: as many rows as there are records.
fn columns(file: &Arc<ParquetFile>, object: &Bytes, records: Option<&[StoredRecord]>) {
    let typed: Vec<String> = file.data_schema().iter().flat_map(|schema| schema.fields()).map(|field| field.name().clone()).collect();
    let typed: Vec<&str> = typed.iter().map(String::as_str).take(3).collect();
    let Ok(reader) = ColumnReader::new(Arc::clone(file), &["offset", "key", "headers"], &typed) else { return };
    for index in 0..file.row_groups().len().min(4) {
        let bytes: Vec<Bytes> = reader.ranges(index).iter().map(|range| slice(object, range)).collect();
        let _ = file.bounds(index, &["offset"]);
        let Ok(batches) = reader.decode(index, &bytes, 1_000) else { continue };
        let rows: Result<usize, ParquetError> = batches.map(|batch| batch.map(|batch| batch.num_rows())).sum();
        if let (Ok(rows), Some(_)) = (rows, records) {
            assert_eq!(rows as u64, file.row_groups()[index].records());
        }
    }
}

/// The same file with right checksums of its metadata, its page indexes, its row groups and their typed columns; nothing if it
/// has no metadata.
fn forged(input: &[u8]) -> Option<Vec<u8>> {
    let mut object = input.to_vec();
    let end = object.len().checked_sub(END)?;
    let length = u32::from_le_bytes(object[end..end + 4].try_into().ok()?) as usize;
    let metadata = end.checked_sub(length).filter(|at| *at > TRAILER + 4)?;
    // Without checksums of its own, a column is covered by that of the row group.
    if let Some(at) = find(&object[metadata..end], b"lakefall.crc32c.columns") {
        object[metadata + at + 22] = b'z';
    }
    seal_metadata(&mut object, metadata);
    let file = ParquetFile::open(&Bytes::copy_from_slice(&object), object.len() as u64).ok()?;
    for (key, ranges) in [
        (CHECKSUMS, file.row_groups().iter().map(|group| group.bytes.clone()).collect::<Vec<_>>()),
        (&b"lakefall.crc32c.data"[..], file.row_groups().iter().map(|group| group.data_bytes.clone()).collect()),
    ] {
        let Some(value) = value_at(&object, metadata, key) else { continue };
        for (number, range) in ranges.iter().enumerate() {
            let text = format!("{:08x}", crc32c::crc32c(&object[range.start as usize..range.end as usize]));
            let at = value + 9 * number;
            object.get_mut(at..at + 8)?.copy_from_slice(text.as_bytes());
        }
    }
    let rows_end = file.row_groups().last()?.data_bytes.end as usize;
    let index = crc32c::crc32c(object.get(rows_end..metadata - TRAILER)?);
    object[metadata - 8..metadata - 4].copy_from_slice(&index.to_le_bytes());
    seal_metadata(&mut object, metadata);
    Some(object)
}

fn seal_metadata(object: &mut [u8], metadata: usize) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&object[metadata - TRAILER..metadata - 4]), &object[metadata..]);
    object[metadata - 4..metadata].copy_from_slice(&crc.to_le_bytes());
}

/// Where a key's value begins: in Thrift, behind a byte for the field and its length as a varint.
fn value_at(object: &[u8], metadata: usize, key: &[u8]) -> Option<usize> {
    const FIELD: u8 = 0x18;
    let mut from = metadata;
    loop {
        from += find(&object[from..], key)? + key.len();
        if object.get(from) == Some(&FIELD) {
            break;
        }
    }
    let length = object[from + 1..].iter().position(|byte| byte & 0x80 == 0)?;
    Some(from + 2 + length)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
