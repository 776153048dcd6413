//! Segments: their index, and every batch in them; and the same with right checksums.

use bytes::Bytes;
use lakefall_storage::segment::{SegmentIndex, verify};

use super::batch::sealed;

/// An index entry's length, and of the footer behind the index: its length, checksum and mark.
const ENTRY: usize = 56;
const FOOTER: usize = 16;

/// No panic; what passes describes itself; and a tail alone never gives another index than the whole.
pub fn segment_decode(input: &[u8]) -> bool {
    let taken = run(input);
    resealed(input).is_some_and(|object| run(&object)) || taken
}

fn run(input: &[u8]) -> bool {
    let object = Bytes::copy_from_slice(input);
    let index = SegmentIndex::decode(&object, object.len() as u64);
    let tail = &object[object.len() / 2..];
    if let (Ok(of_tail), Ok(index)) = (SegmentIndex::decode(tail, object.len() as u64), &index) {
        assert_eq!(of_tail, *index, "the tail gives another index");
    }
    if let Ok(index) = &index {
        assert!(object.ends_with(&index.encode()), "an index is not what it was decoded from");
    }
    match verify(&object) {
        Ok(report) => {
            assert_eq!(Ok(report.index), index);
            true
        }
        Err(_) => false,
    }
}

/// The same segment with right checksums of its index, its extents, and the first batch of each.
fn resealed(input: &[u8]) -> Option<Vec<u8>> {
    let mut object = input.to_vec();
    let footer = object.len().checked_sub(FOOTER)?;
    let seal_index = |object: &mut Vec<u8>, start: usize| {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&object[start..footer + 4]), &object[footer + 8..]);
        object[footer + 4..footer + 8].copy_from_slice(&crc.to_be_bytes());
    };
    let length = u32::from_be_bytes(object[footer..footer + 4].try_into().ok()?) as usize;
    let start = footer.checked_sub(length)?;
    seal_index(&mut object, start);
    let entries = object[start..footer].as_chunks::<ENTRY>().0.len();
    for entry in (0..entries).map(|number| start + number * ENTRY) {
        let number = |at: usize| usize::try_from(u64::from_be_bytes(object.get(at..at + 8)?.try_into().ok()?)).ok();
        let (Some(position), Some(length)) = (number(entry + 12), number(entry + 20)) else { continue };
        let Some(end) = position.checked_add(length).filter(|end| *end <= start) else { continue };
        let batch = u32::from_be_bytes(object.get(position + 8..position + 12).and_then(|at| at.try_into().ok()).unwrap_or_default());
        let first = (position + 12).saturating_add(batch as usize).min(end);
        let batch = sealed(&object[position..first]);
        object[position..first].copy_from_slice(&batch);
        let crc = crc32c::crc32c(&object[position..end]);
        object[entry + 52..entry + 56].copy_from_slice(&crc.to_be_bytes());
    }
    seal_index(&mut object, start);
    Some(object)
}
