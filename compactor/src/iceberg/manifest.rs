//! Manifests and their list, as bytes and back.

use apache_avro::Reader;
use apache_avro::types::Value;
use serde_json::json;

use super::container::container;

/// The status of an entry.
pub(super) const EXISTING: i32 = 0;
pub(super) const ADDED: i32 = 1;
pub(super) const DELETED: i32 = 2;

/// The partition spec: the day on which rows were appended, from the column `appended_at`.
pub(super) const SPEC: &str = r#"[{"name":"appended_at_day","transform":"day","source-id":4,"field-id":1000}]"#;

/// A file in a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) status: i32,
    pub(super) snapshot_id: i64,
    pub(super) sequence_number: i64,
    pub(super) path: String,
    pub(super) day: i32,
    pub(super) rows: i64,
    pub(super) size: i64,
    /// By column: the smallest and the largest value, as Iceberg serializes them.
    pub(super) lower: Vec<(i32, Vec<u8>)>,
    pub(super) upper: Vec<(i32, Vec<u8>)>,
}

/// A manifest in the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ManifestFile {
    pub(super) path: String,
    pub(super) length: i64,
    pub(super) sequence_number: i64,
    pub(super) min_sequence_number: i64,
    pub(super) snapshot_id: i64,
    /// Added, existing, deleted: files and rows.
    pub(super) files: [i32; 3],
    pub(super) rows: [i64; 3],
    /// The days of its entries.
    pub(super) days: (i32, i32),
}

fn map_schema(key: i32, value: i32, field: i32, name: &str) -> serde_json::Value {
    let entry = json!({"type": "record", "name": format!("k{key}_v{value}"), "fields": [
        {"name": "key", "type": "int", "field-id": key}, {"name": "value", "type": "bytes", "field-id": value}]});
    json!({"name": name, "type": ["null", {"type": "array", "logicalType": "map", "items": entry}], "default": null, "field-id": field})
}

