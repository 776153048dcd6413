//! The metadata store as it is stored, looked at from outside: for commands that verify and recover. Reads only.

use std::path::Path;

use lakefall_metadata::postgres::PostgresStore;
use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Loaded, MetadataStore, StoreError};
use lakefall_queue::ShardId;
use lakefall_service::{Config, system_ambient};

use crate::failure::Failure;
use crate::roles::parts;

/// A metadata store that nobody is kept from serving.
pub(crate) enum Stored {
    Sqlite(SqliteStore),
    Postgres(Box<PostgresStore>),
}

impl Stored {
    /// Opens what `metadata.url` names.
    pub(crate) async fn open(config: &Config) -> Result<Self, Failure> {
        let url = config.metadata_url()?;
        if parts::is_postgres(&url) {
            let replica = parts::replica(&system_ambient(), String::new());
            return Ok(Self::Postgres(Box::new(parts::open_postgres(config, &replica, false).await?)));
        }
        let Some(path) = url.strip_prefix("sqlite://").map(Path::new) else {
            return Err(Failure::Usage(format!("metadata.url is {url}: only sqlite:///file and postgres://… can be looked at")));
        };
        if !path.is_file() {
            return Err(Failure::Usage(format!("there is no metadata store {}: --data-dir names another folder", path.display())));
        }
        SqliteStore::open_read_only(path).await.map(Self::Sqlite).map_err(|error| unreadable(&error))
    }

    /// How many shards it was created with; 0 if it was never used.
    pub(crate) async fn shards(&self) -> Result<u32, StoreError> {
        let shards = match self {
            Self::Sqlite(store) => store.shards().await?,
            Self::Postgres(store) => store.shards().await?,
        };
        Ok(shards.unwrap_or(0))
    }

    /// What is stored of a shard, without taking it.
    pub(crate) async fn inspect(&self, shard: ShardId) -> Result<Loaded, StoreError> {
        match self {
            Self::Sqlite(store) => store.inspect(shard).await,
            Self::Postgres(store) => store.inspect(shard).await,
        }
    }

    /// For what is asked of all stores alike.
    pub(crate) fn store(&self) -> &dyn MetadataStore {
        match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => &**store,
        }
    }
}

/// What to tell when it cannot be read.
pub(crate) fn unreadable(error: &StoreError) -> Failure {
    Failure::Failed(format!("the metadata cannot be read: {error}"))
}
