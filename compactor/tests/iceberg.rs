//! A topic's files as an Iceberg table: published again and again, raced, and read with pyiceberg where it is installed
//! (`LAKEFALL_TEST_PYTHON`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests may fail a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use arrow_schema::{DataType, Field, Fields, Schema};
use lakefall_compactor::iceberg::{IcebergError, Published, TableFile, TableState, publish};
use lakefall_queue::{Header, Offset, PartitionIndex, StoredRecord, Timestamp, TopicId, ValueKind};
use lakefall_storage::parquet::{Options, ParquetWriter, TypedColumns};
use lakefall_storage::store::{Store, StoreOptions};
use serde_json::{Value, json};

#[path = "iceberg/catalog.rs"]
mod catalog;

const FOLDER: &str = "tables/default/flights/";
/// 2026-01-31.
const DAY: i64 = 1_769_817_600_000;

/// A lake in a folder.
struct Lake {
    folder: tempfile::TempDir,
    store: Store,
    files: Vec<TableFile>,
    position: u64,
}

fn columns(price: DataType, more: bool) -> Fields {
    let inner: Fields = vec![Field::new("x", DataType::Int32, true)].into();
    let element = DataType::List(Field::new("element", DataType::Utf8, true).into());
    let mut fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("price", price, true),
        Field::new("at", DataType::Struct(inner), true),
        Field::new("tags", element, true),
    ];
    if more {
        fields.push(Field::new("note", DataType::Utf8, true));
    }
    fields.into()
}

fn record(offset: u64, day: i64, value: &Value) -> StoredRecord {
    StoredRecord {
        partition: PartitionIndex(0),
        offset: Offset(offset),
        timestamp: Timestamp::from_millis(DAY + offset as i64),
        appended_at: Timestamp::from_millis(DAY + day * 86_400_000 + offset as i64),
        key: Some(format!("k{offset}").into()),
        value: Some(value.to_string().into()),
        kind: ValueKind::Json,
        headers: vec![Header { name: "h".into(), value: None }],
        properties: None,
    }
}

impl Lake {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = url::Url::from_directory_path(folder.path()).unwrap();
        let store = Store::open(&url, &StoreOptions::default()).unwrap();
        Self { folder, store, files: Vec::new(), position: 0 }
    }

    /// A file of ten records.
    async fn file(&mut self, first: u64, day: i64, columns: &Fields) {
        let typed = Some(TypedColumns::new(&Schema::new(columns.clone())).unwrap());
        let mut writer = ParquetWriter::new(TopicId(1), PartitionIndex(0), Options { typed, ..Options::default() }).unwrap();
        for offset in first..first + 10 {
            let value = json!({"id": offset, "price": 1, "at": {"x": offset}, "tags": ["a", null], "note": "n"});
            writer.push(&[record(offset, day, &value)]).unwrap();
        }
        let written = writer.finish().unwrap();
        let key = format!("{FOLDER}date=day{day}/{first:020}.parquet");
        let file = TableFile {
            key: key.clone(),
            size: written.bytes.len() as u64,
            rows: written.records,
            partition: PartitionIndex(0),
            first: written.first,
            last: written.last,
            first_timestamp: written.first_timestamp,
            max_timestamp: written.max_timestamp,
            appended_at: written.first_appended_at,
        };
        self.store.put_new(&key, vec![written.bytes]).await.unwrap();
        self.files.push(file);
    }

    fn state(&self, columns: &Fields) -> TableState {
        TableState {
            folder: FOLDER.to_owned(),
            root: format!("file://{}", self.folder.path().display()),
            position: self.position,
            files: self.files.clone(),
            columns: Some(columns.clone()),
            now: Timestamp::from_millis(DAY + self.position as i64),
            entropy: u128::from(self.position) << 64 | 0xabcd,
        }
    }

    async fn publish(&mut self, columns: &Fields) -> Published {
        self.position += 1;
        publish(&self.store, &self.state(columns)).await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(FOLDER).join("_iceberg/metadata").join(name)
    }

    fn document(&self, version: u64) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(&format!("v{version}.metadata.json"))).unwrap()).unwrap()
    }

    fn read(&self, version: u64) -> Option<Value> {
        read(&[self.path(&format!("v{version}.metadata.json")).to_str().unwrap()])
    }
}

