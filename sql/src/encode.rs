//! Rows as bytes: JSON arrays, lines of JSON, CSV, an Arrow stream. Texts of times are RFC 3339 with milliseconds, bytes are
//! text where they are, and base64 where they are not (except in Arrow).

mod flat;
mod json;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use bytes::{Bytes, BytesMut};
use lakefall_queue::sql::{Column, RowsForm};
use lakefall_queue::{Error, Result};

use self::json::Shape;

/// A portion ends after the row that brings it to this many bytes.
const PORTION: usize = 256 << 10;
/// Rows of a message of an Arrow stream.
const ARROW_ROWS: usize = 8_192;

/// Encodes the rows of one answer.
pub(crate) struct Encoder {
    schema: SchemaRef,
    form: Form,
    /// Something was encoded before.
    begun: bool,
}

enum Form {
    Json(Shape),
    Csv,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Encoder {
    /// For rows of this schema. Of columns with the same name the second gets `:1` behind it, and so on.
    pub(crate) fn new(form: RowsForm, schema: &SchemaRef) -> Result<Self> {
        let schema = unambiguous(schema);
        let form = match form {
            RowsForm::JsonRows => Form::Json(Shape::Arrays),
            RowsForm::Lines => Form::Json(Shape::Lines),
            RowsForm::Csv => Form::Csv,
            RowsForm::Arrow => Form::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &schema).map_err(internal)?)),
        };
        Ok(Self { schema, form, begun: false })
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        let column =
            |field: &Arc<Field>| Column { name: field.name().clone(), kind: field.data_type().to_string(), nullable: field.is_nullable() };
        self.schema.fields().iter().map(column).collect()
    }

    /// Encodes rows, in portions of bounded size.
    pub(crate) fn portions(&mut self, batch: RecordBatch) -> Vec<Result<Bytes>> {
        let batch = RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            batch.columns().to_vec(),
            &arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        );
        let encoded = batch.and_then(|batch| self.encode(&batch));
        match encoded {
            Ok(portions) => portions.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(internal(error))],
        }
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
        let begun = self.begun;
        self.begun |= batch.num_rows() > 0;
        match &mut self.form {
            Form::Json(shape) => json::encode(&flat::texts(batch)?, *shape, begun, PORTION),
            Form::Csv => csv(&flat::flat(batch)?, !begun),
            Form::Arrow(writer) => {
                for start in (0..batch.num_rows()).step_by(ARROW_ROWS) {
                    writer.write(&batch.slice(start, ARROW_ROWS.min(batch.num_rows() - start)))?;
                }
                Ok(vec![Bytes::from(std::mem::take(writer.get_mut()))].into_iter().filter(|bytes| !bytes.is_empty()).collect())
            }
        }
    }

    /// What follows the last row.
    pub(crate) fn finish(mut self) -> Result<Option<Bytes>> {
        let end = match &mut self.form {
            // An answer without rows has a header all the same.
            Form::Csv if !self.begun => {
                let none = RecordBatch::new_empty(Arc::clone(&self.schema));
                flat::flat(&none).and_then(|none| csv(&none, true)).map_err(internal)?.concat()
            }
            Form::Json(_) | Form::Csv => Vec::new(),
            Form::Arrow(writer) => {
                writer.finish().map_err(internal)?;
                std::mem::take(writer.get_mut())
            }
        };
        Ok(Some(Bytes::from(end)).filter(|end| !end.is_empty()))
    }
}

fn unambiguous(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut count = 0;
        while fields.iter().any(|known| *known.name() == name) {
            count += 1;
            name = format!("{}:{count}", field.name());
        }
        fields.push(Arc::new(field.as_ref().clone().with_name(name).with_metadata(Default::default())));
    }
    Arc::new(Schema::new(fields))
}

fn csv(batch: &RecordBatch, with_header: bool) -> Result<Vec<Bytes>, ArrowError> {
    let mut out = Vec::new();
    let times = "%Y-%m-%dT%H:%M:%S%.3fZ".to_owned();
    let builder = arrow_csv::WriterBuilder::new().with_header(with_header).with_timestamp_tz_format(times);
    builder.build(&mut out).write(batch)?;
    Ok(if out.is_empty() { Vec::new() } else { vec![Bytes::from(out)] })
}

fn internal(error: ArrowError) -> Error {
    Error::Internal(format!("rows cannot be encoded: {error}"))
}

/// Takes what was gathered, as a portion.
fn portion(out: &mut BytesMut) -> Bytes {
    out.split().freeze()
}
