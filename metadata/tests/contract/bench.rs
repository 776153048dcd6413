//! A ledger and the store that it writes to, driven by hand: what an owner does, one step at a time.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use lakefall_metadata::{Lease, Loaded, MetadataStore, StoreError, WriterToken, rebuild};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Command, Ledger, Reply, Row};
use lakefall_queue::{Timestamp, TopicId};

use crate::fixtures::{SHARD, START, put_topic};
use crate::suite::Kind;

pub(crate) const TOKEN: WriterToken = WriterToken(1);

pub(crate) struct Bench {
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) lease: Lease,
    pub(crate) ledger: Ledger,
    pub(crate) now: Timestamp,
    /// Where the store is: a folder, a database.
    _place: Box<dyn Any + Send>,
}

impl Bench {
    /// An owner of an empty shard.
    pub(crate) async fn of<K: Kind>() -> Self {
        let place = K::place().await;
        let store = place.open().await;
        store.initialize(2).await.unwrap();
        Self::on(store, place).await
    }

    pub(crate) async fn on(store: Arc<dyn MetadataStore>, place: impl Any + Send) -> Self {
        let lease = store.take(SHARD).await.unwrap();
        Self { store, lease, ledger: Ledger::new(SHARD, 1), now: START, _place: Box::new(place) }
    }

    /// Applies and journals a group of commands.
    pub(crate) async fn group(&mut self, commands: Vec<Command>) -> Vec<Reply> {
        self.now = self.ledger.group_time(self.now);
        let replies = commands.iter().map(|command| {
            let applied = self.ledger.apply(command, self.now);
            assert!(applied.changed, "{command:?}: {:?}", applied.reply);
            applied.reply.unwrap()
        });
        let replies = replies.collect();
        let entry = self.ledger.seal(self.lease.epoch, self.now, commands);
        self.append(entry.seq.0, TOKEN, entry.encode()).await.unwrap();
        replies
    }

    pub(crate) async fn topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let replies = self.group(vec![put_topic(name, partitions)]).await;
        let [Reply::Topic(topic, true)] = &replies[..] else { panic!("no topic: {replies:?}") };
        topic.id
    }

    pub(crate) async fn append(&self, seq: u64, token: WriterToken, payload: Vec<u8>) -> Result<(), StoreError> {
        self.store.append(&self.lease, JournalSeq(seq), token, Bytes::from(payload)).await
    }

    /// Takes a checkpoint and writes it.
    pub(crate) async fn checkpoint(&mut self) -> Checkpoint {
        let checkpoint = self.ledger.checkpoint();
        self.store.checkpoint(&self.lease, &checkpoint).await.unwrap();
        self.ledger.checkpointed(&checkpoint, 0);
        checkpoint
    }

    pub(crate) async fn load(&self) -> Loaded {
        self.store.load(&self.lease).await.unwrap()
    }

    /// What is stored makes the ledger that wrote it. Both hold the extents since the last checkpoint in memory.
    pub(crate) async fn check_rebuilt(&self) {
        let rebuilt = rebuild(SHARD, 1, self.load().await).unwrap();
        assert!(rebuilt.snapshot() == self.ledger.snapshot(), "the rebuilt ledger differs");
    }
}

/// Rows in the order of their keys.
pub(crate) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(Row::key);
    rows
}
