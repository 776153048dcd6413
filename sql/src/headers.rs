//! The column `_headers`: names and texts, as a map. A value that is no text is null. Properties of a record are not among
//! them, however they are stored.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow_schema::{ArrowError, Field};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use lakefall_queue::{Properties, StoredRecord};

use crate::columns::header_fields;

#[derive(Default)]
struct Builder {
    names: StringBuilder,
    values: StringBuilder,
    ends: Vec<i32>,
    len: i32,
}

impl Builder {
    fn push(&mut self, name: &str, value: Option<&[u8]>) {
        if !is_property(name) {
            self.names.append_value(name);
            self.values.append_option(value.and_then(|value| std::str::from_utf8(value).ok()));
            self.len += 1;
        }
    }

    fn end(&mut self) {
        self.ends.push(self.len);
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let ends: Vec<i32> = std::iter::once(0).chain(self.ends).collect();
        let entries: Vec<ArrayRef> = vec![Arc::new(self.names.finish()), Arc::new(self.values.finish())];
        let entries = StructArray::try_new(header_fields(), entries, None)?;
        let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        Ok(Arc::new(MapArray::try_new(field, OffsetBuffer::new(ScalarBuffer::from(ends)), entries, None, false)?))
    }
}

fn is_property(name: &str) -> bool {
    name.starts_with(Properties::RESERVED_PREFIX) || name == "traceparent" || name == "tracestate"
}

/// Of records.
pub(crate) fn of_records(records: &[StoredRecord]) -> Result<ArrayRef, ArrowError> {
    let mut builder = Builder::default();
    for record in records {
        record.headers.iter().for_each(|header| builder.push(&header.name, header.value.as_deref()));
        builder.end();
    }
    builder.finish()
}

/// Of the column of a Parquet file, whose names and values are views.
pub(crate) fn of_file(headers: &ListArray) -> Result<ArrayRef, ArrowError> {
    let wrong = || ArrowError::CastError("headers have other types than those of the format".to_owned());
    let each = headers.values().as_struct_opt().ok_or_else(wrong)?;
    let names = each.columns().first().and_then(|names| names.as_string_view_opt()).ok_or_else(wrong)?;
    let values = each.columns().get(1).and_then(|values| values.as_binary_view_opt()).ok_or_else(wrong)?;
    let mut builder = Builder::default();
    for ends in headers.value_offsets().windows(2) {
        for at in ends[0] as usize..ends[1] as usize {
            builder.push(names.value(at), (!values.is_null(at)).then(|| values.value(at)));
        }
        builder.end();
    }
    builder.finish()
}