/// What pyiceberg finds in the table of a document, or of a catalog and a name; `None` where it is not installed.
fn read(table: &[&str]) -> Option<Value> {
    let Some(python) = std::env::var_os("LAKEFALL_TEST_PYTHON") else {
        eprintln!("skipped: LAKEFALL_TEST_PYTHON is not set");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_iceberg.py");
    let ran = Command::new(python).arg(script).args(table).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(serde_json::from_slice(&ran.stdout).unwrap())
}

fn kinds(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().map(|snapshot| snapshot["summary"]["operation"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_table_grows_changes_its_columns_and_loses_files_and_pyiceberg_reads_each_version() {
    let mut lake = Lake::new().await;
    let (first, second) = (columns(DataType::Float32, false), columns(DataType::Float64, true));
    lake.file(0, 0, &first).await;
    lake.file(10, 1, &first).await;
    assert_eq!(lake.publish(&first).await, Published::Version(1));
    lake.file(20, 1, &second).await;
    assert_eq!(lake.publish(&second).await, Published::Version(2));
    lake.files.remove(0);
    assert_eq!(lake.publish(&second).await, Published::Version(3));
    let document = lake.document(3);
    assert_eq!(kinds(&document["snapshots"]), ["append", "append", "delete"]);
    assert_eq!(document["schemas"].as_array().unwrap().len(), 2);
    let summary = &document["snapshots"][2]["summary"];
    assert_eq!(
        (&summary["lakefall.0.first"], &summary["lakefall.0.last"], &summary["lakefall.position"]),
        (&json!("10"), &json!("29"), &json!("3"))
    );
    assert_eq!(std::fs::read_to_string(lake.path("version-hint.text")).unwrap(), "3");

    if let Some(read) = lake.read(1) {
        assert_eq!((&read["rows"], &read["offsets"]), (&json!(20), &json!([0, 19])), "{read}");
    }
    if let Some(read) = lake.read(3) {
        assert_eq!((&read["rows"], &read["offsets"], &read["on_first_day"]), (&json!(20), &json!([10, 29]), &json!(0)), "{read}");
        assert_eq!(read["notes"], json!(10), "older files have no such column: {read}");
        assert_eq!((&read["prices"], &read["xs"], &read["tags"]), (&json!(20.0), &json!((10..30).sum::<u64>()), &json!(20)), "{read}");
        assert_eq!(read["history"], json!([20, 30, 20]), "each snapshot, as far as its files are there: {read}");
        assert_eq!(read["planned"], json!(1), "offsets prune files: {read}");
        assert_eq!(read["values"], json!({"id": 29, "price": 1, "at": {"x": 29}, "tags": ["a", null], "note": "n"}), "{read}");
    }
}

#[tokio::test]
async fn publishing_again_and_late_changes_nothing() {
    let mut lake = Lake::new().await;
    let columns = columns(DataType::Float64, false);
    lake.file(0, 0, &columns).await;
    lake.publish(&columns).await;
    let again = lake.state(&columns);
    assert_eq!(publish(&lake.store, &again).await.unwrap(), Published::Known);
    lake.file(10, 0, &columns).await;
    lake.publish(&columns).await;
    assert_eq!(publish(&lake.store, &again).await.unwrap(), Published::Known, "an earlier place");
    assert_eq!(lake.document(2)["snapshots"].as_array().unwrap().len(), 2);
    // Nothing changed but the place.
    assert_eq!(lake.publish(&columns).await, Published::Version(3));
    assert_eq!(lake.document(3)["snapshots"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_two_who_publish_at_once_both_are_answered_and_the_later_place_stays() {
    let mut lake = Lake::new().await;
    let columns = columns(DataType::Float64, false);
    lake.file(0, 0, &columns).await;
    lake.position = 1;
    let one = lake.state(&columns);
    lake.file(10, 0, &columns).await;
    lake.position = 2;
    let other = lake.state(&columns);
    let (first, second) = tokio::join!(publish(&lake.store, &one), publish(&lake.store, &other));
    first.unwrap();
    second.unwrap();
    let version: u64 = std::fs::read_to_string(lake.path("version-hint.text")).unwrap().parse().unwrap();
    let newest = (1..=2).rev().find(|version| lake.path(&format!("v{version}.metadata.json")).exists()).unwrap();
    assert!(version <= newest);
    assert_eq!(lake.document(newest)["properties"]["lakefall.position"], "2");
    if let Some(read) = lake.read(newest) {
        assert_eq!(read["rows"], 20);
    }
}

#[tokio::test]
async fn a_hint_that_is_behind_or_gone_is_no_obstacle_and_a_damaged_document_is_told() {
    let mut lake = Lake::new().await;
    let columns = columns(DataType::Float64, false);
    lake.file(0, 0, &columns).await;
    for _ in 0..3 {
        lake.publish(&columns).await;
    }
    std::fs::write(lake.path("version-hint.text"), "1").unwrap();
    assert_eq!(lake.publish(&columns).await, Published::Version(4));
    std::fs::remove_file(lake.path("version-hint.text")).unwrap();
    assert_eq!(lake.publish(&columns).await, Published::Version(5));
    std::fs::write(lake.path("v5.metadata.json"), "{").unwrap();
    lake.position += 1;
    let refused = publish(&lake.store, &lake.state(&columns)).await.unwrap_err();
    assert!(matches!(refused, IcebergError::Unreadable { ref key, .. } if key.ends_with("v5.metadata.json")), "{refused}");
}

#[tokio::test]
async fn what_old_snapshots_named_is_deleted_and_what_is_named_stays() {
    let mut lake = Lake::new().await;
    let columns = columns(DataType::Float64, false);
    for n in 0..30 {
        lake.file(n * 10, 0, &columns).await;
        if n % 3 == 2 {
            lake.files.remove(0);
        }
        lake.position += 1;
        let mut state = lake.state(&columns);
        state.now = Timestamp::from_millis(DAY + n as i64 * 1_200_000);
        publish(&lake.store, &state).await.unwrap();
    }
    let document = lake.document(30);
    assert_eq!(document["snapshots"].as_array().unwrap().len(), 10);
    let lists = std::fs::read_dir(lake.path(""))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("snap-"));
    assert_eq!(lists.count(), 10);
    if let Some(read) = lake.read(30) {
        assert_eq!((&read["rows"], read["history"].as_array().unwrap().len()), (&json!(200), 10));
    }
}
