//! What earlier publications left behind: the lists and manifests of snapshots that the table does not name any more, and old
//! documents. They are deleted by their names, never because a listing shows them; what a crash leaves behind is small.

use std::collections::BTreeSet;

use lakefall_storage::store::Store;

use super::publish::{document_key, files_of};
use super::table::Table;
use super::{IcebergError, TableState};

/// Documents that stay, for readers that opened the table a while ago.
const DOCUMENTS: u64 = 100;

/// After the table became `version`; `dropped` are the lists of snapshots that went with that.
pub(super) async fn tidy(store: &Store, state: &TableState, version: u64, table: &Table, dropped: &[String]) -> Result<(), IcebergError> {
    if version > DOCUMENTS {
        store.delete(&document_key(&state.metadata(), version - DOCUMENTS)).await?;
    }
    if dropped.is_empty() {
        return Ok(());
    }
    let mut named = BTreeSet::new();
    for list in table.lists() {
        named.extend(files_of(store, state, list).await?.into_iter().map(|file| file.path));
    }
    for list in dropped {
        let gone = files_of(store, state, list).await?.into_iter().map(|file| file.path).filter(|path| !named.contains(path));
        for path in gone.chain([list.clone()]) {
            if let Some(at) = path.find(&state.folder) {
                store.delete(&path[at..]).await?;
            }
        }
    }
    Ok(())
}
