//! What a replica offers to those who call it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lakefall_queue::error::Result;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Answer, Command, Query, Reply};
use lakefall_queue::{ShardId, Timestamp};
use tokio::sync::watch;

use crate::node::{Followed, Metadata, Node, NotDone, Roster};
use crate::store::{Identity, Replica};

/// A metadata replica as the service calls it. It is [`Node`]; a trait, so that a test can make what a node never does.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// This replica.
    fn me(&self) -> Replica;
    /// The time by which the cluster goes.
    fn now(&self) -> Timestamp;
    /// Shards of the cluster.
    fn shards(&self) -> u32;
    /// Who is there and who serves what.
    fn roster(&self) -> Roster;
    /// Changes when which shards are served here may have.
    fn changes(&self) -> watch::Receiver<u64>;
    /// What tells the metadata store from its own past.
    async fn identity(&self) -> Result<Identity>;
    /// Changes a shard's state, if it is served here.
    async fn execute_here(&self, shard: ShardId, command: Command) -> Result<Reply, NotDone>;
    /// Looks at a shard's state, if it is served here.
    async fn query_here(&self, shard: ShardId, query: Query) -> Result<Answer, NotDone>;
    /// What became durable here since `seen`, and what does from here on.
    fn follow(&self, seen: &BTreeMap<ShardId, JournalSeq>) -> Followed;
    /// Looks at once which shards are free.
    fn nudge(&self);
}

#[async_trait]
impl Host for Node {
    fn me(&self) -> Replica {
        Node::me(self).clone()
    }

    fn now(&self) -> Timestamp {
        Node::now(self)
    }

    fn shards(&self) -> u32 {
        Metadata::shards(self)
    }

    fn roster(&self) -> Roster {
        Node::roster(self)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Node::changes(self)
    }

    async fn identity(&self) -> Result<Identity> {
        Metadata::identity(self).await
    }

    async fn execute_here(&self, shard: ShardId, command: Command) -> Result<Reply, NotDone> {
        Node::execute_here(self, shard, command).await
    }

    async fn query_here(&self, shard: ShardId, query: Query) -> Result<Answer, NotDone> {
        Node::query_here(self, shard, query).await
    }

    fn follow(&self, seen: &BTreeMap<ShardId, JournalSeq>) -> Followed {
        Node::follow(self, seen)
    }

    fn nudge(&self) {
        Node::nudge(self);
    }
}
