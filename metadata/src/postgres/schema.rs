//! The schema: migrations, which schemas this program works on, and the tables that come with the shards. Must never change
//! a migration that was shipped: databases remember its checksum.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _, SqlSafeStr as _};

use super::error::Failure;
use super::journal::SLOTS;
use crate::store::StoreError;

/// The schema that this program's migrations make.
pub const SCHEMA: i32 = 5;
/// The oldest schema that it works on.
const OLDEST_SCHEMA: i32 = 5;

/// Any number that others are unlikely to use: pg_advisory_lock has one space for the whole database.
const MIGRATING: i64 = 0x6c61_6b65_6661_6c6c;

fn migrations() -> Migrator {
    let simple = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        simple(1, "tables", include_str!("../../migrations/0001_tables.sql")),
        simple(2, "queues", include_str!("../../migrations/0002_queues.sql")),
        simple(3, "compaction", include_str!("../../migrations/0003_compaction.sql")),
        simple(4, "schemas", include_str!("../../migrations/0004_schemas.sql")),
        simple(5, "usage", include_str!("../../migrations/0005_usage.sql")),
    ]);
    // Those of a newer program; whether this one can work with them is for `check` to say.
    migrator.set_ignore_missing(true);
    // The lock is taken below, with an end to the waiting.
    migrator.set_locking(false);
    migrator
}

/// Brings the schema up to date, unless it is. One program at a time; the others wait. The connection must be closed after.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), StoreError> {
    if schema(connection).await?.is_some_and(|(schema, _)| schema >= SCHEMA) {
        return Ok(());
    }
    let wait = format!("SET statement_timeout = 0; SET lock_timeout = '60s'; SELECT pg_advisory_lock({MIGRATING})");
    sqlx::raw_sql(sqlx::AssertSqlSafe(wait)).execute(&mut *connection).await.map_err(cannot_migrate)?;
    // Running servers use these tables: a change that cannot have its lock soon makes them wait behind it.
    sqlx::raw_sql("SET lock_timeout = '2s'").execute(&mut *connection).await.map_err(cannot_migrate)?;
    migrations().run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMismatch(version) => StoreError::Misconfigured(format!(
            "migration {version} of this database is not this program's: it was made by another build of lakefall; use that one"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => cannot_migrate(error),
        other => StoreError::Misconfigured(format!("the database could not be migrated: {other}")),
    })
}

/// Why the tables of the shards could not be made.
pub(super) fn cannot_create(failure: Failure) -> StoreError {
    match failure {
        Failure::Sql(error) => cannot_migrate(error),
        Failure::Silent => failure.of_write(),
    }
}

fn cannot_migrate(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
    let text = Failure::from(error).text();
    match code.as_str() {
        "42501" => StoreError::Misconfigured(format!(
            "{text}: this user may not create tables; run `lakefall metadata migrate` as one who may, or GRANT CREATE ON SCHEMA public"
        )),
        "55P03" => StoreError::NotApplied(format!(
            "{text}: the database could not be migrated while others held locks on it; try again, or see pg_stat_activity"
        )),
        "42P07" => StoreError::Misconfigured(format!("{text}: the database holds tables of something else; give Lakefall one of its own")),
        _ => StoreError::NotApplied(text),
    }
}

/// What the database is, and which programs may work on it; `None` before the first migration.
async fn schema(connection: &mut PgConnection) -> Result<Option<(i32, i32)>, StoreError> {
    let read = |error: sqlx::Error| Failure::from(error).of_read();
    let made = sqlx::query_scalar("SELECT to_regclass('cluster') IS NOT NULL AND to_regclass('_sqlx_migrations') IS NOT NULL");
    if !made.fetch_one(&mut *connection).await.map_err(read)? {
        return Ok(None);
    }
    let row = sqlx::query("SELECT schema, oldest_program FROM cluster").fetch_optional(connection).await.map_err(read)?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().map_err(read)
}

/// Whether this program may work on the database.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), StoreError> {
    let message = match schema(connection).await? {
        None => "the database has no tables of Lakefall: run `lakefall metadata migrate`, or let the server do it at its start".to_owned(),
        Some((schema, _)) if schema < OLDEST_SCHEMA => {
            format!("the database has schema {schema}, this program needs {OLDEST_SCHEMA} or later: run `lakefall metadata migrate`")
        }
        Some((schema, oldest)) if SCHEMA < oldest => format!(
            "the database has schema {schema}, which is for programs of schema {oldest} and later, and this one is of {SCHEMA}: upgrade it"
        ),
        Some(_) => return Ok(()),
    };
    Err(StoreError::Misconfigured(message))
}

/// How many shards the cluster has; `None` before its first use.
pub(super) async fn shards(connection: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("SELECT shards FROM cluster").fetch_one(connection).await
}

/// Makes the journals of the shards, unless another program did it meanwhile. Returns the cluster's number of shards.
pub(super) async fn create_shards(connection: &mut PgConnection, shards: i32) -> Result<i32, sqlx::Error> {
    let mut tx = connection.begin().await?;
    // A program that starts at the same moment waits here.
    sqlx::raw_sql("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    let known: Option<i32> = sqlx::query_scalar("SELECT shards FROM cluster FOR UPDATE").fetch_one(&mut *tx).await?;
    if let Some(known) = known {
        return Ok(known);
    }
    for shard in 0..shards {
        sqlx::raw_sql(sqlx::AssertSqlSafe(journal_tables(shard))).execute(&mut *tx).await?;
    }
    let rows = "INSERT INTO shards (id) SELECT generate_series(0, $1 - 1)";
    sqlx::query(rows).bind(shards).execute(&mut *tx).await?;
    let rows = "INSERT INTO leases (shard) SELECT generate_series(0, $1 - 1)";
    sqlx::query(rows).bind(shards).execute(&mut *tx).await?;
    sqlx::query("UPDATE cluster SET shards = $1").bind(shards).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(shards)
}

/// Payloads are stored as they are, in the row as far as it fits a page: compressing them costs more than it saves.
/// Nothing is ever deleted from these tables, so vacuum has nothing to find.
pub(super) fn journal_tables(shard: i32) -> String {
    let mut sql = format!("CREATE TABLE journal_{shard} PARTITION OF journal FOR VALUES IN ({shard}) PARTITION BY LIST (slot);\n");
    for slot in 0..SLOTS {
        let name = format!("journal_{shard}_{slot}");
        sql.push_str(&format!(
            "CREATE TABLE {name} PARTITION OF journal_{shard} FOR VALUES IN ({slot})
                WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_threshold = -1);
             ALTER TABLE {name} ALTER COLUMN payload SET STORAGE EXTERNAL;\n"
        ));
    }
    sql
}
