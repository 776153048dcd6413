//! Which typed columns a topic's Parquet files get beside the values: those of its schema, or what its JSON values turn out to
//! have in common.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lakefall_queue::TopicId;
use lakefall_queue::error::Result;
use lakefall_queue::topic::Topic;
use lakefall_storage::parquet::{ColumnSchema, TypedColumns};

/// Topics whose last columns are remembered. Others are looked up in their files again.
const TOPICS: usize = 4_096;

/// Knows the columns of topics that have a schema.
#[async_trait]
pub trait Columns: Send + Sync + 'static {
    /// What the schema of `topic`, which has one, says of columns as it is now; `None` for a schema that makes none.
    async fn columns(&self, topic: &Topic) -> Result<Option<TypedColumns>>;
}

/// Knows of no schema: files have the columns that every record has.
pub struct NoColumns;

#[async_trait]
impl Columns for NoColumns {
    async fn columns(&self, _topic: &Topic) -> Result<Option<TypedColumns>> {
        Ok(None)
    }
}

/// Inferred columns as the last files of topics had them, over all partitions: so that they widen together.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<TopicId, Arc<ColumnSchema>>>);

impl Known {
    pub(super) fn of(&self, topic: TopicId) -> Option<Arc<ColumnSchema>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&topic).cloned()
    }

    pub(super) fn learn(&self, topic: TopicId, columns: ColumnSchema) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TOPICS {
            known.clear();
        }
        known.insert(topic, Arc::new(columns));
    }
}
