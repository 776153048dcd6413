//! The table's metadata document, and its next version.

use lakefall_queue::Timestamp;
use serde_json::{Map, Value, json};

use super::TableState;
use super::fields::TableFields;
use super::manifest::SPEC;
use super::snapshot::{Plan, path};

/// Snapshots that stay in the document, and how long others do: readers may be at work with them. The files of old ones go with
/// the grace of everything that is deleted.
const SNAPSHOTS: usize = 10;
const SNAPSHOT_AGE_MS: i64 = 3_600_000;
/// Earlier documents that are named in it.
const DOCUMENTS: usize = 10;
/// Properties: how far the table is, the columns that are left out, the names of columns.
pub(super) const POSITION: &str = "lakefall.position";
const LEFT_OUT: &str = "lakefall.left_out";
const NAME_MAPPING: &str = "schema.name-mapping.default";

/// A version of the table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) document: Value,
}

/// A snapshot that was written.
pub(super) struct Snapshot {
    pub(super) id: i64,
    pub(super) sequence: i64,
    pub(super) list: String,
}

impl Table {
    /// A table that was never published.
    pub(super) fn new(state: &TableState, uuid: &str) -> Self {
        let none: Vec<Value> = Vec::new();
        let spec: Value = serde_json::from_str(SPEC).unwrap_or_default();
        let document = json!({
            "format-version": 2, "table-uuid": uuid, "location": path(&state.root, &state.location()),
            "last-sequence-number": 0, "last-updated-ms": 0, "last-column-id": 0, "current-schema-id": -1, "schemas": none,
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": spec}], "last-partition-id": 1000,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": none}],
            // Files belong to the topic: nobody else may delete any.
            "properties": {"gc.enabled": "false", "write.parquet.compression-codec": "zstd"},
            "current-snapshot-id": -1, "snapshots": none, "snapshot-log": none, "metadata-log": none, "refs": {},
        });
        Self { document }
    }

    /// A version that was read; it must be one that was written here.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::of(serde_json::from_slice(bytes).map_err(|error| error.to_string())?)
    }

    /// A document that was read, likewise.
    pub(super) fn of(document: Value) -> Result<Self, String> {
        let table = Self { document };
        let known = table.document["format-version"] == 2 && table.position() > 0 && table.schema().is_some();
        if known { Ok(table) } else { Err("it is not a table of this program".to_owned()) }
    }

    /// How far the table is; 0 before the first publication.
    pub(super) fn position(&self) -> u64 {
        self.document["properties"][POSITION].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn schema(&self) -> Option<&Value> {
        let current = &self.document["current-schema-id"];
        self.document["schemas"].as_array()?.iter().find(|schema| schema["schema-id"] == *current)
    }

    /// The columns.
    pub(super) fn fields(&self) -> TableFields {
        let Some(schema) = self.schema() else { return TableFields::new() };
        let left_out = self.document["properties"][LEFT_OUT].as_str().unwrap_or_default();
        TableFields {
            fields: schema["fields"].as_array().cloned().unwrap_or_default(),
            last_id: self.document["last-column-id"].as_i64().unwrap_or_default(),
            left_out: serde_json::from_str(left_out).unwrap_or_default(),
        }
    }

    /// The current snapshot's list of manifests.
    pub(super) fn list(&self) -> Option<&str> {
        let current = self.current()?;
        let found = self.document["snapshots"].as_array()?.iter().find(|snapshot| snapshot["snapshot-id"] == current);
        found?["manifest-list"].as_str()
    }

    /// The lists of all snapshots.
    pub(super) fn lists(&self) -> impl Iterator<Item = &str> {
        self.document["snapshots"].as_array().into_iter().flatten().filter_map(|snapshot| snapshot["manifest-list"].as_str())
    }

    /// The current snapshot.
    pub(super) fn current(&self) -> Option<i64> {
        self.document["current-snapshot-id"].as_i64().filter(|id| *id >= 0)
    }

    /// The sequence number of the next snapshot.
    pub(super) fn next_sequence(&self) -> i64 {
        self.document["last-sequence-number"].as_i64().unwrap_or_default() + 1
    }

    /// The schema with its id, as it is to be with these columns.
    pub(super) fn schema_with(&self, fields: &TableFields) -> Value {
        let schemas = self.document["schemas"].as_array();
        let same = schemas.into_iter().flatten().find(|schema| schema["fields"].as_array() == Some(&fields.fields));
        let next = schemas.map_or(0, Vec::len);
        same.cloned().unwrap_or_else(|| json!({"type": "struct", "schema-id": next, "fields": fields.fields}))
    }

    /// The next version. `previous` is where this one is kept, if it is.
    /// Also told are the lists of snapshots that it does not name any more.
    pub(super) fn next(
        mut self,
        state: &TableState,
        fields: &TableFields,
        snapshot: Option<(&Snapshot, &Plan)>,
        previous: Option<&str>,
    ) -> (Self, Vec<String>) {
        let schema = self.schema_with(fields);
        let updated = self.document["last-updated-ms"].as_i64().unwrap_or_default();
        let now = state.now.max(Timestamp::from_millis(updated)).as_millis();
        if let Some(previous) = previous {
            let entry = json!({"timestamp-ms": updated, "metadata-file": previous});
            push(&mut self.document["metadata-log"], entry, DOCUMENTS);
        }
        let document = &mut self.document;
        document["last-updated-ms"] = now.into();
        document["current-schema-id"] = schema["schema-id"].clone();
        document["last-column-id"] = fields.last_id.into();
        if let Some(schemas) = document["schemas"].as_array_mut()
            && !schemas.contains(&schema)
        {
            schemas.push(schema.clone());
        }
        let properties = &mut document["properties"];
        properties[POSITION] = state.position.to_string().into();
        properties[NAME_MAPPING] = fields.name_mapping().into();
        if !fields.left_out.is_empty() {
            properties[LEFT_OUT] = json!(fields.left_out).to_string().into();
        }
        let before: Vec<String> = self.lists().map(str::to_owned).collect();
        if let Some((snapshot, plan)) = snapshot {
            self.add(snapshot, plan, state, &schema["schema-id"], now);
        }
        let dropped = before.into_iter().filter(|list| !self.lists().any(|named| named == list)).collect();
        (self, dropped)
    }

    fn add(&mut self, snapshot: &Snapshot, plan: &Plan, state: &TableState, schema: &Value, now: i64) {
        let mut told = json!({
            "snapshot-id": snapshot.id, "sequence-number": snapshot.sequence, "timestamp-ms": now, "manifest-list": snapshot.list,
            "summary": summary(plan, state), "schema-id": schema,
        });
        if let Some(parent) = self.current() {
            told["parent-snapshot-id"] = parent.into();
        }
        let document = &mut self.document;
        for (list, item) in [("snapshots", told), ("snapshot-log", json!({"timestamp-ms": now, "snapshot-id": snapshot.id}))] {
            push(&mut document[list], item, usize::MAX);
            if let Some(items) = document[list].as_array_mut() {
                let old = items.iter().take_while(|item| item["timestamp-ms"].as_i64().is_none_or(|at| at < now - SNAPSHOT_AGE_MS)).count();
                items.drain(..old.min(items.len().saturating_sub(SNAPSHOTS)));
            }
        }
        document["last-sequence-number"] = snapshot.sequence.into();
        document["current-snapshot-id"] = snapshot.id.into();
        document["refs"] = json!({"main": {"snapshot-id": snapshot.id, "type": "branch"}});
    }
}

