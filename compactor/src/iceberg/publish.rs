//! Publishing: what is there is read, the next version is made and created under the next number.

use bytes::Bytes;
use futures::TryStreamExt as _;
use lakefall_storage::store::{Store, StoreError};

use super::manifest::{Entry, ManifestFile, list, manifest, read_list, read_manifest};
use super::snapshot::{path, plan};
use super::table::{Snapshot, Table};
use super::{IcebergError, TableState, tidy};

/// Times it is begun anew when another was faster.
const ATTEMPTS: u32 = 5;
const HINT: &str = "version-hint.text";

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The table is at this version now.
    Version(u64),
    /// It showed this place of the ledger, or a later one, before.
    Known,
}

/// The version that is there, if any.
pub(super) struct Current {
    pub(super) version: u64,
    pub(super) table: Table,
}

/// Brings the table to `state`. May be repeated, and raced: the latest position stays.
pub async fn publish(store: &Store, state: &TableState) -> Result<Published, IcebergError> {
    for attempt in 0..ATTEMPTS {
        let current = current(store, &state.metadata()).await?;
        if current.as_ref().is_some_and(|current| current.table.position() >= state.position) {
            return Ok(Published::Known);
        }
        // Names of an attempt before are taken.
        let names = Names(state.entropy.wrapping_add(u128::from(attempt)));
        match publish_after(store, state, current.as_ref(), &names).await {
            Err(IcebergError::Store(StoreError::Collision { .. })) => {}
            Err(error) => return Err(error),
            Ok((version, table, dropped)) => {
                store.put_control(&format!("{}{HINT}", state.metadata()), Bytes::from(version.to_string())).await?;
                tidy::tidy(store, state, version, &table, &dropped).await?;
                return Ok(Published::Version(version));
            }
        }
    }
    Err(IcebergError::Contended)
}

struct Names(u128);

impl Names {
    /// A UUID of random bits (RFC 9562, version 4).
    fn uuid(&self) -> String {
        let bits = self.0 & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    fn sync(&self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

async fn publish_after(
    store: &Store,
    state: &TableState,
    current: Option<&Current>,
    names: &Names,
) -> Result<(u64, Table, Vec<String>), IcebergError> {
    let table = current.map_or_else(|| Table::new(state, &names.uuid()), |current| current.table.clone());
    let fields = table.fields().with(state.columns.as_ref());
    let schema = table.schema_with(&fields);
    let (id, sequence) = (i64::try_from(state.position).unwrap_or(i64::MAX), table.next_sequence());
    let plan = plan(manifests(store, state, &table).await?, state, id, sequence);
    let version = current.map_or(1, |current| current.version + 1);
    let previous = current.map(|current| path(&state.root, &document_key(&state.metadata(), current.version)));
    let snapshot = if plan.changes() || table.current().is_none() {
        let mut files = plan.keep.clone();
        for (n, entries) in plan.write.iter().enumerate() {
            let key = format!("{}{}-m{n}.avro", state.metadata(), names.uuid());
            let bytes = encoded(&key, manifest(entries, &schema, names.sync()))?;
            files.push(ManifestFile::of(path(&state.root, &key), bytes.len(), sequence, id, entries));
            store.put_new(&key, vec![bytes.into()]).await?;
        }
        let key = format!("{}snap-{id}-{}.avro", state.metadata(), names.uuid());
        let bytes = encoded(&key, list(&files, id, table.current(), sequence, names.sync()))?;
        store.put_new(&key, vec![bytes.into()]).await?;
        Some(Snapshot { id, sequence, list: path(&state.root, &key) })
    } else {
        None
    };
    let (next, dropped) = table.next(state, &fields, snapshot.as_ref().map(|snapshot| (snapshot, &plan)), previous.as_deref());
    let text = next.document.to_string();
    store.put_new(&document_key(&state.metadata(), version), vec![text.into()]).await?;
    Ok((version, next, dropped))
}

/// A version in the folder of metadata.
pub(super) fn document_key(folder: &str, version: u64) -> String {
    format!("{folder}v{version}.metadata.json")
}

fn encoded(key: &str, bytes: Result<Vec<u8>, apache_avro::Error>) -> Result<Vec<u8>, IcebergError> {
    bytes.map_err(|error| IcebergError::unreadable(key, error))
}

/// The newest version in the folder of metadata. The hint may be behind, never ahead.
pub(super) async fn current(store: &Store, folder: &str) -> Result<Option<Current>, IcebergError> {
    let hint = match read(store, &format!("{folder}{HINT}")).await? {
        Some(bytes) => String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0),
        None => 0_u64,
    };
    let mut version = hint;
    if version == 0 || !exists(store, &document_key(folder, version)).await? {
        version = listed(store, folder).await?;
    }
    if version == 0 {
        return Ok(None);
    }
    while exists(store, &document_key(folder, version + 1)).await? {
        version += 1;
    }
    let key = document_key(folder, version);
    let bytes = read(store, &key).await?.ok_or_else(|| IcebergError::unreadable(&key, "it is not there, though the hint names it"))?;
    let table = Table::read(&bytes).map_err(|reason| IcebergError::unreadable(&key, reason))?;
    Ok(Some(Current { version, table }))
}

/// The newest version by the names of documents: where the hint is of no help.
async fn listed(store: &Store, folder: &str) -> Result<u64, StoreError> {
    let objects: Vec<_> = store.list(folder.trim_end_matches('/')).try_collect().await?;
    let version = |key: &str| key.strip_prefix(folder)?.strip_prefix('v')?.strip_suffix(".metadata.json")?.parse().ok();
    Ok(objects.iter().filter_map(|object| version(&object.key)).max().unwrap_or(0))
}

/// The manifests of the current snapshot.
async fn manifests(store: &Store, state: &TableState, table: &Table) -> Result<Vec<(ManifestFile, Vec<Entry>)>, IcebergError> {
    let Some(list) = table.list() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for file in files_of(store, state, list).await? {
        let bytes = must_read(store, state, &file.path).await?;
        let entries = read_manifest(&bytes).map_err(|reason| IcebergError::unreadable(&file.path, reason))?;
        found.push((file, entries));
    }
    Ok(found)
}

/// The manifests that a list names.
pub(super) async fn files_of(store: &Store, state: &TableState, list: &str) -> Result<Vec<ManifestFile>, IcebergError> {
    let bytes = must_read(store, state, list).await?;
    read_list(&bytes).map_err(|reason| IcebergError::unreadable(list, reason))
}

async fn must_read(store: &Store, state: &TableState, path: &str) -> Result<Bytes, IcebergError> {
    // By the folder, not by the root: a bucket may have been reached under another URL before.
    let key =
        path.find(&state.folder).map(|at| &path[at..]).ok_or_else(|| IcebergError::unreadable(path, "it lies outside of the table"))?;
    read(store, key).await?.ok_or_else(|| IcebergError::unreadable(path, "it is not there"))
}

async fn exists(store: &Store, key: &str) -> Result<bool, StoreError> {
    match store.head(key).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A small object, or that it is not there.
async fn read(store: &Store, key: &str) -> Result<Option<Bytes>, StoreError> {
    let found = async { store.get_range(key, 0..store.head(key).await?.size).await };
    match found.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
