//! The metadata service as a gateway sees it, with its questions counted; one gateway can be made deaf to its notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lakefall_metadata::{Metadata, Node, NoticeBatch};
use lakefall_queue::ShardId;
use lakefall_queue::error::Result;
use lakefall_queue::ledger::{Answer, Command, Query, Reply};
use tokio::sync::broadcast;

pub(crate) struct Watched {
    pub(crate) node: Arc<Node>,
    queries: AtomicUsize,
    silence: Option<broadcast::Sender<Arc<NoticeBatch>>>,
}

impl Watched {
    pub(crate) fn new(node: Arc<Node>, deaf: bool) -> Arc<Self> {
        Arc::new(Self { node, queries: AtomicUsize::new(0), silence: deaf.then(|| broadcast::channel(1).0) })
    }

    /// Questions asked so far.
    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Metadata for Watched {
    fn shards(&self) -> u32 {
        self.node.shards()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        self.node.execute(shard, command).await
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.node.query(shard, query).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<NoticeBatch>> {
        self.silence.as_ref().map_or_else(|| self.node.subscribe(), broadcast::Sender::subscribe)
    }
}
