//! Avro's object container files (<https://avro.apache.org/docs/1.12.0/specification/#object-container-files>), written: the
//! schema's text goes into the header as it stands, with the field ids that Iceberg asks for and that the library's own
//! writer may leave out.

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};

/// What every container begins with.
const MAGIC: &[u8] = b"Obj\x01";

/// A container with one uncompressed block. `metadata` are further pairs of the header.
pub(super) fn container(
    schema: &str,
    metadata: &[(&str, String)],
    records: Vec<Value>,
    sync: [u8; 16],
) -> Result<Vec<u8>, apache_avro::Error> {
    let parsed = Schema::parse_str(schema)?;
    let header = [("avro.schema", schema), ("avro.codec", "null")];
    let pairs: Vec<(&str, &str)> = header.into_iter().chain(metadata.iter().map(|(name, value)| (*name, value.as_str()))).collect();
    let mut out = MAGIC.to_vec();
    long(pairs.len() as i64, &mut out);
    for (name, value) in pairs {
        bytes(name.as_bytes(), &mut out);
        bytes(value.as_bytes(), &mut out);
    }
    long(0, &mut out);
    out.extend(sync);
    if !records.is_empty() {
        let mut block = Vec::new();
        let count = records.len() as i64;
        for record in records {
            block.extend(to_avro_datum(&parsed, record)?);
        }
        long(count, &mut out);
        bytes(&block, &mut out);
        out.extend(sync);
    }
    Ok(out)
}

fn long(number: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_reads_what_is_written() {
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":"long","field-id":7}]}"#;
        let records: Vec<Value> = [-1_i64, 300, i64::MAX].map(|n| Value::Record(vec![("a".to_owned(), Value::Long(n))])).to_vec();
        let written = container(schema, &[("k", "v".to_owned())], records.clone(), [7; 16]).unwrap();
        let reader = apache_avro::Reader::new(&written[..]).unwrap();
        assert_eq!(reader.user_metadata().get("k").map(Vec::as_slice), Some(&b"v"[..]));
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), records);
        let empty = container(schema, &[], Vec::new(), [7; 16]).unwrap();
        assert_eq!(apache_avro::Reader::new(&empty[..]).unwrap().count(), 0);
    }
}
