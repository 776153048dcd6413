//! Columns as forms of text can hold them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryViewArray, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow_json::writer::{EncoderOptions, make_encoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use datafusion::arrow::compute::cast;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes become text.
pub(super) fn texts(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    mapped(batch, |field, column| match column.data_type() {
        DataType::BinaryView | DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            let bytes = cast(column, &DataType::BinaryView)?;
            Ok((as_text(field), as_texts(bytes.as_binary_view())))
        }
        _ => Ok((Arc::clone(field), Arc::clone(column))),
    })
}

/// Bytes become text, and what has columns or items of its own becomes JSON.
pub(super) fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    mapped(&texts(batch)?, |field, column| match column.data_type() {
        data_type if data_type.is_nested() => {
            let options = EncoderOptions::default().with_explicit_nulls(true);
            let mut encoder = make_encoder(field, column, &options)?;
            let mut text = Vec::new();
            let each = (0..column.len()).map(|row| {
                text.clear();
                if encoder.is_null(row) {
                    return None;
                }
                encoder.encode(row, &mut text);
                Some(String::from_utf8_lossy(&text).into_owned())
            });
            let each: StringViewArray = each.collect();
            Ok((as_text(field), Arc::new(each) as ArrayRef))
        }
        _ => Ok((Arc::clone(field), Arc::clone(column))),
    })
}

fn mapped(
    batch: &RecordBatch,
    mut each: impl FnMut(&FieldRef, &ArrayRef) -> Result<(FieldRef, ArrayRef), ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| each(field, column));
    let (fields, columns): (Vec<_>, Vec<_>) = columns.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn as_text(field: &Field) -> FieldRef {
    Arc::new(Field::new(field.name(), DataType::Utf8View, true))
}

fn as_texts(bytes: &BinaryViewArray) -> ArrayRef {
    match bytes.clone().to_string_view() {
        Ok(texts) => Arc::new(texts),
        Err(_) => Arc::new(bytes.iter().map(|bytes| bytes.map(as_text_or_base64)).collect::<StringViewArray>()),
    }
}

fn as_text_or_base64(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| base64(bytes), str::to_owned)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0_u32, |number, at| (number << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let index = (number >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_are() {
        assert_eq!(as_text_or_base64("ä".as_bytes()), "ä");
        for (bytes, text) in [(&[0xff][..], "/w=="), (&[0xff, 0xfe], "//4="), (&[0xff, 0xfe, 0xfd], "//79")] {
            assert_eq!(as_text_or_base64(bytes), text);
        }
    }
}
