//! The database of a simulation: transactions in memory, which take time, are aborted, and are committed without their sender
//! knowing. What it does to a replica is what Postgres and a network do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{ExtentScan, Identity, Lease, Loaded, MetadataStore, Replica, Roll, StoreError, WriterToken};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use tokio::sync::oneshot;

use crate::fault::Fault;
use crate::hosts::Control;
use crate::time::{self, StoreClock};
use crate::weather::Weather;
use crate::world::World;

/// What a statement takes when nothing is wrong, each way.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(6));
/// What a transaction takes when the database is slow.
const SLOW: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// After this time a replica gives up on a statement.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long after that it may still be committed.
const LATE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));
/// How long after its connection broke a statement may still be carried out.
const BROKEN: Duration = Duration::from_secs(10);

/// A statement that is a transaction: once it is sent, the database carries it out, whoever waits for it.
const WRITE: &[Fault] =
    &[Fault::MetaAbort, Fault::MetaLostRequest, Fault::MetaLostReply, Fault::MetaLate, Fault::MetaSlow, Fault::MetaBroken];
/// A transaction of many statements holds its locks until it ends, and ends with its connection: nothing of the same shard overtakes
/// it, and nothing is done when its sender is gone.
const WRITE_LOCKED: &[Fault] = &[Fault::MetaAbort, Fault::MetaLostRequest, Fault::MetaLostReply, Fault::MetaSlow];
const READ: &[Fault] = &[Fault::MetaAbort, Fault::MetaSlow];

/// The database as one replica's process reaches it.
#[derive(Clone)]
pub struct Database {
    store: Arc<MemoryStore>,
    world: Arc<World>,
    host: String,
    control: Control,
}

impl Database {
    /// For a replica on `host`, where what is wrong is said to `control`.
    pub fn new(world: &Arc<World>, replica: Replica, host: &str, control: &Control) -> Self {
        let store = Arc::new(world.database.replica(replica, world.plan.lease, Arc::new(StoreClock)));
        Self { store, world: Arc::clone(world), host: host.to_owned(), control: control.clone() }
    }

    fn weather(&self) -> &Weather {
        &self.world.weather
    }

    /// Has the database do what has arrived by now: before anything is looked at or done.
    fn arrive(&self) {
        self.world.late.arrive(time::elapsed());
    }

    async fn pause(&self) {
        tokio::time::sleep(self.weather().time(LATENCY.0, LATENCY.1)).await;
    }

    /// The way there. The error: it could not even be sent.
    async fn there(&self) -> Result<(), StoreError> {
        if !self.control.gate().passed(TIMEOUT).await {
            return Err(out_of_reach());
        }
        self.pause().await;
        Ok(())
    }

    /// Returns when nothing is held up any more; whether that was in time.
    async fn let_go(&self) -> bool {
        match self.control.held_until() {
            Some(until) => tokio::time::timeout(TIMEOUT, reached(until)).await.is_ok(),
            None => true,
        }
    }

    /// The way back. The error: whether it happened is not known.
    async fn back(&self) -> Result<(), StoreError> {
        self.pause().await;
        if self.control.gate().passed(TIMEOUT).await && self.let_go().await {
            return Ok(());
        }
        Err(StoreError::Unknown("injected: the database cannot be reached any more".to_owned()))
    }

    /// A statement that arrives only then. Its sender waits for it no longer than for any other.
    async fn held<T, F>(&self, until: Duration, transaction: F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let (to, done) = oneshot::channel();
        self.world.late.send(until, async move {
            // Who gave up does not hear of it.
            let _ = to.send(transaction.await);
        });
        let done = async {
            reached(until).await;
            self.arrive();
            done.await
        };
        let Ok(Ok(done)) = tokio::time::timeout(TIMEOUT, done).await else { return Err(unanswered()) };
        self.back().await?;
        done
    }

