//! A topic's snapshot as a table of DataFusion.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use lakefall_queue::Offset;
use lakefall_queue::sql::Watermark;

use crate::columns::Columns;
use crate::pieces::{Kind, Piece, Reading};
use crate::prune::prune;
use crate::scan::TopicScan;
use crate::shore::Shore;
use crate::source::TopicSnapshot;
use crate::typed::Part;

/// A topic.
pub(crate) struct TopicTable {
    snapshot: TopicSnapshot,
    parts: Vec<Part>,
    columns: Columns,
    shore: Shore,
}

impl std::fmt::Debug for TopicTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicTable").field("topic", &self.snapshot.topic.name).finish_non_exhaustive()
    }
}

impl TopicTable {
    pub(crate) fn new(shore: Shore, snapshot: TopicSnapshot, parts: Vec<Part>, columns: Columns) -> Self {
        Self { snapshot, parts, columns, shore }
    }

    /// What is seen of each partition.
    pub(crate) fn watermarks(&self) -> impl Iterator<Item = Watermark> + '_ {
        self.snapshot.partitions.iter().map(|partition| Watermark {
            topic: self.snapshot.topic.name.clone(),
            partition: partition.partition,
            log_start: partition.log_start,
            end: partition.end,
        })
    }

    /// Everything there is to read for some columns.
    fn pieces(&self, columns: Columns) -> lakefall_queue::Result<(Reading, Vec<Piece>)> {
        let mut reading = Reading::new(Arc::clone(&self.snapshot.topic), self.shore.clone(), columns)?;
        let mut pieces = Vec::new();
        for Part { partition, stored, file } in &self.parts {
            let Some(bounds) = self.snapshot.partitions.iter().find(|bounds| bounds.partition == *partition) else { continue };
            let inside = |first: Offset, end: Offset| (first.max(bounds.log_start), end.min(bounds.end));
            let Some(file) = file else {
                let (from, until) = inside(stored.extent.base_offset, stored.extent.end());
                if from < until {
                    pieces.push(Piece { partition: *partition, from, until, kind: Kind::Records(stored.extent) });
                }
                continue;
            };
            let is_cut = file.first() < bounds.log_start || file.last() >= bounds.end;
            let at = reading.add_file(stored, file, is_cut)?;
            for (group, found) in file.row_groups().iter().enumerate() {
                let (from, until) = inside(found.first, found.last.plus(1));
                if from < until {
                    pieces.push(Piece { partition: *partition, from, until, kind: Kind::Group { file: at, group } });
                }
            }
        }
        Ok((reading, pieces))
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // Pieces are passed over by them; rows are judged above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let external = |error| DataFusionError::External(Box::new(error));
        let (reading, all) = self.pieces(self.columns.project(projection)).map_err(external)?;
        let count = |pieces: &[Piece]| pieces.iter().filter(|piece| matches!(piece.kind, Kind::Group { .. })).count();
        let (groups, everything) = (count(&all), all.len());
        let kept = prune(state, filters, &self.columns, &reading, all);
        let groups_kept = count(&kept);
        let counters = self.shore.counters();
        counters.row_groups_pruned.fetch_add((groups - groups_kept) as u64, Relaxed);
        counters.extents_pruned.fetch_add((everything - groups - (kept.len() - groups_kept)) as u64, Relaxed);
        let threads = state.config().target_partitions();
        let is_filtered = !filters.is_empty();
        Ok(Arc::new(TopicScan::new(reading, kept, everything, limit, is_filtered, threads)))
    }
}
