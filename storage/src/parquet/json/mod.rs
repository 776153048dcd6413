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
    /// Some value was no string where a text column is: others will not be.
    any_as_text: bool,
}

impl JsonColumn {
    /// Errors: types that JSON values have no place in.
    pub(super) fn new(fields: &Fields) -> Result<Self, ArrowError> {
        Ok(Self { root: Column::new(&DataType::Struct(fields.clone()))?, rows: 0, any_as_text: false })
    }

    /// Adds an object; false, and a null, if it is not one JSON text or does not fit.
    pub(super) fn push(&mut self, json: &[u8]) -> bool {
        if self.read(json, self.any_as_text) {
            return true;
        }
        if !self.any_as_text && self.read(json, true) {
            self.any_as_text = true;
            return true;
        }
        self.push_null();
        false
    }

    /// Leaves nothing behind where it answers false.
    fn read(&mut self, json: &[u8], any_as_text: bool) -> bool {
        let mut text = serde_json::Deserializer::from_slice(json);
        let row = Row { column: &mut self.root, any_as_text };
        let fits = row.deserialize(&mut text).and_then(|()| text.end()).is_ok();
        if fits {
            self.rows += 1;
        } else {
            self.root.truncate(self.rows);
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
