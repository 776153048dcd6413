//! Rows as JSON texts.

use arrow_array::RecordBatch;
use arrow_json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::ArrowError;
use bytes::{Bytes, BytesMut};

/// What a row looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[1,"a"]`, with commas between rows.
    Arrays,
    /// `{"n":1,"s":"a"}` and a newline.
    Lines,
}

/// Encodes a batch; `begun` if rows were encoded before.
pub(super) fn encode(batch: &RecordBatch, shape: Shape, mut begun: bool, portion_bytes: usize) -> Result<Vec<Bytes>, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true).with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.3fZ".to_owned());
    let schema = batch.schema();
    let encoders = schema.fields().iter().zip(batch.columns()).map(|(field, column)| make_encoder(field, column, &options));
    let mut encoders: Vec<NullableEncoder<'_>> = encoders.collect::<Result<_, _>>()?;
    let names = schema.fields().iter().map(|field| serde_json::to_vec(field.name()));
    let names: Vec<Vec<u8>> = names.collect::<Result<_, _>>().map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let (mut portions, mut out, mut row_bytes) = (Vec::new(), BytesMut::new(), Vec::new());
    for row in 0..batch.num_rows() {
        row_bytes.clear();
        if shape == Shape::Arrays && begun {
            row_bytes.push(b',');
        }
        begun = true;
        row_bytes.push(if shape == Shape::Arrays { b'[' } else { b'{' });
        for (at, (encoder, name)) in encoders.iter_mut().zip(&names).enumerate() {
            if at > 0 {
                row_bytes.push(b',');
            }
            if shape == Shape::Lines {
                row_bytes.extend_from_slice(name);
                row_bytes.push(b':');
            }
            match encoder.is_null(row) {
                true => row_bytes.extend_from_slice(b"null"),
                false => encoder.encode(row, &mut row_bytes),
            }
        }
        row_bytes.extend_from_slice(if shape == Shape::Arrays { b"]" } else { b"}\n" });
        out.extend_from_slice(&row_bytes);
        if out.len() >= portion_bytes {
            portions.push(super::portion(&mut out));
        }
    }
    if !out.is_empty() {
        portions.push(super::portion(&mut out));
    }
    Ok(portions)
}
