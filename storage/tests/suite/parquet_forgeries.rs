//! Parquet files that somebody changed and sealed again: checksums are right, the content makes no sense. Whatever it is,
//! reading gives records or an error.

use bytes::Bytes;
use lakefall_storage::parquet::{Options, ParquetError, ParquetFile, TypedColumns, infer_json, verify};
use proptest::prelude::*;

use crate::parquet_files::{every_shape, write};
use crate::samples::file;

/// Makes all checksums right again.
fn reseal(object: &mut [u8], sound: &ParquetFile, crc_texts: &[String]) {
    let end = object.len() - 8;
    let length = u32::from_le_bytes(object[end..end + 4].try_into().unwrap()) as usize;
    let Some(metadata) = end.checked_sub(length).filter(|at| *at > 20) else { return };
    for (group, text) in sound.row_groups().iter().zip(crc_texts) {
        let crc = crc32c::crc32c(&object[group.bytes.start as usize..group.bytes.end as usize]);
        if let Some(at) = object[metadata..].windows(8).position(|window| window == text.as_bytes()) {
            object[metadata + at..metadata + at + 8].copy_from_slice(format!("{crc:08x}").as_bytes());
        }
    }
    let rows_end = sound.row_groups().last().unwrap().data_bytes.end as usize;
    if let Some(index) = object.get(rows_end..metadata - 16) {
        let crc = crc32c::crc32c(index);
        object[metadata - 8..metadata - 4].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&object[metadata - 16..metadata - 4]), &object[metadata..]);
    object[metadata - 4..metadata].copy_from_slice(&crc.to_le_bytes());
}

fn inputs() -> Vec<(Bytes, ParquetFile, Vec<String>)> {
    let schema = infer_json(None, &every_shape(), 10).unwrap();
    let typed = write(&every_shape(), Options { typed: Some(TypedColumns::new(&schema).unwrap()), ..Options::default() });
    let each = [file("frozen/parquet-v1.parquet"), typed.bytes].into_iter().map(|object| {
        let sound = ParquetFile::open(&object, object.len() as u64).unwrap();
        let crcs = sound.row_groups().iter();
        let crcs = crcs.map(|group| format!("{:08x}", crc32c::crc32c(&object[group.bytes.start as usize..group.bytes.end as usize])));
        let crcs = crcs.collect();
        (object, sound, crcs)
    });
    each.collect()
}

#[test]
fn what_is_sealed_again_reaches_the_decoders() {
    for (object, sound, crcs) in inputs() {
        let group = sound.row_groups()[0].bytes.clone();
        for at in (group.start as usize..group.end as usize).step_by(3) {
            let mut forged = object.to_vec();
            forged[at] ^= 0x40;
            reseal(&mut forged, &sound, &crcs);
            match verify(&Bytes::from(forged), None) {
                // Some bytes nobody looks at, like whether a dictionary is sorted.
                Ok(_) | Err(ParquetError::Corrupt(_) | ParquetError::OtherRecords { .. }) => {}
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn a_forged_file_gives_records_or_an_error(
        which in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..5),
        // Where most numbers are.
        in_footer in any::<bool>(),
    ) {
        thread_local!(static INPUTS: Vec<(Bytes, ParquetFile, Vec<String>)> = inputs());
        INPUTS.with(|inputs| {
            let (object, sound, crcs) = &inputs[usize::from(which)];
            let mut forged = object.to_vec();
            let rows_end = sound.row_groups().last().unwrap().data_bytes.end as usize;
            let start = if in_footer { rows_end } else { 4 };
            for (at, byte, flip) in &edits {
                let at = start + at.index(forged.len() - 4 - start);
                forged[at] = if *flip { forged[at] ^ (1 << (byte % 8)) } else { *byte };
            }
            reseal(&mut forged, sound, crcs);
            let forged = Bytes::from(forged);
            if let Ok(report) = verify(&forged, None) {
                assert!(report.payload_bytes < 1 << 20);
            }
        });
    }
}
