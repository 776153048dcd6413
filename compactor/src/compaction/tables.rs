//! Topics as Iceberg tables: told anew after each change of a topic's files. Never in the way of compaction: what fails is told, and
//! done with the next change.

use arrow_schema::Fields;
use lakefall_queue::ledger::{Answer, Extent, ObjectLevel, Query, object_key};
use lakefall_queue::topic::{Cleanup, PartitionStatus, Topic};
use lakefall_queue::{Offset, PartitionIndex};
use lakefall_storage::parquet::TypedColumns;

use super::{CompactError, Compactor, unexpected};
use crate::iceberg::{CatalogTable, IcebergError, TableFile, TableState, publish};
use crate::metrics as names;

/// Extents located at once.
const EXTENTS: usize = 1_000;

/// Why a table is not up to date.
#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error(transparent)]
    Compact(#[from] CompactError),
    #[error(transparent)]
    Iceberg(#[from] IcebergError),
}

impl Compactor {
    /// Publishes the topic's table, if tables are published.
    pub(super) async fn publish_table(&self, topic: &Topic) {
        let Some(root) = &self.config.tables_root else { return };
        let published = self.published(topic, root).await;
        ::metrics::counter!(names::TABLES, "outcome" => if published.is_ok() { "ok" } else { "failed" }).increment(1);
        if let Err(error) = published {
            tracing::warn!(topic = %topic.name, %error, "the topic's table could not be published: it is tried again with the next change");
        }
    }

    async fn published(&self, topic: &Topic, root: &str) -> Result<(), TableError> {
        // Before the files are looked at: what is published shows at least this.
        let position = match self.ask(topic, Query::Position).await? {
            Answer::Position(position) => position.seq.0,
            other => return Err(unexpected(&other).into()),
        };
        let partitions = match self.ask(topic, Query::Partitions(topic.id)).await? {
            Answer::Partitions(partitions) => partitions,
            other => return Err(unexpected(&other).into()),
        };
        let mut files = Vec::new();
        for partition in &partitions {
            for extent in self.parquet_extents(topic, partition).await? {
                files.push(self.table_file(topic, partition.partition, &extent).await?);
            }
        }
        let state = TableState {
            folder: lakefall_queue::ledger::key::table_folder(&topic.namespace, &topic.name),
            root: root.to_owned(),
            position,
            files,
            columns: self.table_columns(topic).await?,
            now: self.ambient.now(),
            entropy: self.ambient.entropy.draw(),
        };
        publish(&self.store, &state).await?;
        if let Some(catalog) = &self.catalog {
            // Also what others published: who was faster may have been killed since.
            let (namespace, name) = (topic.namespace.to_string(), topic.name.to_string());
            catalog.wants(CatalogTable { namespace, name, folder: state.folder, root: state.root });
        }
        Ok(())
    }

    /// Brings tables into the catalog, if there is one. In its own time: nobody waits for a catalog.
    pub(super) async fn keep_bringing(&self) {
        match &self.catalog {
            Some(catalog) => match catalog.run(&self.store).await {},
            None => std::future::pending().await,
        }
    }

    async fn ask(&self, topic: &Topic, query: Query) -> Result<Answer, CompactError> {
        Ok(self.metadata.query(topic.id.shard(), query).await?)
    }

    /// The files of a partition that hold something readers see. They come before everything else.
    async fn parquet_extents(&self, topic: &Topic, status: &PartitionStatus) -> Result<Vec<Extent>, CompactError> {
        let mut found: Vec<Extent> = Vec::new();
        let mut next = status.log_start;
        while next < status.end {
            let query =
                Query::Locate { topic: topic.id, partition: status.partition, from: next, max_bytes: u64::MAX, max_extents: EXTENTS };
            let located = match self.ask(topic, query).await? {
                Answer::Located(located) if located.deleted => return Err(CompactError::Gone),
                Answer::Located(located) => located.extents,
                other => return Err(unexpected(&other)),
            };
            let files = located.iter().take_while(|extent| extent.level == ObjectLevel::Parquet).count();
            let more = files == located.len();
            let Some(end) = located.last().map(Extent::end) else { break };
            found.extend(&located[..files]);
            if !more {
                break;
            }
            next = end;
        }
        Ok(found)
    }

    async fn table_file(&self, topic: &Topic, partition: PartitionIndex, extent: &Extent) -> Result<TableFile, CompactError> {
        let (mut rows, mut last) = (u64::from(extent.records), Offset(extent.end().0.saturating_sub(1)));
        if topic.config.cleanup == Cleanup::Compact {
            // The extent's offsets are more than the file's rows.
            let footer = self.footer(topic, partition, extent).await?;
            (rows, last) = (footer.records(), footer.last());
        }
        Ok(TableFile {
            key: object_key(&topic.namespace, &topic.name, extent),
            size: extent.object_size,
            rows,
            partition,
            first: extent.base_offset,
            last,
            first_timestamp: extent.first_timestamp,
            max_timestamp: extent.max_timestamp,
            appended_at: extent.appended_at,
        })
    }

    /// The typed columns that the topic's files have now.
    async fn table_columns(&self, topic: &Topic) -> Result<Option<Fields>, CompactError> {
        if topic.config.schema.is_some() {
            let typed = self.columns.columns(topic).await?;
            return Ok(typed.as_ref().map(TypedColumns::fields).cloned());
        }
        Ok(self.known_columns.of(topic.id).map(|columns| columns.fields().clone()))
    }
}
