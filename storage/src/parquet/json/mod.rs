//! JSON texts to columns, straight from the parser. A value that does not fit leaves nothing behind.
//!
//! Text columns take any value: what is no string stands there as its JSON text. Number columns take no strings, and those of
//! whole numbers nothing that would be rounded. Times and dates are strings as RFC 3339 has them. Fields that the columns do
//! not have are passed over; fields that a value does not have are null.

mod column;
mod read;

use arrow_array::ArrayRef;
use arrow_schema::{ArrowError, DataType, Fields};
use serde::de::DeserializeSeed;

use column::Column;
use read::Row;

/// A struct column that is filled value by value.
#[derive(Debug)]
pub(super) struct JsonColumn {
    root: Column,
    /// Values so far, null ones too.
    rows: usize,
}

impl JsonColumn {
    /// Errors: types that JSON values have no place in.
    pub(super) fn new(fields: &Fields) -> Result<Self, ArrowError> {
        Ok(Self { root: Column::new(&DataType::Struct(fields.clone()))?, rows: 0 })
    }

    /// Adds an object; false, and a null, if it is not one JSON text or does not fit.
    pub(super) fn push(&mut self, json: &[u8]) -> bool {
        let mut text = serde_json::Deserializer::from_slice(json);
        let fits = Row(&mut self.root).deserialize(&mut text).and_then(|()| text.end()).is_ok();
        if fits {
            self.rows += 1;
        } else {
            self.root.truncate(self.rows);
            self.push_null();
        }
        fits
    }

    pub(super) fn push_null(&mut self) {
        self.root.push_null();
        self.rows += 1;
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        self.root.finish()
    }
}