fn entry_schema() -> String {
    let partition = json!({"type": "record", "name": "r102", "fields": [
        {"name": "appended_at_day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null, "field-id": 1000}]});
    let file = json!({"type": "record", "name": "r2", "fields": [
        {"name": "content", "type": "int", "field-id": 134},
        {"name": "file_path", "type": "string", "field-id": 100},
        {"name": "file_format", "type": "string", "field-id": 101},
        {"name": "partition", "type": partition, "field-id": 102},
        {"name": "record_count", "type": "long", "field-id": 103},
        {"name": "file_size_in_bytes", "type": "long", "field-id": 104},
        map_schema(126, 127, 125, "lower_bounds"),
        map_schema(129, 130, 128, "upper_bounds"),
    ]});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        {"name": "status", "type": "int", "field-id": 0},
        {"name": "snapshot_id", "type": ["null", "long"], "default": null, "field-id": 1},
        {"name": "sequence_number", "type": ["null", "long"], "default": null, "field-id": 3},
        {"name": "file_sequence_number", "type": ["null", "long"], "default": null, "field-id": 4},
        {"name": "data_file", "type": file, "field-id": 2},
    ]})
    .to_string()
}

fn list_schema() -> String {
    let summary = json!({"type": "record", "name": "r508", "fields": [
        {"name": "contains_null", "type": "boolean", "field-id": 509},
        {"name": "contains_nan", "type": ["null", "boolean"], "default": null, "field-id": 518},
        {"name": "lower_bound", "type": ["null", "bytes"], "default": null, "field-id": 510},
        {"name": "upper_bound", "type": ["null", "bytes"], "default": null, "field-id": 511}]});
    let number = |name: &str, kind: &str, id: i32| json!({"name": name, "type": kind, "field-id": id});
    json!({"type": "record", "name": "manifest_file", "fields": [
        number("manifest_path", "string", 500), number("manifest_length", "long", 501), number("partition_spec_id", "int", 502),
        number("content", "int", 517), number("sequence_number", "long", 515), number("min_sequence_number", "long", 516),
        number("added_snapshot_id", "long", 503), number("added_files_count", "int", 504), number("existing_files_count", "int", 505),
        number("deleted_files_count", "int", 506), number("added_rows_count", "long", 512), number("existing_rows_count", "long", 513),
        number("deleted_rows_count", "long", 514),
        {"name": "partitions", "type": ["null", {"type": "array", "items": summary, "element-id": 508}], "default": null, "field-id": 507},
    ]})
    .to_string()
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn bounds(of: &[(i32, Vec<u8>)]) -> Value {
    let pair = |(key, value): &(i32, Vec<u8>)| record(vec![("key", Value::Int(*key)), ("value", Value::Bytes(value.clone()))]);
    some(Value::Array(of.iter().map(pair).collect()))
}

impl Entry {
    fn value(&self) -> Value {
        let file = record(vec![
            ("content", Value::Int(0)),
            ("file_path", Value::String(self.path.clone())),
            ("file_format", Value::String("PARQUET".to_owned())),
            ("partition", record(vec![("appended_at_day", some(Value::Date(self.day)))])),
            ("record_count", Value::Long(self.rows)),
            ("file_size_in_bytes", Value::Long(self.size)),
            ("lower_bounds", bounds(&self.lower)),
            ("upper_bounds", bounds(&self.upper)),
        ]);
        record(vec![
            ("status", Value::Int(self.status)),
            ("snapshot_id", some(Value::Long(self.snapshot_id))),
            ("sequence_number", some(Value::Long(self.sequence_number))),
            ("file_sequence_number", some(Value::Long(self.sequence_number))),
            ("data_file", file),
        ])
    }

    fn read(value: &Value) -> Option<Self> {
        let file = member(value, "data_file")?;
        Some(Self {
            status: int(member(value, "status")?)?,
            snapshot_id: long(member(value, "snapshot_id")?)?,
            sequence_number: long(member(value, "sequence_number")?)?,
            path: text(member(file, "file_path")?)?,
            day: int(member(member(file, "partition")?, "appended_at_day")?)?,
            rows: long(member(file, "record_count")?)?,
            size: long(member(file, "file_size_in_bytes")?)?,
            lower: read_bounds(member(file, "lower_bounds")?)?,
            upper: read_bounds(member(file, "upper_bounds")?)?,
        })
    }
}

impl ManifestFile {
    /// What the list says of a manifest with these entries.
    pub(super) fn of(path: String, length: usize, sequence_number: i64, snapshot_id: i64, entries: &[Entry]) -> Self {
        let (mut files, mut rows) = ([0; 3], [0; 3]);
        for entry in entries {
            let at = match entry.status {
                ADDED => 0,
                DELETED => 2,
                _ => 1,
            };
            files[at] += 1;
            rows[at] += entry.rows;
        }
        let live = entries.iter().filter(|entry| entry.status != DELETED).map(|entry| entry.sequence_number);
        let days = entries.iter().map(|entry| entry.day);
        Self {
            path,
            length: i64::try_from(length).unwrap_or(i64::MAX),
            sequence_number,
            min_sequence_number: live.min().unwrap_or(sequence_number),
            snapshot_id,
            files,
            rows,
            days: (days.clone().min().unwrap_or_default(), days.max().unwrap_or_default()),
        }
    }

    fn value(&self) -> Value {
        let day = |day: i32| some(Value::Bytes(day.to_le_bytes().to_vec()));
        let summary = record(vec![
            ("contains_null", Value::Boolean(false)),
            ("contains_nan", some(Value::Boolean(false))),
            ("lower_bound", day(self.days.0)),
            ("upper_bound", day(self.days.1)),
        ]);
        record(vec![
            ("manifest_path", Value::String(self.path.clone())),
            ("manifest_length", Value::Long(self.length)),
            ("partition_spec_id", Value::Int(0)),
            ("content", Value::Int(0)),
            ("sequence_number", Value::Long(self.sequence_number)),
            ("min_sequence_number", Value::Long(self.min_sequence_number)),
            ("added_snapshot_id", Value::Long(self.snapshot_id)),
            ("added_files_count", Value::Int(self.files[0])),
            ("existing_files_count", Value::Int(self.files[1])),
            ("deleted_files_count", Value::Int(self.files[2])),
            ("added_rows_count", Value::Long(self.rows[0])),
            ("existing_rows_count", Value::Long(self.rows[1])),
            ("deleted_rows_count", Value::Long(self.rows[2])),
            ("partitions", some(Value::Array(vec![summary]))),
        ])
    }

    fn read(value: &Value) -> Option<Self> {
        let number = |name: &str| long(member(value, name)?);
        let small = |name: &str| int(member(value, name)?);
        let Value::Array(partitions) = inner(member(value, "partitions")?) else { return None };
        let day = |name: &str| match inner(member(partitions.first()?, name)?) {
            Value::Bytes(bytes) => bytes.as_slice().try_into().ok().map(i32::from_le_bytes),
            _ => None,
        };
        Some(Self {
            path: text(member(value, "manifest_path")?)?,
            length: number("manifest_length")?,
            sequence_number: number("sequence_number")?,
            min_sequence_number: number("min_sequence_number")?,
            snapshot_id: number("added_snapshot_id")?,
            files: [small("added_files_count")?, small("existing_files_count")?, small("deleted_files_count")?],
            rows: [number("added_rows_count")?, number("existing_rows_count")?, number("deleted_rows_count")?],
            days: (day("lower_bound")?, day("upper_bound")?),
        })
    }
}

/// A manifest's bytes. `schema` is the table's, with the id `schema_id`.
pub(super) fn manifest(entries: &[Entry], schema: &serde_json::Value, sync: [u8; 16]) -> Result<Vec<u8>, apache_avro::Error> {
    let metadata = [
        ("schema", schema.to_string()),
        ("schema-id", schema["schema-id"].to_string()),
        ("partition-spec", SPEC.to_owned()),
        ("partition-spec-id", "0".to_owned()),
        ("format-version", "2".to_owned()),
        ("content", "data".to_owned()),
    ];
    container(&entry_schema(), &metadata, entries.iter().map(Entry::value).collect(), sync)
}

/// A list's bytes.
pub(super) fn list(
    manifests: &[ManifestFile],
    snapshot: i64,
    parent: Option<i64>,
    sequence_number: i64,
    sync: [u8; 16],
) -> Result<Vec<u8>, apache_avro::Error> {
    let metadata = [
        ("snapshot-id", snapshot.to_string()),
        ("parent-snapshot-id", parent.map_or_else(|| "null".to_owned(), |parent| parent.to_string())),
        ("sequence-number", sequence_number.to_string()),
        ("format-version", "2".to_owned()),
    ];
    container(&list_schema(), &metadata, manifests.iter().map(ManifestFile::value).collect(), sync)
}

/// The entries of a manifest that was written here.
pub(super) fn read_manifest(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    read(bytes, Entry::read)
}

/// The manifests of a list that was written here.
pub(super) fn read_list(bytes: &[u8]) -> Result<Vec<ManifestFile>, String> {
    read(bytes, ManifestFile::read)
}

fn read<T>(bytes: &[u8], one: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    let reader = Reader::new(bytes).map_err(|error| error.to_string())?;
    let each = reader.map(|value| one(&value.map_err(|error| error.to_string())?).ok_or_else(|| "a field is missing".to_owned()));
    each.collect()
}

fn inner(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => inner,
        plain => plain,
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match inner(value) {
        Value::Record(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
        _ => None,
    }
}

fn int(value: &Value) -> Option<i32> {
    match inner(value) {
        Value::Int(number) | Value::Date(number) => Some(*number),
        _ => None,
    }
}

fn long(value: &Value) -> Option<i64> {
    match inner(value) {
        Value::Long(number) => Some(*number),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match inner(value) {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn read_bounds(value: &Value) -> Option<Vec<(i32, Vec<u8>)>> {
    let Value::Array(pairs) = inner(value) else { return None };
    let bytes = |value: &Value| match inner(value) {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    };
    pairs.iter().map(|pair| Some((int(member(pair, "key")?)?, bytes(member(pair, "value")?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_lists_come_back_as_they_were_written() {
        let entry = |status, day| Entry {
            status,
            snapshot_id: 7,
            sequence_number: 3,
            path: format!("s3://b/{day}"),
            day,
            rows: 10,
            size: 99,
            lower: vec![(1, vec![0; 4]), (2, vec![1; 8])],
            upper: vec![(2, vec![9; 8])],
        };
        let entries = [entry(ADDED, 20_000), entry(EXISTING, 20_001), entry(DELETED, 19_999)];
        let schema = json!({"type": "struct", "schema-id": 0, "fields": []});
        assert_eq!(read_manifest(&manifest(&entries, &schema, [1; 16]).unwrap()).unwrap(), entries);
        let file = ManifestFile::of("s3://b/m".to_owned(), 55, 4, 8, &entries);
        assert_eq!((file.files, file.rows, file.days), ([1, 1, 1], [10, 10, 10], (19_999, 20_001)));
        assert_eq!(read_list(&list(std::slice::from_ref(&file), 8, Some(7), 4, [1; 16]).unwrap()).unwrap(), [file]);
        assert!(read_manifest(b"Obj\x01nonsense").is_err() && read_list(b"").is_err());
    }
}
