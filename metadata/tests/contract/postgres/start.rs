//! What a start says when something is not as it should be, and what several starts at once do.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::postgres::{PostgresConfig, PostgresStore, TlsMode};
use lakefall_metadata::{MetadataStore, StoreError};
use lakefall_servers::Postgres;
use lakefall_servers::postgres::Options;

use crate::fixtures::SHARD;
use crate::suite::{Kind, LONG, PostgresPlace, replica};

async fn connect(config: &PostgresConfig) -> Result<PostgresStore, StoreError> {
    PostgresStore::connect(config, replica(1), LONG).await
}

/// The sentence with which a start is refused.
async fn refused(config: &PostgresConfig) -> String {
    match connect(config).await {
        Err(StoreError::Misconfigured(sentence)) => sentence,
        Err(other) => panic!("not for a person: {other:?}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_told_with_what_to_do() {
    let place = PostgresPlace::place().await;
    let at = format!("127.0.0.1:{}", place.server.port());
    let config = PostgresConfig { password: Some("of another".to_owned()), ..place.config() };
    let told = refused(&config).await;
    assert!(told.starts_with(&format!("PostgreSQL at {at} refuses the password of user \"lakefall\": correct")), "{told}");
    assert!(!told.contains("of another") && !format!("{config:?}").contains("of another"), "{told} {config:?}");
    let right = format!("postgres://lakefall@{at}/{}", place.database);
    let right = PostgresConfig { password: Some(lakefall_servers::postgres::PASSWORD.to_owned()), ..PostgresConfig::new(right) };
    connect(&right).await.unwrap();
    let told = refused(&PostgresConfig::new(place.server.url_for("nowhere"))).await;
    assert_eq!(told, format!("there is no database \"nowhere\" at {at}: create it (CREATE DATABASE \"nowhere\"), or correct the URL"));
    for url in ["", "nonsense", "mysql://a@b/c", "postgres://a:secret@b:port/c"] {
        let told = refused(&PostgresConfig::new(url)).await;
        assert!(told.contains("postgres://user@host:5432/database") && !told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn a_server_out_of_reach_is_told_and_may_be_tried_again() {
    let port = lakefall_servers::port::Port::reserve();
    let config = PostgresConfig::new(format!("postgres://a@{}/b", port.address()));
    let Err(StoreError::NotApplied(told)) = connect(&config).await else { panic!("it was reached") };
    assert!(
        told.starts_with(&format!("PostgreSQL at {} cannot be reached: ", port.address())) && told.contains("check the address"),
        "{told}"
    );
}

#[tokio::test]
async fn a_server_that_loses_what_it_acknowledged_is_refused_unless_allowed() {
    for (setting, value) in [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")] {
        let server = Postgres::start(Options::default().setting(setting, value)).await;
        let config = PostgresConfig::new(server.url());
        let told = refused(&config).await;
        assert!(told.starts_with(&format!("{setting} is off in PostgreSQL: acknowledged records would be lost in a crash")), "{told}");
        connect(&PostgresConfig { allow_unsafe_durability: true, ..config }).await.unwrap();
    }
    let server = Postgres::start(Options::default()).await;
    connect(&PostgresConfig::new(server.url())).await.unwrap();
    // What counts is what this user gets.
    server.sql("postgres", "ALTER ROLE lakefall SET synchronous_commit = off").await;
    assert!(refused(&PostgresConfig::new(server.url())).await.starts_with("synchronous_commit is off"));
}

#[tokio::test]
async fn a_standby_is_refused_until_it_is_promoted() {
    let primary = Postgres::start(Options::default()).await;
    let store = connect(&PostgresConfig::new(primary.url())).await.unwrap();
    store.initialize(1).await.unwrap();
    let before = store.identity().await.unwrap();
    let standby = primary.standby().await;
    let told = refused(&PostgresConfig::new(standby.url())).await;
    assert!(told.contains("is a standby: name the primary"), "{told}");
    primary.sql("lakefall", "SELECT pg_switch_wal()").await;
    standby.promote().await;
    let promoted = connect(&PostgresConfig::new(standby.url())).await.unwrap();
    let after = promoted.identity().await.unwrap();
    assert_eq!(after.cluster, before.cluster);
    assert_ne!(after.incarnation, before.incarnation, "a failover shows");
}

#[tokio::test]
async fn a_copy_of_the_database_is_another_incarnation() {
    let place = PostgresPlace::place().await;
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    let before = store.identity().await.unwrap();
    drop(store);
    place.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()").await;
    let copy = format!("{}_copy", place.database);
    place.server.sql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE {} OWNER lakefall", place.database)).await;
    let after = connect(&PostgresConfig::new(place.server.url_for(&copy))).await.unwrap().identity().await.unwrap();
    assert_eq!(after.cluster, before.cluster);
    assert_ne!(after.incarnation, before.incarnation);
}

#[tokio::test]
async fn a_database_without_tables_or_for_other_programs_is_refused_with_what_to_do() {
    let place = PostgresPlace::place().await;
    let config = PostgresConfig { migrate: false, ..place.config() };
    assert!(refused(&config).await.contains("has no tables of Lakefall: run `lakefall metadata migrate`"));
    PostgresStore::migrate(&config).await.unwrap();
    PostgresStore::migrate(&config).await.unwrap();
    connect(&config).await.unwrap();
    // A newer program was here, and this one may still work.
    place.sql("UPDATE cluster SET schema = 7").await;
    connect(&place.config()).await.unwrap();
    // And here it may not.
    place.sql("UPDATE cluster SET oldest_program = 6").await;
    let told = refused(&config).await;
    assert_eq!(told, "the database has schema 7, which is for programs of schema 6 and later, and this one is of 5: upgrade it");
    place.sql("UPDATE cluster SET schema = 0, oldest_program = 0").await;
    assert!(
        refused(&config).await.starts_with("the database has schema 0, this program needs 5 or later: run `lakefall metadata migrate`")
    );
}

#[tokio::test]
async fn a_database_from_before_queues_is_migrated_with_all_that_is_in_it() {
    let place = PostgresPlace::place().await;
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    let before = store.identity().await.unwrap();
    drop(store);
    place
        .sql(
            "DROP VIEW lakefall_queues; DROP TABLE queues, queue_partitions, queue_blocks, subjects, schemas, usage, usage_reporters;
             ALTER TABLE extents DROP COLUMN level; ALTER TABLE objects DROP COLUMN key; ALTER TABLE partitions DROP COLUMN compaction;
             DELETE FROM _sqlx_migrations WHERE version > 1; UPDATE cluster SET schema = 1",
        )
        .await;
    let told = refused(&PostgresConfig { migrate: false, ..place.config() }).await;
    assert!(told.starts_with("the database has schema 1, this program needs 5 or later: run `lakefall metadata migrate`"), "{told}");
    assert_eq!(connect(&place.config()).await.unwrap().identity().await.unwrap(), before);
    let now = "SELECT schema, oldest_program, (SELECT count(*) FROM queues), (SELECT count(*) FROM shards) FROM cluster";
    assert_eq!(place.sql(now).await, "5|1|0|1", "programs from before may go on beside it");
}

#[tokio::test]
async fn a_migration_that_another_build_made_is_refused() {
    let place = PostgresPlace::place().await;
    PostgresStore::migrate(&place.config()).await.unwrap();
    place.sql("UPDATE _sqlx_migrations SET checksum = '\\x00'; UPDATE cluster SET schema = 0").await;
    let told = refused(&place.config()).await;
    assert!(told.starts_with("migration 1 of this database is not this program's"), "{told}");
}

#[tokio::test]
async fn a_database_that_holds_something_else_or_may_not_be_written_is_refused() {
    let place = PostgresPlace::place().await;
    place.sql("CREATE TABLE topics (something text)").await;
    let told = refused(&place.config()).await;
    assert!(told.contains("give Lakefall one of its own"), "{told}");
    assert_eq!(place.sql("SELECT to_regclass('extents') IS NULL").await, "t", "nothing is half done");
    let place = PostgresPlace::place().await;
    place.sql(&format!("ALTER SCHEMA public OWNER TO postgres; ALTER DATABASE {} OWNER TO postgres", place.database)).await;
    let told = refused(&place.config()).await;
    assert!(told.contains("may not create tables; run `lakefall metadata migrate`"), "{told}");
}

#[tokio::test]
async fn many_starts_at_once_make_one_cluster() {
    let place = Arc::new(PostgresPlace::place().await);
    let starts = (1..=6).map(|number| {
        let place = Arc::clone(&place);
        tokio::spawn(async move {
            let store = place.store(number, LONG).await;
            store.initialize(3).await.unwrap();
            store.identity().await.unwrap()
        })
    });
    let mut identities = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        identities.push(start.await.unwrap());
    }
    identities.dedup();
    assert_eq!(identities.len(), 1, "{identities:?}");
    assert_eq!(place.sql("SELECT count(*) FROM leases").await, "3");
    assert_eq!(place.sql("SELECT count(*) FROM pg_tables WHERE tablename ~ '^journal_\\d_\\d$'").await, "9");
}

#[tokio::test]
async fn of_two_starts_with_different_numbers_of_shards_one_is_refused() {
    let place = PostgresPlace::place().await;
    let (one, two) = (place.open().await, place.store(2, LONG).await);
    let told = [one.initialize(2), two.initialize(5)];
    let told = futures::future::join_all(told).await;
    let refused: Vec<&StoreError> = told.iter().filter_map(|told| told.as_ref().err()).collect();
    assert!(matches!(refused[..], [StoreError::Misconfigured(text)] if text.contains("but this store was created with")), "{told:?}");
}

#[tokio::test]
async fn a_migration_waits_for_another_but_not_for_a_lock_that_others_would_wait_behind() {
    let place = PostgresPlace::place().await;
    PostgresStore::migrate(&place.config()).await.unwrap();
    place.sql("DROP TABLE _sqlx_migrations").await;
    // Somebody else is at it.
    let mut other = place.session().await;
    super::run(&mut other, "SELECT pg_advisory_lock(7809641312090680428)").await;
    let config = place.config();
    let waiting = tokio::spawn(async move { PostgresStore::migrate(&config).await });
    place.until_waiting(1, "pg_advisory_lock").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    super::run(&mut other, "SELECT pg_advisory_unlock_all()").await;
    // The tables are there, and of something else for all that it knows.
    assert!(matches!(waiting.await.unwrap(), Err(StoreError::Misconfigured(_))));
}

#[tokio::test]
async fn a_server_with_tls_is_reached_as_asked() {
    let server = Postgres::start(Options::default().tls()).await;
    let config = PostgresConfig::new(server.url());
    assert!(connect(&PostgresConfig { tls: Some(TlsMode::Disable), ..config.clone() }).await.is_err());
    connect(&PostgresConfig { tls: Some(TlsMode::Require), ..config.clone() }).await.unwrap();
    let verified = PostgresConfig { tls: Some(TlsMode::VerifyFull), ca_file: server.ca_certificate(), ..config.clone() };
    let store = connect(&verified).await.unwrap();
    store.initialize(1).await.unwrap();
    store.take(SHARD).await.unwrap();
    assert_eq!(
        server.sql("postgres", "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'lakefall'").await,
        "t"
    );
    let told = refused(&PostgresConfig { tls: Some(TlsMode::VerifyFull), ca_file: None, ..config }).await;
    assert!(told.starts_with("no TLS with PostgreSQL at"), "{told}");
}
