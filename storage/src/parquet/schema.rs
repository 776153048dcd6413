//! The columns and how each is written. Their order is the format's: what [`super::read`] needs comes first.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::{ParquetError, ROW_GROUP_RECORDS};

/// The columns of Parquet itself ("leaves") that hold the record, without `data`: they come first in every row group.
pub(super) const LEAVES: [&str; 9] =
    ["partition", "offset", "timestamp", "appended_at", "key", "value", "headers.list.element.name", "headers.list.element.value", "json"];
/// Where the offset is among them.
pub(super) const OFFSET_LEAF: usize = 1;
/// Where the time is among them.
pub(super) const TIMESTAMP_LEAF: usize = 2;
/// Those of `headers`, which may have more values than there are records, or fewer.
pub(super) const HEADER_LEAVES: std::ops::Range<usize> = 6..8;
/// Columns as Arrow counts them, without `data`.
pub(super) const COLUMNS: usize = 8;
/// Where value and `json` are among those.
pub(super) const VALUE: usize = 5;
pub(super) const JSON: usize = 7;
/// The name of the struct of typed columns.
pub(super) const DATA: &str = "data";

/// Bytes of a page before compression: what is decoded to read one record. Larger ones compress better (flights: 11.7 % of the lines, at
/// 1 MiB 11.1 %); but the writer takes several buffers of this size for each, and beyond half a mebibyte the allocator gives each back to
/// the system and gets it anew.
const PAGE_BYTES: usize = 256 << 10;
/// Bytes of a dictionary, beyond which values are written plainly.
const DICTIONARY_BYTES: usize = 1 << 20;
/// Longest minimum and maximum in statistics; longer keys are cut, which keeps them bounds.
const STATISTICS_BYTES: usize = 64;

/// A time in milliseconds, UTC.
pub(super) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The fields of a header; when reading, as views of the pages, so that a dictionary's values are not repeated in memory.
pub(super) fn header_fields(as_views: bool) -> Fields {
    let (text, binary) = text_and_binary(as_views);
    [Field::new("name", text, false), Field::new("value", binary, true)].into_iter().collect()
}

/// What a list of headers holds.
pub(super) fn header_element(as_views: bool) -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(header_fields(as_views)), false))
}

fn text_and_binary(as_views: bool) -> (DataType, DataType) {
    if as_views { (DataType::Utf8View, DataType::BinaryView) } else { (DataType::Utf8, DataType::Binary) }
}

/// The columns without `data`.
pub(super) fn fields(as_views: bool) -> Vec<Field> {
    let (_, binary) = text_and_binary(as_views);
    vec![
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", time(), false),
        Field::new("appended_at", time(), false),
        Field::new("key", binary.clone(), true),
        Field::new("value", binary, true),
        Field::new("headers", DataType::List(header_element(as_views)), false),
        Field::new("json", DataType::Boolean, false),
    ]
}

/// The schema of a file, with the typed columns if there are any.
pub(super) fn schema(typed: Option<&Fields>) -> SchemaRef {
    let data = typed.map(|fields| Field::new(DATA, DataType::Struct(fields.clone()), true));
    Arc::new(Schema::new(fields(false).into_iter().chain(data).collect::<Vec<_>>()))
}

/// How the columns are written.
///
/// Values have no dictionary: it would hold up to a mebibyte of them until it is found not to pay, and equal values are
/// near each other where zstd finds them. Their lengths stand apart from their bytes, which compresses better than
/// lengths in between.
pub(super) fn properties(zstd_level: i32) -> Result<WriterProperties, ParquetError> {
    let level = ZstdLevel::try_new(zstd_level).map_err(|error| ParquetError::Unwritable(error.to_string()))?;
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("lakefall ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        // Row groups are ended by the caller, who knows the bytes before compression.
        .set_max_row_group_row_count(Some(ROW_GROUP_RECORDS))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_BYTES))
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_column_bloom_filter_enabled(column("key"), true)
        .set_column_statistics_enabled(column("value"), EnabledStatistics::None)
        .set_column_statistics_enabled(column(LEAVES[HEADER_LEAVES.start]), EnabledStatistics::None)
        .set_column_statistics_enabled(column(LEAVES[HEADER_LEAVES.start + 1]), EnabledStatistics::None)
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 1, descending: false, nulls_first: false }]));
    for name in ["offset", "timestamp", "appended_at"] {
        builder = encoded(builder, name, Encoding::DELTA_BINARY_PACKED);
    }
    builder = encoded(builder, "value", Encoding::DELTA_LENGTH_BYTE_ARRAY);
    Ok(builder.build())
}

fn encoded(builder: WriterPropertiesBuilder, name: &str, encoding: Encoding) -> WriterPropertiesBuilder {
    builder.set_column_dictionary_enabled(column(name), false).set_column_encoding(column(name), encoding)
}

fn column(path: &str) -> ColumnPath {
    ColumnPath::new(path.split('.').map(str::to_owned).collect())
}
