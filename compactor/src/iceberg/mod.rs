//! A topic's Parquet files as an Iceberg table, format version 2: <https://iceberg.apache.org/spec/>. From the table as it was
//! published last and the files that there are now, this makes the next snapshot and writes it beside the files.
//!
//! | under `tables/<namespace>/<topic>/_iceberg/` | what |
//! |---|---|
//! | `metadata/v<N>.metadata.json` | the table after its N-th publication; created, never replaced |
//! | `metadata/version-hint.text` | N, for readers without a catalog; may be behind |
//! | `metadata/snap-<position>-<uuid>.avro` | a snapshot's list of manifests |
//! | `metadata/<uuid>-m<n>.avro` | a manifest: which files |
//!
//! The underscore hides it from readers who take the topic's folder for nothing but Parquet files.
//!
//! A snapshot is named by the place in the ledger that it shows: publishing the same place again changes nothing, and an
//! earlier one is passed over. Of two who publish at once, one creates `v<N>` and the other looks again.
//!
//! The crate `iceberg` is not used: its current release brings an Arrow of its own, beside the one that everything else here
//! uses. What is written here is a small part of what it can do, and is read back by pyiceberg in the tests.

mod catalog;
mod container;
mod fields;
mod manifest;
mod publish;
mod snapshot;
mod table;
mod tidy;

use arrow_schema::Fields;
use lakefall_queue::{Offset, PartitionIndex, Timestamp};
use lakefall_storage::store::StoreError;

pub use catalog::{Access, Brought, Catalog, CatalogError, CatalogSettings, CatalogTable};
pub use publish::{Published, publish};

/// A Parquet file of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    /// Its key in the store.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// How many rows.
    pub rows: u64,
    /// The topic's partition.
    pub partition: PartitionIndex,
    /// The first row's offset.
    pub first: Offset,
    /// The last row's offset.
    pub last: Offset,
    /// The smallest timestamp.
    pub first_timestamp: Timestamp,
    /// The largest timestamp.
    pub max_timestamp: Timestamp,
    /// When its first row was appended; all were on the same UTC day.
    pub appended_at: Timestamp,
}

/// What a table is to show.
#[derive(Clone, Debug)]
pub struct TableState {
    /// The folder of the topic's files: `tables/<namespace>/<topic>/`.
    pub folder: String,
    /// What stands before a key for readers: the store's URL, like `s3://bucket/prefix`.
    pub root: String,
    /// The place in the ledger at which this is so: rises whenever the files change. From 1.
    pub position: u64,
    /// All files, in no particular order.
    pub files: Vec<TableFile>,
    /// The typed columns of the topic's values, if it has any.
    pub columns: Option<Fields>,
    /// Now.
    pub now: Timestamp,
    /// Randomness for names.
    pub entropy: u128,
}

/// Why a table could not be published.
#[derive(Debug, thiserror::Error)]
pub enum IcebergError {
    /// The store failed. Try again later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was published before cannot be read: damaged, or written by something else. An operator must look; deleting the folder
    /// `_iceberg` begins the table anew.
    #[error("the table's metadata {key} cannot be read: {reason}")]
    Unreadable {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Others keep publishing this table. Try again later.
    #[error("others keep publishing this table")]
    Contended,
}

impl TableState {
    /// Where the table is, for those who ask for a table's folder.
    fn location(&self) -> String {
        format!("{}_iceberg", self.folder)
    }

    /// Where its metadata is.
    fn metadata(&self) -> String {
        metadata_folder(&self.folder)
    }
}

/// Where the metadata of the table in a topic's folder is.
fn metadata_folder(folder: &str) -> String {
    format!("{folder}_iceberg/metadata/")
}

impl IcebergError {
    fn unreadable(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Unreadable { key: key.to_owned(), reason: reason.to_string() }
    }
}