/// Adds to a list that keeps its last `most`.
fn push(list: &mut Value, item: Value, most: usize) {
    if let Some(items) = list.as_array_mut() {
        items.push(item);
        let surplus = items.len().saturating_sub(most);
        items.drain(..surplus);
    }
}

fn summary(plan: &Plan, state: &TableState) -> Value {
    let mut summary = Map::new();
    let mut tell = |name: String, value: String| summary.insert(name, value.into());
    tell("operation".to_owned(), plan.operation().to_owned());
    tell(POSITION.to_owned(), state.position.to_string());
    let sum = |of: fn(&super::TableFile) -> u64| state.files.iter().map(of).sum::<u64>();
    for (name, number) in [
        ("added-data-files", plan.added.files),
        ("added-records", plan.added.rows),
        ("deleted-data-files", plan.deleted.files),
        ("deleted-records", plan.deleted.rows),
        ("total-data-files", state.files.len() as u64),
        ("total-records", sum(|file| file.rows)),
        ("total-files-size", sum(|file| file.size)),
        ("total-delete-files", 0),
        ("total-position-deletes", 0),
        ("total-equality-deletes", 0),
    ] {
        tell(name.to_owned(), number.to_string());
    }
    let mut partitions: Vec<_> = state.files.iter().map(|file| file.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    for partition in partitions {
        let of = || state.files.iter().filter(|file| file.partition == partition);
        if let (Some(first), Some(last)) = (of().map(|file| file.first).min(), of().map(|file| file.last).max()) {
            tell(format!("lakefall.{partition}.first"), first.to_string());
            tell(format!("lakefall.{partition}.last"), last.to_string());
        }
    }
    Value::Object(summary)
}