    /// Runs a transaction; `commit` does it in one step, and can be done later by somebody else.
    async fn write<T, F>(&self, what: &str, faults: &[Fault], commit: impl FnOnce(Arc<MemoryStore>) -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        self.there().await?;
        let transaction = commit(Arc::clone(&self.store));
        if let Some(until) = self.control.held_until() {
            self.world.trace.line(&self.host, format_args!("held up until {until:?}: {what}"));
            if faults.contains(&Fault::MetaBroken) {
                return self.held(until, transaction).await;
            }
            // Its statements are sent one after the other, as long as somebody is there to send them.
            if !self.let_go().await {
                return Err(out_of_reach());
            }
        }
        match self.weather().strike(&self.host, what, faults) {
            Some(Fault::MetaAbort) => Err(StoreError::NotApplied("injected: the transaction was aborted".to_owned())),
            Some(Fault::MetaLostRequest) => Err(broken()),
            Some(Fault::MetaLostReply) => {
                self.arrive();
                // Even a refusal is not heard of.
                let _ = transaction.await;
                Err(broken())
            }
            Some(Fault::MetaBroken) => {
                self.send_late(self.weather().time_of_any_size(BROKEN), transaction);
                Err(broken())
            }
            Some(Fault::MetaLate) => {
                self.send_late(TIMEOUT + self.weather().time(LATE.0, LATE.1), transaction);
                tokio::time::sleep(TIMEOUT).await;
                Err(unanswered())
            }
            slow => {
                if slow.is_some() {
                    tokio::time::sleep(self.weather().time(SLOW.0, SLOW.1)).await;
                }
                self.arrive();
                let done = transaction.await;
                self.back().await?;
                done
            }
        }
    }

    /// A statement that is carried out after this time. Nobody hears what came of it.
    fn send_late<F>(&self, after: Duration, transaction: F)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.world.late.send(time::elapsed() + after, async move { drop(transaction.await) });
    }

    /// Before something is read.
    async fn before_read(&self, what: &str) -> Result<(), StoreError> {
        self.there().await?;
        if !self.let_go().await {
            return Err(out_of_reach());
        }
        match self.weather().strike(&self.host, what, READ) {
            Some(Fault::MetaSlow) => {
                tokio::time::sleep(self.weather().time(SLOW.0, SLOW.1)).await;
                Ok(())
            }
            Some(_) => Err(StoreError::NotApplied("injected: the transaction was aborted".to_owned())),
            None => Ok(()),
        }
    }
}

/// Returns when the simulation is so far, also to one whose own time jumps meanwhile.
async fn reached(at: Duration) {
    loop {
        let left = at.saturating_sub(time::elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

fn out_of_reach() -> StoreError {
    StoreError::NotApplied("injected: the database cannot be reached".to_owned())
}

fn broken() -> StoreError {
    StoreError::Unknown("injected: the connection broke".to_owned())
}

fn unanswered() -> StoreError {
    StoreError::Unknown("injected: the database did not answer in time".to_owned())
}

#[async_trait]
impl MetadataStore for Database {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        self.pause().await;
        self.store.initialize(shards).await
    }

    fn lease_time(&self) -> Option<Duration> {
        self.store.lease_time()
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.write("take", WRITE, |store| async move { store.take(shard).await }).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError> {
        let leases = leases.to_vec();
        self.write("renew", WRITE, |store| async move { store.renew(&leases).await }).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = *lease;
        self.write("release", WRITE, |store| async move { store.release(&lease).await }).await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.write("leave", WRITE, |store| async move { store.leave().await }).await
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.before_read("identity").await?;
        self.store.identity().await
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        self.before_read("load").await?;
        self.arrive();
        let loaded = self.store.load(lease).await;
        self.back().await?;
        loaded
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        let lease = *lease;
        self.weather().appends(&self.host);
        self.write("append", WRITE, |store| async move { store.append(&lease, seq, token, payload).await }).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let (lease, checkpoint) = (*lease, checkpoint.clone());
        self.write("checkpoint", WRITE_LOCKED, |store| async move { store.checkpoint(&lease, &checkpoint).await }).await
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        self.before_read("scan").await?;
        self.arrive();
        let found = self.store.scan_extents(shard, scan).await;
        self.back().await?;
        found
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        self.before_read("find").await?;
        self.arrive();
        let found = self.store.find_extent(shard, topic, partition, from, at).await;
        self.back().await?;
        found
    }
}
