//! Which pieces may hold rows that pass a filter, by what is known of them without reading them. In doubt a piece is kept.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, UInt64Array};
use arrow_schema::{DataType, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use lakefall_storage::parquet::{Bound, Bounds};

use crate::columns::{Columns, Place, Virtual};
use crate::pieces::{Kind, Piece, Reading};

/// Drops the pieces that cannot pass `filters`, which are about `columns`.
pub(crate) fn prune(state: &dyn Session, filters: &[Expr], columns: &Columns, reading: &Reading, pieces: Vec<Piece>) -> Vec<Piece> {
    let Some(kept) = judged(state, filters, columns, reading, &pieces) else { return pieces };
    pieces.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(piece, _)| piece).collect()
}

/// Nothing where the filter is of a kind that cannot be judged so.
fn judged(state: &dyn Session, filters: &[Expr], columns: &Columns, reading: &Reading, pieces: &[Piece]) -> Option<Vec<bool>> {
    let filter = conjunction(filters.iter().cloned())?;
    let schema = DFSchema::try_from(columns.schema.as_ref().clone()).ok()?;
    let filter = state.create_physical_expr(filter, &schema).ok()?;
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&columns.schema)).try_build(filter).ok()?;
    predicate.prune(&Facts { columns, reading, pieces }).ok()
}

struct Facts<'a> {
    columns: &'a Columns,
    reading: &'a Reading,
    pieces: &'a [Piece],
}

impl Facts<'_> {
    fn place(&self, column: &Column) -> Option<(&Place, &DataType)> {
        let at = self.columns.schema.index_of(column.name()).ok()?;
        Some((self.columns.places.get(at)?, self.columns.schema.field(at).data_type()))
    }

    /// One value for each piece, null where nothing is known.
    fn values(&self, column: &Column, pick: impl Fn(Known) -> Option<ScalarValue>) -> Option<ArrayRef> {
        let (place, data_type) = self.place(column)?;
        let null = ScalarValue::try_from(data_type).ok()?;
        let value = |piece: &Piece| {
            let value = pick(self.known(piece, place, data_type)).and_then(|value| value.cast_to(data_type).ok());
            value.unwrap_or_else(|| null.clone())
        };
        ScalarValue::iter_to_array(self.pieces.iter().map(value)).ok()
    }

    fn known(&self, piece: &Piece, place: &Place, data_type: &DataType) -> Known {
        match (&piece.kind, place) {
            (_, Place::Virtual(Virtual::Partition)) => Known::exactly(ScalarValue::Int32(Some(piece.partition.0 as i32))),
            (_, Place::Virtual(Virtual::Offset)) => {
                let offset = |offset: u64| Some(ScalarValue::Int64(i64::try_from(offset).ok()));
                Known { min: offset(piece.from.0), max: offset(piece.until.0.saturating_sub(1)), nulls: Some(0) }
            }
            (Kind::Records(extent), Place::Virtual(Virtual::Timestamp)) => {
                Known { min: None, max: Some(time(extent.max_timestamp.as_millis())), nulls: Some(0) }
            }
            (Kind::Records(extent), Place::Virtual(Virtual::AppendedAt)) => {
                Known { min: Some(time(extent.appended_at.as_millis())), max: None, nulls: Some(0) }
            }
            (Kind::Group { file, group }, Place::Virtual(column)) if !matches!(column, Virtual::Headers | Virtual::Raw) => {
                let mut known = Known::read(self.reading.files[*file].file.bounds(*group, &[column.in_file()]), data_type);
                if *column == Virtual::Key {
                    // Keys that are no text are null here, and are not counted there.
                    known.nulls = None;
                }
                known
            }
            // What is decoded from the values may be more than what the file's statistics are about.
            (Kind::Group { file, .. }, Place::Typed(_)) if self.reading.files[*file].by_value => Known::default(),
            (Kind::Group { file, group }, Place::Typed(name)) => {
                let file = &self.reading.files[*file].file;
                let schema = file.data_schema();
                match schema.as_ref().and_then(|schema| schema.field_with_name(name).ok()) {
                    Some(field) if crate::widen::as_views(field.data_type()) == *data_type => {
                        Known::read(file.bounds(*group, &["data", name]), data_type)
                    }
                    _ => Known::default(),
                }
            }
            _ => Known::default(),
        }
    }
}

fn time(millis: i64) -> ScalarValue {
    ScalarValue::TimestampMillisecond(Some(millis), Some("UTC".into()))
}

/// What is known of a column in a piece.
#[derive(Default)]
struct Known {
    min: Option<ScalarValue>,
    max: Option<ScalarValue>,
    nulls: Option<u64>,
}

impl Known {
    fn exactly(value: ScalarValue) -> Self {
        Self { min: Some(value.clone()), max: Some(value), nulls: Some(0) }
    }

    fn read(bounds: Bounds, data_type: &DataType) -> Self {
        let Bounds { min, max, nulls } = bounds;
        Self { min: min.and_then(|min| scalar(min, data_type)), max: max.and_then(|max| scalar(max, data_type)), nulls }
    }
}

fn scalar(bound: Bound, data_type: &DataType) -> Option<ScalarValue> {
    Some(match (bound, data_type) {
        (Bound::Boolean(value), DataType::Boolean) => ScalarValue::Boolean(Some(value)),
        (Bound::Integer(value), DataType::Timestamp(unit, zone)) => match unit {
            TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(value), zone.clone()),
            TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(value), zone.clone()),
            TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(value), zone.clone()),
            TimeUnit::Second => return None,
        },
        (Bound::Integer(value), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => ScalarValue::Int64(Some(value)),
        (Bound::Float(value), DataType::Float32 | DataType::Float64) => ScalarValue::Float64(Some(value)),
        // A text that was cut inside of a character is not one, and no bound.
        (Bound::Bytes(bytes), DataType::Utf8View) => ScalarValue::Utf8View(Some(std::str::from_utf8(&bytes).ok()?.to_owned())),
        _ => return None,
    })
}

impl PruningStatistics for Facts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |known| known.min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |known| known.max)
    }

    fn num_containers(&self) -> usize {
        self.pieces.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (place, data_type) = self.place(column)?;
        let counts = self.pieces.iter().map(|piece| self.known(piece, place, data_type).nulls);
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.pieces.iter().map(|piece| match piece.kind {
            Kind::Group { file, group } => self.reading.files[file].file.row_groups().get(group).map(|group| group.records()),
            Kind::Records(_) => Some(piece.until.0 - piece.from.0),
        });
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
