//! From a statement to a plan over snapshots of the topics that it names. Nothing else can be named: there are no files, no
//! URLs, and no settings.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SQLOptions, SessionConfig};
use futures::TryStreamExt;
use lakefall_queue::sql::{SqlRefusal, Statement, Watermark};
use lakefall_queue::{Error, Result, TopicName};

use crate::columns::Columns;
use crate::engine::{BATCH_ROWS, SqlConfig};
use crate::files::Known;
use crate::refusal::{exceeded, refused};
use crate::shore::Shore;
use crate::statement::{self, Question};
use crate::system::{self, SystemTable};
use crate::table::TopicTable;
use crate::typed;

const CATALOG: &str = "lakefall";
const TOPICS: &str = "topics";
/// Most topics of a statement.
const MOST_TOPICS: usize = 64;
/// Most extents of a topic: each is some hundred bytes of a plan, and a read.
const MOST_EXTENTS: usize = 100_000;

/// A statement that can be answered.
pub(crate) struct Plan {
    pub(crate) watermarks: Vec<Watermark>,
    physical: Arc<dyn ExecutionPlan>,
    state: SessionState,
}

/// The rows of a plan.
pub(crate) struct Batches(SendableRecordBatchStream);

impl Plan {
    pub(crate) fn schema(&self) -> SchemaRef {
        self.physical.schema()
    }

    pub(crate) fn rows(self) -> Result<Batches> {
        execute_stream(self.physical, self.state.task_ctx()).map(Batches).map_err(refused)
    }
}

impl Batches {
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.0.try_next().await.map_err(refused)
    }
}

/// Plans a statement.
pub(crate) async fn plan(shore: &Shore, known: &Arc<Known>, config: &SqlConfig, statement: &Statement) -> Result<Plan> {
    let question = statement::parse(&statement.text)?;
    let session = session(config)?;
    let watermarks = register(shore, known, &session, &question).await?;
    let mut logical = session.state.statement_to_plan(question.parsed).await.map_err(refused)?;
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&logical).map_err(refused)?;
    if let Some(values) = statement::values(&statement.parameters) {
        logical = logical.with_param_values(values).map_err(refused)?;
    }
    let physical = session.state.create_physical_plan(&logical).await.map_err(refused)?;
    Ok(Plan { watermarks, physical, state: session.state })
}

struct Session {
    state: SessionState,
    topics: Arc<MemorySchemaProvider>,
    system: Arc<MemorySchemaProvider>,
}

/// A session that knows no table yet, and can neither open files nor write any.
fn session(config: &SqlConfig) -> Result<Session> {
    let catalog = MemoryCatalogProvider::new();
    let (topics, system) = (Arc::new(MemorySchemaProvider::new()), Arc::new(MemorySchemaProvider::new()));
    catalog.register_schema(TOPICS, Arc::clone(&topics) as Arc<dyn SchemaProvider>).map_err(refused)?;
    catalog.register_schema(system::SCHEMA, Arc::clone(&system) as Arc<dyn SchemaProvider>).map_err(refused)?;
    let mut settings = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, TOPICS)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(config.threads.max(1));
    let options = settings.options_mut();
    // Names of topics and of fields of JSON tell case apart.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    let state = SessionStateBuilder::new().with_config(settings).with_runtime_env(runtime(config)?).with_default_features().build();
    state.catalog_list().register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(Session { state, topics, system })
}

fn runtime(config: &SqlConfig) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(config.memory_bytes)))
        // What does not fit is refused: a gateway's disk is not for that.
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
        .map_err(refused)
}

/// Makes tables of what a statement names. All snapshots are taken before anything else is asked.
async fn register(shore: &Shore, known: &Arc<Known>, session: &Session, question: &Question) -> Result<Vec<Watermark>> {
    let named = session.state.resolve_table_references(&question.parsed).map_err(refused)?;
    let mut topics = Vec::new();
    for reference in named {
        match (reference.schema(), reference.table()) {
            (None, name) => topics.push(topic(name)?),
            (Some(system::SCHEMA), name) => {
                let table = SystemTable::new(name, shore.clone()).ok_or_else(|| not_found(&reference, system::known()))?;
                session.system.register_table(name.to_owned(), Arc::new(table)).map_err(refused)?;
            }
            (Some(schema), name) => {
                return Err(not_found(&reference, format!("a name with a dot in it needs quotes, as in \"{schema}.{name}\"")));
            }
        }
    }
    if topics.len() > MOST_TOPICS {
        return Err(exceeded(format!("the query names {} topics: at most {MOST_TOPICS} are allowed", topics.len())));
    }
    let snapshots = topics.into_iter().map(|topic| shore.ask(move |source| async move { source.snapshot(&topic).await }));
    let snapshots = futures::future::try_join_all(snapshots).await.map_err(unknown_topic)?;
    let mut watermarks = Vec::new();
    for snapshot in snapshots {
        let extents: usize = snapshot.partitions.iter().map(|partition| partition.extents.len()).sum();
        if extents > MOST_EXTENTS {
            return Err(exceeded(format!("topic {} has {extents} extents: at most {MOST_EXTENTS} can be read", snapshot.topic.name)));
        }
        let name = snapshot.topic.name.to_string();
        let parts = typed::open_files(shore, known, &snapshot).await?;
        let typed = typed::columns(shore, known, &snapshot, &parts, question.wants_typed).await?;
        let table = TopicTable::new(shore.clone(), snapshot, parts, Columns::new(&typed));
        watermarks.extend(table.watermarks());
        session.topics.register_table(name, Arc::new(table) as Arc<dyn TableProvider>).map_err(refused)?;
    }
    Ok(watermarks)
}

fn topic(name: &str) -> Result<TopicName> {
    TopicName::new(name)
        .map_err(|_| SqlRefusal::TableNotFound { table: name.to_owned(), hint: ": no topic can have this name".to_owned() }.into())
}

fn unknown_topic(error: Error) -> Error {
    match error {
        Error::TopicNotFound(name) => SqlRefusal::TableNotFound {
            table: name.to_string(),
            hint: ": tables are the topics of the namespace, by their exact names, and those of SHOW TABLES".to_owned(),
        }
        .into(),
        other => other,
    }
}

fn not_found(reference: &TableReference, hint: String) -> Error {
    SqlRefusal::TableNotFound { table: reference.to_string(), hint: format!(": {hint}") }.into()
}
