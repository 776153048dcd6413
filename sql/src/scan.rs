//! The plan node that reads a topic. Its streams share the pieces: whoever is done takes the next, so that all threads are busy
//! to the end. While one piece is decoded, the next one's bytes are fetched.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use bytes::Bytes;
use datafusion::common::Result as DataFusionResult;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties};
use futures::TryStreamExt;
use lakefall_queue::{Error, Result, StoredRecord};
use lakefall_storage::parquet::ColumnBatches;
use tokio_util::task::AbortOnDropHandle;

use crate::pieces::{Kind, Piece, Reading};
use crate::shore::joined;
use crate::source::RecordPortions;

/// Rows of a batch that is made of records; their bytes are bounded, too.
const ROWS: usize = crate::pieces::VALUE_ROWS;
/// A batch ends after the record that brings it to this many bytes.
const BYTES: usize = 4 << 20;

/// Reads pieces of a topic.
pub(crate) struct TopicScan {
    shared: Arc<Shared>,
    /// Before any was passed over.
    everything: usize,
    limit: Option<usize>,
    is_filtered: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    waiting: Arc<Waiting>,
}

/// What all streams of a scan know.
struct Shared {
    reading: Reading,
    pieces: Vec<Piece>,
}

/// The pieces that nobody took yet, as places in [`Shared::pieces`].
struct Waiting(Mutex<VecDeque<usize>>);

impl Waiting {
    fn all(shared: &Shared) -> Arc<Self> {
        Arc::new(Self(Mutex::new((0..shared.pieces.len()).collect())))
    }

    fn take(&self) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl TopicScan {
    pub(crate) fn new(
        reading: Reading,
        pieces: Vec<Piece>,
        everything: usize,
        limit: Option<usize>,
        is_filtered: bool,
        threads: usize,
    ) -> Self {
        let streams = pieces.len().clamp(1, threads.max(1));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&reading.columns.schema)),
            Partitioning::UnknownPartitioning(streams),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let shared = Arc::new(Shared { reading, pieces });
        let waiting = Waiting::all(&shared);
        Self { shared, everything, limit, is_filtered, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new(), waiting }
    }

    /// How many rows there are, if that is known without reading.
    fn rows(&self) -> Option<u64> {
        let rows = |piece: &Piece| match piece.kind {
            Kind::Records(_) => Some(piece.until.0 - piece.from.0),
            Kind::Group { file, group } => {
                let file = &self.shared.reading.files.get(file)?.file;
                let found = file.row_groups().get(group)?;
                let is_dense = found.records() == found.last.0 - found.first.0 + 1;
                match piece.holds(file, group) {
                    true => Some(found.records()),
                    false => is_dense.then(|| piece.until.0 - piece.from.0),
                }
            }
        };
        self.shared.pieces.iter().map(rows).sum()
    }
}

impl fmt::Debug for TopicScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicScan").field("topic", &self.shared.reading.topic.name).finish_non_exhaustive()
    }
}

