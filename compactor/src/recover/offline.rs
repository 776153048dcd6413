//! Ledgers read from a store that nobody serves, as a metadata service that answers questions and takes no commands.

use std::sync::Arc;

use async_trait::async_trait;
use lakefall_metadata::{Identity, Metadata, News};
use lakefall_queue::ShardId;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Command, Ledger, Query, Reply};
use tokio::sync::broadcast;

/// See the module. Extents that are in tables only are not told of.
pub struct Offline {
    identity: Identity,
    ledgers: Vec<Ledger>,
}

impl Offline {
    /// Over every shard's ledger, in their order.
    pub fn new(identity: Identity, ledgers: Vec<Ledger>) -> Self {
        Self { identity, ledgers }
    }
}

#[async_trait]
impl Metadata for Offline {
    fn shards(&self) -> u32 {
        self.ledgers.len() as u32
    }

    async fn execute(&self, _shard: ShardId, _command: Command) -> Result<Reply> {
        Err(Error::unavailable("the metadata are only looked at"))
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        let ledger = self.ledgers.get(shard.0 as usize).ok_or_else(|| Error::Internal(format!("there is no shard {shard}")))?;
        ledger.query(&query)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        // Closed at once: nothing becomes durable here.
        broadcast::channel(1).1
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(self.identity.clone())
    }
}
