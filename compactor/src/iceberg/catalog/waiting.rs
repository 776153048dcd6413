//! Tables that wait to be brought, and who brings them: one at a time, each as often as it takes. A table waits once however often it was
//! published meanwhile, so there are never more than topics, at some 200 bytes each.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_storage::store::Store;
use tokio::sync::Notify;

use super::{Catalog, CatalogError, CatalogTable};
use crate::metrics as names;

/// From an attempt in vain to the next one, doubled with each up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Tables in the order in which they are brought.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<CatalogTable>,
    /// Their folders.
    folders: BTreeSet<String>,
}

impl Waiting {
    /// At the end, unless it waits already.
    pub(super) fn add(&self, table: CatalogTable) {
        let mut queue = self.queue();
        if queue.folders.insert(table.folder.clone()) {
            queue.order.push_back(table);
        }
        tell(&queue);
        self.added.notify_one();
    }

    fn take(&self) -> Option<CatalogTable> {
        let mut queue = self.queue();
        let table = queue.order.pop_front()?;
        // One that is published while it is brought waits again: which document was read nobody knows.
        queue.folders.remove(&table.folder);
        Some(table)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(queue: &Queue) {
    ::metrics::gauge!(names::TABLES_WAITING).set(queue.order.len() as f64);
}

/// What was logged, so that the same is not logged again.
#[derive(Default)]
struct Told {
    /// The catalog is away.
    away: bool,
    /// Folders of tables that it does not take.
    refused: BTreeSet<String>,
}

impl Catalog {
    /// Brings the tables that wait, and those to come. May be dropped anywhere.
    pub(crate) async fn run(&self, store: &Store) -> Infallible {
        let (mut told, mut pause) = (Told::default(), PAUSE);
        loop {
            let Some(table) = self.waiting.take() else {
                self.waiting.added.notified().await;
                continue;
            };
            let brought = self.bring(store, &table).await;
            let outcome = match &brought {
                Ok(_) => "ok",
                Err(error) => error.outcome(),
            };
            ::metrics::counter!(names::TABLES_BROUGHT, "outcome" => outcome).increment(1);
            told.tell(&table, brought.as_ref().err());
            if brought.is_err_and(|error| error.passes()) {
                self.waiting.add(table);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            } else {
                tell(&self.waiting.queue());
                pause = PAUSE;
            }
        }
    }
}

impl Told {
    fn tell(&mut self, table: &CatalogTable, error: Option<&CatalogError>) {
        match error {
            None => {
                if std::mem::take(&mut self.away) {
                    tracing::info!("the catalog takes tables again");
                }
                if self.refused.remove(&table.folder) {
                    tracing::info!(namespace = %table.namespace, topic = %table.name, "the catalog takes the topic's table now");
                }
            }
            Some(error) if error.passes() => {
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(%error, "tables are not committed to the catalog: they are as soon as it takes them");
                }
            }
            Some(error) => {
                if self.refused.insert(table.folder.clone()) {
                    tracing::warn!(
                        namespace = %table.namespace, topic = %table.name, %error,
                        "the topic's table is not committed to the catalog: it is tried again with the next publication"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> CatalogTable {
        CatalogTable {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            folder: format!("tables/default/{name}/"),
            root: "s3://bucket".to_owned(),
        }
    }

    #[test]
    fn a_table_waits_once_and_one_that_comes_back_goes_to_the_end() {
        let waiting = Waiting::default();
        for name in ["a", "b", "a"] {
            waiting.add(table(name));
        }
        let first = waiting.take().unwrap();
        assert_eq!(first.name, "a");
        waiting.add(first);
        assert_eq!([waiting.take().unwrap().name, waiting.take().unwrap().name], ["b", "a"]);
        assert!(waiting.take().is_none());
    }
}