impl DisplayAs for TopicScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { reading, pieces } = &*self.shared;
        let groups = pieces.iter().filter(|piece| matches!(piece.kind, Kind::Group { .. })).count();
        let columns: Vec<&str> = reading.columns.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "TopicScan: topic={}, columns=[{}]", reading.topic.name, columns.join(", "))?;
        write!(f, ", row_groups={groups}, extents={}, pruned={}", pieces.len() - groups, self.everything - pieces.len())?;
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for TopicScan {
    fn name(&self) -> &str {
        "TopicScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            shared: Arc::clone(&self.shared),
            everything: self.everything,
            limit: self.limit,
            is_filtered: self.is_filtered,
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
            waiting: Waiting::all(&self.shared),
        }))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> DataFusionResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        // A limit or a filter leaves it open how many come.
        if args.partition().is_none() && self.limit.is_none() && !self.is_filtered {
            let rows = self.rows().and_then(|rows| usize::try_from(rows).ok());
            statistics.num_rows = rows.map_or(Precision::Absent, Precision::Exact);
        }
        Ok(Arc::new(statistics))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let memory = |name: &str| MemoryConsumer::new(format!("{name}[{partition}]")).register(context.memory_pool());
        let stream = Stream {
            shared: Arc::clone(&self.shared),
            waiting: Arc::clone(&self.waiting),
            ahead: None,
            current: None,
            batch_rows: context.session_config().batch_size(),
            left: self.limit.unwrap_or(usize::MAX),
            memory: memory("TopicScan"),
            memory_ahead: memory("TopicScanAhead"),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = futures::stream::try_unfold(stream, Stream::step);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// A piece whose bytes are on their way.
enum Fetching {
    Group(AbortOnDropHandle<Result<Vec<Bytes>>>),
    Records(RecordPortions),
}

/// A piece that is being decoded.
enum Current {
    Group { piece: usize, file: usize, batches: ColumnBatches },
    Records { piece: usize, portions: RecordPortions, rest: Vec<StoredRecord> },
}

struct Stream {
    shared: Arc<Shared>,
    waiting: Arc<Waiting>,
    ahead: Option<(usize, Fetching)>,
    current: Option<Current>,
    batch_rows: usize,
    left: usize,
    memory: MemoryReservation,
    memory_ahead: MemoryReservation,
    metrics: BaselineMetrics,
}

impl Stream {
    async fn step(mut self) -> DataFusionResult<Option<(RecordBatch, Self)>> {
        while self.left > 0 {
            if self.current.is_none() && !self.advance().await? {
                break;
            }
            let batch = match self.next_batch().await.map_err(external)? {
                Some(batch) if batch.num_rows() > self.left => batch.slice(0, self.left),
                Some(batch) => batch,
                None => {
                    self.current = None;
                    continue;
                }
            };
            if batch.num_rows() > 0 {
                self.left -= batch.num_rows();
                self.metrics.record_output(batch.num_rows());
                return Ok(Some((batch, self)));
            }
        }
        self.metrics.done();
        Ok(None)
    }

    /// Begins the next piece; false if there is none.
    async fn advance(&mut self) -> DataFusionResult<bool> {
        if self.ahead.is_none() {
            self.look_ahead()?;
        }
        let Some((piece, fetching)) = self.ahead.take() else { return Ok(false) };
        std::mem::swap(&mut self.memory, &mut self.memory_ahead);
        self.memory_ahead.free();
        let current = match fetching {
            Fetching::Records(portions) => Current::Records { piece, portions, rest: Vec::new() },
            Fetching::Group(bytes) => {
                let bytes = joined(bytes).await.map_err(external)?;
                self.look_ahead()?;
                let Kind::Group { file, group } = self.shared.pieces[piece].kind else {
                    return Err(DataFusionError::Internal("a row group's bytes for an extent".to_owned()));
                };
                let _busy = self.metrics.elapsed_compute().timer();
                let rows = self.shared.reading.batch_rows(file, self.batch_rows);
                let batches = self.shared.reading.decode(file, group, bytes, rows).await.map_err(external)?;
                Current::Group { piece, file, batches }
            }
        };
        self.current = Some(current);
        Ok(true)
    }

    fn look_ahead(&mut self) -> DataFusionResult<()> {
        let Some(next) = self.waiting.take() else { return Ok(()) };
        let piece = &self.shared.pieces[next];
        let reading = &self.shared.reading;
        let fetching = match &piece.kind {
            Kind::Group { file, group } => {
                self.memory_ahead.try_grow(reading.weight(*file, *group))?;
                reading.shore.counters().row_groups_read.fetch_add(1, Relaxed);
                Fetching::Group(reading.fetch(*file, *group))
            }
            Kind::Records(extent) => {
                self.memory_ahead.try_grow(2 * BYTES)?;
                reading.shore.counters().extents_read.fetch_add(1, Relaxed);
                Fetching::Records(reading.shore.records(&reading.topic, piece.partition, *extent, piece.from))
            }
        };
        self.ahead = Some((next, fetching));
        Ok(())
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Shared { reading, pieces } = &*self.shared;
        match &mut self.current {
            None => Ok(None),
            Some(Current::Group { piece, file, batches }) => {
                let _busy = self.metrics.elapsed_compute().timer();
                batches.next().map(|batch| reading.rows(&pieces[*piece], *file, batch)).transpose()
            }
            Some(Current::Records { piece, portions, rest }) => {
                if rest.is_empty() {
                    *rest = portions.try_next().await?.unwrap_or_default();
                }
                if rest.is_empty() {
                    return Ok(None);
                }
                let _busy = self.metrics.elapsed_compute().timer();
                let later = rest.split_off(batch_len(rest));
                let batch = std::mem::replace(rest, later);
                reading.rows_of_records(&pieces[*piece], &batch).map(Some)
            }
        }
    }
}

/// How many of the records make a batch.
fn batch_len(records: &[StoredRecord]) -> usize {
    let mut bytes = 0;
    let mut len = 0;
    for record in records.iter().take(ROWS) {
        bytes += record.payload_bytes();
        len += 1;
        if bytes >= BYTES {
            break;
        }
    }
    len
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
