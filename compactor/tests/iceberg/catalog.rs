//! The same tables in a real REST catalog: registered, committed to, raced, while it is away and back, and read through it.

use std::time::Duration;

use lakefall_compactor::iceberg::{Access, Brought, Catalog, CatalogError, CatalogSettings, CatalogTable};
use lakefall_servers::IcebergCatalog;
use lakefall_service::{Secret, system_ambient};

use super::*;

/// Of the clock of the machine: a catalog takes no time that is long before its own.
const STEP_MS: i64 = 1_200_000;
const LONG: Duration = Duration::from_secs(60);

fn catalog(server: &IcebergCatalog, access: Access, timeout: Duration) -> Catalog {
    let uri = url::Url::parse(&server.uri()).unwrap();
    let parent = vec!["lake".to_owned(), "queues".to_owned()];
    Catalog::new(CatalogSettings { uri, warehouse: None, parent, access, ca: None, timeout }).unwrap()
}

fn client() -> Access {
    Access::Client { id: "me".to_owned(), secret: Secret::new("hunter2".to_owned()), uri: None, scope: "catalog".to_owned() }
}

/// The table as the catalog tells it.
async fn shown(server: &IcebergCatalog) -> Value {
    let uri = format!("{}/v1/namespaces/lake%1Fqueues%1Fdefault/tables/flights", server.uri());
    let answer = reqwest::Client::new().get(uri).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json::<Value>().await.unwrap()["metadata"].take()
}

fn ids(document: &Value) -> Vec<i64> {
    document["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["snapshot-id"].as_i64().unwrap()).collect()
}

impl Lake {
    async fn publish_at(&mut self, columns: &Fields, now: Timestamp) {
        self.position += 1;
        let mut state = self.state(columns);
        state.now = now;
        publish(&self.store, &state).await.unwrap();
    }

    fn table(&self) -> CatalogTable {
        CatalogTable {
            namespace: "default".to_owned(),
            name: "flights".to_owned(),
            folder: FOLDER.to_owned(),
            root: format!("file://{}", self.folder.path().display()),
        }
    }
}

#[tokio::test]
async fn a_catalog_is_told_what_it_missed_and_pyiceberg_reads_the_table_through_it() {
    let (server, mut lake) = (IcebergCatalog::start().await, Lake::new().await);
    let (first, second) = (columns(DataType::Float32, false), columns(DataType::Float64, true));
    let (open, asking) = (catalog(&server, Access::Open, LONG), catalog(&server, client(), LONG));
    let now = || system_ambient().now();
    assert_eq!(open.bring(&lake.store, &lake.table()).await.unwrap(), Brought::Known, "there is none yet");
    lake.file(0, 0, &first).await;
    lake.publish_at(&first, now()).await;
    assert_eq!(open.bring(&lake.store, &lake.table()).await.unwrap(), Brought::Committed);
    for again in [&open, &asking] {
        assert_eq!(again.bring(&lake.store, &lake.table()).await.unwrap(), Brought::Known);
    }
    let uuid = shown(&server).await["table-uuid"].take();
    assert_eq!(uuid, lake.document(1)["table-uuid"]);

    server.kill_nine().await;
    lake.file(10, 1, &first).await;
    lake.publish_at(&first, now()).await;
    assert!(matches!(open.bring(&lake.store, &lake.table()).await, Err(CatalogError::Away(_))));
    lake.file(20, 1, &second).await;
    lake.publish_at(&second, now()).await;
    lake.files.remove(0);
    lake.publish_at(&second, now()).await;
    server.start_again().await;
    let table = lake.table();
    let (one, other) = tokio::join!(open.bring(&lake.store, &table), asking.bring(&lake.store, &table));
    assert!([one.unwrap(), other.unwrap()].contains(&Brought::Committed));

    let (theirs, ours) = (shown(&server).await, lake.document(4));
    assert_eq!((&theirs["table-uuid"], ids(&theirs)), (&uuid, vec![1, 2, 3, 4]));
    assert_eq!((&theirs["current-snapshot-id"], kinds(&theirs["snapshots"])), (&json!(4), vec!["append", "append", "append", "delete"]));
    assert_eq!(theirs["snapshots"][3]["summary"], ours["snapshots"][3]["summary"]);
    for property in ["lakefall.position", "schema.name-mapping.default", "gc.enabled"] {
        assert_eq!(theirs["properties"][property], ours["properties"][property], "{property}");
    }
    if let Some(read) = read(&[&server.uri(), "lake.queues.default.flights"]) {
        assert_eq!((&read["rows"], &read["offsets"], &read["notes"]), (&json!(20), &json!([10, 29]), &json!(10)), "{read}");
        assert_eq!((&read["history"], &read["prices"]), (&json!([10, 20, 30, 20]), &json!(20.0)), "{read}");
    }
    // The bucket's own goes on beside what the catalog wrote there.
    assert_eq!(lake.read(4).map_or(json!(20), |read| read["rows"].clone()), json!(20));
    lake.file(30, 1, &second).await;
    lake.publish_at(&second, now()).await;
    assert_eq!(lake.document(5)["properties"]["lakefall.position"], "5");
}

#[tokio::test]
async fn what_the_bucket_does_not_name_any_more_the_catalog_does_not_either() {
    let (server, mut lake) = (IcebergCatalog::start().await, Lake::new().await);
    let (columns, open) = (columns(DataType::Float64, false), catalog(&server, Access::Open, LONG));
    let begin = system_ambient().now().as_millis() - 30 * STEP_MS;
    for n in 0..30 {
        lake.file(n * 10, 0, &columns).await;
        if n % 3 == 2 {
            lake.files.remove(0);
        }
        lake.publish_at(&columns, Timestamp::from_millis(begin + n as i64 * STEP_MS)).await;
        if n % 5 == 4 {
            assert_eq!(open.bring(&lake.store, &lake.table()).await.unwrap(), Brought::Committed);
        }
    }
    assert_eq!(ids(&shown(&server).await), ids(&lake.document(30)));
    if let Some(read) = read(&[&server.uri(), "lake.queues.default.flights"]) {
        assert_eq!((&read["rows"], read["history"].as_array().unwrap().len()), (&json!(200), 10));
    }
}

#[tokio::test]
async fn another_table_of_the_name_is_left_alone_and_a_catalog_that_hangs_is_away() {
    let server = IcebergCatalog::start().await;
    let (columns, open) = (columns(DataType::Float64, false), catalog(&server, Access::Open, LONG));
    let (mut lake, mut other) = (Lake::new().await, Lake::new().await);
    for lake in [&mut lake, &mut other] {
        lake.file(0, 0, &columns).await;
    }
    lake.publish_at(&columns, system_ambient().now()).await;
    assert_eq!(open.bring(&lake.store, &lake.table()).await.unwrap(), Brought::Committed);
    other.position = 7;
    other.publish_at(&columns, system_ambient().now()).await;
    let refused = open.bring(&other.store, &other.table()).await.unwrap_err();
    assert!(matches!(refused, CatalogError::Other(_)), "{refused}");
    assert_eq!(ids(&shown(&server).await), [1]);

    let hurried = catalog(&server, Access::Open, Duration::from_millis(500));
    server.pause().await;
    let away = hurried.bring(&lake.store, &lake.table()).await.unwrap_err();
    assert!(matches!(away, CatalogError::Away(_)), "{away}");
    server.resume().await;
    assert_eq!(open.bring(&lake.store, &lake.table()).await.unwrap(), Brought::Known);
}
